package agent

import (
	"flag"
	"os"
	"sort"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

var update = flag.Bool("update", false, "write the golden files")

const gated = `[supervisord]
[program:gate]
command=sleep 1000
readiness_exec=test -e %(ENV_DIR)s/open
readiness_exec_period=0.05
readiness_timeout=60
[program:free]
command=sleep 1000
`

func TestHealth(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/s.conf", strings.ReplaceAll(gated, "readiness_exec_period", "readiness_period"))
	a := launch(t, dir, nil).started()
	for _, tt := range []struct {
		path, body string
		status     int
	}{
		{"/livez", "ok\n", 200},
		{"/startupz", "not ready\n", 503},
		{"/readyz", "not ready\n", 503},
		{"/health", `{"health": "false"}`, 503},
		{"/livez?verbose", "[+]agent ok\nlivez check passed\n", 200},
	} {
		if resp, body := a.do(false, "GET", tt.path); resp.StatusCode != tt.status || body != tt.body {
			t.Errorf("starting: GET %s: got %d %q, want %d %q", tt.path, resp.StatusCode, body, tt.status, tt.body)
		}
	}
	poll(t, "the program that is not ready", func() bool { // before that its start
		_, body := a.do(false, "GET", "/readyz?verbose")
		return strings.HasPrefix(body, "[-]phase failed: the pod is starting\n[-]program/gate failed: ") && strings.HasSuffix(body, "\n[+]config ok\nreadyz check failed\n")
	})
	write(t, dir+"/open", "")
	a.stdout.wait(t, `"to":"ready"`)
	for _, tt := range []struct{ path, body string }{
		{"/startupz", "ok\n"},
		{"/readyz", "ok\n"},
		{"/health", `{"health": "true"}`},
		{"/readyz?verbose", "[+]phase ok\n[+]program/gate ok\n[+]config ok\nreadyz check passed\n"},
		{"/startupz?verbose", "[+]phase ok\nstartupz check passed\n"},
		{"/load", `{"in_flight":0,"queued":0,"draining":false,"phase":"ready"}` + "\n"},
	} {
		if resp, body := a.do(false, "GET", tt.path); resp.StatusCode != 200 || body != tt.body {
			t.Errorf("ready: GET %s: got %d %q, want 200 %q", tt.path, resp.StatusCode, body, tt.body)
		}
	}
	if resp, body := a.do(false, "HEAD", "/readyz"); resp.StatusCode != 200 || body != "" {
		t.Errorf("HEAD /readyz: got %d %q, want 200 and no body", resp.StatusCode, body)
	}
	if resp, body := a.do(false, "POST", "/readyz"); resp.StatusCode != 405 || resp.Header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST /readyz: got %d %q %s, want 405 and Allow", resp.StatusCode, resp.Header.Get("Allow"), body)
	}
	if resp, body := a.do(false, "GET", "/nothing"); resp.StatusCode != 404 || body != `{"error":"no such path: /nothing"}`+"\n" {
		t.Errorf("GET /nothing: got %d %s, want 404 and JSON", resp.StatusCode, body)
	}
}

func TestChangesNeedTheSocketOrTheToken(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/s.conf", "[supervisord]\n[program:p]\ncommand=sleep 1000\nstartsecs=0\n")
	a := launch(t, dir, nil, "INPOD_ADMIN_TOKEN_FILE="+dir+"/token").started()
	a.stdout.wait(t, `"running"`, `"program":"p"`)
	const stop, start = "/api/v1/programs/p/stop", "/api/v1/programs/p/start"
	for _, tt := range []struct {
		name, token, auth string
		want              int
	}{
		{"no token file", "", "Bearer x", 403},
		{"empty token file", "\n", "Bearer ", 403},
		{"no token", "secret\n", "", 401},
		{"wrong token", "secret\n", "Bearer secre", 401},
		{"basic", "secret\n", "Basic secret", 401},
	} {
		if tt.token != "" {
			write(t, dir+"/token", tt.token)
		}
		for _, path := range []string{stop, "/api/v1/drain", "/api/v1/reload"} {
			if resp, body := a.do(false, "POST", path, "Authorization", tt.auth); resp.StatusCode != tt.want {
				t.Errorf("%s: POST %s: got %d %s, want %d", tt.name, path, resp.StatusCode, body, tt.want)
			}
		}
	}
	for _, tt := range []struct {
		trusted bool
		path    string
		want    int
	}{
		{false, stop, 200},
		{true, stop, 409},
		{true, start, 200},
		{true, start, 409},
		{true, "/api/v1/programs/p/restart", 200},
		{true, "/api/v1/programs/p/signal?signal=CONT", 200},
		{true, "/api/v1/programs/p/signal?signal=NONE", 400},
		{true, "/api/v1/programs/p/signal", 400},
		{true, "/api/v1/programs/p/dance", 404},
		{true, "/api/v1/programs/q/stop", 404},
		{true, "/api/v1/programs/p/stop?wait=perhaps", 400},
	} {
		resp, body := a.do(tt.trusted, "POST", tt.path, "Authorization", "Bearer secret")
		if resp.StatusCode != tt.want {
			t.Errorf("trusted %v: POST %s: got %d %s, want %d", tt.trusted, tt.path, resp.StatusCode, body, tt.want)
		}
	}
	if resp, _ := a.do(true, "GET", stop); resp.StatusCode != 405 || resp.Header.Get("Allow") != "POST" {
		t.Errorf("GET %s: got %d, Allow %q; want 405, POST", stop, resp.StatusCode, resp.Header.Get("Allow"))
	}
	if st, err := os.Stat(a.socket); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("control socket: %v %v, want mode 0600", st, err)
	}
}

