package agent

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	accounts "github.com/inpod/inpod/boot/users"
	"github.com/inpod/inpod/config"
	"github.com/inpod/inpod/sshd"
)

// userStep is the users of the settings. They are made before the programs are read, whose user= may name them: by the
// time the step runs, all that is left is to tell, and what may take long.
type userStep struct {
	*board
	a      *agent
	users  []config.User
	made   []*accounts.Result // nil for one who was not
	failed error              // of a user who is required
}

// userMaker is what makes users, and finds them.
func (a *agent) userMaker(cfg *config.Config) *accounts.Maker {
	m := &accounts.Maker{
		Env: map[string]string{}, Hash: sshd.HashPassword, IsHash: sshd.IsHash, Verify: sshd.VerifyPassword,
	}
	for _, kv := range a.opts.Env {
		if k, v, ok := strings.Cut(kv, "="); ok {
			m.Env[k] = v
		}
	}
	for _, s := range cfg.Seed {
		m.Seeded = append(m.Seeded, filepath.Clean(s.To))
	}
	return m
}

// usersPatience bounds the time until there is a log, an admin server, and somebody who heeds signals.
const usersPatience = 30 * time.Second

// makeUsers makes the users, before there is a log.
func (a *agent) makeUsers(cfg *config.Config) {
	if len(cfg.Users) == 0 {
		return
	}
	names := make([]string, len(cfg.Users))
	for i, u := range cfg.Users {
		names[i] = u.Name
	}
	s := &userStep{board: newBoard("user", names), a: a, users: cfg.Users, made: make([]*accounts.Result, len(cfg.Users))}
	a.users = s
	m := a.userMaker(cfg)
	ctx, cancel := context.WithTimeout(context.Background(), usersPatience)
	defer cancel()
	for i, u := range cfg.Users {
		s.begin(i)
		result, err := m.Make(ctx, u)
		if err != nil {
			s.end(i, itemFailed, err.Error())
			if u.Required {
				s.failed = fmt.Errorf("user %q: %w", u.Name, err)
			}
			continue
		}
		s.made[i] = result
		s.end(i, itemDone, told(result))
	}
}

// told is what was done for a user.
func told(r *accounts.Result) string {
	changes := r.Changes
	if len(changes) == 0 {
		changes = []string{"nothing to change"}
	}
	return strings.Join(slices.Concat(changes, r.Warnings), "; ")
}

func (a *agent) usersMade(*loaded) step {
	if a.users == nil {
		return nil
	}
	return a.users
}

// run implements step.
func (s *userStep) run(ctx context.Context) error {
	for i, r := range s.made {
		if r == nil {
			continue
		}
		s.change(i, func(item *StartItem) { item.State = itemRunning })
		err := r.Adopt(ctx)
		s.change(i, func(item *StartItem) { item.State = itemDone })
		if err != nil {
			s.a.log.Warn("cannot hand over every file in a home directory", "user", s.users[i].Name, "error", err)
		}
	}
	for _, item := range s.items() {
		if item.State == itemFailed {
			s.a.log.Error("cannot make a user", "user", item.Name, "error", item.Detail)
		} else {
			s.a.log.Info("user", "user", item.Name, "done", item.Detail)
		}
	}
	return s.failed
}

// keyStep is what of the users has to wait for the seed. It shows on their board.
type keyStep struct{ s *userStep }

func (a *agent) usersFinished(*loaded) step {
	if a.users == nil {
		return nil
	}
	return &keyStep{a.users}
}

// items implements step.
func (k *keyStep) items() []StartItem { return nil }

// run implements step.
func (k *keyStep) run(context.Context) error {
	for i, r := range k.s.made {
		if r == nil {
			continue
		}
		name, before := k.s.users[i].Name, len(r.Changes)
		err := r.Finish()
		switch {
		case err != nil:
			k.s.change(i, func(item *StartItem) { item.State, item.Detail = itemFailed, err.Error() })
			k.s.a.log.Error("cannot finish a user", "user", name, "error", err)
			if k.s.users[i].Required {
				return fmt.Errorf("user %q: %w", name, err)
			}
		case len(r.Changes) > before:
			k.s.change(i, func(item *StartItem) { item.Detail = told(r) })
			k.s.a.log.Info("user", "user", name, "done", strings.Join(r.Changes[before:], "; "))
		}
	}
	return nil
}
