package proxy

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// reentry is the way of a listener's TLS and HTTP/2 side into the loops: over a socket pair, one end of which is a client
// like any other. Limits, timeouts, retries and counts so have one implementation.
type reentry struct {
	l     *listener
	turn  atomic.Uint32
	h1    *http.Transport
	proxy *httputil.ReverseProxy

	over atomic.Bool // the listener is gone

	mu sync.Mutex
	h2 map[string]*http.Transport // of gRPC, by upstream
}

func newReentry(l *listener) *reentry {
	b := &reentry{l: l, h2: map[string]*http.Transport{}}
	b.h1 = &http.Transport{
		DialContext:        func(context.Context, string, string) (net.Conn, error) { return b.dial() },
		DisableCompression: true,
		// A stream waits for its answer as long as the route says, not here.
		MaxIdleConnsPerHost: 64,
		IdleConnTimeout:     upstreamIdle,
	}
	b.proxy = &httputil.ReverseProxy{
		Rewrite:        rewrite,
		Transport:      b.h1,
		FlushInterval:  -1,
		ErrorHandler:   b.failed,
		ModifyResponse: b.modify,
		BufferPool:     &buffers{},
		ErrorLog:       slog.NewLogLogger(l.p.log.Handler(), slog.LevelDebug),
	}
	return b
}

func (b *reentry) close() {
	b.over.Store(true)
	b.h1.CloseIdleConnections()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range b.h2 {
		t.CloseIdleConnections()
	}
}

// pair makes a connection whose other end is a client of a worker.
func (b *reentry) pair(from origin) (net.Conn, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	conn, err := connOf(fds[0])
	if err != nil {
		unix.Close(fds[1])
		return nil, err
	}
	workers := b.l.p.workers
	w := workers[int(b.turn.Add(1))%len(workers)]
	if !w.loop.Post(func() { w.adopt(fds[1], b.l, from) }) {
		unix.Close(fds[1])
		conn.Close()
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (b *reentry) dial() (net.Conn, error) { return b.pair(origin{inner: true}) }

// bridge carries HTTP/1.1 between a TLS connection and the loops until one of them ends it.
func (b *reentry) bridge(conn net.Conn, raw *patient, from origin) {
	from.link = &link{to: raw}
	inner, err := b.pair(from)
	if err != nil {
		b.l.p.log.Error("cannot serve a TLS connection", "error", err)
		return
	}
	defer inner.Close()
	go func() {
		_, _ = io.Copy(inner, conn)
		// The client has gone, or will say nothing more: the loop hears of it as of any client.
		_ = inner.(*net.UnixConn).CloseWrite()
	}()
	from.link.carry(conn, inner)
	if from.link.cut.Load() {
		// What was sent is not all. An orderly end of TLS would say that it is.
		if tcp, ok := raw.Conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		raw.Close()
	}
}

// serve answers an HTTP/2 request.
func (f *front) serve(rw http.ResponseWriter, r *http.Request) {
	conn := r.Context().Value(connKey{}).(*http2Conn)
	f.requestBegins()
	defer f.requestEnded()
	if r.Method == http.MethodConnect {
		http.Error(rw, "CONNECT is not served here", http.StatusNotImplemented)
		return
	}
	if conn.l.back.leaving() {
		rw.Header().Set("Connection", "close") // which is GOAWAY in HTTP/2
	}
	if isGRPC(r) {
		f.serveGRPC(rw, r, conn)
		return
	}
	if r.ContentLength != 0 {
		r.Body = &sharedBody{ReadCloser: r.Body}
	}
	guard := newStallGuard(rw, conn.l.idleTimeout(r))
	conn.l.back.proxy.ServeHTTP(guard, r)
	flushEarly(guard, r)
}

// leaving tells whether clients are to look for another connection.
func (b *reentry) leaving() bool { return b.l.p.draining.Load() || b.over.Load() }

// resetPause is how long the answer to a half-sent HTTP/2 request has a start over the reset of its stream.
const resetPause = 50 * time.Millisecond

// sharedBody is a request's body that flushEarly may read while the transport, which has an answer, still does.
type sharedBody struct {
	io.ReadCloser
	mu sync.Mutex
}

// Read implements io.Reader.
func (b *sharedBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ReadCloser.Read(p)
}

// flushEarly writes an answer out that came before the end of its request, and reads on for a moment. When a handler
// returns before that, net/http resets the stream, and the reset may overtake the answer.
func flushEarly(rw http.ResponseWriter, r *http.Request) {
	if r.ContentLength == 0 || http.NewResponseController(rw).Flush() != nil {
		return
	}
	read := make(chan struct{})
	go func() { // ends with the stream; a deadline for reading does not reach a body that its reader has left
		_, _ = io.CopyN(io.Discard, r.Body, lingerBytes)
		close(read)
	}()
	select {
	case <-read:
	case <-time.After(resetPause):
	}
}

// rewrite makes the HTTP/1.1 request of an HTTP/2 one. It says who the client is, as a loop would.
func rewrite(pr *httputil.ProxyRequest) {
	conn := pr.In.Context().Value(connKey{}).(*http2Conn)
	pr.Out.URL.Scheme, pr.Out.URL.Host = "http", "inpod"
	pr.Out.URL.RawQuery = pr.In.URL.RawQuery // ReverseProxy has struck out what net/url cannot read
	pr.Out.Host = pr.In.Host
	pr.Out.Trailer = pr.In.Trailer // which is filled when the body has been read; Out has a copy of before
	forward(pr.Out, pr.In, conn)
}

// forward sets the forwarded fields of a request that goes on from here.
func forward(out, in *http.Request, conn *http2Conn) {
	host, _, err := net.SplitHostPort(in.RemoteAddr)
	if err != nil {
		host = "unknown"
	}
	join := func(name, value string) {
		for i := len(in.Header[name]) - 1; i >= 0; i-- {
			if v := in.Header[name][i]; v != "" {
				value = v + ", " + value
			}
		}
		out.Header[name] = []string{value}
	}
	keep := func(name, value string) {
		if v := in.Header[name]; len(v) > 0 {
			out.Header[name] = v
			return
		}
		out.Header[name] = []string{value}
	}
	join("X-Forwarded-For", host)
	keep("X-Forwarded-Proto", conn.proto)
	keep("X-Forwarded-Host", in.Host)
	element := host
	if ip := net.ParseIP(host); ip != nil && ip.To4() == nil {
		element = `"[` + host + `]"`
	}
	join("Forwarded", "for="+element+";proto="+conn.proto+`;host="`+in.Host+`"`)
}

func (b *reentry) modify(resp *http.Response) error {
	if b.leaving() {
		resp.Header.Set("Connection", "close")
	}
	return nil
}

// failed answers where the loop gave no answer: it was cut off.
func (b *reentry) failed(rw http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil || errors.Is(err, context.Canceled) {
		panic(http.ErrAbortHandler) // the client has gone
	}
	rw.Header().Set(ErrorHeader, "internal")
	http.Error(rw, "inpod: the request was cut off", http.StatusBadGateway)
}

// buffers are those that bodies are copied through.
type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return *p
	}
	return make([]byte, 32<<10)
}

func (b *buffers) Put(p []byte) { b.pool.Put(&p) }
