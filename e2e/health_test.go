package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

const gateIni = `
[program:gate]
command=%(ENV_PROG)s gate 127.0.0.1:%(ENV_GATE)s %(ENV_DIR)s
readiness_http=http://127.0.0.1:%(ENV_GATE)s/ready
readiness_period=0.1
readiness_timeout=20
startsecs=0
`

// gated is an agent with a program that becomes ready when the file "ready" is written.
func gated(t *testing.T, ini string, env ...string) *agent {
	t.Helper()
	return startAgent(t, setup{
		files: map[string]string{"programs/gate.ini": gateIni + ini},
		env:   append([]string{fmt.Sprintf("GATE=%d", freePort(t))}, env...),
	})
}

func TestHealthEndpoints(t *testing.T) {
	t.Parallel()
	a := gated(t, "")
	type answer struct {
		code int
		body string
	}
	check := func(when string, want map[string]answer) {
		t.Helper()
		for path, w := range want {
			if code, body := a.get(path); code != w.code || !strings.Contains(body, w.body) {
				t.Errorf("%s: GET %s: got %d %q, want %d %q", when, path, code, body, w.code, w.body)
			}
		}
	}
	a.untilState("gate", "RUNNING")
	check("starting", map[string]answer{
		"/livez": {200, "ok"}, "/readyz": {503, ""}, "/startupz": {503, ""},
		"/readyz?verbose": {503, "[-]program/gate failed"},
		"/api/v1/phase":   {200, `"phase":"starting"`},
		"/load":           {200, `"draining":false`},
		"/nonsense":       {404, ""},
	})
	exact := func(when string, code int, body string) {
		t.Helper()
		if c, b := a.get("/health"); c != code || b != body {
			t.Errorf("%s: GET /health: got %d %q, want %d %q", when, c, b, code, body)
		}
	}
	exact("starting", 503, `{"health": "false"}`)
	if out, code := a.cli("ready"); code == 0 {
		t.Errorf("inpod ready while starting: got exit 0 %q, want another", out)
	}
	waited := make(chan int, 1)
	go func() {
		_, code := a.cli("ready", "--wait")
		waited <- code
	}()
	a.write("ready", "")
	a.untilPhase("ready")
	if code := <-waited; code != 0 {
		t.Errorf("inpod ready --wait: got exit %d, want 0", code)
	}
	check("ready", map[string]answer{
		"/livez": {200, "ok"}, "/readyz": {200, "ok"}, "/startupz": {200, "ok"},
		"/readyz?verbose": {200, "[+]program/gate ok"},
	})
	exact("ready", 200, `{"health": "true"}`)
	if out, code := a.cli("ready"); code != 0 {
		t.Errorf("inpod ready: got exit %d %q, want 0", code, out)
	}
	if out, code := a.cli("ctl", "phase"); code != 0 || !strings.Contains(out, "ready") {
		t.Errorf("inpod ctl phase: got exit %d %q, want 0 and ready", code, out)
	}
	if err := a.d.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	a.wantExit("exit 0")
}

