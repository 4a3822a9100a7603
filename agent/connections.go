package agent

import (
	"container/list"
	"net"
	"net/http"
	"sync"
	"time"
)

// maxConnections bounds the connections of one control address.
const maxConnections = 256

// connections is a listener that holds so many connections at most. When all are taken the one that has asked nothing
// for the longest time makes room, so idle clients never keep a probe or a stop out; when all are being answered
// (by tail -f and calls that wait) a new one is told 503.
type connections struct {
	net.Listener
	most int

	mu   sync.Mutex
	open map[net.Conn]*list.Element // nil for those that are being answered
	idle *list.List                 // of net.Conn, the longest first
}

func newConnections(ln net.Listener, most int) *connections {
	return &connections{Listener: ln, most: most, open: map[net.Conn]*list.Element{}, idle: list.New()}
}

// Accept returns the next connection that there is room for.
func (l *connections) Accept() (net.Conn, error) {
	for {
		inner, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &connection{Conn: inner, of: l}
		if l.admit(c) {
			return c, nil
		}
		// It fits the socket's buffer, so nobody waits.
		_ = inner.SetDeadline(time.Now().Add(time.Second))
		_, _ = inner.Write([]byte("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))
		_ = inner.Close()
	}
}

func (l *connections) admit(c *connection) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.open) >= l.most {
		oldest := l.idle.Front()
		if oldest == nil {
			return false
		}
		old := oldest.Value.(*connection)
		l.drop(old)
		_ = old.Conn.Close()
	}
	l.open[c] = l.idle.PushBack(c)
	return true
}

// drop takes a connection off the books; the caller holds mu.
func (l *connections) drop(c net.Conn) {
	if e := l.open[c]; e != nil {
		l.idle.Remove(e)
	}
	delete(l.open, c)
}

// changed is the server's ConnState.
func (l *connections) changed(c net.Conn, s http.ConnState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, ours := l.open[c]
	switch {
	case !ours:
	case s == http.StateIdle && e == nil:
		l.open[c] = l.idle.PushBack(c)
	case s == http.StateActive && e != nil, s == http.StateHijacked && e != nil:
		l.idle.Remove(e)
		l.open[c] = nil
	}
}

// connection tells its listener when it is closed, also by a handler that took it over.
type connection struct {
	net.Conn
	of *connections
}

func (c *connection) Close() error {
	c.of.mu.Lock()
	c.of.drop(c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}

// CloseWrite lets net/http end a connection without losing the answer.
func (c *connection) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}