func TestAPI(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/s.conf", "[supervisord]\n[program:p]\ncommand=sleep 1000\nautostart=false\n")
	a := launch(t, dir, nil).started()
	want := `{"name":"p","group":"p","state":"STOPPED","description":"Not started","ready":false,"restarts":0,"exit_status":0}`
	if _, body := a.do(false, "GET", "/api/v1/programs"); body != "["+want+"]\n" {
		t.Errorf("programs: got %s want [%s]", body, want)
	}
	for _, name := range []string{"p", "p:p"} {
		if _, body := a.do(false, "GET", "/api/v1/programs/"+name); body != want+"\n" {
			t.Errorf("program %s: got %s want %s", name, body, want)
		}
	}
	if resp, _ := a.do(false, "GET", "/api/v1/programs/q"); resp.StatusCode != 404 {
		t.Errorf("program q: got %d, want 404", resp.StatusCode)
	}
	if _, body := a.do(false, "GET", "/api/v1/config"); !strings.Contains(body, `"drain":{"deadline":"1m30s","delay":"0s","quiet":"0s"}`) {
		t.Errorf("config: got %s", body)
	}
	if _, body := a.do(false, "GET", "/api/v1/phase"); !strings.Contains(body, `"version":"1.2.3"`) {
		t.Errorf("phase: got %s", body)
	}
}

func TestMetricNames(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/s.conf", "[supervisord]\n[program:p]\ncommand=sleep 1000\nstartsecs=0\n")
	write(t, dir+"/inpod.yaml", "proxy: {routes: [{listen: '"+free(t)+"', upstream: 'h:1'}]}")
	a := launch(t, dir, nil).started()
	a.stdout.wait(t, `"running"`, `"program":"p"`)
	_, body := a.do(false, "GET", "/metrics")
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for name, f := range families {
		// What the cgroup and /proc give differs between machines.
		if !strings.HasPrefix(name, "inpod_") || strings.HasPrefix(name, "inpod_cgroup_") {
			continue
		}
		var labels []string
		for _, l := range f.Metric[0].Label {
			labels = append(labels, l.GetName())
		}
		names = append(names, name+" "+strings.ToLower(f.GetType().String())+" {"+strings.Join(labels, ", ")+"}")
	}
	sort.Strings(names)
	got := strings.Join(names, "\n") + "\n"
	const golden = "testdata/metrics.txt"
	if *update {
		write(t, golden, got)
	}
	if diff := cmp.Diff(read(t, golden), got); diff != "" {
		t.Errorf("metrics; run with -update when the change is meant (-want +got):\n%s", diff)
	}
}

func TestCheckReportsEverything(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/inpod.yaml", "log: {level: loud}\n")
	write(t, dir+"/s.conf", "[supervisord]\n[program:x]\nstartsecs=soon\n")
	r := Check(CheckOptions{ConfigFile: dir + "/inpod.yaml", SupervisordConf: dir + "/s.conf", Env: []string{"INPOD_DRAIN_DELAY=soon"}})
	got := strings.Join(r.Problems, "\n")
	for _, want := range []string{"inpod.yaml:1: log.level:", "environment INPOD_DRAIN_DELAY:", "s.conf:2: ", "s.conf:3: "} {
		if !strings.Contains(got, want) {
			t.Errorf("problems:\n%s\nwant one with %q", got, want)
		}
	}
	if r.Config != nil || r.Effective != "" {
		t.Error("there is an effective config in spite of problems")
	}
}

func TestCheckMasksSecrets(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/s.conf", "[supervisord]\n[unix_http_server]\nfile="+dir+"/s.sock\nusername=u\npassword=hunter2\n[program:x]\ncommand=env\nenvironment=API_TOKEN=\"hunter2\",MODE=\"fast\"\n")
	r := Check(CheckOptions{SupervisordConf: dir + "/s.conf", Env: []string{"INPOD_SUPERVISOR_INCLUDE=[/none]"}})
	if len(r.Problems) > 0 {
		t.Fatal(r.Problems)
	}
	if strings.Contains(r.Effective, "hunter2") || !strings.Contains(r.Effective, `API_TOKEN: "********", MODE: "fast"`) {
		t.Errorf("effective config:\n%s\nwant the secrets masked and the rest not", r.Effective)
	}
}
