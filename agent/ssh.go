package agent

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"

	"github.com/inpod/inpod/config"
	"github.com/inpod/inpod/internal/proc"
	"github.com/inpod/inpod/sshd"
)

// sshOptions are what the SSH server gets of the agent: its processes are the reaper's like all others.
func (a *agent) sshOptions() sshd.Options {
	return sshd.Options{
		Log: a.log, Spawner: spawner{a.reaper}, Env: a.opts.Env, Settled: trimCode, MOTD: motd(),
		Connected: a.processors.login, Moved: a.processors.moved,
	}
}

// sshSettings are those of l. Where nobody set ssh.listen, a program that runs sshd keeps the port: images that bring
// their own go on as they are.
func (a *agent) sshSettings(l *loaded) config.SSH {
	s := l.cfg.SSH
	if s.ListenSet || s.Listen == config.Off {
		return s
	}
	for i := range l.ini.Groups {
		for _, p := range l.ini.Groups[i].Programs {
			if len(p.Argv) > 0 && filepath.Base(p.Argv[0]) == "sshd" && p.Autostart {
				a.log.Info("a program runs sshd, so inpod's own ssh is off; ssh.listen turns it on", "program", p.Name)
				s.Listen = config.Off
				return s
			}
		}
	}
	return s
}

// spawner starts the processes of sessions.
type spawner struct{ reaper *proc.Reaper }

// Start implements sshd.Spawner.
func (s spawner) Start(c sshd.Command) (sshd.Process, error) {
	spec := proc.NewSpec(c.Path)
	spec.Argv, spec.Env, spec.Dir = c.Argv, c.Env, c.Dir
	spec.Stdin, spec.Stdout, spec.Stderr, spec.TTY = c.Stdin, c.Stdout, c.Stderr, c.TTY
	spec.UID, spec.GID, spec.Groups = c.UID, c.GID, c.Groups
	spec.Session = true // the agent may have a terminal (docker run -t), at which somebody else sits
	p, err := s.reaper.Start(spec)
	if err != nil {
		return nil, err
	}
	return sessionProcess{p}, nil
}

// sessionProcess is a process of a session.
type sessionProcess struct{ *proc.Process }

// Exit implements sshd.Process.
func (p sessionProcess) Exit() sshd.Exit {
	st := p.Status()
	return sshd.Exit{Code: st.Code, Signal: st.Signal, Core: st.Core}
}

// handleSessions lists who is logged in (sshd.Connection), the oldest first.
func (a *agent) handleSessions(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, a.ssh.Connections())
}

// handleKillSession is POST /api/v1/sessions/{id}/kill: it ends a connection and what runs on it.
func (a *agent) handleKillSession(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.ParseUint(r.PathValue("id"), 10, 64)
	if err != nil || !a.ssh.Kill(id) {
		writeError(w, http.StatusNotFound, fmt.Sprintf("no such session: %s", r.PathValue("id")))
		return
	}
	writeJSON(w, http.StatusOK, map[string]string{"result": "ok"})
}
