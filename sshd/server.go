package sshd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inpod/inpod/config"
	"github.com/inpod/inpod/internal/listen"
	"github.com/inpod/inpod/sshd/wire"
)

// Server is an SSH server. Its settings are replaced as a whole by Apply; connections go on with those that they
// logged in with.
type Server struct {
	opts      Options
	log       *slog.Logger
	processes *processes // also opts.Spawner
	accounts  accounts
	host      *hostKeys
	passwords *passwords
	profiles  *profiles
	door      *door
	calm      *calm
	buffers   sync.Pool
	counts    counts
	quotas    quotas
	transport *wire.Wire
	ids       atomic.Uint64
	settings  atomic.Pointer[config.SSH]
	hashing   chan struct{} // bounds the passwords that are being checked: yescrypt takes 16 MiB each
	running   sync.WaitGroup

	mu       sync.Mutex // guards what follows
	ln       net.Listener
	bound    string
	conns    map[uint64]*conn
	draining bool
	deadline time.Time // of the drain
	closed   bool
	changed  chan struct{} // closed and replaced whenever a session or a connection ends
}

const (
	bufferSize   = 32 << 10 // a packet of SSH carries as much
	hashesAtOnce = 2
)

// New returns a server that does not listen yet.
func New(opts Options) *Server {
	processes := newProcesses(opts.Spawner)
	opts.Spawner = processes
	s := &Server{
		opts: opts, processes: processes, log: opts.Log.With("part", "ssh"), conns: map[uint64]*conn{}, changed: make(chan struct{}),
		hashing: make(chan struct{}, hashesAtOnce),
	}
	s.buffers.New = func() any { return new([bufferSize]byte) }
	s.accounts = newAccounts(opts)
	s.calm = &calm{settled: opts.Settled}
	s.host = newHostKeys(s.log)
	s.host.made = s.calm.soon
	s.passwords = newPasswords(s.log)
	s.profiles = newProfiles(s.log, opts)
	s.door = newDoor()
	s.transport = wire.New()
	return s
}

// Apply puts settings in force: it listens, or stops listening, as they and the credentials that there are say. An
// address that was asked for and cannot be had is an error, and then nothing has changed; one that nobody asked for is
// only missed. Connections stay as they are.
func (s *Server) Apply(cfg config.SSH) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	addr, why := cfg.Listen, "ssh.listen is off"
	if addr != config.Off {
		s.passwords.use(cfg.HostKeyDir, cfg.PasswordFile, s.accounts.own().name) // what is kept is a credential too
		addr, why = s.wanted(&cfg)
	}
	if s.draining {
		addr = config.Off
	}
	var next net.Listener
	if addr != config.Off && addr != s.bound {
		var err error
		next, err = listen.Instead(s.ln, addr)
		if err != nil && cfg.ListenSet {
			return fmt.Errorf("cannot listen on %q (ssh.listen): %w", addr, err)
		}
		if err != nil {
			s.log.Warn("going on without ssh; set ssh.listen to another address, or to off", "error", err)
			addr, why = config.Off, err.Error()
		}
	}
	s.settings.Store(&cfg)
	s.door.limit(cfg.MaxUnauthenticated, cfg.MaxConnections)
	s.host.use(cfg.HostKeyDir)
	if addr == s.bound {
		return nil
	}
	if s.ln != nil {
		_ = s.ln.Close()
	}
	s.ln, s.bound = next, addr
	if next == nil {
		s.log.Info("ssh is off", "reason", why)
		return nil
	}
	s.running.Add(1)
	go func() {
		defer s.running.Done()
		s.host.first() // on the disk before anybody can see it
		s.log.Info("ssh is on", "address", next.Addr().String(), "reason", why)
		s.host.soon()
		s.accept(next)
	}()
	return nil
}

// wanted tells where to listen, and why or why not.
func (s *Server) wanted(cfg *config.SSH) (listen, why string) {
	source := s.source(cfg)
	switch {
	case source != "":
		return cfg.Listen, source
	case cfg.ListenSet:
		s.log.Warn("ssh refuses every login: there are no keys and no password",
			"want", "ssh.authorized_keys, ssh.trusted_user_ca, ssh.password_file, ssh.users or a hash in /etc/shadow")
		return cfg.Listen, "ssh.listen is set; every login is refused"
	}
	return config.Off, "no keys and no password"
}

