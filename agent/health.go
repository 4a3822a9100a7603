package agent

import (
	"fmt"
	"io"
	"net/http"
	"strings"
)

// healthCheck is one line of ?verbose.
type healthCheck struct {
	name   string
	reason string // why it fails; "" when it does not
	note   string // a warning, which fails nothing
}

// routesReady tells whether every route has a healthy, warmed-up upstream.
func (a *agent) routesReady() bool {
	for _, r := range a.proxy.Routes() {
		if !r.Ready {
			return false
		}
	}
	return true
}

// readyChecks are those of /readyz: the phase, each program with a readiness check, and each route.
func (a *agent) readyChecks() []healthCheck {
	phase := healthCheck{name: "phase"}
	if p := a.phase.get(); p != PhaseReady {
		phase.reason = "the pod is " + p.String()
	}
	checks := append([]healthCheck{phase}, a.prep.checks()...)
	if g := a.current.Load(); g != nil {
		_, states := g.ready()
		for _, s := range states {
			c := healthCheck{name: "program/" + s.Program}
			if !s.Ready {
				c.reason = s.Detail
				if c.reason == "" {
					c.reason = "not ready"
				}
			}
			checks = append(checks, c)
		}
	}
	for _, r := range a.proxy.Routes() {
		c := healthCheck{name: "route/" + r.Name}
		if !r.Ready {
			c.reason = r.Detail
		} else {
			c.note = r.Detail
		}
		checks = append(checks, c)
	}
	reload := healthCheck{name: "config"}
	if _, err := a.reload.last(); err != nil {
		reload.note = "the last reload failed, the old configuration is in force: " + strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	return append(checks, reload)
}

// liveChecks are those of /livez: that this is answered is the check. A dead program is no reason to kill the pod.
func (a *agent) liveChecks() []healthCheck { return []healthCheck{{name: "agent"}} }

func (a *agent) startupChecks() []healthCheck {
	c := healthCheck{name: "phase"}
	if a.phase.get() == PhaseStarting {
		c.reason = "the pod is starting"
		checks := a.readyChecks()
		checks[0] = c
		return checks
	}
	return []healthCheck{c}
}

func healthy(checks []healthCheck) bool {
	for _, c := range checks {
		if c.reason != "" {
			return false
		}
	}
	return true
}

// healthHandler answers as Kubernetes' own health endpoints do
// (kubernetes.io/docs/reference/using-api/health-checks): ?verbose lists every check.
func healthHandler(name string, checks func() []healthCheck) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		list := checks()
		ok := healthy(list)
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		if !ok {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		if !r.URL.Query().Has("verbose") {
			text := "ok\n"
			if !ok {
				text = "not ready\n"
			}
			io.WriteString(w, text)
			return
		}
		for _, c := range list {
			switch {
			case c.reason != "":
				fmt.Fprintf(w, "[-]%s failed: %s\n", c.name, c.reason)
			case c.note != "":
				fmt.Fprintf(w, "[+]%s ok, warning: %s\n", c.name, c.note)
			default:
				fmt.Fprintf(w, "[+]%s ok\n", c.name)
			}
		}
		verdict := "passed"
		if !ok {
			verdict = "failed"
		}
		fmt.Fprintf(w, "%s check %s\n", name, verdict)
	}
}

// handleHealth answers with the very bodies that platforms compare.
func (a *agent) handleHealth(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if healthy(a.readyChecks()) {
		io.WriteString(w, `{"health": "true"}`)
		return
	}
	w.WriteHeader(http.StatusServiceUnavailable)
	io.WriteString(w, `{"health": "false"}`)
}
