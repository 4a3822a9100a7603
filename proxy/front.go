package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inpod/inpod/proxy/poll"
)

// front is what net/http serves: HTTP/2, and the TLS of both versions. HTTP/1.1 behind TLS, and HTTP/2 requests that the
// upstream gets as HTTP/1.1, go on through the loops by a reentry; gRPC goes to its upstream from here.
type front struct {
	p      *Proxy
	flying atomic.Int64 // requests of HTTP/2
	last   atomic.Int64 // when the last one began
	open   atomic.Int64 // connections
	keep   atomic.Int64 // how long a connection of HTTP/2 may be idle, nanoseconds

	life context.Context // ends with close
	end  context.CancelFunc

	mu     sync.Mutex
	closed bool
	server *http.Server // of HTTP/2; another one after goAway
	queue  *handover
	conns  map[net.Conn]struct{} // HTTP/1.1 behind TLS
	served sync.WaitGroup

	leaving sync.WaitGroup // servers that goAway has asked to end
}

func newFront(p *Proxy) *front {
	f := &front{p: p, conns: map[net.Conn]struct{}{}}
	f.life, f.end = context.WithCancel(context.Background())
	return f
}

// spawn runs a goroutine that close waits for; false after close.
func (f *front) spawn(run func()) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false
	}
	f.served.Go(run)
	return true
}

// requestBegins and requestEnded keep the count that Wait waits for.
func (f *front) requestBegins() {
	f.flying.Add(1)
	f.last.Store(poll.Now())
}

func (f *front) requestEnded() {
	if f.flying.Add(-1) == 0 && f.p.waits.Load() > 0 {
		f.p.announce()
	}
}

// handover is the net.Listener through which connections reach net/http's server.
type handover struct {
	conns chan net.Conn
	quit  chan struct{}
	once  sync.Once
}

func newHandover() *handover { return &handover{conns: make(chan net.Conn), quit: make(chan struct{})} }

// Accept implements net.Listener.
func (h *handover) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.quit:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (h *handover) Close() error {
	h.once.Do(func() { close(h.quit) })
	return nil
}

// Addr implements net.Listener.
func (h *handover) Addr() net.Addr { return &net.TCPAddr{} }

// http2Conn is a connection for net/http's server: what was read from it already comes first. With TLS below it the
// server sees cleartext all the same, and HTTP/2 by prior knowledge.
type http2Conn struct {
	net.Conn
	ahead []byte
	l     *listener
	proto string
	once  sync.Once
}

