package agent

import (
	"context"
	"fmt"
	"sync"

	"github.com/inpod/inpod/boot/hooks"
	"github.com/inpod/inpod/config"
	"github.com/inpod/inpod/supervisor/ini"
)

// hookStep runs the hooks, one after the other.
type hookStep struct {
	*board
	a      *agent
	list   []config.Hook
	runner *hooks.Runner
	apart  sync.WaitGroup // the hooks in the background
	ended  chan struct{}  // closed when those are to end
	once   sync.Once
}

func (a *agent) hookStep(l *loaded) step {
	if len(l.cfg.Hooks) == 0 {
		return nil
	}
	names := make([]string, len(l.cfg.Hooks))
	for i, h := range l.cfg.Hooks {
		names[i] = h.Name
	}
	s := &hookStep{board: newBoard("hook", names), a: a, list: l.cfg.Hooks, ended: make(chan struct{})}
	for i, h := range s.list {
		s.board.list[i].Apart = h.Background
	}
	s.runner = &hooks.Runner{
		Reaper: a.reaper, Log: a.log, Env: a.opts.Env, Split: ini.Split,
		Account: func(name string) (hooks.Account, error) {
			e, err := a.userMaker(l.cfg).Lookup(name)
			return hooks.Account{Name: e.Name, UID: e.UID, GID: e.GID, Groups: e.Groups, Home: e.Home}, err
		},
	}
	return s
}

// run implements step.
func (s *hookStep) run(ctx context.Context) error {
	for i, h := range s.list {
		if h.Background {
			s.apart.Go(func() { s.background(i, h) })
			continue
		}
		if err := s.one(ctx, i, h); err != nil && (h.OnError == "fail" || ctx.Err() != nil) {
			return fmt.Errorf("hook %q: %w", h.Name, err)
		}
	}
	return nil
}

// background runs a hook until its end or that of the programs.
func (s *hookStep) background(i int, h config.Hook) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-s.ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	_ = s.one(ctx, i, h) // it has been logged, and nothing waits for it
}

func (s *hookStep) one(ctx context.Context, i int, h config.Hook) error {
	s.begin(i)
	r := s.runner.Run(ctx, h)
	switch {
	case r.Skipped:
		s.end(i, itemSkipped, r.Text)
		return nil
	case r.Err != nil:
		s.end(i, itemFailed, r.Text)
	default:
		s.end(i, itemDone, r.Text)
	}
	s.change(i, func(item *StartItem) { item.ExitCode = &r.Code })
	return r.Err
}

// close ends the hooks in the background and waits for them.
func (s *hookStep) close() {
	s.once.Do(func() { close(s.ended) })
	s.apart.Wait()
}
