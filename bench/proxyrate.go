package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// measureRate asks at a fixed rate. A client that waits for an answer before it asks again asks less while a proxy
// stalls, and so hides the stall.
func measureRate(ctx context.Context, b *bench) (table, error) {
	var t table
	up, err := b.files(ctx)
	if err != nil {
		return t, err
	}
	defer up.stop()
	all, err := b.stand(ctx, &t, up.addr, b.proxies(direct))
	if err != nil {
		return t, err
	}
	defer all.stop()
	const conns = 64
	var failed error
	for _, rate := range []int{2000, 10000} {
		cpu := samples{}
		quantiles := []struct {
			what string
			at   float64
			of   samples
		}{{"median", 0.5, samples{}}, {"p99", 0.99, samples{}}, {"p99.9", 0.999, samples{}}, {"highest", 1, samples{}}}
		failed = errors.Join(failed, all.turns(ctx, b.pick(3, 1), func(p *proxy) error {
			before, err := p.cpu()
			if err != nil {
				return err
			}
			took, err := openLoop(ctx, p.addr, rate, conns, time.Duration(b.pick(8, 2))*time.Second)
			if err != nil {
				return err
			}
			after, err := p.cpu()
			if err != nil {
				return err
			}
			one := samples{p.name: took}
			for _, q := range quantiles {
				q.of.add(p.name, one.at(q.at)[p.name])
			}
			if p.name != direct {
				cpu.add(p.name, float64((after-before).Microseconds())/float64(len(took)))
			}
			return nil
		}))
		for i, q := range quantiles {
			what := "… " + q.what
			if i == 0 {
				what = fmt.Sprintf("%d requests a second: %s", rate, q.what)
			}
			t.add(what, micros, lower, nil, q.of.median())
		}
		t.add("… CPU of the proxy for a request", tenths, lower, nil, cpu.median())
	}
	t.note("Answers of 1 kB over %d connections. A request's time counts from when the schedule wanted it sent, so one that waits for the answer before it on its connection has waited too.", conns)
	return t, failed
}

// openConn is one connection of an open loop, with at most one request on its way.
type openConn struct {
	fd   int
	next int // the request to send next; the ones after it are apart by the number of connections
	owed int // requests whose time has come
	busy bool
	in   []byte
}

// loop sends requests by a schedule: request i on connection i modulo their number, at start + i × gap. It is one
// thread over epoll: a scheduler of goroutines would add delays of its own.
type loop struct {
	conns       []*openConn
	poll, timer int
	request     []byte
	start, gap  time.Duration
	total, due  int // requests in all, and those whose time has come
	took        []float64
	buf         []byte
}

// openLoop returns the time in µs from when each request should have been sent to the end of its answer.
func openLoop(ctx context.Context, addr string, rate, conns int, length time.Duration) ([]float64, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	l := &loop{
		poll: -1, timer: -1, request: []byte("GET / HTTP/1.1\r\nHost: " + addr + "\r\n\r\n"), buf: make([]byte, 64<<10),
		gap: time.Second / time.Duration(rate), total: int(length.Seconds() * float64(rate)),
	}
	l.took = make([]float64, 0, l.total)
	defer l.close()
	if err := l.open(addr, conns); err != nil {
		return nil, err
	}
	l.start = monotonic() + 20*time.Millisecond
	end := l.start + length + 15*time.Second
	events := make([]unix.EpollEvent, 256)
	for len(l.took) < l.total {
		if err := l.send(); err != nil {
			return nil, err
		}
		n, err := unix.EpollWait(l.poll, events, 1000)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return nil, fmt.Errorf("cannot wait: %w", err)
		}
		for _, e := range events[:max(n, 0)] {
			if int(e.Fd) == l.timer {
				_, _ = unix.Read(l.timer, l.buf) // makes it wait for the next time
				continue
			}
			if err := l.receive(l.conns[e.Pad]); err != nil {
				return nil, err
			}
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if monotonic() > end {
			return nil, fmt.Errorf("%d of %d requests have no answer", l.total-len(l.took), l.total)
		}
	}
	return l.took, nil
}

