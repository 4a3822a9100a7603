package sshd

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// The kinds of sessions, in the log, in metrics and in inpod ctl sessions.
const (
	kindShell = "shell"
	kindExec  = "exec"
	kindSFTP  = "sftp"
	kindSCP   = "scp"
)

const (
	exitNoCommand = 127
	exitRefused   = 1
)

// what is to be done, once it is known.
type job struct {
	kind    string
	command string // of exec: what runs; of scp: its arguments
	asked   string // what the client asked for, where that was replaced
}

// start begins what the request asks for.
func (ss *session) start(r *ssh.Request) {
	text := ""
	if r.Type != "shell" {
		text, _ = stringOf(r.Payload)
	}
	j := ss.plan(r.Type, text)
	ss.mu.Lock()
	ss.kind, ss.command = j.kind, j.command
	ss.mu.Unlock()
	ss.c.work.Add(1)
	go func() {
		defer ss.c.work.Done()
		defer close(ss.finish)
		defer ss.release()
		defer ss.ch.Close()
		defer ss.c.s.recovered("a session")
		ss.run(j)
	}()
}

// plan decides what a request comes to: a forced command replaces all of them.
func (ss *session) plan(kind, text string) job {
	j := job{kind: kind, command: text}
	if kind == "subsystem" { // which is sftp
		j.kind, j.command, text = kindSFTP, "", sftpServer()
	}
	if ss.c.grant.forced {
		j.asked = text
		j.kind, j.command = kindExec, ss.c.grant.command
	}
	if j.kind == kindExec {
		switch name, _, _ := strings.Cut(strings.TrimSpace(j.command), " "); {
		case name == "internal-sftp", filepath.Base(name) == "sftp-server":
			j.kind = kindSFTP
		case name == "scp" && ss.wantsOwnSCP(j.command):
			j.kind = kindSCP
		}
	}
	return j
}

// sftpServer is what a forced command is told that was to run for the subsystem: many run what they are told.
func sftpServer() string {
	for _, dir := range []string{"/usr/lib/openssh", "/usr/libexec/openssh", "/usr/lib/ssh", "/usr/libexec"} {
		if path := dir + "/sftp-server"; executable(path) {
			return path
		}
	}
	return "internal-sftp"
}

// run does it and sends the status. The order at the end is the same for all: output, exit-status, EOF, CLOSE.
func (ss *session) run(j job) {
	s := ss.c.s
	s.counts.started.add(j.kind)
	log := ss.log.With("kind", j.kind)
	if j.command != "" {
		log = log.With("command", clipCommand(j.command))
	}
	if j.asked != "" {
		log = log.With("asked", clipCommand(j.asked))
	}
	began := time.Now()
	log.Info("session", "tty", ss.term != nil)
	var how Exit
	switch {
	case j.kind == kindSFTP, j.kind == kindSCP:
		how = ss.files(j)
	case ss.c.account.virtual == nil && ss.c.account.noShell() && shellOf(ss.c.account) != ss.c.account.shell:
		how = ss.refuse("this account is not available")
	case ss.filesOnly():
		how = ss.refuse("this account has only files")
	default:
		how = ss.execute(j)
	}
	ss.sendExit(how)
	log.Info("session ended", "seconds", time.Since(began).Seconds(), "exit", how.Code, "signal", signalName(how.Signal))
}

func (ss *session) refuse(why string) Exit {
	fmt.Fprintf(ss.ch.Stderr(), "inpod: %s\r\n", why)
	return Exit{Code: exitRefused}
}

// sendExit sends the status, if that was not sent yet, and then EOF (RFC 4254, 6.10). Closing the channel comes after that.
func (ss *session) sendExit(how Exit) {
	ss.sendStatus(how)
	_ = ss.ch.CloseWrite()
}

// sendStatus sends the status, once.
func (ss *session) sendStatus(how Exit) {
	if ss.statusSent {
		return
	}
	ss.statusSent = true
	if how.Signal == 0 {
		_, _ = ss.ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{uint32(how.Code & 0xff)}))
	} else {
		_, _ = ss.ch.SendRequest("exit-signal", false, ssh.Marshal(struct {
			Signal string
			Core   bool
			Error  string
			Lang   string
		}{signalName(how.Signal), how.Core, "", ""}))
	}
}

// clipCommand bounds a command for the log.
func clipCommand(s string) string {
	const most = 512
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
