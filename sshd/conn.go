package sshd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/inpod/inpod/config"
	"golang.org/x/crypto/ssh"
)

// maxChannels bounds the channels of one connection.
const maxChannels = 1024

// conn is a client that is logged in.
type conn struct {
	s       *Server
	id      uint64
	wire    *peer
	ssh     *ssh.ServerConn
	cfg     *config.SSH // as it was at the login
	account *account
	grant   *grant
	log     *slog.Logger
	since   time.Time
	ctx     context.Context // ends with the connection
	cancel  context.CancelCauseFunc
	work    sync.WaitGroup

	active   atomic.Int64 // when a session or a forwarding moved a byte last, Unix nanoseconds
	channels atomic.Int32
	forwards atomic.Int32

	mu        sync.Mutex
	sessions  map[*session]bool
	listeners map[string]net.Listener // of remote forwardings
	noMore    bool                    // no-more-sessions@openssh.com
}

// serve logs a client in and serves it until it leaves.
func (s *Server) serve(w *peer) {
	cfg := s.settings.Load()
	deadline := time.Now().Add(cfg.LoginGrace)
	_ = w.SetDeadline(deadline)
	ctx, cancel := context.WithDeadlineCause(context.Background(), deadline, errors.New("ssh.login_grace is over"))
	defer cancel()
	id := s.ids.Add(1)
	log := s.log.With("connection", id, "from", w.RemoteAddr().String())
	g, offered, err := greet(w, deadline)
	if err != nil {
		log.Debug("a connection said nothing", "error", err)
		return
	}
	l := &login{s: s, wire: w, cfg: cfg, ctx: ctx, log: log}
	sc, channels, requests, err := ssh.NewServerConn(g, l.serverConfig(offered))
	if err != nil {
		s.counts.failed.Add(1)
		log.Debug("login failed", "error", err)
		return
	}
	s.door.known(w)
	_ = w.SetDeadline(time.Time{})
	r, ok := sc.Permissions.ExtraData[extra{}].(result)
	if !ok {
		panic("BUG: sshd: a login without a result")
	}
	c := &conn{
		s: s, id: id, wire: w, ssh: sc, cfg: cfg, account: r.account, grant: r.grant, since: time.Now(),
		log: log.With("user", r.account.name), sessions: map[*session]bool{}, listeners: map[string]net.Listener{},
	}
	c.touch()
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	c.run(channels, requests)
}

// run serves an authenticated connection to its end.
func (c *conn) run(channels <-chan ssh.NewChannel, requests <-chan *ssh.Request) {
	s := c.s
	if !s.add(c) {
		_ = c.ssh.Close()
		go ssh.DiscardRequests(requests)
		for ch := range channels {
			_ = ch.Reject(ssh.Prohibited, "the server goes down")
		}
		return
	}
	s.counts.logins.add(c.grant.method)
	c.log.Info("login", "method", c.grant.method, "key", c.grant.key, "client", clip(string(c.ssh.ClientVersion())))
	c.work.Add(3)
	go func() { defer c.work.Done(); c.keepAlive() }()
	go func() { defer c.work.Done(); defer s.recovered("requests"); c.globalRequests(requests) }()
	go func() { defer c.work.Done(); c.accept(channels) }()
	err := c.ssh.Wait()
	c.cancel(errors.New("the connection has ended"))
	c.closeListeners()
	c.work.Wait()
	s.remove(c)
	c.log.Info("logout", "seconds", time.Since(c.since).Seconds(), "received", c.wire.in.Load(), "sent", c.wire.out.Load(),
		"reason", reason(err))
}

// reason says why a connection ended.
func reason(err error) string {
	if err == nil || strings.HasSuffix(err.Error(), "EOF") || strings.Contains(err.Error(), "disconnect") {
		return "the client left"
	}
	return err.Error()
}

func (c *conn) accept(channels <-chan ssh.NewChannel) {
	for ch := range channels {
		if c.channels.Add(1) > maxChannels {
			c.channels.Add(-1)
			_ = ch.Reject(ssh.ResourceShortage, "too many channels")
			continue
		}
		c.work.Add(1)
		go func() {
			defer c.work.Done()
			defer c.channels.Add(-1)
			defer c.s.recovered("a channel")
			c.channel(ch)
		}()
	}
}

func (c *conn) channel(ch ssh.NewChannel) {
	switch ch.ChannelType() {
	case "session":
		c.session(ch)
	case "direct-tcpip":
		c.directTCP(ch)
	case "direct-streamlocal@openssh.com":
		c.directUnix(ch)
	default:
		_ = ch.Reject(ssh.UnknownChannelType, "unknown channel type")
	}
}

