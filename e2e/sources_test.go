package e2e

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
)

// A platform's rules are routes, and others when the file changes; inpod routes writes what it read.
func TestRouteSources(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "got %s", r.URL.Path) })}
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(func() { _ = srv.Close() })
	upstream, port := ln.Addr().(*net.TCPAddr).Port, freePort(t)
	rules := func(path string) string {
		return fmt.Sprintf("httpRules:\n- {port: %d, name: tool, path: %s}\ntcpRules: []\n", port, path)
	}
	s := setup{files: map[string]string{
		"rules.yaml": rules("/one"),
		"inpod.yaml": "",
	}}
	a := prepare(t, s)
	// A shift goes up only; free ports are below those that the kernel gives.
	if upstream <= port {
		t.Fatal("the kernel gave the server a port below the free one")
	}
	a.write("inpod.yaml", fmt.Sprintf("proxy: {sources: [{file: %s, shift: %d}]}\n", a.path("rules.yaml"), upstream-port))
	s.args = []string{"--config", a.path("inpod.yaml")}
	a.launch(s)
	a.untilPhase("ready")
	url := fmt.Sprintf("http://127.0.0.1:%d", port)
	if code, body := a.request(http.MethodGet, url+"/one/x"); code != 200 || body != "got /one/x" {
		t.Errorf("got %d %q", code, body)
	}
	a.write("rules.yaml", rules("/two"))
	a.until("the new route", func() bool {
		code, _ := a.request(http.MethodGet, url+"/two")
		return code == 200
	})
	if code, _ := a.request(http.MethodGet, url+"/one/x"); code != 404 {
		t.Errorf("the old route: %d, want 404", code)
	}
	out, code := a.cli("routes", "--config", a.path("inpod.yaml"), "--format", "neolink")
	if want := fmt.Sprintf("- {port: %d, name: \"two\", path: \"/two\"}\n", port); code != 0 || !strings.Contains(out, want) {
		t.Errorf("routes: %d\n%s", code, out)
	}
	a.write("rules.yaml", "httpRules: 5\n")
	a.until("the mistake is told", func() bool {
		_, body := a.get("/readyz?verbose")
		return strings.Contains(body, "httpRules is a single value; want a list")
	})
	if code, _ := a.request(http.MethodGet, url+"/two"); code != 200 {
		t.Errorf("with a mistake in the file: %d", code)
	}
}
