package supervisor

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"syscall"
)

// A mistake in this package must cost one program, not the agent and with it every other program. So each goroutine
// of a program recovers: the owner gives its program up, the others (a check, a schedule) end.

var errCrashed = errors.New("a mistake in inpod ended the call; its log has the details under BUG")

// bug logs a panic and returns what was wrong in one line.
func bug(log *slog.Logger, where string, panicked any) string {
	log.Error("BUG: please report this", "where", where, "panic", fmt.Sprint(panicked), "stack", string(debug.Stack()))
	return fmt.Sprintf("BUG in inpod: %v", panicked)
}

// guard runs f and survives its panic.
func guard(log *slog.Logger, where string, f func()) {
	defer func() {
		if v := recover(); v != nil {
			bug(log, where, v)
		}
	}()
	f()
}

// crashed gives the program up after a panic on its goroutine: nothing of it runs unattended, and it becomes FATAL,
// from where it can be started again. It relies on nothing that may have been half done.
func (p *process) crashed(panicked any) {
	text := bug(p.log, "owner", panicked)
	p.m.pid, p.m.spawning, p.hooked = 0, p.abandon != nil, true
	alive := p.run != nil && p.run.child != nil && !p.run.exited
	if alive {
		p.m.pid = p.run.child.PID()
	}
	// The same code may panic again; the machine has its new state by then.
	guard(p.log, "giving up", func() { p.step(input{kind: inCrashed, text: text}) })
	if alive {
		if err := p.run.child.SignalGroup(syscall.SIGKILL); err != nil {
			p.log.Debug("cannot kill", "error", err)
		}
	}
	guard(p.log, "giving up", func() {
		p.publish(p.m.state, p.m.pid)
		p.reportFinal()
	})
}
