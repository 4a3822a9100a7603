package agent

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// step is one kind of work between the start of the agent and that of the first program: users, seed, hooks, models.
// The admin HTTP server and SSH are up meanwhile, so that somebody can look, and the phase stays starting.
type step interface {
	// run does the work. nil goes on to the next step, also where something failed that may; an error ends the agent
	// before any program was started. ctx ends when the agent is to stop; run then ends what it started and returns.
	run(ctx context.Context) error
	// items tells how far it is. It is called at any time, also before run and after it.
	items() []StartItem
}

// The states of a StartItem.
const (
	itemWaiting = "waiting"
	itemRunning = "running"
	itemDone    = "done"
	itemFailed  = "failed"
	itemSkipped = "skipped" // there was nothing to do
)

// StartItem is one element of /api/v1/start: one thing that is done before the programs are started.
type StartItem struct {
	Kind     string  `json:"kind"` // user, seed, files, hook or model
	Name     string  `json:"name"`
	State    string  `json:"state"` // waiting, running, done, failed or skipped
	Detail   string  `json:"detail,omitempty"`
	Started  string  `json:"started,omitempty"` // RFC 3339
	Seconds  float64 `json:"seconds"`           // that it took, or has taken
	ExitCode *int    `json:"exit_code,omitempty"`
	// Apart is true of what the start does not wait for: it is no reason to be not ready.
	Apart bool `json:"background,omitempty"`
}

// preparation is all of that, once in the agent's life: ctl reload does not repeat it.
type preparation struct {
	steps  []step
	done   chan struct{} // closed when run has returned; err is set then
	passed chan struct{} // closed when every step went well: the programs may start
	err    error
	cancel context.CancelFunc
	once   sync.Once

	files fileGate
}

// newPreparation lists the steps in their order. Those that the settings do not name are left out, so that an agent
// without any starts its programs at once.
func (a *agent) newPreparation(l *loaded) *preparation {
	p := &preparation{done: make(chan struct{}), passed: make(chan struct{})}
	for _, make := range []func(*loaded) step{a.usersMade, a.seedStep, a.usersFinished, a.fileStep, a.hookStep, a.modelStep} {
		if s := make(l); s != nil {
			p.steps = append(p.steps, s)
		}
	}
	if _, ok := p.steps[0].(*fileStep); ok && len(p.steps) == 1 && len(l.cfg.Files) == 0 {
		p.steps = nil
		p.files.open = true
		close(p.done)
		close(p.passed)
	}
	return p
}

// start begins, in the background, unless there is nothing to do.
func (p *preparation) start() {
	if len(p.steps) == 0 {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	go func() {
		defer close(p.done)
		for _, s := range p.steps {
			if p.err = s.run(ctx); p.err != nil {
				return
			}
			if p.err = ctx.Err(); p.err != nil {
				return
			}
		}
		close(p.passed)
	}()
}

// busy tells whether the programs are still waiting.
func (p *preparation) busy() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// ok tells whether everything went well.
func (p *preparation) ok() bool { return !p.busy() && p.err == nil }

// close ends what goes on beside the programs, and returns when it has ended.
func (p *preparation) close() {
	for _, s := range p.steps {
		if c, ok := s.(interface{ close() }); ok {
			c.close()
		}
	}
}

// stop ends what is going on and returns when it has ended.
func (p *preparation) stop() {
	p.once.Do(func() {
		if p.cancel != nil {
			p.cancel()
		}
	})
	<-p.done
}

func (p *preparation) items() []StartItem {
	list := []StartItem{}
	for _, s := range p.steps {
		list = append(list, s.items()...)
	}
	return list
}

// checks are the lines of /readyz?verbose.
func (p *preparation) checks() []healthCheck {
	var checks []healthCheck
	for _, item := range p.items() {
		c := healthCheck{name: item.Kind + "/" + item.Name}
		why := item.State
		if item.Detail != "" {
			why += ": " + item.Detail
		}
		switch {
		case item.State == itemFailed: // what must not fail ends the agent
			c.note = why
		case item.Apart:
		case item.State == itemWaiting:
			c.reason = why
		case item.State == itemRunning:
			c.reason = fmt.Sprintf("%s, for %s", why, time.Duration(item.Seconds*float64(time.Second)).Round(100*time.Millisecond))
		}
		checks = append(checks, c)
	}
	return checks
}

// handleStart lists what is done before the programs are started.
func (a *agent) handleStart(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, a.prep.items())
}
