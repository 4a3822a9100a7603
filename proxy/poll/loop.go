// Package poll is an event loop over epoll(7): one goroutine waits for many sockets and calls their handlers. A proxied
// request costs the scheduler nothing then: no goroutine is parked and none is woken.
//
// Enter at New, Loop.Run and Loop.Add. Sockets belong to one loop and are touched by its goroutine alone; others talk to
// it through Loop.Post. Sockets are non-blocking and edge-triggered: a Sock remembers what epoll said until a read or
// write has used it up. The package knows nothing of what the bytes mean.
package poll

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	eventsAtOnce = 256
	// yieldEvery is after how many rounds other goroutines of the process get their turn: a loop under load never blocks,
	// and the scheduler would let it run for 10 ms at a time.
	yieldEvery = 64
)

// Loop waits for sockets. Make one with New; call Run in a goroutine of its own.
type Loop struct {
	epfd, wake int
	events     [eventsAtOnce]unix.EpollEvent
	socks      []*Sock // by descriptor
	timers     timers
	again      []*Sock // have more to do than one turn allows
	spare      []*Sock
	now        int64
	gen        int32
	broken     func(v any, stack []byte)

	mu      sync.Mutex
	inbox   []func()
	stopped bool

	woken atomic.Bool // the loop knows of the inbox
	done  chan struct{}
}

// Handler is called by the loop for a Sock.
type Handler interface {
	// Event is called when In, Out or Hup may have become true, and after Again.
	Event()
	// Timeout is called when the deadline has passed. The deadline is unset then.
	Timeout()
	// Abort is called after a panic of the handler: it lets go of everything and closes its sockets.
	Abort()
}

// New makes a loop. broken is told of a handler's panic, which costs that handler its sockets and nothing else.
func New(broken func(v any, stack []byte)) (*Loop, error) {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("cannot make an epoll instance: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		unix.Close(epfd)
		return nil, fmt.Errorf("cannot make an eventfd: %w", err)
	}
	l := &Loop{epfd: epfd, wake: wake, broken: broken, done: make(chan struct{})}
	l.now = Now()
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(wake)}
	if err := unix.EpollCtl(epfd, unix.EPOLL_CTL_ADD, wake, &ev); err != nil {
		unix.Close(epfd)
		unix.Close(wake)
		return nil, fmt.Errorf("cannot watch the eventfd: %w", err)
	}
	return l, nil
}

// began anchors Now to the monotonic clock.
var began = time.Now()

// Now is a time in nanoseconds that never jumps; deadlines are compared with it. It is never 0.
func Now() int64 { return int64(time.Since(began)) + 1 }

// Now is the time at which the loop's present round began.
func (l *Loop) Now() int64 { return l.now }

// Post hands f to the loop's goroutine. It may be called from any goroutine; after Stop f is dropped, and false returned.
func (l *Loop) Post(f func()) bool {
	l.mu.Lock()
	if l.stopped {
		l.mu.Unlock()
		return false
	}
	l.inbox = append(l.inbox, f)
	l.mu.Unlock()
	if l.woken.CompareAndSwap(false, true) {
		one := [8]byte{1}
		_, _ = unix.Write(l.wake, one[:]) // full only when it has been woken anyway
	}
	return true
}

// Stop ends Run after what has been posted so far, and waits for it.
func (l *Loop) Stop() {
	l.Post(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.stopped = true
	})
	<-l.done
}

// Run serves until Stop. Handlers are called on this goroutine only.
func (l *Loop) Run() {
	defer close(l.done)
	defer unix.Close(l.wake)
	defer unix.Close(l.epfd)
	defer l.closeAll()
	for round := 1; ; round++ {
		n, err := l.wait()
		l.now = Now()
		if err != nil && err != unix.EINTR {
			panic("BUG: epoll_wait: " + err.Error())
		}
		l.turnAgain()
		for i := range max(n, 0) {
			l.dispatch(&l.events[i])
		}
		l.expire()
		if l.woken.Load() && l.drainInbox() {
			return
		}
		if round%yieldEvery == 0 {
			runtime.Gosched()
		}
	}
}

// closeAll closes what is left when the loop ends.
func (l *Loop) closeAll() {
	for _, s := range l.socks {
		if s != nil {
			s.Close()
		}
	}
}

func (l *Loop) wait() (int, error) {
	timeout := -1
	if len(l.again) > 0 || l.woken.Load() {
		timeout = 0
	} else if at := l.timers.next(); at != 0 {
		timeout = int(max(0, min((at-l.now+999_999)/1_000_000, 1<<30)))
	}
	return unix.EpollWait(l.epfd, l.events[:], timeout)
}

func (l *Loop) dispatch(ev *unix.EpollEvent) {
	fd := int(ev.Fd)
	if fd == l.wake {
		return // the inbox is looked at in every round
	}
	if fd >= len(l.socks) {
		return
	}
	s := l.socks[fd]
	if s == nil || s.gen != ev.Pad {
		return // closed in this round
	}
	if ev.Events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		s.In = true
	}
	if ev.Events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		s.Hup = true
	}
	if ev.Events&(unix.EPOLLOUT|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		s.Out = true
	}
	l.call(s, false)
}

// call runs a handler and survives its panic.
func (l *Loop) call(s *Sock, timeout bool) {
	defer func() {
		if v := recover(); v != nil {
			l.abort(s, v)
		}
	}()
	if timeout {
		s.h.Timeout()
	} else {
		s.h.Event()
	}
}

func (l *Loop) abort(s *Sock, v any) {
	l.broken(v, debug.Stack())
	defer func() {
		if v := recover(); v != nil {
			l.broken(v, debug.Stack())
			s.Close()
		}
	}()
	s.h.Abort()
}

// turnAgain gives their next turn to the sockets that asked for it in the last round.
func (l *Loop) turnAgain() {
	if len(l.again) == 0 {
		return
	}
	turn := l.again
	l.again = l.spare[:0]
	for i, s := range turn {
		turn[i] = nil
		s.queued = false
		if s.fd >= 0 {
			l.call(s, false)
		}
	}
	l.spare = turn[:0]
}

func (l *Loop) expire() {
	for {
		s := l.timers.due(l.now)
		if s == nil {
			return
		}
		l.call(s, true)
	}
}

// drainInbox runs what was posted and tells whether the loop is to end.
func (l *Loop) drainInbox() bool {
	var b [8]byte
	_, _ = unix.Read(l.wake, b[:])
	l.woken.Store(false) // before looking: what comes after wakes again
	for {
		l.mu.Lock()
		posts, stopped := l.inbox, l.stopped
		l.inbox = nil
		l.mu.Unlock()
		if len(posts) == 0 {
			return stopped // nothing that was accepted is left undone
		}
		for _, f := range posts {
			l.run(f)
		}
	}
}

func (l *Loop) run(f func()) {
	defer func() {
		if v := recover(); v != nil {
			l.broken(v, debug.Stack())
		}
	}()
	f()
}