// globalRequests answers requests that concern the whole connection, in their order.
func (c *conn) globalRequests(requests <-chan *ssh.Request) {
	for r := range requests {
		switch r.Type {
		case "tcpip-forward":
			c.forwardTCP(r)
		case "cancel-tcpip-forward":
			c.cancelTCP(r)
		case "streamlocal-forward@openssh.com":
			c.forwardUnix(r)
		case "cancel-streamlocal-forward@openssh.com":
			c.cancelUnix(r)
		case "no-more-sessions@openssh.com":
			c.mu.Lock()
			c.noMore = true
			c.mu.Unlock()
			_ = r.Reply(true, nil)
		default: // keepalive@openssh.com too: any answer will do
			_ = r.Reply(false, nil)
		}
	}
}

// touch notes that something moved.
func (c *conn) touch() { c.active.Store(time.Now().UnixNano()) }

// keepAlive ends a connection whose client does not answer, and one on which nothing moves. The two have nothing to do
// with each other: a client that answers may be idle.
func (c *conn) keepAlive() {
	interval, idle := c.cfg.ClientAliveInterval, c.cfg.IdleTimeout
	if interval == 0 && idle == 0 {
		return
	}
	tick := interval
	if tick == 0 || idle > 0 && idle < tick {
		tick = idle
	}
	timer := time.NewTimer(tick)
	defer timer.Stop()
	asked := 0
	var lastAsk time.Time
	waiting := make(chan struct{}, 1) // holds one while a question is on its way
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-timer.C:
		}
		now := time.Now()
		next := tick
		if idle > 0 {
			left := time.Unix(0, c.active.Load()).Add(idle).Sub(now)
			if left <= 0 {
				c.log.Info("the connection is idle", "timeout", idle.String())
				c.end("idle for " + idle.String())
				return
			}
			next = min(next, left)
		}
		if interval > 0 {
			read := time.Unix(0, c.wire.lastRead.Load())
			if read.After(lastAsk) {
				asked = 0
			}
			due := read
			if lastAsk.After(due) {
				due = lastAsk
			}
			if left := due.Add(interval).Sub(now); left > 0 {
				next = min(next, left)
			} else if asked >= c.cfg.ClientAliveCount {
				c.log.Info("the client does not answer", "questions", asked)
				c.end("the client does not answer")
				return
			} else {
				asked, lastAsk = asked+1, now
				c.ask(waiting)
			}
		}
		timer.Reset(next)
	}
}

// ask sends a question that every client answers, if only by saying that it does not know it. It may block, when the
// client reads nothing any more.
func (c *conn) ask(waiting chan struct{}) {
	select {
	case waiting <- struct{}{}:
	default:
		return
	}
	c.work.Add(1)
	go func() {
		defer c.work.Done()
		_, _, _ = c.ssh.SendRequest("keepalive@openssh.com", true, nil)
		<-waiting
	}()
}

// end closes the connection. What runs without a terminal learns of it from its pipes.
func (c *conn) end(why string) {
	c.cancel(errors.New(why))
	_ = c.wire.Close()
}

// kill ends the connection and the commands on it.
func (c *conn) kill() {
	c.mu.Lock()
	for ss := range c.sessions {
		ss.signal(syscall.SIGHUP)
	}
	c.mu.Unlock()
	c.log.Info("the connection is killed")
	c.end("killed")
}

// warn tells terminals that the pod goes down.
func (c *conn) warn(deadline time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	text := fmt.Sprintf("\r\n\a*** this pod is going down; this session ends at %s ***\r\n", deadline.Format("15:04:05 MST"))
	for ss := range c.sessions {
		ss.tell(text)
	}
}

func (c *conn) sessionCount() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.sessions)
}

func (c *conn) info() Connection {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := Connection{
		ID: c.id, User: c.account.name, From: c.wire.RemoteAddr().String(), Client: clip(string(c.ssh.ClientVersion())),
		Method: c.grant.method, Since: c.since, Idle: time.Since(time.Unix(0, c.active.Load())).Seconds(),
		Sessions: []Session{}, Forwards: int(c.forwards.Load()), Received: c.wire.in.Load(), Sent: c.wire.out.Load(),
	}
	for ss := range c.sessions {
		i.Sessions = append(i.Sessions, ss.info())
	}
	slices.SortFunc(i.Sessions, func(a, b Session) int { return a.Since.Compare(b.Since) })
	return i
}

// recovered keeps a panic of one connection from taking the agent down.
func (s *Server) recovered(what string) {
	if e := recover(); e != nil {
		s.log.Error("BUG: panic in "+what, "error", fmt.Sprint(e), "stack", string(debug.Stack()))
	}
}
