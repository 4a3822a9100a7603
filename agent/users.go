package agent

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	accounts "github.com/inpod/inpod/boot/users"
	"github.com/inpod/inpod/config"
	"github.com/inpod/inpod/sshd"
)

// userStep is the users of the settings. They are made before the programs are read, whose user= may name them: by the
// time the step runs, all that is left is to tell.
type userStep struct {
	*board
	a      *agent
	failed error // of a user who is required
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

// makeUsers makes the users, before there is a log.
func (a *agent) makeUsers(cfg *config.Config) {
	if len(cfg.Users) == 0 {
		return
	}
	names := make([]string, len(cfg.Users))
	for i, u := range cfg.Users {
		names[i] = u.Name
	}
	s := &userStep{board: newBoard("user", names), a: a}
	a.users = s
	m := a.userMaker(cfg)
	for i, u := range cfg.Users {
		s.begin(i)
		result, err := m.Make(context.Background(), u) // nothing in it waits for long
		if err != nil {
			s.end(i, itemFailed, err.Error())
			if u.Required {
				s.failed = fmt.Errorf("user %q: %w", u.Name, err)
			}
			continue
		}
		text := strings.Join(append(result.Changes, result.Warnings...), "; ")
		if len(result.Changes) == 0 {
			text = strings.Join(append([]string{"nothing to change"}, result.Warnings...), "; ")
		}
		s.end(i, itemDone, text)
	}
}

func (a *agent) usersMade(*loaded) step {
	if a.users == nil {
		return nil
	}
	return a.users
}

// run implements step.
func (s *userStep) run(context.Context) error {
	for _, item := range s.items() {
		if item.State == itemFailed {
			s.a.log.Error("cannot make a user", "user", item.Name, "error", item.Detail)
		} else {
			s.a.log.Info("user", "user", item.Name, "done", item.Detail)
		}
	}
	return s.failed
}