func TestMetricsParse(t *testing.T) {
	t.Parallel()
	a := gated(t, "")
	a.write("ready", "")
	a.untilPhase("ready")
	resp, err := http.Get(a.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(resp.Body)
	if err != nil {
		t.Fatalf("cannot parse /metrics: %v", err)
	}
	for _, name := range []string{
		"inpod_build_info", "inpod_phase", "inpod_uptime_seconds", "inpod_config_reloads_total",
		"inpod_config_last_reload_successful", "inpod_program_up", "inpod_program_state", "inpod_program_ready",
		"inpod_program_restarts_total", "inpod_program_cpu_seconds_total", "inpod_program_memory_rss_bytes",
		"inpod_program_open_fds", "inpod_processes_started_total", "inpod_processes_reaped_total",
		"inpod_orphans_reaped_total", "inpod_cgroup_memory_used_bytes",
	} {
		if families[name] == nil {
			t.Errorf("/metrics has no %s", name)
		}
	}
	for name := range families {
		if !strings.HasPrefix(name, "inpod_") && !strings.HasPrefix(name, "go_") &&
			!strings.HasPrefix(name, "process_") && !strings.HasPrefix(name, "promhttp_") {
			t.Errorf("/metrics has %s: want the prefix inpod_", name)
		}
	}
}

func TestTokenGuardsChanges(t *testing.T) {
	t.Parallel()
	start := func(env ...string) *agent {
		return startAgent(t, setup{
			files: map[string]string{
				"programs/a.ini": "[program:a]\ncommand=%(ENV_PROG)s run\nstartsecs=0\n", "token": "s3cret\n",
			},
			env: env,
		})
	}
	closed := start()
	for _, path := range []string{"/api/v1/drain", "/api/v1/reload", "/api/v1/programs/a/stop"} {
		if code, _ := closed.request(http.MethodPost, closed.admin+path, "Authorization", "Bearer "); code != 401 && code != 403 {
			t.Errorf("POST %s without a token file: got %d, want 401 or 403", path, code)
		}
		if code, _ := closed.get(path); code != 405 {
			t.Errorf("GET %s: got %d, want 405", path, code)
		}
	}
	if code, _ := closed.request(http.MethodPost, closed.admin+"/RPC2"); code != 404 && code != 403 && code != 401 {
		t.Errorf("POST /RPC2 on the admin port: got %d, want no access", code)
	}
	a := prepare(t, setup{files: map[string]string{
		"programs/a.ini": "[program:a]\ncommand=%(ENV_PROG)s run\nstartsecs=0\n", "token": "s3cret\n",
	}})
	a.env = append(a.env, "INPOD_ADMIN_TOKEN_FILE="+a.path("token"))
	a.launch(setup{})
	a.untilState("a", "RUNNING")
	stop := a.admin + "/api/v1/programs/a/stop"
	for _, tc := range []struct {
		header []string
		want   int
	}{
		{nil, 401},
		{[]string{"Authorization", "Bearer wrong"}, 401},
		{[]string{"Authorization", "Basic s3cret"}, 401},
		{[]string{"Authorization", "Bearer s3cret"}, 200},
	} {
		if code, body := a.request(http.MethodPost, stop, tc.header...); code != tc.want {
			t.Errorf("POST stop with %q: got %d %s, want %d", tc.header, code, body, tc.want)
		}
	}
	a.untilState("a", "STOPPED")
}

func TestBusyPortIsAClearError(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	a := prepare(t, setup{files: map[string]string{"programs/a.ini": "[program:a]\ncommand=%(ENV_PROG)s run\n"}})
	a.env = append(a.env, "INPOD_ADMIN_LISTEN="+ln.Addr().String())
	a.launch(setup{})
	if got := a.d.WaitExit(patience); !strings.HasPrefix(got, "exit ") || got == "exit 0" {
		t.Errorf("agent on a busy port: got %s, want a failure", got)
	}
	for _, want := range []string{"admin.listen", ln.Addr().String(), "in use"} {
		if out := a.d.Output(); !strings.Contains(out, want) {
			t.Errorf("the error does not say %q: %s", want, out)
		}
	}
}

func TestRouteAndDrain(t *testing.T) {
	t.Parallel()
	route := freePort(t)
	gatePort := freePort(t)
	a := startAgent(t, setup{
		files: map[string]string{"programs/gate.ini": gateIni, "ready": ""},
		env: []string{
			fmt.Sprintf("GATE=%d", gatePort), "INPOD_DRAIN_DELAY=10m", "INPOD_DRAIN_DEADLINE=20m",
			fmt.Sprintf(`INPOD_PROXY_ROUTES=[{listen: "127.0.0.1:%d", path: /, upstream: "127.0.0.1:%d"}]`, route, gatePort),
		},
	})
	url := fmt.Sprintf("http://127.0.0.1:%d", route)
	a.untilPhase("ready")
	if code, body := a.request(http.MethodGet, url+"/"); code != 200 || !strings.Contains(body, "hello") {
		t.Fatalf("GET through the route: got %d %q, want 200 hello", code, body)
	}
	slow := make(chan string, 1)
	go func() {
		code, body := a.request(http.MethodGet, url+"/slow")
		slow <- fmt.Sprintf("%d %s", code, body)
	}()
	a.until("the slow request is in flight", func() bool {
		_, body := a.get("/load")
		return strings.Contains(body, `"in_flight":1`)
	})
	if out, code := a.cli("drain"); code != 0 {
		t.Fatalf("inpod drain: got exit %d %q, want 0", code, out)
	}
	a.until("readyz is 503", func() bool { code, _ := a.get("/readyz"); return code == 503 })
	if code, _ := a.get("/livez"); code != 200 {
		t.Errorf("livez while draining: got %d, want 200", code)
	}
	if code, body := a.get("/load"); code != 200 || !strings.Contains(body, `"draining":true`) {
		t.Errorf("load while draining: got %d %s, want draining true", code, body)
	}
	if code, body := a.get("/health"); code != 503 || body != `{"health": "false"}` {
		t.Errorf("health while draining: got %d %s", code, body)
	}
	if code, body := a.request(http.MethodGet, url+"/"); code != 200 {
		t.Errorf("a new request within drain.delay: got %d %q, want 200", code, body)
	}
	if p := a.program("gate"); p.State != "RUNNING" {
		t.Errorf("the program while draining: got %s, want RUNNING", p.State)
	}
	// SIGINT ends the delay and nothing else: the route closes, the request in flight goes on.
	if err := a.d.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	a.until("the route is closed", func() bool { code, _ := a.request(http.MethodGet, url+"/"); return code == 0 })
	if _, body := a.get("/load"); !strings.Contains(body, `"in_flight":1`) {
		t.Errorf("load after the delay: got %s, want the request still in flight", body)
	}
	a.write("slow-ends", "")
	if got := <-slow; got != "200 slow but sure\n" {
		t.Errorf("the request in flight: got %q, want it whole", got)
	}
	a.wantExit("exit 0")
}

func TestDrainOrder(t *testing.T) {
	t.Parallel()
	ini := ""
	for i, n := range []string{"first", "second", "third"} {
		ini += fmt.Sprintf("[program:%s]\ncommand=%%(ENV_PROG)s mark %%(ENV_DIR)s/order %s\npriority=%d\nstdout_logfile=%%(ENV_DIR)s/%s.log\n", n, n, i+1, n)
	}
	for _, how := range []string{"SIGTERM", "inpod drain --wait"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			a := startAgent(t, setup{files: map[string]string{"programs/p.ini": ini}, env: []string{"INPOD_DRAIN_DELAY=700ms"}})
			for _, n := range []string{"first", "second", "third"} {
				a.untilFile(n+".log", "up")
			}
			a.untilPhase("ready")
			begin := time.Now()
			if how == "SIGTERM" {
				if err := a.d.Signal(syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
			} else if out, code := a.cli("drain", "--wait"); code != 0 {
				t.Errorf("inpod drain --wait: got exit %d %q, want 0", code, out)
			}
			a.untilExitOrPhase("draining", "stopping")
			if how != "SIGTERM" {
				// A drain by hand leaves the programs to the SIGTERM that Kubernetes sends after preStop.
				_ = a.d.Signal(syscall.SIGTERM)
			}
			a.wantExit("exit 0")
			if took := time.Since(begin); took < 700*time.Millisecond {
				t.Errorf("the agent was gone after %s, before drain.delay", took)
			}
			a.untilFile("order", "third\nsecond\nfirst\n")
		})
	}
}