func (c *http2Conn) Read(p []byte) (int, error) {
	if len(c.ahead) > 0 {
		n := copy(p, c.ahead)
		c.ahead = c.ahead[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

func (c *http2Conn) Close() error {
	c.once.Do(func() { c.l.p.front.open.Add(-1) })
	return c.Conn.Close()
}

type connKey struct{}

// keepAlive sets how long connections of HTTP/2 may be idle. net/http's server has been told, so another one takes over.
func (f *front) keepAlive(d time.Duration) {
	if old := f.keep.Swap(int64(d)); old != 0 && old != int64(d) {
		f.goAway()
	}
}

// serveHTTP2 hands a connection to net/http.
func (f *front) serveHTTP2(conn *http2Conn) {
	for {
		f.mu.Lock()
		if f.closed {
			f.mu.Unlock()
			conn.Close()
			return
		}
		if f.server == nil {
			f.newServer()
		}
		queue := f.queue
		f.mu.Unlock()
		select {
		case queue.conns <- conn:
			return
		case <-queue.quit: // goAway came in between: the next server takes it
		}
	}
}

// newServer makes the server of the connections to come. f.mu is held.
func (f *front) newServer() {
	protocols := &http.Protocols{}
	protocols.SetUnencryptedHTTP2(true)
	f.queue = newHandover()
	f.server = &http.Server{
		Handler:           http.HandlerFunc(f.serve),
		Protocols:         protocols,
		ReadHeaderTimeout: headerTimeout,
		MaxHeaderBytes:    maxHTTP2Head,
		IdleTimeout:       time.Duration(f.keep.Load()),
		HTTP2: &http.HTTP2Config{
			// RFC 9113 section 4.2: the size that every peer must take. net/http would buffer frames of 1 MB for each stream.
			MaxReadFrameSize: 16 << 10,
			WriteByteTimeout: http2Stall,
		},
		ErrorLog: slog.NewLogLogger(f.p.log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c)
		},
	}
	server, queue := f.server, f.queue
	f.served.Go(func() {
		if err := server.Serve(queue); err != nil && !errors.Is(err, http.ErrServerClosed) {
			f.p.log.Error("cannot serve HTTP/2", "error", err)
		}
	})
}

const (
	// maxHTTP2Head bounds a request's fields.
	maxHTTP2Head = 32 << 10
	// http2Stall is how long a client may take not one byte of a connection, whatever its streams may.
	http2Stall = 5 * time.Minute
)

// goAway sends GOAWAY on every HTTP/2 connection: streams that have begun end, new ones go to another pod (RFC 9113
// section 6.8). Connections that come after it are still served, by another server, and told with their first answer.
func (f *front) goAway() {
	f.mu.Lock()
	server := f.server
	f.server, f.queue = nil, nil
	f.mu.Unlock()
	if server == nil {
		return
	}
	f.p.log.Debug("sending GOAWAY")
	f.leaving.Add(1)
	if !f.spawn(func() {
		defer f.leaving.Done()
		if err := server.Shutdown(f.life); err != nil {
			server.Close()
		}
	}) {
		f.leaving.Done()
	}
}

// settle waits a little until the ends of the last streams have been written: net/http does so behind the handler's back.
func (f *front) settle() {
	if f.flying.Load() > 0 {
		return // to be cut off
	}
	f.goAway()
	done := make(chan struct{})
	go func() {
		f.leaving.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(lingerTime):
	}
}

// close cuts every connection and waits for the goroutines.
func (f *front) close() {
	f.mu.Lock()
	f.closed = true
	server := f.server
	for c := range f.conns {
		c.Close()
	}
	f.mu.Unlock()
	f.end()
	if server != nil {
		server.Close()
	}
	f.served.Wait()
}

// secure serves a connection of a TLS listener. It does not wait.
func (f *front) secure(l *listener, with *certificates, fd int, from origin) {
	tcp, err := connOf(fd)
	if err != nil {
		f.p.log.Error("cannot take over a connection", "error", err)
		return
	}
	raw := &patient{Conn: tcp}
	raw.wait.Store(int64(headerTimeout))
	f.open.Add(1)
	f.p.client()
	if !f.spawn(func() { f.handshake(l, with, raw, from) }) {
		f.open.Add(-1)
		raw.Close()
	}
}

// handshake does TLS's and serves what follows.
func (f *front) handshake(l *listener, with *certificates, raw *patient, from origin) {
	conn := tls.Server(raw, with.config)
	f.track(conn)
	ctx, cancel := context.WithTimeout(f.life, headerTimeout)
	err := conn.HandshakeContext(ctx)
	cancel()
	from.proto = "https"
	if err == nil && conn.ConnectionState().NegotiatedProtocol == "h2" {
		f.untrack(conn)
		f.serveHTTP2(&http2Conn{Conn: conn, l: l, proto: from.proto})
		return
	}
	defer f.open.Add(-1)
	defer f.untrack(conn)
	defer conn.Close()
	if err != nil {
		f.p.log.Debug("TLS handshake failed", "client", from.addr.String(), "error", err)
		answerCleartext(err)
		return
	}
	l.back.bridge(conn, raw, from)
}

// answerCleartext tells a client that speaks HTTP to a TLS listener, which it would otherwise see as a closed connection.
func answerCleartext(err error) {
	var other tls.RecordHeaderError
	if !errors.As(err, &other) || other.Conn == nil {
		return
	}
	for _, c := range other.RecordHeader[:3] { // a method
		if c < 'A' || c > 'Z' {
			return
		}
	}
	const body = `{"error":"this port speaks HTTPS","reason":"tls_required"}` + "\n"
	_, _ = fmt.Fprintf(other.Conn, "HTTP/1.0 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s: tls_required\r\n\r\n%s",
		len(body), ErrorHeader, body)
}

func (f *front) track(c net.Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conns[c] = struct{}{}
	if f.closed {
		c.Close()
	}
}

func (f *front) untrack(c net.Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.conns, c)
}

// connOf makes a connection of a descriptor, which it owns from now on.
func connOf(fd int) (net.Conn, error) {
	file := os.NewFile(uintptr(fd), "socket")
	defer file.Close()
	return net.FileConn(file)
}

// handOff gives a connection whose first bytes are HTTP/2's preface to net/http.
func (l *listener) handOff(c *client, data []byte) {
	ahead := append([]byte(nil), data...)
	f := l.p.front
	conn, err := connOf(c.leave())
	if err != nil {
		f.p.log.Error("cannot take over a connection", "error", err)
		return
	}
	f.open.Add(1)
	f.p.client()
	h := &http2Conn{Conn: conn, ahead: ahead, l: l, proto: "http"}
	if !f.spawn(func() { f.serveHTTP2(h) }) {
		h.Close()
	}
}
