package sshd

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
)

// agentForward is the client's authentication agent, on a socket of its user (ssh -A).
type agentForward struct {
	u         *account
	dir, path string
	ln        net.Listener
}

// forwardAgent makes the socket; connections to it go to the client.
func (ss *session) forwardAgent() bool {
	c := ss.c
	if ss.started || ss.agent != nil || !c.cfg.AgentForward || c.grant.noAgent || ss.filesOnly() {
		return false
	}
	a := &agentForward{u: c.account}
	err := as(c.account, func() (err error) {
		a.dir, err = os.MkdirTemp("", "ssh-") // 0700
		return err
	})
	if err == nil {
		a.path = filepath.Join(a.dir, "agent."+strconv.FormatUint(c.id, 10))
		a.ln, err = listenUnix(c.account, a.path)
	}
	if err != nil {
		ss.log.Warn("cannot forward the agent", "error", err)
		a.close()
		return false
	}
	ss.agent = a
	c.serveListener(a.ln, "auth-agent@openssh.com", func(net.Conn) []byte { return nil })
	return true
}

func (a *agentForward) close() {
	if a.ln != nil {
		_ = a.ln.Close()
	}
	if a.dir != "" {
		_ = as(a.u, func() error { return os.Remove(a.dir) })
	}
}
