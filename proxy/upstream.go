package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/inpod/inpod/proxy/http1"
	"github.com/inpod/inpod/proxy/poll"
	"golang.org/x/sys/unix"
)

const (
	dialTimeout = 5 * time.Second
	// upstreamIdle is how long a connection is kept for the next request. uvicorn closes at 5 s, the shortest of the
	// common servers: be earlier.
	upstreamIdle = 4 * time.Second
	// maxIdle bounds the idle connections of one worker to one upstream.
	maxIdle = 256
	// doubtTime is how long a reset is waited for that would say that an upstream, which has closed, got no byte. The end
	// acknowledges all that had come before it, so there is doubt only where a reset or an acknowledgement is on its way.
	doubtTime = 250 * time.Millisecond
	// resolveAge is how long the answer of the resolver is used.
	resolveAge = 5 * time.Second
	// maxDials bounds how many addresses of a name are tried for one request.
	maxDials = 3
)

// upstream is a server behind a route. Each worker has its own connections to it, so taking one needs no lock.
type upstream struct {
	addr  string
	pools []pool // by worker

	fixed  netip.AddrPort // when addr has an IP address
	lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)
	mu     sync.Mutex // guards what follows: the addresses of a name
	found  []netip.AddrPort
	until  time.Time
	turn   atomic.Uint32
}

// pool holds the idle connections of a worker; the last used is at the end.
type pool struct{ idle []*upConn }

func newUpstream(addr string, workers int) *upstream {
	u := &upstream{addr: addr, pools: make([]pool, workers), lookup: net.DefaultResolver.LookupNetIP}
	u.fixed, _ = netip.ParseAddrPort(addr) // zero for a name
	return u
}

// address is where to connect to, when that is known without asking the resolver.
func (u *upstream) address() (netip.AddrPort, bool) {
	if u.fixed.IsValid() {
		return u.fixed, true
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.found) == 0 || time.Now().After(u.until) {
		return netip.AddrPort{}, false
	}
	return u.found[int(u.turn.Add(1))%len(u.found)], true
}

// other gives the address of a name that follows one which takes no connection; false where there is no other. Where
// localhost is 127.0.0.1 and ::1, servers often listen at one of them.
func (u *upstream) other(than netip.AddrPort) (netip.AddrPort, bool) {
	if u.fixed.IsValid() {
		return netip.AddrPort{}, false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.found) < 2 {
		return netip.AddrPort{}, false
	}
	return u.found[(slices.Index(u.found, than)+1)%len(u.found)], true
}

// resolve asks the resolver. It blocks, and is not called by a worker. What was found before is used on as long as the
// resolver cannot be asked.
func (u *upstream) resolve(ctx context.Context) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(u.addr)
	if err != nil {
		return netip.AddrPort{}, err
	}
	n, err := net.DefaultResolver.LookupPort(ctx, "tcp", port)
	if err != nil {
		return netip.AddrPort{}, err
	}
	ips, err := u.lookup(ctx, "ip", host)
	if err != nil {
		return u.remembered(err)
	}
	found := make([]netip.AddrPort, len(ips))
	for i, ip := range ips {
		found[i] = netip.AddrPortFrom(ip.Unmap(), uint16(n))
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.found, u.until = found, time.Now().Add(resolveAge)
	return found[0], nil
}

// remembered is an address from before the resolver failed with err; a name that is no more has none.
func (u *upstream) remembered(err error) (netip.AddrPort, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	var of *net.DNSError
	if len(u.found) == 0 || errors.As(err, &of) && of.IsNotFound {
		return netip.AddrPort{}, err
	}
	u.until = time.Now().Add(resolveAge)
	return u.found[int(u.turn.Add(1))%len(u.found)], nil
}

// upConn is a connection to an upstream: dialled, used by one client at a time, idle in between.
type upConn struct {
	poll.Sock
	w *worker
	u *upstream
	c *client // that it works for; nil while it is idle

	connecting bool
	reused     bool   // has served a request before
	heard      bool   // some byte of the response has come
	doubt      bool   // it has ended, and whether it got the request is not known yet
	written    uint64 // bytes of all requests
	before     uint64 // bytes of the requests before this one
	in         []byte // the beginning of a response's head
}

// take gives an idle connection that is still good, nil when there is none.
func (w *worker) take(u *upstream) *upConn {
	p := &u.pools[w.id]
	for n := len(p.idle); n > 0; n = len(p.idle) {
		up := p.idle[n-1]
		p.idle[n-1] = nil
		p.idle = p.idle[:n-1]
		// The upstream may have closed it since epoll was asked, or have sent what nobody asked for.
		if up.Quiet() {
			up.SetDeadline(0)
			up.reused, up.before = true, up.written
			return up
		}
		up.Close()
	}
	return nil
}

