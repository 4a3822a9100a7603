package proxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"
)

const (
	dialTimeout = 5 * time.Second
	// upstreamIdle is how long a connection is kept for the next request. uvicorn closes at 5 s, the shortest of
	// the common servers: be earlier.
	upstreamIdle = 4 * time.Second
	maxIdle      = 256
)

// upstream is a server behind a route with the connections that wait for the next request.
type upstream struct {
	addr string

	mu   sync.Mutex
	idle []*upConn // the last used is at the end
}

// upConn is a connection to an upstream. It counts what was written: only a request of which no byte went out may
// be sent again.
type upConn struct {
	net.Conn
	br      *bufio.Reader
	bw      *bufio.Writer
	since   time.Time // when it became idle
	written int64
	reused  bool
	client  *watch // of the request that is being answered; nil between requests
	readErr error  // what the socket said last; fasthttp's errors hide it
}

func newUpstream(addr string) *upstream { return &upstream{addr: addr} }

// Write gives the upstream bodyIdle to take some bytes.
func (c *upConn) Write(p []byte) (int, error) {
	c.SetWriteDeadline(time.Now().Add(bodyIdle))
	n, err := c.Conn.Write(p)
	c.written += int64(n)
	return n, err
}

func (c *upConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.readErr = err
	return n, err
}

// alive looks whether an idle connection was closed by the upstream, or holds bytes that nobody asked for.
func (c *upConn) alive() bool {
	raw, err := c.Conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return false
	}
	quiet := false
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		_, _, e := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		quiet = e == syscall.EAGAIN
	})
	return err == nil && quiet && c.br.Buffered() == 0
}

func (u *upstream) get(fresh bool) (*upConn, error) {
	for !fresh {
		c := u.pop()
		if c == nil {
			break
		}
		if time.Since(c.since) < upstreamIdle && c.alive() {
			c.written, c.reused = 0, true
			return c, nil
		}
		c.Close()
	}
	nc, err := net.DialTimeout("tcp", u.addr, dialTimeout)
	if err != nil {
		return nil, err
	}
	c := &upConn{Conn: nc}
	c.br, c.bw = bufio.NewReaderSize(c, 8<<10), bufio.NewWriterSize(c, 4<<10)
	return c, nil
}

func (u *upstream) pop() *upConn {
	u.mu.Lock()
	defer u.mu.Unlock()
	n := len(u.idle)
	if n == 0 {
		return nil
	}
	c := u.idle[n-1]
	u.idle[n-1] = nil
	u.idle = u.idle[:n-1]
	return c
}

// release takes a connection back. Old ones are closed on the way, so that the pool never outlives its use by much.
func (u *upstream) release(c *upConn, keep bool) {
	if c.client != nil {
		keep = c.client.stop() && keep
		c.client = nil
	}
	if !keep {
		c.Close()
		return
	}
	c.SetDeadline(time.Time{})
	c.since = time.Now()
	u.mu.Lock()
	defer u.mu.Unlock()
	old := 0
	for old < len(u.idle) && (c.since.Sub(u.idle[old].since) > upstreamIdle || len(u.idle)-old >= maxIdle) {
		u.idle[old].Close()
		old++
	}
	u.idle = append(u.idle[:0], u.idle[old:]...)
	u.idle = append(u.idle, c)
}

func (u *upstream) closeIdle() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, c := range u.idle {
		c.Close()
	}
	u.idle = nil
}

// statusClientGone is counted for a client that did not wait for its answer; nobody receives it.
const statusClientGone = 499

// upstreamError is why there is no response, as the client is told.
type upstreamError struct {
	status       int
	reason, text string
}

func (e *upstreamError) answer(ctx *fasthttp.RequestCtx) { fail(ctx, e.status, e.reason, e.text) }

// roundTrip sends req and reads the response up to its body. The caller releases the connection when the body has
// been read. in is the body of req, nil when it has none.
// The upstream is cut off when client hangs up; that watch goes on until the connection is released.
func (u *upstream) roundTrip(req *fasthttp.Request, in *body, client *conn, timeout time.Duration) (*fasthttp.Response, *upConn, *upstreamError) {
	for fresh := false; ; fresh = true {
		c, err := u.get(fresh)
		if err != nil {
			return nil, nil, &upstreamError{fasthttp.StatusBadGateway, "upstream_down", fmt.Sprintf("cannot connect to the upstream %s: %v", u.addr, cause(err))}
		}
		werr := req.Write(c.bw)
		if werr == nil {
			werr = c.bw.Flush()
		}
		if werr != nil {
			if c.reused && c.written == 0 && in == nil {
				c.Close()
				continue
			}
			if in != nil && in.err != nil {
				c.Close()
				return nil, nil, clientError(in.err)
			}
			// The upstream may have answered before it had read everything (413), and closed.
			timeout = min(timeout, time.Second)
		}
		c.SetReadDeadline(time.Now().Add(timeout))
		c.client = watchClient(client, func() { c.Close() })
		resp := fasthttp.AcquireResponse()
		resp.StreamBody = true
		resp.SkipBody = req.Header.IsHead()
		rerr := resp.Read(c.br)
		if rerr == nil {
			c.SetReadDeadline(time.Time{})
			if werr != nil {
				resp.SetConnectionClose()
			}
			return resp, c, nil
		}
		fasthttp.ReleaseResponse(resp)
		c.Close()
		if !c.client.stop() {
			return nil, nil, &upstreamError{statusClientGone, "client_gone", "the client hung up"}
		}
		if c.readErr != nil {
			rerr = c.readErr
		}
		return nil, nil, u.readError(rerr, werr, timeout)
	}
}

func (u *upstream) readError(rerr, werr error, timeout time.Duration) *upstreamError {
	var ne net.Error
	switch {
	case werr != nil:
		return &upstreamError{fasthttp.StatusBadGateway, "upstream_closed", fmt.Sprintf("the upstream %s closed the connection while the request was sent: %v", u.addr, cause(werr))}
	case errors.As(rerr, &ne) && ne.Timeout():
		return &upstreamError{fasthttp.StatusGatewayTimeout, "upstream_timeout", fmt.Sprintf("the upstream %s gave no answer within %s", u.addr, timeout)}
	case errors.Is(rerr, io.EOF), errors.Is(rerr, io.ErrUnexpectedEOF), errors.Is(rerr, syscall.ECONNRESET):
		return &upstreamError{fasthttp.StatusBadGateway, "upstream_closed", fmt.Sprintf("the upstream %s closed the connection without an answer", u.addr)}
	}
	return &upstreamError{fasthttp.StatusBadGateway, "upstream_bad_response", fmt.Sprintf("the upstream %s sent no valid HTTP response", u.addr)}
}

func clientError(err error) *upstreamError {
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		return &upstreamError{fasthttp.StatusRequestTimeout, "client_timeout", "the request's body did not come in time"}
	}
	return &upstreamError{fasthttp.StatusBadRequest, "bad_body", "the request's body is broken off or not valid"}
}

// cause is the last error of a chain: "connection refused" rather than the addresses that the text names already.
func cause(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}
