package output

import (
	"time"

	"golang.org/x/sys/unix"
)

// pace is how a stream is read: at once, or a little later and more at a time.
type pace struct {
	eager bool      // never later: an event listener answers here, or the pipe would be full before
	grown bool      // the pipe has its bigger size
	empty time.Time // when the pipe was last found empty
}

const (
	// A program that writes a line at a time without a pause would cost a read and a write for each of them. When
	// fewPieces had less than smallPiece bytes, or one had and the last round of reading ended less than streak ago,
	// the pipe gathers what comes for as long as linger. What a quiet program writes is read at once.
	fewPieces = 3
	streak    = 5 * time.Millisecond
	linger    = 500 * time.Microsecond

	// busyPipe is the pipe of a program that fills the usual one: it then waits for us less often. The kernel takes
	// memory only for what is in it.
	busyPipe = 256 << 10
)

// pump reads until the pipe is empty. It gives the lock back between reads, for Drain, and the buffer while it waits.
func (s *Stream) pump() {
	for small := s.recent(); ; {
		n, eager := s.pumpOnce()
		if n == 0 {
			return
		}
		if n >= smallPiece || eager {
			continue
		}
		if small++; small >= fewPieces {
			time.Sleep(linger)
		}
	}
}

// recent returns how many small pieces count as already seen.
func (s *Stream) recent() int {
	s.lock <- struct{}{}
	defer s.unlock()
	if time.Since(s.pace.empty) < streak {
		return fewPieces
	}
	return 0
}

// pumpOnce takes one piece. It returns 0 when there was none; then the poller has the pipe again, or it is closed.
func (s *Stream) pumpOnce() (n int, eager bool) {
	s.lock <- struct{}{}
	defer s.unlock()
	if s.closed || s.fd < 0 {
		return 0, false
	}
	buf := s.hub.buffers.take()
	defer s.hub.buffers.put(buf)
	if n, ok := s.readOnce(*buf); ok {
		if n >= largePiece/2 { // the kernel fills no page with two writes that do not fit: a full pipe holds less
			s.grow()
		}
		return n, s.pace.eager
	}
	if s.fd >= 0 {
		s.pace.empty = time.Now()
		if err := s.hub.watch(s, unix.EPOLL_CTL_MOD); err != nil {
			s.hub.log.Error("program output is no longer read", "program", s.opt.Program, "stream", s.opt.Channel, "err", err)
			s.closePipe()
		}
	}
	return 0, false
}

// grow gives a stream that was found full a bigger pipe, once. Where the kernel refuses (pipe-user-pages-soft of
// pipe(7)), the usual one would be full long before we come back, so it is not let wait any more.
func (s *Stream) grow() {
	if s.pace.grown || s.pace.eager {
		return
	}
	_, err := unix.FcntlInt(uintptr(s.fd), unix.F_SETPIPE_SZ, busyPipe)
	s.pace.grown, s.pace.eager = err == nil, err != nil
}