func (a *agent) untilExitOrPhase(phases ...string) {
	a.until("the drain", func() bool {
		if a.d.Exited() {
			return true
		}
		_, body := a.get("/api/v1/phase")
		for _, p := range phases {
			if strings.Contains(body, p) {
				return true
			}
		}
		return false
	})
}

func TestSecondSignalEndsTheDelay(t *testing.T) {
	t.Parallel()
	a := startAgent(t, setup{
		files: map[string]string{"programs/p.ini": "[program:p]\ncommand=%(ENV_PROG)s run\nstartsecs=0\n"},
		env:   []string{"INPOD_DRAIN_DELAY=10m", "INPOD_DRAIN_DEADLINE=20m"},
	})
	a.untilPhase("ready")
	_ = a.d.Signal(syscall.SIGTERM)
	a.until("readyz is 503", func() bool { code, _ := a.get("/readyz"); return code == 503 })
	if a.d.Exited() {
		t.Fatal("the agent has gone before drain.delay")
	}
	_ = a.d.Signal(syscall.SIGTERM)
	a.wantExit("exit 0") // which does not wait as long as the delay is
}

func TestSlowReaderDoesNotBlockTheAgent(t *testing.T) {
	t.Parallel()
	a := startAgent(t, setup{files: map[string]string{"programs/p.ini": "[program:p]\ncommand=%(ENV_PROG)s run\nstartsecs=0\n"}})
	a.untilState("p", "RUNNING")
	// Connections that send nothing, and half a request.
	for i := range 20 {
		c, err := net.Dial("tcp", strings.TrimPrefix(a.admin, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if i%2 == 0 {
			_, _ = io.WriteString(c, "GET /livez HT")
		}
	}
	if code, _ := a.get("/livez"); code != 200 {
		t.Errorf("livez beside idle connections: got %d, want 200", code)
	}
	_ = a.d.Signal(syscall.SIGTERM)
	a.wantExit("exit 0")
	if !a.d.Exited() {
		t.Error("idle connections keep the agent alive")
	}
}
