package supervisor

import (
	"context"
	"errors"
	"regexp"
	"time"

	"github.com/inpod/inpod/internal/probe"
	"github.com/inpod/inpod/internal/proc"
	"github.com/inpod/inpod/supervisor/ini"
)

// newCheck makes the check that c describes, run as the program's own user and with its environment.
func (p *process) newCheck(c *ini.Check) (probe.Check, error) {
	switch {
	case c.HTTP != "":
		return probe.HTTP(c.HTTP)
	case c.TCP != "":
		return probe.TCP(c.TCP)
	case c.Exec != "":
		spec, err := p.helper(c.Exec)
		if err != nil {
			return nil, err
		}
		return probe.Exec(p.sup.opt.Reaper, spec)
	}
	return nil, errors.New("nothing to check")
}

// checks runs check every period until ctx ends, and hands each result to got. It begins after first.
func checks(ctx context.Context, c *ini.Check, check probe.Check, first time.Duration, got func(error)) {
	period, timeout := fraction(c.Period), fraction(c.Timeout)
	timer := time.NewTimer(first)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		once, cancel := context.WithTimeout(ctx, timeout)
		err := check.Check(once)
		cancel()
		if ctx.Err() != nil {
			return
		}
		got(err)
		timer.Reset(period)
	}
}

// fraction is a number of seconds that a check's key gave.
func fraction(s float64) time.Duration {
	if s <= 0 {
		return time.Second
	}
	return time.Duration(s * float64(time.Second))
}

// startReadiness begins to check whether the process that was just spawned is ready.
func (p *process) startReadiness() {
	c, r := p.cfg.Readiness, p.run
	if c == nil || r.exited {
		return
	}
	if c.Log != "" {
		if r.sawLine.Load() {
			p.setReady(r, true, "")
			return
		}
		p.setReady(r, false, "no line matches "+c.Log+" yet")
		return
	}
	check, err := p.newCheck(c)
	if err != nil {
		p.log.Error("cannot check readiness", "error", err)
		p.setReady(r, false, err.Error())
		return
	}
	p.setReady(r, false, "not checked yet")
	ready, failures, last := false, 0, ""
	got := func(err error) {
		text := ""
		if err == nil {
			failures = 0
		} else {
			failures++
			text = err.Error()
		}
		now := err == nil || ready && failures < max(c.Failures, 1)
		if now == ready && text == last {
			return
		}
		ready, last = now, text
		p.post(func() { p.setReady(r, now, text) })
	}
	go guard(p.log, "readiness", func() { checks(r.ctx, c, check, time.Duration(c.Delay*float64(time.Second)), got) })
}

// setReady takes the result of a readiness check of the life r.
func (p *process) setReady(r *run, ready bool, why string) {
	if p.run != r || r.exited || p.m.killing {
		return
	}
	if p.ready != ready {
		p.log.Info("readiness changed", "ready", ready, "why", why)
	}
	p.ready, p.probe = ready, why
	p.publish(p.m.state, p.m.pid)
}

// lineWatcher looks for the line that says that the program is ready. It runs with the stream locked, which the
// owner may be waiting for.
func (p *process) lineWatcher(r *run) func([]byte) {
	re, err := regexp.Compile(p.cfg.Readiness.Log)
	if err != nil {
		p.log.Error("cannot look for the line that says ready", "error", err)
		return nil
	}
	return func(line []byte) {
		if !r.sawLine.Load() && re.Match(line) && r.sawLine.CompareAndSwap(false, true) {
			go p.post(func() { p.setReady(r, true, "") })
		}
	}
}

// startLiveness begins to check whether a RUNNING process still does its work. A program that has a readiness
// check is left alone until it was ready once.
func (p *process) startLiveness() {
	c, r := p.cfg.Liveness, p.run
	if c == nil {
		return
	}
	check, err := p.newCheck(c)
	if err != nil {
		p.log.Error("cannot check liveness", "error", err)
		return
	}
	go guard(p.log, "liveness", func() {
		// The first snapshot must not be kept: every later one hangs on it.
		if p.cfg.Readiness != nil {
			if _, err := p.snap.Load().until(r.ctx, func(s *snapshot) bool { return s.ready }); err != nil {
				return
			}
		}
		failures, first := 0, fraction(c.Period)
		if c.Delay > 0 {
			first = fraction(c.Delay)
		}
		checks(r.ctx, c, check, first, func(err error) {
			if err == nil {
				failures = 0
				return
			}
			failures++
			p.log.Warn("liveness check failed", "check", check.String(), "failures", failures, "error", err)
			if failures >= max(c.Failures, 1) {
				failures = 0
				p.post(func() { p.dead(r) })
			}
		})
	})
}

// dead restarts a program that failed its liveness check too often.
func (p *process) dead(r *run) {
	if p.run != r || r.exited || p.m.state != Running {
		return
	}
	p.unlive++
	p.log.Warn("restarting: the liveness check failed too often")
	p.step(input{kind: inRestart})
}

// helper is the spec of a command that serves the program: an exec check or a hook.
func (p *process) helper(line string) (proc.Spec, error) {
	argv, err := ini.Split(line)
	if err != nil {
		return proc.Spec{}, err
	}
	if len(argv) == 0 {
		return proc.Spec{}, errors.New("command is empty")
	}
	file, err := p.lookPath(argv[0])
	if err != nil {
		return proc.Spec{}, err
	}
	spec := p.spec(file, argv)
	if said := p.setUser(&spec); said != "" {
		return spec, errors.New(said)
	}
	return spec, nil
}
