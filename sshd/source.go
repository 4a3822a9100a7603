package sshd

import (
	"slices"
	"time"

	"github.com/inpod/inpod/config"
	"golang.org/x/crypto/ssh"
)

// source names a credential that somebody could log in with; "" when there is none. It is what decides whether the
// server listens at all.
func (s *Server) source(cfg *config.SSH) string {
	switch {
	case len(cfg.Users) > 0:
		return "ssh.users"
	case cfg.TrustedUserCA != "" && holdsKey(cfg.TrustedUserCA):
		return "ssh.trusted_user_ca"
	case holdsKeys([]byte(cfg.EnvKeys)):
		return config.EnvName("authorized_keys")
	case s.passwords.any():
		return "passwords of ssh.password_file"
	}
	if cfg.PasswordFile != "" {
		if m, err := readPasswords(cfg.PasswordFile, s.accounts.own().name); err == nil && len(m) > 0 {
			return "ssh.password_file"
		}
	}
	users := s.loginUsers()
	for _, pattern := range cfg.AuthorizedKeys {
		if !personal(pattern) {
			if holdsKey(expandKeyPath(pattern, s.accounts.own())) {
				return pattern
			}
			continue
		}
		for _, u := range users {
			if path := expandKeyPath(pattern, u); holdsKey(path) {
				return path
			}
		}
	}
	if cfg.Shadow {
		for _, u := range users {
			if shadowHash(s.accounts.shadow, u.name, time.Now()) != "" {
				return "the password of " + u.name + " in " + s.accounts.shadow
			}
		}
	}
	return ""
}

// loginUsers are the users of the container who can log in here.
func (s *Server) loginUsers() []*account {
	list := []*account{s.accounts.own()}
	if !s.accounts.mayBecome {
		return list
	}
	for _, u := range s.accounts.all() {
		if !u.own && !u.noShell() {
			list = append(list, u)
		}
	}
	return list
}

// Files are the files that decide whether a server with these settings listens, for a caller that watches them. Other
// users' keys are not among them: those matter once somebody can log in, and are read at each login.
func Files(cfg *config.SSH, opts Options) []string {
	if cfg.Listen == config.Off {
		return nil
	}
	a := newAccounts(opts)
	own := a.own()
	var files []string
	for _, pattern := range cfg.AuthorizedKeys {
		files = append(files, expandKeyPath(pattern, own))
	}
	if cfg.Shadow {
		files = append(files, a.shadow)
	}
	for _, file := range []string{cfg.TrustedUserCA, cfg.PasswordFile} {
		if file != "" {
			files = append(files, file)
		}
	}
	return files
}

func holdsKey(file string) bool {
	data, _, err := readBounded(file, maxKeys)
	return err == nil && holdsKeys(data)
}

func holdsKeys(data []byte) bool {
	found := false
	parseKeys(data, func(int, error) {}, func(ssh.PublicKey, *grant) { found = true })
	return found
}

// anyPassword tells whether anybody has a password, so that the method is offered.
func (s *Server) anyPassword(cfg *config.SSH) bool {
	if s.passwords.any() || cfg.Shadow && s.anyShadow() != "" {
		return true
	}
	return slices.ContainsFunc(cfg.Users, func(u config.SSHUser) bool { return u.PasswordFile != "" })
}

func (s *Server) anyShadow() string {
	for _, u := range s.loginUsers() {
		if h := shadowHash(s.accounts.shadow, u.name, time.Now()); h != "" {
			return h
		}
	}
	return ""
}

// anyHash is the hash of somebody's password, which a name without one is compared with.
func (s *Server) anyHash(cfg *config.SSH) string {
	if h := s.passwords.sample(); h != "" {
		return h
	}
	if cfg.Shadow {
		if h := s.anyShadow(); h != "" {
			return h
		}
	}
	for i := range cfg.Users {
		if h, err := s.passwords.virtual(&cfg.Users[i]); err == nil && h != "" {
			return h
		}
	}
	return ""
}