func (l *loop) open(addr string, conns int) (err error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return fmt.Errorf("cannot read the address: %w", err)
	}
	if l.poll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("cannot make an epoll: %w", err)
	}
	if l.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK); err != nil {
		return fmt.Errorf("cannot make a timer: %w", err)
	}
	if err := unix.EpollCtl(l.poll, unix.EPOLL_CTL_ADD, l.timer, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(l.timer)}); err != nil {
		return fmt.Errorf("cannot watch the timer: %w", err)
	}
	for i := range conns {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("cannot make a socket: %w", err)
		}
		l.conns = append(l.conns, &openConn{fd: fd, next: i})
		if err := errors.Join(
			unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}),
			unix.SetNonblock(fd, true),
			unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
			unix.EpollCtl(l.poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd), Pad: int32(i)}),
		); err != nil {
			return fmt.Errorf("cannot connect: %w", err)
		}
	}
	return nil
}

func (l *loop) close() {
	for _, c := range l.conns {
		_ = unix.Close(c.fd) // nothing is lost
	}
	_, _ = unix.Close(l.timer), unix.Close(l.poll)
}

func (l *loop) at(i int) time.Duration { return l.start + time.Duration(i)*l.gap }

// send sends every request whose time has come, and sets the timer to the next one's.
func (l *loop) send() error {
	for now := monotonic(); l.due < l.total && l.at(l.due) <= now; l.due++ {
		c := l.conns[l.due%len(l.conns)]
		c.owed++
		if err := l.write(c); err != nil {
			return err
		}
	}
	if l.due == l.total {
		return nil
	}
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(l.at(l.due)))}
	if err := unix.TimerfdSettime(l.timer, unix.TFD_TIMER_ABSTIME, &spec, nil); err != nil {
		return fmt.Errorf("cannot set the timer: %w", err)
	}
	return nil
}

// write sends the connection's next request, unless one is on its way.
func (l *loop) write(c *openConn) error {
	if c.busy || c.owed == 0 {
		return nil
	}
	if n, err := unix.Write(c.fd, l.request); n != len(l.request) {
		return fmt.Errorf("cannot send a request: %d of %d bytes, %v", n, len(l.request), err)
	}
	c.busy = true
	c.owed--
	return nil
}

// receive reads what has come; with the end of the answer the next request may go.
func (l *loop) receive(c *openConn) error {
	n, err := unix.Read(c.fd, l.buf)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		return nil
	}
	if err != nil || n == 0 {
		return fmt.Errorf("a connection ended (%v)", err)
	}
	now := monotonic()
	c.in = append(c.in, l.buf[:n]...)
	whole, err := answered(c.in)
	if err != nil || !whole {
		return err
	}
	if !c.busy {
		return fmt.Errorf("got an answer that nobody asked for: %.200q", c.in)
	}
	l.took = append(l.took, float64(now-l.at(c.next))/float64(time.Microsecond))
	c.next, c.busy, c.in = c.next+len(l.conns), false, c.in[:0]
	return l.write(c)
}

// answered tells whether in is one whole answer. Only what a good answer looks like is known here.
func answered(in []byte) (bool, error) {
	head, body, found := bytes.Cut(in, []byte("\r\n\r\n"))
	if !found {
		return false, nil
	}
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 200 ")) {
		return false, fmt.Errorf("got %.200q", head)
	}
	_, rest, _ := bytes.Cut(bytes.ToLower(head), []byte("\r\ncontent-length: "))
	value, _, _ := bytes.Cut(rest, []byte("\r\n"))
	size, err := strconv.Atoi(string(value))
	if err != nil || len(body) > size {
		return false, fmt.Errorf("got %d bytes after %.200q", len(body), head)
	}
	return len(body) == size, nil
}
