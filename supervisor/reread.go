package supervisor

import (
	"context"

	"github.com/inpod/inpod/supervisor/ini"
)

// Reread reads the configuration again and names the groups that differ from those that live. It changes nothing
// that runs: AddGroup and RemoveGroup do. When the new configuration is bad the old one stays; the fault
// CANT_REREAD carries every problem.
func (s *Supervisor) Reread() (added, changed, removed []string, err error) {
	if s.closing.Load() {
		return nil, nil, nil, &Fault{Code: ShutdownState}
	}
	next, err := s.opt.Load()
	if err != nil {
		return nil, nil, nil, &Fault{CantReread, err.Error()}
	}
	s.mu.Lock()
	s.config.Store(next)
	clear(s.named)
	s.mu.Unlock()
	var live []ini.Group
	for _, g := range *s.groups.Load() {
		if len(g.procs) != 1 || !g.procs[0].main {
			live = append(live, *g.cfg)
		}
	}
	added, changed, removed = ini.Diff(live, next.Groups)
	return added, changed, removed, nil
}

// AddGroup makes a group of the configuration that was read last live, and starts its programs that want it.
func (s *Supervisor) AddGroup(name string) error {
	if s.closing.Load() {
		return &Fault{Code: ShutdownState}
	}
	cfg := s.config.Load()
	for i := range cfg.Groups {
		if cfg.Groups[i].Name != name {
			continue
		}
		g := s.addGroup(&cfg.Groups[i])
		if g == nil {
			return &Fault{AlreadyAdded, name}
		}
		if !s.held() { // else Run starts them with the others
			s.autostart(context.Background(), []*group{g})
		}
		return nil
	}
	return &Fault{BadName, name}
}

// RemoveGroup takes out a group whose programs are stopped.
func (s *Supervisor) RemoveGroup(name string) error {
	g, err := s.findGroup(name)
	if err != nil {
		return err
	}
	if !g.closed() {
		return &Fault{StillRunning, name}
	}
	s.mu.Lock()
	var rest []*group
	for _, other := range *s.groups.Load() {
		if other != g {
			rest = append(rest, other)
		}
	}
	found := len(rest) < len(*s.groups.Load())
	s.setGroups(rest)
	s.mu.Unlock()
	if !found {
		return &Fault{BadName, name} // somebody else removed it
	}
	g.end()
	s.bus.groupChanged(evGroupRemoved, name)
	return nil
}

// closed sees to it that nothing starts a program of the group any more. It returns false, and leaves the group as it
// was, when one is not stopped.
func (g *group) closed() bool {
	var undo []func()
	for _, p := range g.procs {
		stopped := false
		err := p.ask(context.Background(), func() {
			if stopped = p.snap.Load().isStopped() && !p.m.spawning; stopped {
				reopen := p.close()
				undo = append(undo, func() { _ = p.ask(context.Background(), reopen) })
			}
		})
		if err == nil && !stopped {
			for _, reopen := range undo {
				reopen()
			}
			return false
		}
	}
	return true
}

// close keeps a stopped program from being started. It runs on the owner, as does what it returns, which takes that
// back: what was about to be started still is.
func (p *process) close() (reopen func()) {
	armed, asked := p.m.armed, p.cancelWait()
	p.step(input{kind: inClose})
	p.m.armed = false
	return func() {
		p.m.closing, p.m.armed = false, armed
		p.step(input{kind: inTick})
		if asked {
			p.requestStart()
		}
	}
}
