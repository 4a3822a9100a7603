package sshd

import (
	"os"
	"path/filepath"
	"strings"
)

// welcome shows the container's limits on a terminal, unless the user does not want to see such things (login(1)).
func (ss *session) welcome() {
	s := ss.c.s
	if !ss.c.cfg.MOTD || s.opts.MOTD == nil {
		return
	}
	if _, err := os.Stat(filepath.Join(ss.c.account.home, ".hushlogin")); err == nil {
		return
	}
	if text := s.opts.MOTD(); text != "" {
		_, _ = ss.ch.Write([]byte(strings.ReplaceAll(text, "\n", "\r\n")))
	}
}
