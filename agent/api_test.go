package agent

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// Every path of the admin server: what it answers to GET, HEAD and to what it does not take.
func TestEndpoints(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/token", "hunter2\n")
	write(t, dir+"/s.conf", "[supervisord]\n[program:p]\ncommand=sleep 1000\nstartsecs=0\n")
	a := launch(t, dir, nil, "INPOD_ADMIN_TOKEN_FILE="+dir+"/token").started()
	a.stdout.wait(t, `"to":"ready"`)
	a.stdout.wait(t, `"running"`, `"program":"p"`) // which ready does not ask for
	const text, js = "text/plain; charset=utf-8", "application/json"
	for _, tt := range []struct{ path, kind string }{
		{"/livez", text},
		{"/readyz", text},
		{"/startupz?verbose", text},
		{"/health", js},
		{"/load", js},
		{"/metrics", "text/plain; version=0.0.4; charset=utf-8"},
		{"/api/v1/phase", js},
		{"/api/v1/config", js},
		{"/api/v1/programs", js},
		{"/api/v1/programs/p", js},
	} {
		resp, body := a.do(false, "GET", tt.path)
		kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), "; escaping")
		if resp.StatusCode != 200 || kind != tt.kind || tt.kind == js && !json.Valid([]byte(body)) {
			t.Errorf("GET %s: got %d %q\n%s\nwant 200 %q", tt.path, resp.StatusCode, kind, body, tt.kind)
		}
		if strings.Contains(body, "hunter2") {
			t.Errorf("GET %s shows the token", tt.path)
		}
		if resp, body := a.do(false, "HEAD", tt.path); resp.StatusCode != 200 || body != "" {
			t.Errorf("HEAD %s: got %d %q, want 200 and no body", tt.path, resp.StatusCode, body)
		}
		for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS"} {
			resp, body := a.do(true, method, tt.path)
			if resp.StatusCode != 405 || resp.Header.Get("Allow") != "GET, HEAD" || !strings.HasPrefix(body, `{"error":"`+method+" is not allowed") {
				t.Errorf("%s %s: got %d, Allow %q, %s; want 405 and GET, HEAD", method, tt.path, resp.StatusCode, resp.Header.Get("Allow"), body)
			}
		}
	}
	for _, path := range []string{"/api/v1/drain", "/api/v1/reload", "/api/v1/programs/p/start"} {
		for _, method := range []string{"GET", "HEAD", "PUT", "DELETE"} {
			if resp, _ := a.do(true, method, path); resp.StatusCode != 405 || resp.Header.Get("Allow") != "POST" {
				t.Errorf("%s %s: got %d, Allow %q; want 405 and POST", method, path, resp.StatusCode, resp.Header.Get("Allow"))
			}
		}
	}
	for _, tt := range []struct {
		method, path string
		want         int
	}{
		{"GET", "/", 404},
		{"GET", "/api/v1", 404},
		{"GET", "/api/v1/programs/p/start/x", 404},
		{"GET", "/api/v2/phase", 404},
		{"POST", "/RPC3", 404},
		{"POST", "/api/v1/programs/p/jump", 404},
		{"POST", "/api/v1/programs/q/start", 404},
		{"POST", "/api/v1/programs/p/start", 409},
		{"POST", "/api/v1/programs/p/start?wait=no", 400},
		{"POST", "/api/v1/programs/p/signal", 400},
		{"POST", "/api/v1/programs/p/signal?signal=NOPE", 400},
		{"POST", "/api/v1/programs/p/signal?signal=CONT", 200},
	} {
		resp, body := a.do(true, tt.method, tt.path)
		var answer struct{ Error, Result string }
		err := json.Unmarshal([]byte(body), &answer)
		if resp.StatusCode != tt.want || err != nil || (answer.Error == "") != (tt.want == 200) {
			t.Errorf("%s %s: got %d %s, want %d and JSON", tt.method, tt.path, resp.StatusCode, body, tt.want)
		}
	}
	if resp, _ := a.do(false, "POST", "/RPC2"); resp.StatusCode != 404 {
		t.Errorf("POST /RPC2 on the network: got %d, want 404", resp.StatusCode)
	}
}

// A body that nobody reads is not waited for, however long it says it is.
func TestLongBodyIsNotRead(t *testing.T) {
	a := launch(t, t.TempDir(), nil).started()
	for _, addr := range [][2]string{{"unix", a.socket}, {"tcp", strings.TrimPrefix(a.admin, "http://")}} {
		c, err := net.Dial(addr[0], addr[1])
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		fmt.Fprintf(c, "POST /api/v1/programs/q/start HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\nsome text", int64(1)<<40)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatalf("%s: %v", addr[0], err)
		}
		resp.Body.Close()
		if want := map[string]int{"unix": 404, "tcp": 403}[addr[0]]; resp.StatusCode != want {
			t.Errorf("%s: got %d, want %d", addr[0], resp.StatusCode, want)
		}
	}
}

// Prometheus' own linter, over everything that is scraped.
func TestMetricsAreLinted(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/s.conf", "[supervisord]\n[program:p]\ncommand=sleep 1000\nstartsecs=0\n")
	write(t, dir+"/inpod.yaml", "proxy: {routes: [{listen: '"+free(t)+"', upstream: 'h:1'}]}")
	a := launch(t, dir, nil).started()
	a.stdout.wait(t, `"running"`, `"program":"p"`)
	_, body := a.do(false, "GET", "/metrics")
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	helped := []string{}
	for line := range strings.Lines(body) {
		if rest, ok := strings.CutPrefix(line, "# HELP "); ok {
			name, help, _ := strings.Cut(strings.TrimSpace(rest), " ")
			if help == "" || !strings.HasSuffix(help, ".") && strings.HasPrefix(name, "inpod_") {
				t.Errorf("%s: the help text is no sentence: %q", name, help)
			}
			helped = append(helped, name)
		}
	}
	if !slices.Contains(helped, "inpod_program_up") {
		t.Errorf("only these have a help text: %q", helped)
	}
}
