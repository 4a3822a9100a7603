package sshd

import (
	"encoding/binary"
	"log/slog"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
)

// session is one channel of the type session (RFC 4254, 6). Its requests are handled in their order by one goroutine;
// what runs is another.
type session struct {
	c      *conn
	ch     ssh.Channel
	log    *slog.Logger
	since  time.Time
	ended  chan struct{} // closed when the client's side of the channel is gone
	finish chan struct{} // closed when what ran is over

	settling chan chan struct{} // asks the goroutine of the requests to handle those that have come

	// Of the requests before the start; only the goroutine of the requests has them.
	env     []string
	started bool
	agent   *agentForward
	x11     *x11Forward
	settled chan struct{} // to be closed when no request waits

	statusSent bool // only the goroutine of what runs has it

	mu            sync.Mutex // guards what follows
	kind, command string
	term          *terminal // nil without a terminal
	termType      string
	process       Process // nil until it runs, and for files
}

const (
	maxEnv     = 256      // variables of one session
	maxEnvSize = 64 << 10 // bytes of them
)

// ptyRequest is pty-req (RFC 4254, 6.2).
type ptyRequest struct {
	Term                         string
	Columns, Rows, Width, Height uint32
	Modes                        string
}

// session serves a channel to its end.
func (c *conn) session(n ssh.NewChannel) {
	c.mu.Lock()
	refused := c.noMore
	c.mu.Unlock()
	if refused {
		_ = n.Reject(ssh.Prohibited, "no more sessions")
		return
	}
	if !c.s.mayBegin() {
		_ = n.Reject(ssh.Prohibited, "this pod is going down")
		return
	}
	ch, requests, err := n.Accept()
	if err != nil {
		return
	}
	ss := newSession(c, ch)
	c.mu.Lock()
	c.sessions[ss] = true
	c.mu.Unlock()
	c.s.counts.sessions.Add(1)
	defer func() {
		c.mu.Lock()
		delete(c.sessions, ss)
		c.mu.Unlock()
		c.s.tell()
	}()
	ss.requests(requests)
}

func newSession(c *conn, ch ssh.Channel) *session {
	return &session{
		c: c, ch: ch, log: c.log, since: time.Now(), ended: make(chan struct{}), finish: make(chan struct{}),
		settling: make(chan chan struct{}),
	}
}

// requests handles requests until the channel is closed, and waits for what was started.
func (ss *session) requests(requests <-chan *ssh.Request) {
	for {
		r, more := ss.next(requests)
		if !more {
			break
		}
		ok := ss.request(r)
		if r.WantReply {
			_ = r.Reply(ok, nil)
		}
		if ok && ss.startable(r) {
			ss.start(r)
		}
	}
	close(ss.ended)
	if ss.started {
		<-ss.finish
	} else {
		ss.release()
		_ = ss.ch.Close()
	}
}

// startable tells whether a request starts something, and takes note: a session starts one thing (RFC 4254, 6.5).
func (ss *session) startable(r *ssh.Request) bool {
	switch r.Type {
	case "shell", "exec", "subsystem":
		ss.started = true
		return true
	}
	return false
}

// request handles one and tells whether it was taken.
func (ss *session) request(r *ssh.Request) bool {
	ss.c.touch()
	switch r.Type {
	case "shell":
		return !ss.started
	case "exec":
		_, ok := stringOf(r.Payload)
		return ok && !ss.started
	case "subsystem":
		name, ok := stringOf(r.Payload)
		if ok && name != "sftp" {
			ss.log.Info("no such subsystem", "subsystem", clip(name))
		}
		return ok && name == "sftp" && !ss.started
	case "env":
		return ss.setEnv(r.Payload)
	case "pty-req":
		return ss.allocate(r.Payload)
	case "window-change":
		return ss.windowChange(r.Payload)
	case "signal":
		name, ok := stringOf(r.Payload)
		sig := signalNamed(name)
		return ok && sig != 0 && ss.asked(sig)
	case "break":
		return ss.asked(syscall.SIGINT)
	case "auth-agent-req@openssh.com":
		return ss.forwardAgent()
	case "x11-req":
		return ss.forwardX11(r.Payload)
	}
	return false
}

