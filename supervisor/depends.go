package supervisor

import (
	"context"
	"slices"
)

// requestStart starts the program, or, when what it depends on is not ready, makes it wait. It runs on the owner.
func (p *process) requestStart() {
	if p.waiting != "" || p.m.closing {
		return
	}
	name, ok := p.unready()
	if ok {
		p.begin()
		return
	}
	if p.snap.Load().isRunning() || p.m.state == Stopping {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.stopWait = cancel
	p.setWaiting(name)
	go guard(p.log, "dependencies", func() { p.awaitDependencies(ctx) })
}

// begin is the start that somebody asked for.
func (p *process) begin() {
	p.asked = true
	p.step(input{kind: inStart})
	p.asked = false
}

func (p *process) setWaiting(name string) {
	if p.waiting != name && name != "" {
		p.log.Info("waiting for a dependency", "dependency", name)
	}
	p.waiting = name
	p.publish(p.m.state, p.m.pid)
}

// cancelWait gives up a start that waits for dependencies, and tells whether there was one.
func (p *process) cancelWait() bool {
	if p.waiting == "" {
		return false
	}
	p.stopWait()
	p.setWaiting("")
	return true
}

// unready returns the first dependency that is not ready; ok means that there is none.
func (p *process) unready() (name string, ok bool) {
	for _, dep := range p.cfg.DependsOn {
		procs := p.sup.dependency(dep)
		if len(procs) == 0 || slices.ContainsFunc(procs, func(q *process) bool { return !q.snap.Load().ready }) {
			return dep, false
		}
	}
	return "", true
}

// awaitDependencies starts what p depends on, waits until all of it is ready at the same time, and starts p.
func (p *process) awaitDependencies(ctx context.Context) {
	for _, dep := range p.cfg.DependsOn {
		for _, q := range p.sup.dependency(dep) {
			if s := q.snap.Load(); s.state == Stopped || s.state == Exited && !s.ready {
				_ = q.ask(ctx, q.requestStart)
			}
		}
	}
	for {
		changed := p.sup.groupsChanged()
		name, ok := p.unready()
		if ok {
			break
		}
		if p.ask(ctx, func() {
			if ctx.Err() == nil {
				p.setWaiting(name)
			}
		}) != nil {
			return
		}
		if !p.awaitOne(ctx, name, changed) {
			return
		}
	}
	_ = p.ask(ctx, func() {
		if ctx.Err() == nil {
			p.stopWait()
			p.waiting = "" // told with the new state: who waits for this start must not take it for given up
			p.begin()
		}
	})
}

// awaitOne waits until the dependency is ready or the set of groups changes. It returns false when ctx has ended.
func (p *process) awaitOne(ctx context.Context, name string, changed <-chan struct{}) bool {
	procs := p.sup.dependency(name)
	if len(procs) == 0 {
		select {
		case <-changed:
			return true
		case <-ctx.Done():
			return false
		}
	}
	for _, q := range procs {
		for s := q.snap.Load(); !s.ready; s = s.next {
			select {
			case <-s.done:
			case <-changed:
				return true
			case <-ctx.Done():
				return false
			}
		}
	}
	return true
}