// park puts a connection back for the next request.
func (w *worker) park(up *upConn) {
	p := &up.u.pools[w.id]
	up.c, up.heard = nil, false
	if len(p.idle) >= maxIdle || up.Hup || w.p.closing.Load() {
		up.drop()
		return
	}
	up.SetDeadline(w.loop.Now() + int64(upstreamIdle))
	p.idle = append(p.idle, up)
}

// drop closes a connection.
func (up *upConn) drop() {
	up.dropHead()
	up.c = nil
	up.Close()
}

// unpool forgets an idle connection that is over.
func (up *upConn) unpool() {
	p := &up.u.pools[up.w.id]
	for i, other := range p.idle {
		if other == up {
			p.idle = append(p.idle[:i], p.idle[i+1:]...)
			break
		}
	}
	up.drop()
}

// closeIdle closes a worker's idle connections to u.
func (w *worker) closeIdle(u *upstream) {
	p := &u.pools[w.id]
	for _, up := range p.idle {
		up.drop()
	}
	p.idle = nil
}

// dial begins a connection for c. Its outcome is an event.
func (w *worker) dial(c *client, u *upstream, to netip.AddrPort) (*upConn, error) {
	family, sa := unix.AF_INET, unix.Sockaddr(nil)
	if to.Addr().Is4() || to.Addr().Is4In6() {
		sa = &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	} else {
		family, sa = unix.AF_INET6, &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	if err = unix.Connect(fd, sa); err != nil && err != unix.EINPROGRESS {
		unix.Close(fd)
		return nil, err
	}
	up := &upConn{}
	if err := w.loop.Add(fd, up, &up.Sock); err != nil {
		unix.Close(fd)
		return nil, err
	}
	up.w, up.u, up.c, up.connecting = w, u, c, true
	up.SetDeadline(w.loop.Now() + int64(dialTimeout))
	return up, nil
}

// Event implements poll.Handler.
func (up *upConn) Event() {
	c := up.c
	switch {
	case c == nil: // idle: an end, or bytes that belong to no request
		up.unpool()
	case up.connecting:
		if !up.Out && !up.Hup {
			return
		}
		if err := up.Error(); err != nil {
			c.connectFailed(err)
			return
		}
		up.connecting = false
		c.x.route.health.connected()
		c.send()
	case c.state == tunnelling:
		c.tunnel()
	default:
		c.upstreamEvent()
	}
}

// Timeout implements poll.Handler.
func (up *upConn) Timeout() {
	switch c := up.c; {
	case c == nil:
		up.unpool()
	case up.connecting:
		c.connectFailed(syscall.ETIMEDOUT)
	default:
		c.upstreamTimeout()
	}
}

// Abort implements poll.Handler.
func (up *upConn) Abort() {
	if up.c != nil {
		up.c.Abort()
		return
	}
	up.unpool()
}

// untouched tells, of a connection that has failed with err, whether nothing of the request can have reached the upstream:
// it had closed before the first byte came, and its kernel has taken none of them. Linux says EPIPE for a reset that
// follows an end, which is what a closed socket answers to bytes; a server that dies with the request in its hands resets
// without an end (ECONNRESET) or has acknowledged what it was sent.
func (up *upConn) untouched(err error) bool {
	if err == io.EOF {
		err = up.Error()
	}
	return up.reused && !up.heard && err == unix.EPIPE && up.acked() <= up.before+1
}

// doubtful tells whether the answer of untouched may yet change: the upstream's end is here, and neither its kernel's
// acknowledgement nor its reset. Even on the same machine those may take a moment.
func (up *upConn) doubtful(err error) bool {
	return err == io.EOF && up.reused && !up.heard && !up.doubt && up.acked() <= up.before+1
}

// acked is what the upstream's kernel has acknowledged so far; the SYN counts as a byte.
func (up *upConn) acked() uint64 {
	info, err := unix.GetsockoptTCPInfo(up.FD(), unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return ^uint64(0)
	}
	return info.Bytes_acked
}

// write sends what there is room for.
func (up *upConn) write(p []byte) (int, error) {
	n, err := up.Write(p)
	up.written += uint64(n)
	return n, err
}

// readHead reads the response's head. It returns it and what came after it; nil and no error when it is not complete.
func (up *upConn) readHead(method []byte) (rest []byte, ok bool, err error) {
	w := up.w
	for {
		n, err := up.Read(w.in)
		if err == poll.ErrAgain {
			return nil, false, nil
		}
		if err != nil {
			return nil, false, err
		}
		up.heard = true
		data := w.in[:n]
		if len(up.in) > 0 {
			up.in = append(up.in, data...)
			data = up.in
		}
		n, err = w.resp.Parse(data, method)
		if err != nil {
			return nil, false, err
		}
		if n > 0 {
			return data[n:], true, nil
		}
		if len(up.in) == 0 {
			up.in = w.hold(up.in, data)
		}
		if len(up.in) > http1.MaxHead {
			return nil, false, &http1.Error{Status: 502, Reason: "upstream_bad_response", Text: "the response's head is too large"}
		}
		if !up.In {
			return nil, false, nil
		}
	}
}
