package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/inpod/inpod/e2e/traffic"
)

// route is one entry of proxy.routes.
type route map[string]any

// routesEnv is the variable that sets the routes.
func routesEnv(t *testing.T, routes ...route) string {
	t.Helper()
	data, err := json.Marshal(routes)
	if err != nil {
		t.Fatal(err)
	}
	return "INPOD_PROXY_ROUTES=" + string(data)
}

// startProxy starts an agent with routes on one free port, which is the second result as host:port. It is ready.
func startProxy(t *testing.T, s setup, routes ...route) (*agent, string) {
	t.Helper()
	addr := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	for _, r := range routes {
		if r["listen"] == nil {
			r["listen"] = addr
		}
	}
	s.env = append(s.env, routesEnv(t, routes...))
	a := startAgent(t, s)
	a.untilPhase("ready")
	return a, addr
}

// upstream is a traffic.Server for the length of the test; what it finds wrong about its requests fails the test.
func upstream(t *testing.T, idle func() time.Duration) *traffic.Server {
	t.Helper()
	s, err := traffic.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Idle = idle
	go s.Serve()
	t.Cleanup(func() {
		s.Close()
		for _, f := range s.Faults() {
			t.Errorf("the upstream got something wrong: %s", f)
		}
		if twice := s.Twice(); len(twice) > 0 {
			t.Errorf("%d requests came more than once: %.10q", len(twice), twice)
		}
	})
	return s
}

// rss is how much memory a process has, in bytes.
func rss(t *testing.T, pid int) int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(data), "\n") {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			var kb int
			if _, err := fmt.Sscan(v, &kb); err != nil {
				t.Fatal(err)
			}
			return kb << 10
		}
	}
	t.Fatalf("process %d has no VmRSS", pid)
	return 0
}

// wantGrown checks how much memory the agent has taken since.
func (a *agent) wantGrown(before, most int) {
	a.t.Helper()
	grown := rss(a.t, a.d.PID()) - before
	a.t.Logf("inpod grew by %.1f MB", float64(grown)/(1<<20))
	if grown > most {
		a.t.Errorf("inpod grew by %d MB, want no more than %d", grown>>20, most>>20)
	}
}

// dial connects, or fails the test.
func dial(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn)
}
