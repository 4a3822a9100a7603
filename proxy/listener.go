package proxy

import (
	"errors"
	"fmt"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

const (
	// headerTimeout bounds how long a client may take to send its request line and headers.
	headerTimeout = 30 * time.Second
	// bodyIdle bounds a pause of a body that should move, in either direction; there is no bound on the whole.
	bodyIdle = 60 * time.Second
	// headerBytes is the most that a request line and headers may take.
	headerBytes = 16 << 10
)

// listener is one address and the routes behind it.
type listener struct {
	net.Listener
	p      *Proxy
	server *fasthttp.Server
	routes atomic.Pointer[[]*route]

	begun   sync.Once
	stopped atomic.Bool
	served  chan struct{} // closed when Serve has returned

	mu    sync.Mutex
	conns map[*conn]struct{}
	none  sync.Cond // on mu; signalled when conns is empty
}

func newListener(p *Proxy, ln net.Listener, keepAlive time.Duration) *listener {
	l := &listener{Listener: ln, p: p, served: make(chan struct{}), conns: map[*conn]struct{}{}}
	l.none.L = &l.mu
	l.server = &fasthttp.Server{
		Handler:               l.handle,
		ErrorHandler:          badRequest,
		HeaderReceived:        bodyDeadline,
		ConnState:             connState,
		ReadTimeout:           headerTimeout,
		IdleTimeout:           keepAlive,
		ReadBufferSize:        headerBytes,
		MaxRequestBodySize:    math.MaxInt,
		StreamRequestBody:     true,
		NoDefaultServerHeader: true,
		NoDefaultContentType:  true,
		// A multipart body is the upstream's to parse.
		DisablePreParseMultipartForm: true,
		CloseOnShutdown:              true,
		Logger:                       quiet{},
	}
	return l
}

// quiet drops what fasthttp logs: the errors of clients' connections, which are counted instead.
type quiet struct{}

func (quiet) Printf(string, ...any) {}

func (l *listener) setRoutes(rs []*route) {
	old := l.routes.Swap(&rs)
	if old == nil {
		return
	}
	for _, r := range *old {
		r.upstream.closeIdle()
	}
}

func (l *listener) start() {
	l.begun.Do(func() {
		go func() {
			defer close(l.served)
			if err := l.server.Serve(l); err != nil && !l.stopped.Load() {
				l.p.log.Error("cannot accept connections", "part", "proxy", "address", l.Addr().String(), "error", err)
			}
		}()
	})
}

func (l *listener) stopAccepting() {
	l.stopped.Store(true)
	l.Listener.Close()
}

// retire lets a listener go whose routes are gone: what is in flight ends, idle connections are cut.
func (l *listener) retire() {
	l.stopAccepting()
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		c.retired.Store(true)
		if !c.busy.Load() {
			c.TCPConn.Close()
		}
	}
}

// cut closes every connection, whatever is going on there.
func (l *listener) cut() {
	l.stopAccepting()
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		// A reset tells the client that what it has is not all: with FIN a body without a length would look whole.
		if c.busy.Load() {
			c.SetLinger(0)
		}
		c.TCPConn.Close()
	}
}

func (l *listener) wait() {
	<-l.served
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.conns) > 0 {
		l.none.Wait()
	}
	for _, r := range *l.routes.Load() {
		r.upstream.closeIdle()
	}
}

// Accept hands fasthttp connections that are counted.
func (l *listener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{TCPConn: nc.(*net.TCPConn), l: l}
	l.mu.Lock()
	l.conns[c] = struct{}{}
	l.mu.Unlock()
	return c, nil
}

// conn is a client's connection. TCPConn is embedded so that its ReadFrom is seen.
type conn struct {
	*net.TCPConn
	l       *listener
	busy    atomic.Bool // a request is in flight
	retired atomic.Bool
	done    func() // called when the request has ended; set by the handler
	once    sync.Once
}

// Close is called once by fasthttp, and maybe by cut before.
func (c *conn) Close() error {
	err := c.TCPConn.Close()
	c.once.Do(func() {
		c.l.mu.Lock()
		defer c.l.mu.Unlock()
		delete(c.l.conns, c)
		if len(c.l.conns) == 0 {
			c.l.none.Broadcast()
		}
	})
	return err
}

// begin marks the request that is in flight; done is called when its response has been written to the end, or the
// connection is closed.
func (c *conn) begin(done func()) {
	c.done = done
	c.busy.Store(true)
}

func (c *conn) end() {
	if c.busy.CompareAndSwap(true, false) {
		c.done()
	}
}

// connState is told when a response has been flushed (idle) and when the connection is over. Only then has a
// request ended: the body's last byte may be in a buffer when its stream is closed.
func connState(nc net.Conn, s fasthttp.ConnState) {
	c, ok := nc.(*conn)
	if !ok {
		return
	}
	if s == fasthttp.StateIdle || s == fasthttp.StateClosed {
		c.end()
		if s == fasthttp.StateIdle && c.retired.Load() {
			c.TCPConn.Close()
		}
	}
}

// bodyDeadline replaces the deadline of the headers; body moves it on as long as bytes come.
func bodyDeadline(*fasthttp.RequestHeader) fasthttp.RequestConfig {
	return fasthttp.RequestConfig{ReadTimeout: bodyIdle}
}

// badRequest answers what fasthttp could not read as a request.
func badRequest(ctx *fasthttp.RequestCtx, err error) {
	ctx.Response.Header.SetConnectionClose()
	var small *fasthttp.ErrSmallBuffer
	var ne net.Error
	switch {
	case errors.As(err, &small):
		fail(ctx, fasthttp.StatusRequestHeaderFieldsTooLarge, "headers_too_large", fmt.Sprintf("the request's headers are larger than %d bytes", headerBytes))
	case errors.As(err, &ne) && ne.Timeout():
		fail(ctx, fasthttp.StatusRequestTimeout, "client_timeout", "the request did not come in time")
	default:
		fail(ctx, fasthttp.StatusBadRequest, "bad_request", "this is not a valid HTTP/1.1 request")
	}
}
