package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/inpod/inpod/e2e/traffic"
)

// patience is how long a client waits for each step of a request.
const patience = 60 * time.Second

// Load is clients of three kinds, each of which has one request on its way at most.
type Load struct {
	Addr string
	// Kept is how many clients keep their connection as long as the server lets them. Every tenth pauses for some seconds
	// between two requests.
	Kept int
	// Fresh is how many make a new connection for each request.
	Fresh int
	// Streams is how many read one event stream after the other, of 2 to 5 seconds.
	Streams int
	// Pause is the mean time from one request of a client to its next one; half of it is kept in any case, so that the rate is
	// bounded.
	Pause time.Duration
}

// Run goes on until ctx is done; then each client ends its request.
func (l *Load) Run(ctx context.Context) *Report {
	r := &Report{}
	var wg sync.WaitGroup
	for i := range l.Kept {
		pause := l.Pause
		if i%10 == 9 {
			pause = max(pause, 2*time.Second)
		}
		wg.Go(func() { l.client(ctx, r, Kept, pause) })
	}
	for range l.Fresh {
		wg.Go(func() { l.client(ctx, r, Fresh, l.Pause) })
	}
	for range l.Streams {
		wg.Go(func() { l.client(ctx, r, Stream, l.Pause) })
	}
	r.ended = make(chan struct{})
	go func() {
		defer close(r.ended)
		wg.Wait()
	}()
	return r
}

// client is one client until ctx is done.
func (l *Load) client(ctx context.Context, r *Report, kind Kind, pause time.Duration) {
	c := &conn{addr: l.Addr}
	defer c.close()
	next := time.NewTimer(rand.N(pause)) // not all at once
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		}
		next.Reset(pause/2 + rand.N(pause))
		if c.left() {
			r.closed.Add(1)
		}
		r.add(kind, c.do(ask(kind)))
		if kind != Kept {
			c.close()
		}
	}
}

// ask is a request as clients of the kind send them. One POST in fifty is slow, so that some are in flight whenever a pod ends.
func ask(kind Kind) *traffic.Ask {
	a := &traffic.Ask{ID: traffic.NewID(), Path: "/"}
	if kind == Stream {
		a.Method, a.Mode, a.Up, a.Size, a.Delay = http.MethodGet, traffic.Events, -1, 20+rand.IntN(30), 100
		return a
	}
	a.Method, a.Mode, a.Up, a.Size, a.Delay = http.MethodPost, traffic.Length, rand.IntN(2000), rand.IntN(2000), rand.IntN(5)
	if rand.IntN(2) == 0 {
		a.Mode = traffic.Chunked
	}
	if rand.IntN(50) == 0 {
		a.Delay = 500 + rand.IntN(2500)
	}
	return a
}

// conn is a connection, made when it is needed.
type conn struct {
	addr string
	c    *net.TCPConn
	r    *bufio.Reader
	w    *bufio.Writer
}

func (c *conn) close() {
	if c.c != nil {
		c.c.Close()
		c.c = nil
	}
}

// left tells whether the server closed the connection while nothing was asked, and forgets it then. HTTP clients see that and
// lose nothing: a request would go out on a new connection.
func (c *conn) left() bool {
	if c.c == nil {
		return false
	}
	raw, err := c.c.SyscallConn()
	if err != nil {
		return false
	}
	var n int
	var perr error
	_ = raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, perr = syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	})
	if n > 0 || errors.Is(perr, syscall.EAGAIN) {
		return false
	}
	c.close()
	return true
}

// do sends a request and reads its answer. The error is nil when that was whole and right, and *failure otherwise.
func (c *conn) do(a *traffic.Ask) error {
	if c.c == nil {
		dialed, err := net.DialTimeout("tcp", c.addr, patience)
		if err != nil {
			return &failure{connectReason(err), err}
		}
		c.c = dialed.(*net.TCPConn)
		c.r, c.w = bufio.NewReader(c.c), bufio.NewWriter(c.c)
	}
	_ = c.c.SetDeadline(time.Now().Add(patience))
	// Who closes may have answered before: the answer is what counts, or its absence.
	werr := a.Write(c.w, c.addr)
	resp, err := http.ReadResponse(c.r, &http.Request{Method: a.Method})
	if err != nil {
		c.close()
		return &failure{silenceReason(err), errors.Join(err, werr)}
	}
	defer resp.Body.Close()
	outcome, err := a.Check(resp)
	if resp.Close || outcome != traffic.Right || werr != nil {
		c.close()
	}
	switch outcome {
	case traffic.Right:
		return nil
	case traffic.Aborted:
		return &failure{"broken off in the answer", errors.New("a part of the answer")}
	case traffic.Refused:
		return &failure{fmt.Sprintf("status %d", resp.StatusCode), errors.New(resp.Header.Get("X-Inpod-Error"))}
	}
	return &failure{"wrong answer", err}
}

// failure is why a request failed: one of a few reasons, and the error.
type failure struct {
	reason string
	err    error
}

func (f *failure) Error() string { return f.reason + ": " + f.err.Error() }

// refused and noRoute are what clients get that are sent to a pod whose server, or which itself, is gone.
const (
	refused = "connection refused"
	noRoute = "no route"
)

func connectReason(err error) string {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return refused
	case errors.Is(err, syscall.ECONNRESET):
		return "reset while connecting"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return noRoute
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT):
		return "no connection in time"
	}
	return "cannot connect"
}

func silenceReason(err error) string {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "closed without an answer"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "reset without an answer"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "no answer in time"
	}
	return "no HTTP"
}
