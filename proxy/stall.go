package proxy

import (
	"errors"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// A client that stops reading must not hold a connection for ever. The loops see to it themselves; here is what does so
// where a goroutine writes to the client.

// patient is the connection below TLS: a write fails when the client takes nothing for some time. One that is slow but takes
// something goes on.
type patient struct {
	net.Conn
	wait  atomic.Int64 // nanoseconds; 0: for ever
	bound atomic.Bool  // somebody else sets the deadlines
}

// Write implements net.Conn.
func (p *patient) Write(b []byte) (n int, err error) {
	for {
		if !p.bound.Load() {
			var end time.Time
			if wait := p.wait.Load(); wait > 0 {
				end = time.Now().Add(time.Duration(wait))
			}
			_ = p.Conn.SetWriteDeadline(end)
		}
		m, err := p.Conn.Write(b[n:])
		if n += m; err == nil || m == 0 || p.bound.Load() || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
	}
}

// SetWriteDeadline implements net.Conn: crypto/tls and net/http know how long they wait.
func (p *patient) SetWriteDeadline(t time.Time) error {
	p.bound.Store(true)
	return p.Conn.SetWriteDeadline(t)
}

// stallGuard resets an HTTP/2 stream whose client gives no room for the response. The deadlines of net/http also pass while
// nothing is written.
type stallGuard struct {
	http.ResponseWriter
	idle  time.Duration
	timer *time.Timer

	mu      sync.Mutex
	writing bool // so the handler has not returned, after which the stream may not be touched
}

// stallPiece is what has to go out within the time, the size of a frame.
const stallPiece = 16 << 10

func newStallGuard(rw http.ResponseWriter, idle time.Duration) *stallGuard {
	g := &stallGuard{ResponseWriter: rw, idle: idle}
	g.timer = time.AfterFunc(idle, g.stalled)
	g.timer.Stop()
	return g
}

// Unwrap is for http.ResponseController.
func (g *stallGuard) Unwrap() http.ResponseWriter { return g.ResponseWriter }

// Write implements http.ResponseWriter.
func (g *stallGuard) Write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		err = g.watch(func() (err error) {
			m, err = g.ResponseWriter.Write(p[n:min(n+stallPiece, len(p))])
			return err
		})
		n += m
	}
	return n, err
}

// FlushError is what http.ResponseController calls: what is flushed needs room as well.
func (g *stallGuard) FlushError() error {
	return g.watch(http.NewResponseController(g.ResponseWriter).Flush)
}

func (g *stallGuard) watch(write func() error) error {
	g.set(true)
	g.timer.Reset(g.idle)
	err := write()
	g.timer.Stop()
	g.set(false)
	return err
}

func (g *stallGuard) set(writing bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.writing = writing
}

func (g *stallGuard) stalled() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.writing {
		_ = http.NewResponseController(g.ResponseWriter).SetWriteDeadline(time.Now())
	}
}
