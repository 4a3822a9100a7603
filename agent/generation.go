package agent

import (
	"context"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/inpod/inpod/supervisor"
	"github.com/inpod/inpod/supervisor/ini"
)

// generation is one life of all programs: from the start, or from a restart of everything (ctl reload), to their
// stop. The process and its control socket live on.
type generation struct {
	sup      *supervisor.Supervisor
	programs int         // how many there are to begin with
	complete atomic.Bool // all that are started by themselves have been
	cancel   context.CancelFunc
	done     chan struct{} // closed when Run of the supervisor has returned
	rpc      http.Handler
}

// newGeneration starts the programs of l, once hold is closed.
func (a *agent) newGeneration(l *loaded, hold <-chan struct{}) (*generation, error) {
	main := mainProgramOf(a.opts.Main)
	cfg := *l.ini
	cfg.Supervisord.StripANSI = cfg.Supervisord.StripANSI || a.opts.StripANSI
	g := &generation{done: make(chan struct{})}
	g.programs = countPrograms(l.ini)
	if main != nil {
		g.programs++
	}
	var err error
	g.sup, err = supervisor.New(supervisor.Options{
		Reaper: a.reaper, Hub: a.hub, Logger: a.log.With("part", "supervisor"),
		Config: &cfg, Load: a.loadPrograms, Env: a.opts.Env, ServerURL: a.serverURL(l.ini),
		Main: main, Hold: hold,
		OnMain: func(state supervisor.State, code int) {
			a.log.Info("the main program has ended", "state", state.String(), "code", code)
			go a.send(command{kind: cmdMainEnded, code: code})
		},
		OnEssential: func(name string, state supervisor.State, code int) {
			go a.send(command{kind: cmdEssentialEnded, name: name, code: code})
		},
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	g.cancel = cancel
	go func() {
		defer close(g.done)
		if err := g.sup.Run(ctx); err != nil {
			a.log.Error("cannot stop every program", "error", err)
		}
	}()
	return g, nil
}

// loadPrograms is the supervisor's reread: the settings that are in force say where programs are.
func (a *agent) loadPrograms() (*ini.Config, error) {
	return a.src.programs(a.settings.Load().Supervisor.Include)
}

// serverURL is SUPERVISOR_SERVER_URL of programs: the first server that they can talk to, unix sockets first.
func (a *agent) serverURL(c *ini.Config) string {
	if len(c.UnixServers) > 0 {
		return "unix://" + c.UnixServers[0].File
	}
	if len(c.InetServers) > 0 {
		s := c.InetServers[0]
		host := s.Host
		if host == "" {
			host = "localhost"
		}
		return "http://" + host + ":" + strconv.Itoa(s.Port)
	}
	if a.servers.controlPath != "" {
		return "unix://" + a.servers.controlPath
	}
	return ""
}

// listed waits until every program is known to the supervisor, so that nobody who asks at the start hears of fewer.
func (g *generation) listed() {
	for len(g.sup.Stats()) < g.programs {
		select {
		case <-g.done:
			return
		case <-time.After(listPoll):
		}
	}
}

// listPoll is short: it is over when the supervisor has made its groups, which it does first of all.
const listPoll = 200 * time.Microsecond

// ready tells whether all programs are there and those with a readiness check are ready.
func (g *generation) ready() (bool, []supervisor.CheckState) {
	if !g.complete.Load() && !g.begun() {
		return false, []supervisor.CheckState{{Program: "all", Detail: "programs are being started"}}
	}
	return g.sup.Ready()
}

// begun tells whether every program that is started by itself has been started once. It stays so: a later start may
// wait for something again.
func (g *generation) begun() bool {
	if !g.sup.Begun() {
		return false
	}
	g.complete.Store(true)
	return true
}

func countPrograms(c *ini.Config) int {
	n := 0
	for i := range c.Groups {
		n += len(c.Groups[i].Programs)
	}
	return n
}

// stop stops every program and returns when all are gone.
func (g *generation) stop() {
	g.cancel()
	<-g.done
}