// stringOf reads a payload that is one string.
func stringOf(payload []byte) (string, bool) {
	if len(payload) < 4 || uint64(binary.BigEndian.Uint32(payload)) > uint64(len(payload)-4) {
		return "", false
	}
	return string(payload[4 : 4+binary.BigEndian.Uint32(payload)]), true
}

// setEnv takes the variables that concern language and terminal, as Debian's sshd does, and git's protocol. Others
// could change what a forced command does.
func (ss *session) setEnv(payload []byte) bool {
	var kv struct{ Name, Value string }
	if ss.started || ssh.Unmarshal(payload, &kv) != nil || len(ss.env) >= maxEnv || len(kv.Name)+len(kv.Value) > maxEnvSize/8 {
		return false
	}
	if strings.ContainsRune(kv.Name+kv.Value, 0) || !acceptedEnv(kv.Name) {
		return false
	}
	ss.env = append(ss.env, kv.Name+"="+kv.Value)
	return true
}

func acceptedEnv(name string) bool {
	switch name {
	case "LANG", "LANGUAGE", "COLORTERM", "NO_COLOR", "TERM_PROGRAM", "TERM_PROGRAM_VERSION", "GIT_PROTOCOL":
		return true
	}
	rest, ok := strings.CutPrefix(name, "LC_")
	return ok && strings.Trim(rest, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz0123456789") == ""
}

// allocate makes the terminal.
func (ss *session) allocate(payload []byte) bool {
	var p ptyRequest
	if ss.started || ss.term != nil || ss.c.grant.noPTY || ss.filesOnly() || ssh.Unmarshal(payload, &p) != nil {
		return false
	}
	t, err := openTerminal(ss.c.account)
	if err != nil {
		ss.log.Error("cannot make a terminal", "error", err)
		return false
	}
	t.resize(windowSize{p.Columns, p.Rows, p.Width, p.Height})
	if err := t.setModes([]byte(p.Modes)); err != nil {
		ss.log.Debug("cannot set the modes of a terminal", "error", err)
	}
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.term, ss.termType = t, p.Term
	ss.ch = ordered{ss.ch, ss.settle}
	return true
}

func (ss *session) windowChange(payload []byte) bool {
	var w windowSize
	if ssh.Unmarshal(payload, &w) != nil {
		return false
	}
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.term == nil {
		return false
	}
	ss.term.resize(w)
	return true
}

// asked is signal for a client. As with sshd, a key that is there for a command may not interfere with it.
func (ss *session) asked(sig syscall.Signal) bool { return !ss.c.grant.forced && ss.signal(sig) }

// signal sends one to the process group of what runs.
func (ss *session) signal(sig syscall.Signal) bool {
	ss.mu.Lock()
	p := ss.process
	ss.mu.Unlock()
	if p == nil {
		return false
	}
	return p.SignalGroup(sig) == nil
}

// tell writes to the terminal, if there is one: elsewhere it would get into a protocol.
func (ss *session) tell(text string) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.term == nil || ss.kind == "" {
		return
	}
	// The client may have stopped reading, and nobody must wait for it.
	ss.c.work.Add(1)
	go func() {
		defer ss.c.work.Done()
		_, _ = ss.ch.Write([]byte(text))
	}()
}

// filesOnly tells whether nothing but files may be had.
func (ss *session) filesOnly() bool {
	v := ss.c.account.virtual
	return v != nil && (v.SFTPOnly || v.Root != "")
}

func (ss *session) info() Session {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	i := Session{Kind: ss.kind, Command: ss.command, Since: ss.since}
	if ss.term != nil {
		i.TTY = ss.term.name
	}
	if ss.process != nil {
		i.PID = ss.process.PID()
	}
	return i
}

// release gives back what was made before the start.
func (ss *session) release() {
	ss.mu.Lock()
	if ss.term != nil {
		ss.term.close()
	}
	ss.mu.Unlock()
	if ss.agent != nil {
		ss.agent.close()
	}
	if ss.x11 != nil {
		ss.x11.close()
	}
}
