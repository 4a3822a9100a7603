package agent

import (
	"fmt"

	"github.com/inpod/inpod/config"
	"github.com/inpod/inpod/internal/probe"
	"github.com/inpod/inpod/internal/proc"
	"github.com/inpod/inpod/proxy"
	"github.com/inpod/inpod/supervisor/ini"
)

// newCheck makes the check that a route's health key names; nil when that is off. A command runs as the agent's user,
// with the agent's environment.
func (a *agent) newCheck(r config.Route) (proxy.Checker, error) {
	h, err := r.HealthCheck()
	if err != nil {
		return nil, err
	}
	switch h.Kind {
	case config.HealthOff:
		return nil, nil
	case config.HealthHTTP:
		return checker(probe.HTTP(h.Target))
	case config.HealthTCP:
		return checker(probe.TCP(h.Target))
	case config.HealthGRPC:
		return checker(probe.GRPC(h.Target, h.Service))
	case config.HealthExec:
		argv, err := ini.Split(h.Command)
		if err != nil {
			return nil, fmt.Errorf("cannot split the command %q: %w", h.Command, err)
		}
		if len(argv) == 0 {
			return nil, fmt.Errorf("cannot check with an empty command")
		}
		spec := proc.NewSpec(argv[0], argv[1:]...)
		spec.Env = a.opts.Env
		return checker(probe.Exec(a.reaper, spec))
	}
	panic(fmt.Sprintf("BUG: agent: no such kind of health check: %d", h.Kind))
}

// checker keeps a nil probe.Check from becoming a proxy.Checker that is not nil.
func checker(c probe.Check, err error) (proxy.Checker, error) {
	if err != nil {
		return nil, err
	}
	return c, nil
}
