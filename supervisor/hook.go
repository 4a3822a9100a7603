package supervisor

import (
	"bytes"
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/inpod/inpod/internal/proc"
)

// hookTimeout bounds pre_start_hook, pre_stop_hook and the commands that run when files change.
const hookTimeout = time.Minute

// hook runs a command that the ini file gave as key, and logs what it says. An empty command is none.
func (p *process) hook(ctx context.Context, key, command string) error {
	if command == "" {
		return nil
	}
	spec, err := p.helper(command)
	if err != nil {
		return fmt.Errorf("cannot run %s %q: %w", key, command, err)
	}
	ctx, cancel := context.WithTimeout(ctx, hookTimeout)
	defer cancel()
	st, out, err := p.sup.opt.Reaper.Run(ctx, spec, proc.RunOptions{})
	if err != nil {
		return fmt.Errorf("cannot run %s %q: %w", key, command, err)
	}
	out = bytes.TrimSpace(out)
	if st.Code != 0 {
		return fmt.Errorf("cannot run %s %q: %s: %s", key, command, st, out)
	}
	p.log.Info("ran a hook", "key", key, "output", string(out))
	return nil
}

// preStop runs pre_stop_hook and then sends the stop signal that waits for it. stopwaitsecs counts meanwhile: a hook
// that hangs ends with SIGKILL for the program.
func (p *process) preStop(sig syscall.Signal, group bool) {
	p.hooked = true
	r := p.run
	go guard(p.log, "pre_stop_hook", func() {
		if err := p.hook(r.ctx, "pre_stop_hook", p.cfg.PreStopHook); err != nil {
			p.log.Warn("pre_stop_hook failed", "error", err)
		}
		p.post(func() {
			if p.run != r || r.exited || !p.m.killing {
				return
			}
			if err := p.signal(sig, group); err != nil {
				p.log.Error("cannot signal", "error", err)
				p.step(input{kind: inSignalFailed})
			}
		})
	})
}
