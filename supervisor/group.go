package supervisor

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/inpod/inpod/supervisor/ini"
)

// group is what is added and removed together.
type group struct {
	sup    *Supervisor
	cfg    *ini.Group // as it was read
	procs  []*process // in the order of cfg.Programs
	pool   *pool      // for an [eventlistener:x]
	socket *fastcgi   // for an [fcgi-program:x]
	cancel context.CancelFunc
	work   sync.WaitGroup // the cron schedules of its programs
}

// namespec is how a process is named in the control interface: group:name, or name when both are the same.
func namespec(group, name string) string {
	if group == name {
		return name
	}
	return group + ":" + name
}

// splitNamespec is the reverse. An empty name is the whole group.
func splitNamespec(spec string) (group, name string) {
	group, name, both := strings.Cut(spec, ":")
	if !both {
		return spec, spec
	}
	if name == "*" {
		name = ""
	}
	return group, name
}

// addGroup makes a group live. It returns nil when there is one of that name.
func (s *Supervisor) addGroup(cfg *ini.Group) *group {
	ctx, cancel := context.WithCancel(context.Background())
	g := s.newGroup(cfg, cancel)
	if g == nil {
		cancel()
		return nil
	}
	for _, p := range g.procs {
		if p.cfg.Cron != "" {
			g.work.Go(func() { guard(p.log, "cron", func() { p.runCron(ctx) }) })
		}
		s.watcher.add(p)
	}
	s.bus.groupChanged(evGroupAdded, cfg.Name)
	return g
}

func (s *Supervisor) newGroup(cfg *ini.Group, cancel context.CancelFunc) *group {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := *s.groups.Load()
	if s.shutdown || slices.ContainsFunc(old, func(g *group) bool { return g.cfg.Name == cfg.Name }) {
		return nil
	}
	g := &group{sup: s, cfg: cfg, cancel: cancel}
	switch cfg.Kind {
	case ini.KindListener:
		g.pool = newPool(s.bus, s.log, cfg)
		s.bus.add(g.pool)
	case ini.KindFastCGI:
		g.socket = &fastcgi{cfg: cfg}
	}
	programs, ok := s.named[cfg]
	if !ok {
		programs = s.nameAutoLogs(cfg.Programs)
		s.named[cfg] = programs
	}
	for i := range programs {
		g.procs = append(g.procs, newProcess(g, &programs[i], s.isMain(&cfg.Programs[i])))
	}
	s.setGroups(append(slices.Clone(old), g))
	return g
}

func (s *Supervisor) isMain(p *ini.Program) bool {
	return s.opt.Main != nil && p.Name == s.opt.Main.Name && p.Group == s.opt.Main.Group && p.File == ""
}

// setGroups publishes the set and wakes those who wait for a change. The caller holds mu.
func (s *Supervisor) setGroups(groups []*group) {
	s.groups.Store(&groups)
	news := make(chan struct{})
	close(*s.groupsNews.Swap(&news))
}

// groupsChanged returns a channel that is closed at the next change of the set of groups.
func (s *Supervisor) groupsChanged() <-chan struct{} { return *s.groupsNews.Load() }

// end stops the goroutines of a group whose programs are stopped.
func (g *group) end() {
	g.cancel()
	g.work.Wait()
	for _, p := range g.procs {
		g.sup.watcher.remove(p)
		close(p.quit)
		<-p.gone
	}
	if g.pool != nil {
		g.sup.bus.remove(g.pool)
	}
}

func (s *Supervisor) group(name string) *group {
	for _, g := range *s.groups.Load() {
		if g.cfg.Name == name {
			return g
		}
	}
	return nil
}

func (g *group) process(name string) *process {
	for _, p := range g.procs {
		if p.cfg.Name == name {
			return p
		}
	}
	return nil
}

// byPriority is the order of all that Supervisor does to several processes.
func (g *group) byPriority() []*process {
	procs := slices.Clone(g.procs)
	slices.SortStableFunc(procs, func(a, b *process) int { return cmp.Compare(a.cfg.Priority, b.cfg.Priority) })
	return procs
}

func groupsByPriority(groups []*group) []*group {
	groups = slices.Clone(groups)
	slices.SortStableFunc(groups, func(a, b *group) int { return cmp.Compare(a.cfg.Priority, b.cfg.Priority) })
	return groups
}

// dependency finds what a word of depends_on means, as ini.Config.Resolve does: the processes of [program:word], else
// the group, or the one process written group:name.
func (s *Supervisor) dependency(word string) []*process {
	group, name, both := strings.Cut(word, ":")
	var bySection, byGroup []*process
	for _, g := range *s.groups.Load() {
		for _, p := range g.procs {
			_, section, _ := strings.Cut(p.cfg.Section, ":")
			switch {
			case !both && section == word:
				bySection = append(bySection, p)
			case g.cfg.Name == group && (!both || name == "*" || name == p.cfg.Name):
				byGroup = append(byGroup, p)
			}
		}
	}
	if len(bySection) > 0 {
		return bySection
	}
	return byGroup
}

// startOrder sorts by priority and then moves what others depend on before them. A circle is left as it is.
func startOrder(groups []*group) []*group {
	return order(groupsByPriority(groups), func(g *group) (before []*group) {
		for _, p := range g.procs {
			for _, word := range p.cfg.DependsOn {
				for _, q := range g.sup.dependency(word) {
					before = append(before, q.group)
				}
			}
		}
		return before
	})
}

func (g *group) startOrder() []*process { return order(g.byPriority(), (*process).dependencies) }

func (p *process) dependencies() (all []*process) {
	for _, word := range p.cfg.DependsOn {
		all = append(all, p.sup.dependency(word)...)
	}
	return all
}

// order puts before each item those of the items that must come before it, and else keeps the order.
func order[T comparable](items []T, before func(T) []T) []T {
	sorted := make([]T, 0, len(items))
	seen := make(map[T]bool, len(items))
	for _, item := range items {
		seen[item] = false
	}
	var visit func(T)
	visit = func(item T) {
		if done, ours := seen[item]; done || !ours {
			return
		}
		seen[item] = true
		for _, b := range before(item) {
			visit(b)
		}
		sorted = append(sorted, item)
	}
	for _, item := range items {
		visit(item)
	}
	return sorted
}

// stopAll stops the programs of a group for good and waits for them. All are asked at once, in descending priority,
// but a program on which another one of the group depends is asked when that one has stopped.
func (g *group) stopAll(ctx context.Context) {
	procs := g.startOrder()
	slices.Reverse(procs)
	for len(procs) > 0 {
		var now, later []*process
		for _, p := range procs {
			needed := slices.ContainsFunc(procs, func(q *process) bool { return q != p && slices.Contains(q.dependencies(), p) })
			if needed {
				later = append(later, p)
			} else {
				now = append(now, p)
			}
		}
		if len(now) == 0 {
			now, later = later, nil // a circle
		}
		for _, p := range now {
			_ = p.ask(ctx, p.stopForGood)
		}
		for _, p := range now {
			_, _ = p.snap.Load().until(ctx, func(s *snapshot) bool { return s.isStopped() && !s.spawning })
		}
		procs = later
	}
}

func (p *process) stopForGood() {
	p.cancelWait()
	if p.m.state == Backoff {
		p.step(input{kind: inGiveUp})
		return
	}
	p.step(input{kind: inStop})
}
