package traffic

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"sync"
	"syscall"
	"time"
)

// Server is an upstream. What it does with a request stands in the request's query: see Ask.
type Server struct {
	// Idle is called for each new connection and says how long it may wait for its next request before it is
	// closed; 0 means for ever. It is set before the first connection comes.
	Idle func() time.Duration
	// Delay is how long every answer takes.
	Delay time.Duration

	ln net.Listener

	hanging sync.RWMutex // read-locked while a connection is closed

	mu     sync.Mutex
	seen   map[string]int  // how often a request came, by its id
	raced  map[string]bool // requests that came just before their connection was closed: nobody reads them
	faults []string        // what was wrong about requests
	conns  map[*net.TCPConn]struct{}
	opened int
	closed bool
	wg     sync.WaitGroup
}

// Listen makes a Server on addr. Serve must be called.
func Listen(addr string) (*Server, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %q: %w", addr, err)
	}
	return &Server{ln: ln, seen: map[string]int{}, raced: map[string]bool{}, conns: map[*net.TCPConn]struct{}{}}, nil
}

// Addr is where it listens.
func (s *Server) Addr() string { return s.ln.Addr().String() }

// Serve accepts until Close is called.
func (s *Server) Serve() {
	for {
		nc, err := s.ln.Accept()
		if err != nil {
			return
		}
		c := nc.(*net.TCPConn)
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			c.Close()
			continue
		}
		s.conns[c] = struct{}{}
		s.opened++
		s.wg.Add(1)
		s.mu.Unlock()
		go func() {
			defer s.wg.Done()
			s.serve(c)
			c.Close()
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
		}()
	}
}

// Close ends everything and waits until it has ended.
func (s *Server) Close() {
	s.ln.Close()
	s.mu.Lock()
	s.closed = true
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// Opened is how many connections came so far.
func (s *Server) Opened() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opened
}

// Seen is how often the request with this id came.
func (s *Server) Seen(id string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[id]
}

// Twice lists requests that came more than once.
func (s *Server) Twice() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for id, n := range s.seen {
		if n > 1 {
			out = append(out, id)
		}
	}
	return out
}

// Raced tells whether a request came in the moment in which its connection was closed: it was received, and whoever
// sent it must not send it again, but it was never answered. No proxy can do anything about it.
func (s *Server) Raced(id string) bool {
	s.hanging.Lock() // what is being closed has been looked through then
	defer s.hanging.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.raced[id]
}

// Faults is what was wrong about the requests that came.
func (s *Server) Faults() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.faults...)
}

func (s *Server) fault(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.faults) < 50 {
		s.faults = append(s.faults, fmt.Sprintf(format, args...))
	}
}

func (s *Server) serve(c *net.TCPConn) {
	var idle time.Duration
	if s.Idle != nil {
		idle = s.Idle()
	}
	br := bufio.NewReader(c)
	for {
		if idle > 0 {
			_ = c.SetReadDeadline(time.Now().Add(idle))
		}
		if _, err := br.Peek(1); err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				return
			}
			if waiting(c) == 0 {
				s.hangUp(c, br)
				return
			}
		}
		_ = c.SetReadDeadline(time.Time{})
		req, err := http.ReadRequest(br)
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.ECONNRESET) &&
				!errors.Is(err, net.ErrClosed) {
				s.fault("not a request: %v", err)
			}
			return
		}
		if !s.answer(c, br, req) {
			return
		}
	}
}

// waiting is how many bytes have come that nobody has read.
func waiting(c *net.TCPConn) (n int) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, _ = syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	})
	return max(n, 0)
}

// hangUp closes a connection as a server does whose patience is over. What comes after this moment is answered with
// a reset and without an acknowledgement; what had come before is found here.
func (s *Server) hangUp(c *net.TCPConn, br *bufio.Reader) {
	s.hanging.RLock()
	defer s.hanging.RUnlock()
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { _ = syscall.Shutdown(int(fd), syscall.SHUT_RDWR) })
	_ = c.SetReadDeadline(time.Now().Add(time.Second))
	rest, _ := io.ReadAll(br)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range idInText.FindAllSubmatch(rest, -1) {
		s.raced[string(m[1])] = true
	}
}

var idInText = regexp.MustCompile(`[?&]id=([0-9a-z]+)`)

// count notes a request.
func (s *Server) count(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen[id]++
}
