package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inpod/inpod/config"
	"github.com/inpod/inpod/internal/listen"
	"github.com/inpod/inpod/supervisor/ini"
)

// httpServer is one address. It is listened on early and answers once it has a handler: until then the kernel
// keeps connections waiting.
type httpServer struct {
	ln      net.Listener
	conns   *connections // ln, bounded
	srv     *http.Server
	handler atomic.Pointer[http.Handler]
	begun   sync.Once
	done    chan struct{}
	log     *slog.Logger
}

func newHTTPServer(ln net.Listener, log *slog.Logger) *httpServer {
	s := &httpServer{ln: ln, conns: newConnections(ln, maxConnections), done: make(chan struct{}), log: log}
	s.srv = &http.Server{
		Handler: http.HandlerFunc(s.answer),
		// No WriteTimeout: tail -f and a stop that waits take as long as they take. No ReadTimeout either: net/http
		// ends the context of a request that is still being answered when it expires. Bodies are bounded where they are read.
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ConnState:         s.conns.changed,
		// net/http says here that clients hung up, and what it recovered from.
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return s
}

// bodyPatience is how long a body may take that nobody reads: net/http answers only when it has seen its end.
const bodyPatience = time.Second

// answer gives the request to the handler. A client that announces a body and sends none would hold its place for ever;
// XML-RPC, which reads bodies, sets a limit of its own.
func (s *httpServer) answer(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyPatience))
	}
	(*s.handler.Load()).ServeHTTP(w, r)
}

// serve begins to answer, or goes over to another handler.
func (s *httpServer) serve(h http.Handler) {
	s.handler.Store(&h)
	s.begun.Do(func() {
		go func() {
			defer close(s.done)
			if err := s.srv.Serve(s.conns); err != nil && !errors.Is(err, http.ErrServerClosed) {
				s.log.Error("cannot serve", "address", s.ln.Addr().String(), "error", err)
			}
		}()
	})
}

// close lets requests that are being answered end, for a moment.
func (s *httpServer) close() {
	s.begun.Do(func() { // serve was never called
		_ = s.ln.Close()
		close(s.done)
	})
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if err := s.srv.Shutdown(ctx); err != nil {
		_ = s.srv.Close()
	}
	<-s.done
}

// servers are the addresses where the agent is controlled. The main loop and, for the admin address, the reloader
// change them.
type servers struct {
	log         *slog.Logger
	control     *httpServer
	controlPath string // where the control socket is; "" when there is none
	programs    map[string]*httpServer

	mu    sync.Mutex // guards admin, which a reload may replace
	admin *httpServer
	bound string // admin.listen, as it was written

	closed sync.Once
}

func newServers(log *slog.Logger) *servers {
	return &servers{log: log.With("part", "admin"), programs: map[string]*httpServer{}}
}

// listenAdmin binds the control socket and admin.listen.
func (s *servers) listenAdmin(cfg *config.Config) error {
	ln, path, err := listenControl(cfg, s.log)
	if err != nil {
		return err
	}
	if ln != nil {
		s.control, s.controlPath = newHTTPServer(ln, s.log), path
	}
	return s.rebind(cfg.Admin.Listen, nil)
}

// rebind makes admin.listen another address. When that cannot be had the old one stays. h is nil during the start.
func (s *servers) rebind(addr string, h http.Handler) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if addr == s.bound {
		return nil
	}
	var next *httpServer
	if addr != config.Off {
		var old net.Listener
		if s.admin != nil {
			old = s.admin.ln
		}
		ln, err := listen.Instead(old, addr)
		if err != nil {
			return fmt.Errorf("cannot listen on %q (admin.listen): %w", addr, err)
		}
		next = newHTTPServer(ln, s.log)
		if h != nil {
			next.serve(h)
		}
	}
	if s.admin != nil {
		go s.admin.close() // the request that caused this may come through it
	}
	s.admin, s.bound = next, addr
	return nil
}

func (s *servers) adminAddr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.admin == nil {
		return config.Off
	}
	return s.admin.ln.Addr().String()
}

// serveAdmin begins to answer: open on the network, and trusted on the socket, which only its owner can open.
func (s *servers) serveAdmin(open, trusted http.Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.admin != nil {
		s.admin.serve(open)
	}
	if s.control != nil {
		s.control.serve(trusted)
	}
}

// unixKey and inetKey name the servers of the ini: one that stays the same over a restart stays open.
func unixKey(u ini.UnixServer) string {
	return fmt.Sprintf("unix %s %o %d %d", u.File, u.Chmod, u.UID, u.GID)
}

func inetKey(i ini.InetServer) string { return net.JoinHostPort(i.Host, strconv.Itoa(i.Port)) }

// listenPrograms closes those of [unix_http_server] and [inet_http_server] that are not there any more and binds the new
// ones. The order matters: a socket with other rights, or all addresses instead of one, are there already and ours. After
// an error what was closed is had back by listening for the old configuration.
func (s *servers) listenPrograms(c *ini.Config) error {
	wanted := map[string]func() error{}
	open := func(key, what string, bind func() (net.Listener, error)) {
		wanted[key] = func() error {
			ln, err := bind()
			if err != nil {
				return fmt.Errorf("cannot listen for [%s]: %w", what, err)
			}
			s.programs[key] = newHTTPServer(ln, s.log)
			return nil
		}
	}
	for _, u := range c.UnixServers {
		if u.File == s.controlPath {
			continue // the control socket answers there
		}
		open(unixKey(u), "unix_http_server", func() (net.Listener, error) {
			return listenUnix(unixSocket{path: u.File, mode: os.FileMode(u.Chmod), uid: u.UID, gid: u.GID})
		})
	}
	for _, i := range c.InetServers {
		open(inetKey(i), "inet_http_server", func() (net.Listener, error) { return net.Listen("tcp", inetKey(i)) })
	}
	for key, srv := range s.programs {
		if wanted[key] == nil {
			srv.close()
			delete(s.programs, key)
		}
	}
	for key, bind := range wanted {
		if s.programs[key] != nil {
			continue
		}
		if err := bind(); err != nil {
			return err
		}
	}
	return nil
}

// servePrograms gives the ini's servers their handlers.
func (s *servers) servePrograms(handlers map[string]http.Handler) {
	for key, h := range handlers {
		if srv := s.programs[key]; srv != nil {
			srv.serve(h)
		}
	}
}

func (s *servers) close() {
	s.closed.Do(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, srv := range s.programs {
			srv.close()
		}
		if s.admin != nil {
			s.admin.close()
		}
		if s.control != nil {
			s.control.close()
		}
	})
}
