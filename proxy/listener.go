package proxy

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/inpod/inpod/internal/listen"
	"github.com/inpod/inpod/proxy/http1"
	"github.com/inpod/inpod/proxy/poll"
	"golang.org/x/sys/unix"
)

const (
	// acceptsAtOnce is what a listener takes before its loop looks after the others.
	acceptsAtOnce = 64
	// acceptPause is how long a listener rests when no descriptor can be had.
	acceptPause = 50 * time.Millisecond
	// evictTries bounds the search for an idle connection that makes room for a new one. The next search goes on there.
	evictTries = 1024
)

// listener is one address and the routes behind it. It belongs to the loop of its home worker and hands connections to
// all of them in turn.
type listener struct {
	poll.Sock
	p      *Proxy
	home   *worker
	addr   net.Addr
	fd     int // while it is one of the proxy's listeners
	routes atomic.Pointer[table]
	secure atomic.Pointer[certificates] // nil: no TLS
	keep   atomic.Int64                 // idle time of connections, nanoseconds
	next   int
	back   *reentry // the way of inpod's own HTTP/2 and TLS side into the loops
}

// open binds addr. The descriptor is taken out of Go's poller: a loop of ours watches it. Ours are the descriptors of the
// listeners that there are.
func open(p *Proxy, home *worker, addr string, ours []int) (*listener, error) {
	ln, err := listen.TCP(addr, ours...)
	if err != nil {
		return nil, err
	}
	defer ln.Close()
	fd := -1
	listen.Descriptor(ln, func(n int) { fd, err = unix.FcntlInt(uintptr(n), unix.F_DUPFD_CLOEXEC, 0) })
	if err != nil {
		return nil, err
	}
	inherit(fd)
	l := &listener{p: p, home: home, addr: ln.Addr(), fd: fd}
	l.back = newReentry(l)
	return l, nil
}

// inherit sets what connections get from their listener: a client that vanished without an end (a node that died, a firewall
// that forgot) is noticed within 90 s, and not after the two hours that are usual.
func inherit(fd int) {
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 30)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 10)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 6)
}

// start begins to accept.
func (l *listener) start() {
	l.home.loop.Post(func() {
		if err := l.home.loop.AddListener(l.fd, l, &l.Sock); err != nil {
			l.p.log.Error("cannot watch a listener", "address", l.addr.String(), "error", err)
			unix.Close(l.fd)
		}
	})
}

// idleTimeout is how long a client of HTTP/2 may take nothing of a response.
func (l *listener) idleTimeout(r *http.Request) time.Duration {
	if route := l.match([]byte(r.Host), []byte(r.URL.EscapedPath())); route != nil {
		return route.IdleTimeout
	}
	return headerTimeout
}

func (l *listener) keepAlive() time.Duration { return time.Duration(l.keep.Load()) }

// Event implements poll.Handler: connections wait.
func (l *listener) Event() {
	for range acceptsAtOnce {
		fd, sa, err := l.Accept()
		if err == poll.ErrAgain {
			return
		}
		if err != nil {
			// No descriptor or no memory: rest, or the loop would spin.
			l.p.log.Warn("cannot accept a connection", "address", l.addr.String(), "error", err)
			_ = l.Pause()
			l.SetDeadline(l.home.loop.Now() + int64(acceptPause))
			return
		}
		l.took(fd, sa)
	}
}

// Timeout implements poll.Handler.
func (l *listener) Timeout() { _ = l.Resume() }

// Abort implements poll.Handler.
func (l *listener) Abort() {}

// took hands a connection to the workers in turn, or to one that an idle connection makes room on.
func (l *listener) took(fd int, sa unix.Sockaddr) {
	from := origin{addr: addrOf(sa), proto: "http"}
	if l.p.descriptors() >= l.p.maxConnections.Load() {
		l.makeRoom(fd, from, 0)
		return
	}
	workers := l.p.workers
	l.next = (l.next + 1) % len(workers)
	l.welcome(fd, from, workers[l.next], l.home)
}

// makeRoom looks for an idle connection on one worker after the other, each in its own loop.
func (l *listener) makeRoom(fd int, from origin, tried int) {
	workers := l.p.workers
	if tried == len(workers) {
		l.p.metrics.turnedAway.Add(1)
		turnAway(fd)
		return
	}
	w := workers[(l.home.id+tried)%len(workers)]
	look := func() {
		if w.evict() {
			l.welcome(fd, from, w, w)
		} else {
			l.makeRoom(fd, from, tried+1)
		}
	}
	if tried == 0 {
		look()
	} else if !w.loop.Post(look) {
		unix.Close(fd)
	}
}

// turnAway answers and closes a connection. What has come is read first: bytes that nobody reads would make the kernel send
// a reset, which may take the answer with it.
func turnAway(fd int) {
	_, _ = unix.Write(fd, tooMany)
	_ = unix.Shutdown(fd, unix.SHUT_WR)
	var buf [4 << 10]byte
	for range http1.MaxHead / len(buf) {
		if n, err := unix.Read(fd, buf[:]); n <= 0 || err != nil {
			break
		}
	}
	unix.Close(fd)
}

// welcome hands a connection to w, or to TLS. It is called on the loop of here.
func (l *listener) welcome(fd int, from origin, w, here *worker) {
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	if secure := l.secure.Load(); secure != nil {
		l.p.front.secure(l, secure, fd, from)
		return
	}
	w.open.Add(1) // not only once w has the time for it: the limit is one of all
	if w == here {
		w.adopt(fd, l, from)
	} else if !w.loop.Post(func() { w.adopt(fd, l, from) }) {
		w.disown(fd, from)
	}
}

const tooManyBody = `{"error":"too many connections are open","reason":"too_many_connections","hint":"proxy.max_connections is the limit"}` + "\n"

var tooMany = fmt.Appendf(nil, "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: %d\r\nRetry-After: 1\r\n"+
	ErrorHeader+": too_many_connections\r\nConnection: close\r\n\r\n%s", len(tooManyBody), tooManyBody)

// evict closes a connection that is between two requests, to make room.
func (w *worker) evict() bool {
	var first *client
	for range evictTries {
		c := w.clients.next
		if c == &w.clients || c == first {
			return false
		}
		if c.rests() && !c.inner {
			c.close()
			return true
		}
		if first == nil {
			first = c
		}
		c.unlist() // those that work do not stand in the way of the next search
		c.enlist()
	}
	return false
}

func addrOf(sa unix.Sockaddr) netip.Addr {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(sa.Addr)
	case *unix.SockaddrInet6:
		return netip.AddrFrom16(sa.Addr).Unmap()
	}
	return netip.Addr{}
}

// stopAccepting takes what waits and closes the listener. It returns when that is done.
func (l *listener) stopAccepting() {
	l.home.do(func() {
		for l.FD() >= 0 {
			fd, sa, err := l.Accept()
			if err != nil {
				l.Sock.Close()
				return
			}
			l.took(fd, sa)
		}
	})
}

// retire lets a listener go whose routes are gone: what is in flight ends, idle connections are cut.
func (l *listener) retire() {
	l.stopAccepting()
	for _, w := range l.p.workers {
		w.do(func() {
			w.each(func(c *client) {
				if c.l != l {
					return
				}
				if c.rests() {
					c.close()
					return
				}
				c.retired = true
				if c.state == tunnelling {
					c.goAway()
				}
			})
		})
	}
	l.p.front.goAway() // net/http can ask all connections of HTTP/2 to end, not some: the others make new ones
	l.back.close()
}
