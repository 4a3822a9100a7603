package poll

import (
	"errors"
	"io"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrAgain is returned by Read, Write and Accept when they would block: an event follows when they would not.
var ErrAgain = errors.New("would block")

// Sock is a socket of a loop. Its methods may be called by the loop's goroutine only.
type Sock struct {
	// What epoll has said and has not been used up yet: there may be bytes to read, there is room to write, the peer has
	// closed its side (or everything).
	In, Out, Hup bool

	fd     int
	gen    int32
	queued bool // in Loop.again
	loop   *Loop
	h      Handler
	timer
}

// Add takes over a connected or connecting non-blocking descriptor.
func (l *Loop) Add(fd int, h Handler, s *Sock) error {
	return l.add(fd, h, s, unix.EPOLLIN|unix.EPOLLOUT|unix.EPOLLRDHUP|unix.EPOLLET)
}

// AddListener takes over a listening descriptor. Its events are level-triggered: Event is called as long as connections wait.
func (l *Loop) AddListener(fd int, h Handler, s *Sock) error { return l.add(fd, h, s, unix.EPOLLIN) }

func (l *Loop) add(fd int, h Handler, s *Sock, events uint32) error {
	l.gen++
	*s = Sock{fd: fd, gen: l.gen, loop: l, h: h, timer: timer{index: -1}}
	for fd >= len(l.socks) {
		l.socks = append(l.socks, make([]*Sock, max(64, len(l.socks)))...)
	}
	ev := unix.EpollEvent{Events: events, Fd: int32(fd), Pad: s.gen}
	if err := unix.EpollCtl(l.epfd, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		s.fd = -1
		return err
	}
	l.socks[fd] = s
	return nil
}

// Pause stops the events of a listener; Resume goes on with them.
func (s *Sock) Pause() error { return s.modify(0) }

// Resume is the end of Pause.
func (s *Sock) Resume() error { return s.modify(unix.EPOLLIN) }

func (s *Sock) modify(events uint32) error {
	ev := unix.EpollEvent{Events: events, Fd: int32(s.fd), Pad: s.gen}
	return unix.EpollCtl(s.loop.epfd, unix.EPOLL_CTL_MOD, s.fd, &ev)
}

// FD is the descriptor, -1 after Close and Release.
func (s *Sock) FD() int { return s.fd }

// Loop is the loop that the socket belongs to.
func (s *Sock) Loop() *Loop { return s.loop }

// Read reads what there is. ErrAgain: nothing yet; io.EOF: the peer has closed its side.
func (s *Sock) Read(p []byte) (int, error) {
	for {
		// RawSyscall: it cannot block, so the scheduler need not hear of it.
		n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(s.fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
		switch errno {
		case 0:
		case unix.EAGAIN:
			s.In = false
			return 0, ErrAgain
		case unix.EINTR:
			continue
		default:
			return 0, errno
		}
		if n == 0 {
			s.Hup = true
			return 0, io.EOF
		}
		if int(n) < len(p) && !s.Hup {
			s.In = false // all of it: the next byte, or the end, is a new event
		}
		return int(n), nil
	}
}

// Write writes what there is room for. ErrAgain: no room.
func (s *Sock) Write(p []byte) (int, error) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(s.fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)),
			unix.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			if int(n) < len(p) {
				s.Out = false
			}
			return int(n), nil
		case unix.EAGAIN:
			s.Out = false
			return 0, ErrAgain
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// Quiet tells whether there is nothing to read, not even an end: an idle connection that is as it should be.
func (s *Sock) Quiet() bool {
	var b [1]byte
	_, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(s.fd), uintptr(unsafe.Pointer(&b[0])), 1, unix.MSG_PEEK|unix.MSG_DONTWAIT, 0, 0)
	return errno == unix.EAGAIN
}

// Accept takes a connection from a listener; it is non-blocking and closed on exec.
func (s *Sock) Accept() (int, unix.Sockaddr, error) {
	for {
		fd, sa, err := unix.Accept4(s.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch err {
		case nil:
			return fd, sa, nil
		case unix.EAGAIN:
			return -1, nil, ErrAgain
		case unix.EINTR, unix.ECONNABORTED:
		default:
			return -1, nil, err
		}
	}
}

// Error is the socket's pending error (SO_ERROR), nil when there is none. Reading it clears it.
func (s *Sock) Error() error {
	n, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	switch {
	case err != nil:
		return err
	case n != 0:
		return unix.Errno(n)
	}
	return nil
}

// Again asks for another call of Event in the next round, so that one busy socket does not keep the others waiting.
func (s *Sock) Again() {
	if !s.queued {
		s.queued = true
		s.loop.again = append(s.loop.again, s)
	}
}

// Release gives the descriptor away: the loop forgets it, and the caller owns it.
func (s *Sock) Release() int {
	fd := s.fd
	_ = unix.EpollCtl(s.loop.epfd, unix.EPOLL_CTL_DEL, fd, nil)
	s.forget()
	return fd
}

// Close closes the socket, once; its handler is not called any more.
func (s *Sock) Close() {
	if s.fd < 0 {
		return
	}
	fd := s.fd
	s.forget()
	unix.Close(fd) // which takes it out of epoll
}

// Reset closes the socket so that the peer gets a reset: what it has is not all (RFC 9112 section 8).
func (s *Sock) Reset() {
	if s.fd >= 0 {
		_ = unix.SetsockoptLinger(s.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		s.Close()
	}
}

func (s *Sock) forget() {
	s.loop.timers.remove(s)
	s.loop.socks[s.fd] = nil
	s.fd = -1
}