// Addr is where the server listens; "" when it does not.
func (s *Server) Addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ln == nil {
		return ""
	}
	return s.ln.Addr().String()
}

func (s *Server) accept(ln net.Listener) {
	for pause := time.Duration(0); ; {
		c, err := ln.Accept()
		switch {
		case err == nil:
			pause = 0
			s.admit(c)
		case errors.Is(err, net.ErrClosed):
			return
		default: // out of descriptors, most likely
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			s.log.Warn("cannot accept a connection", "error", err)
			<-time.After(pause)
		}
	}
}

// admit makes room for a connection and serves it.
func (s *Server) admit(c net.Conn) {
	s.counts.connections.Add(1)
	w := newPeer(s.transport.Conn(c))
	w.moved = s.opts.Moved
	if !s.door.enter(w) {
		s.counts.dropped.Add(1)
		_ = c.Close()
		return
	}
	s.calm.not(false)
	s.running.Add(1)
	go func() {
		defer s.running.Done()
		defer s.left(w)
		defer w.Close()
		defer s.recovered("a connection")
		s.serve(w)
	}()
}

// left is called at the end of a connection.
func (s *Server) left(w *peer) {
	s.door.leave(w)
	if _, in := s.door.counts(); in == 0 {
		s.calm.soon()
	}
}

// BeginDrain refuses new logins and sessions and tells terminals that they end at the deadline.
func (s *Server) BeginDrain(deadline time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining || s.closed {
		return
	}
	s.draining, s.deadline = true, deadline
	if s.ln != nil {
		_ = s.ln.Close()
		s.ln, s.bound = nil, config.Off
	}
	for _, c := range s.conns {
		c.warn(deadline)
	}
}

// Wait returns when no session is left, or when ctx ends.
func (s *Server) Wait(ctx context.Context) error {
	for {
		s.mu.Lock()
		n, changed := s.sessionCount(), s.changed
		s.mu.Unlock()
		if n == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%d ssh sessions are open: %w", n, context.Cause(ctx))
		}
	}
}

// sessionCount counts sessions; the caller holds mu.
func (s *Server) sessionCount() (n int) {
	for _, c := range s.conns {
		n += c.sessionCount()
	}
	return n
}

// closeTime bounds Close: a file system that hangs must not keep the agent from ending.
const closeTime = 3 * time.Second

// Close ends everything, sessions included, and returns when all is gone but processes that heed neither SIGHUP nor
// SIGTERM.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	if s.ln != nil {
		_ = s.ln.Close()
		s.ln, s.bound = nil, config.Off
	}
	for _, c := range s.conns {
		c.end("the server ends")
	}
	s.mu.Unlock()
	s.door.close()
	s.calm.not(true)
	s.processes.end()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		s.passwords.wait()
		s.host.wait()
		s.running.Wait()
	}()
	select {
	case <-gone:
	case <-time.After(closeTime):
		s.log.Warn("something of ssh does not end")
	}
}

// Connections lists who is logged in, the oldest first.
func (s *Server) Connections() []Connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Connection, 0, len(s.conns))
	for _, c := range s.conns {
		list = append(list, c.info())
	}
	slices.SortFunc(list, func(a, b Connection) int { return int(a.ID) - int(b.ID) })
	return list
}

// Kill ends a connection and the commands that run on it. It tells whether there was one of that number.
func (s *Server) Kill(id uint64) bool {
	s.mu.Lock()
	c := s.conns[id]
	s.mu.Unlock()
	if c == nil {
		return false
	}
	c.kill()
	return true
}

// add puts a connection on the list, unless the server goes down.
func (s *Server) add(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.draining {
		return false
	}
	s.conns[c.id] = c
	s.connected()
	return true
}

// connected is called with mu held.
func (s *Server) connected() {
	if s.opts.Connected != nil {
		s.opts.Connected(len(s.conns))
	}
}

func (s *Server) remove(c *conn) {
	s.mu.Lock()
	delete(s.conns, c.id)
	s.connected()
	s.mu.Unlock()
	s.tell()
}

// tell wakes those who wait for an end.
func (s *Server) tell() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
}

// mayBegin tells whether new sessions are taken.
func (s *Server) mayBegin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.draining && !s.closed
}
