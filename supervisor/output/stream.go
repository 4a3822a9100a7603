package output

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Options say what becomes of one stream of a program.
type Options struct {
	// Program is the name in prefixes, JSON lines and syslog tags.
	Program string
	// Channel is "stdout" or "stderr".
	Channel string
	// Targets are the values of the logfile keys, AUTO already made a path: paths, /dev/stdout, /dev/stderr,
	// /dev/fd/N, "syslog", "syslog @[udp:|tcp:]host[:port]"; "" and NONE stand for no target.
	Targets []string
	// Maxbytes and Backups rotate those targets that are regular files; 0 bytes is never.
	Maxbytes int64
	Backups  int
	// Syslog also sends each line to the local syslog, as stdout_syslog=true does.
	Syslog bool
	// SyslogFacility and SyslogPriority are names ("local0", "err"); "" is user, and info or err by channel.
	SyslogFacility, SyslogPriority string
	// SyslogTag is the tag of what goes to syslog, in place of the program's name and of the hub's ident.
	SyslogTag string
	// Format is "" (as written), FormatRaw or FormatJSON.
	Format string
	// StripANSI removes ANSI escape sequences.
	StripANSI bool
	// CaptureMaxbytes > 0 looks for Supervisor's capture tokens. What is between them goes to OnCapture, not to the targets.
	CaptureMaxbytes int64

	// The callbacks run while the stream is locked: they must not block or call the stream. Bytes are valid only
	// during the call. A nil callback costs nothing.
	OnData    func([]byte) // all that is read, as it was read (the event listener protocol)
	OnLog     func([]byte) // what PROCESS_LOG events carry
	OnCapture func([]byte) // what PROCESS_COMMUNICATION events carry
	OnLine    func([]byte) // each line without its newline, cut at 64 KiB (readiness_log)
}

// Stream is one stream of one run of a program.
type Stream struct {
	hub *Hub
	id  uint64
	opt Options
	w   *os.File // the child's end, until ChildEnd

	// lock is a mutex that can be waited for with a context. It guards everything below.
	lock    chan struct{}
	fd      int  // -1 once closed
	closed  bool // by Drain
	pace    pace
	whole   []target
	byLine  []target
	failing map[target]*failure
	ansi    ansiStripper
	capture *capture
	lines   lineCutter
	held    int         // what lines takes of the hub's maxHeld
	timer   *time.Timer // flushes an unfinished line
	crashed bool        // a panic has ended the handling of what is read
}

// failure is a target's bad time.
type failure struct {
	lost uint64
}

// Open opens the targets of a stream and makes its pipe. An error names the key (stdout_logfile) and the path.
func (h *Hub) Open(o Options) (*Stream, error) {
	if err := checkFormat(o.Format); err != nil {
		return nil, err
	}
	s := &Stream{hub: h, opt: o, lock: make(chan struct{}, 1), fd: -1}
	s.pace.eager = o.OnData != nil
	if o.CaptureMaxbytes > 0 {
		s.capture = newCapture(o.CaptureMaxbytes)
	}
	var err error
	if s.whole, s.byLine, err = h.openTargets(&o); err != nil {
		return nil, err
	}
	if err = s.openPipe(); err != nil {
		s.release()
		return nil, err
	}
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		err = os.ErrClosed
	} else {
		h.nextID++
		s.id = h.nextID
		h.streams[s.id] = s
		h.mu.Unlock()
		s.lock <- struct{}{} // what is in the pipe may be read before watch returns
		err = h.watch(s, unix.EPOLL_CTL_ADD)
		s.unlock()
	}
	if err != nil {
		h.forget(s)
		_ = s.w.Close()
		_ = unix.Close(s.fd)
		s.release()
		return nil, fmt.Errorf("cannot read the %s of %q: %w", o.Channel, o.Program, err)
	}
	return s, nil
}

func (s *Stream) openPipe() error {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("cannot make a pipe for the %s of %q: %w", s.opt.Channel, s.opt.Program, err)
	}
	if err := unix.SetNonblock(p[0], true); err != nil {
		_, _ = unix.Close(p[0]), unix.Close(p[1])
		return os.NewSyscallError("fcntl", err)
	}
	s.fd, s.w = p[0], os.NewFile(uintptr(p[1]), s.opt.Channel)
	return nil
}

// ChildEnd is the write end of the pipe, for the child. The caller closes it once the child is started or has failed
// to start; it is the same file at every call.
func (s *Stream) ChildEnd() *os.File { return s.w }

// Clear removes the stream's log files and starts empty ones.
func (s *Stream) Clear() error {
	return s.eachFile((*file).Clear, "clear")
}

// Reopen opens the stream's log files again.
func (s *Stream) Reopen() error {
	return s.eachFile((*file).Reopen, "reopen")
}

// eachFile needs no lock: whole and byLine never change, and a released file is only closed.
func (s *Stream) eachFile(do func(*file) error, verb string) error {
	var errs []error
	for _, ts := range [][]target{s.whole, s.byLine} {
		for _, t := range ts {
			if f, ok := t.(*file); ok {
				if err := do(f); err != nil {
					errs = append(errs, fmt.Errorf("cannot %s %s_logfile: %w", verb, s.opt.Channel, err))
				}
			}
		}
	}
	return errors.Join(errs...)
}

// Drain ends the stream once the child is gone: it writes what is in the pipe now, and an unfinished line, and closes
// the pipe and the targets. It does not wait for a grandchild that holds the pipe open. It waits for a target that
// blocks, at most until ctx ends; then the stream ends by itself as soon as the target lets it.
func (s *Stream) Drain(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.drainNow()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("cannot drain the %s of %q: %w", s.opt.Channel, s.opt.Program, ctx.Err())
	}
}

func (s *Stream) drainNow() {
	s.lock <- struct{}{}
	defer s.unlock()
	if s.closed {
		return
	}
	s.closed = true
	if s.fd >= 0 {
		// Only what is there now: a grandchild could write for ever.
		if n, err := unix.IoctlGetInt(s.fd, unix.TIOCINQ); err == nil && n > 0 {
			buf := s.hub.buffers.take()
			for n > 0 {
				m, ok := s.readOnce((*buf)[:min(n, len(*buf))])
				if !ok {
					break
				}
				n -= m
			}
			s.hub.buffers.put(buf)
		}
		s.closePipe()
	}
	s.flush()
	s.hub.forget(s)
	s.release()
}

func (s *Stream) unlock() { <-s.lock }

func (s *Stream) release() {
	releaseAll(s.whole)
	releaseAll(s.byLine)
}

// readOnce reads and handles one piece. It returns false when there is nothing to read now, and has closed the pipe
// when there never will be.
func (s *Stream) readOnce(buf []byte) (int, bool) {
	for {
		n, err := unix.Read(s.fd, buf)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EAGAIN):
			return 0, false
		case err != nil || n == 0:
			s.closePipe()
			s.flush()
			return 0, false
		}
		s.hub.bytesRead.Add(uint64(n))
		s.handle(buf[:n])
		return n, true
	}
}

// closePipe closes the read end, which also takes it out of the epoll set.
func (s *Stream) closePipe() {
	_ = unix.Close(s.fd)
	s.fd = -1
}
