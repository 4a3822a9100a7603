package proxy

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// link is what both ends of a TLS connection's way into the loops know: the client of a worker, and the goroutine that
// carries what that client writes. A request is over for Wait when its response has been carried, too.
type link struct {
	cut atomic.Bool // set when the connection is cut off, which must not look like an orderly end
	to  *patient    // the client's connection, below TLS

	mu     sync.Mutex // guards what follows
	behind int64      // bytes that the client has written and nobody has carried
	owed   int        // requests that are over but for that
	ended  bool       // nothing is carried any more
	over   func()     // what to do for each of them then
}

// wrote tells of bytes that the client has written.
func (l *link) wrote(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.behind += int64(n)
}

// finish calls over when all that was written has been carried.
func (l *link) finish(over func()) {
	l.mu.Lock()
	if l.behind > 0 && !l.ended {
		l.owed++
		l.over = over
		l.mu.Unlock()
		return
	}
	l.mu.Unlock()
	over()
}

// carried tells of bytes that have gone on to the other side; ended is the last call.
func (l *link) carried(n int, ended bool) {
	l.mu.Lock()
	l.behind -= int64(n)
	l.ended = ended
	owed, over := l.owed, l.over
	if l.behind > 0 && !ended {
		owed = 0
	}
	l.owed -= owed
	l.mu.Unlock()
	for range owed {
		over()
	}
}

// carry copies from the pair's end to the TLS connection until one of them ends it.
func (l *link) carry(to io.Writer, from net.Conn) {
	defer l.carried(0, true)
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
			l.carried(n, false)
		}
		if err != nil {
			return
		}
	}
}
