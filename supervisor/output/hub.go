package output

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// HubOptions are the things that all streams share.
type HubOptions struct {
	// Stdout and Stderr are what /dev/stdout and /dev/stderr stand for; nil discards.
	Stdout, Stderr *os.File
	// Ident is the tag of what stdout_syslog=true sends, "supervisord" when empty.
	Ident string
	// Logger hears of targets that fail and recover. It may write to Hub.Stdout and Hub.Stderr.
	Logger *slog.Logger
	// PartialDelay is how long a line without its newline may wait for the rest, 250 ms when 0. It concerns only
	// targets that are given whole lines.
	PartialDelay time.Duration
	// Now is the clock of JSON lines and syslog, time.Now when nil.
	Now func() time.Time
}

// Stats are a hub's counters since it was made.
type Stats struct {
	BytesRead     uint64 // from the programs' pipes
	BytesLost     uint64 // a target could not take them
	WriteErrors   uint64 // failed writes
	SyslogDropped uint64 // lines that found the queue full or the server away
}

// Hub owns what the streams of all programs share: the goroutine that waits for their pipes, the agent's stdout and
// stderr, open log files and syslog connections. All methods are safe for concurrent use.
type Hub struct {
	log            *slog.Logger
	ident          string
	partialDelay   time.Duration
	now            func() time.Time
	stdout, stderr *console

	poll    *os.File // the epoll descriptor, itself waited for by Go's poller
	pollfd  int
	done    chan struct{} // closed when the poll goroutine has ended
	buffers *buffers
	held    atomic.Int64 // bytes of unfinished lines of all streams

	bytesRead, bytesLost, writeErrors, syslogDropped atomic.Uint64

	mu      sync.Mutex
	closed  bool
	nextID  uint64
	streams map[uint64]*Stream
	files   map[string]*file
	syslogs map[string]*syslogConn
}

// NewHub starts a hub; Close ends it.
func NewHub(o HubOptions) (*Hub, error) {
	h := &Hub{
		log: o.Logger, ident: o.Ident, partialDelay: o.PartialDelay, now: o.Now,
		buffers: newBuffers(), done: make(chan struct{}), streams: map[uint64]*Stream{}, files: map[string]*file{}, syslogs: map[string]*syslogConn{},
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	if h.ident == "" {
		h.ident = "supervisord"
	}
	if h.partialDelay <= 0 {
		h.partialDelay = 250 * time.Millisecond
	}
	if h.now == nil {
		h.now = time.Now
	}
	var err error
	if h.stdout, err = newConsole(o.Stdout, "/dev/stdout"); err != nil {
		return nil, err
	}
	if h.stderr, err = newConsole(o.Stderr, "/dev/stderr"); err != nil {
		h.stdout.close()
		return nil, err
	}
	if err = h.startPolling(); err != nil {
		h.stdout.close()
		h.stderr.close()
		return nil, err
	}
	return h, nil
}

// Stdout writes to the agent's stdout, never inside a program's line. A Write is one piece.
func (h *Hub) Stdout() io.Writer { return h.stdout }

// Stderr is as Stdout.
func (h *Hub) Stderr() io.Writer { return h.stderr }

// Stats returns the counters.
func (h *Hub) Stats() Stats {
	return Stats{
		BytesRead: h.bytesRead.Load(), BytesLost: h.bytesLost.Load(),
		WriteErrors: h.writeErrors.Load(), SyslogDropped: h.syslogDropped.Load(),
	}
}

// Reopen opens every log file of every stream again (SIGUSR2).
func (h *Hub) Reopen() error {
	h.mu.Lock()
	files := make([]*file, 0, len(h.files))
	for _, f := range h.files {
		files = append(files, f)
	}
	h.mu.Unlock()
	var errs []error
	for _, f := range files {
		if err := f.Reopen(); err != nil {
			errs = append(errs, fmt.Errorf("cannot reopen a log file: %w", err))
		}
	}
	return errors.Join(errs...)
}

// Close drains every stream that is still open and ends the hub.
func (h *Hub) Close() error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil
	}
	h.closed = true
	streams := make([]*Stream, 0, len(h.streams))
	for _, s := range h.streams {
		streams = append(streams, s)
	}
	h.mu.Unlock()
	for _, s := range streams {
		s.drainNow()
	}
	err := h.poll.Close()
	<-h.done
	h.mu.Lock()
	conns := h.syslogs
	h.syslogs = nil
	h.mu.Unlock()
	for _, c := range conns {
		c.close()
	}
	h.stdout.close()
	h.stderr.close()
	return err
}

// startPolling starts the one goroutine that waits for all pipes. The epoll descriptor is handed to Go's own poller
// (epoll descriptors can be nested), so waiting takes no thread.
func (h *Hub) startPolling() error {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return os.NewSyscallError("fcntl", err)
	}
	h.pollfd, h.poll = fd, os.NewFile(uintptr(fd), "epoll")
	conn, err := h.poll.SyscallConn()
	if err != nil {
		_ = h.poll.Close()
		return err
	}
	go func() {
		defer close(h.done)
		events := make([]unix.EpollEvent, 64)
		// Read returns when the hub closes the descriptor, and only then.
		_ = conn.Read(func(fd uintptr) bool {
			for {
				n, err := unix.EpollWait(int(fd), events, 0)
				if errors.Is(err, syscall.EINTR) {
					continue
				}
				if err != nil || n == 0 {
					return false
				}
				for _, e := range events[:n] {
					h.wake(uint64(uint32(e.Fd)) | uint64(uint32(e.Pad))<<32)
				}
			}
		})
	}()
	return nil
}

// wake starts a goroutine for a stream that has something to read. EPOLLONESHOT has disarmed it, so there is one at most.
func (h *Hub) wake(id uint64) {
	h.mu.Lock()
	s := h.streams[id]
	h.mu.Unlock()
	if s != nil {
		go s.pump()
	}
}

// watch registers a stream's pipe; rearm after each round of reading.
func (h *Hub) watch(s *Stream, op int) error {
	e := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLONESHOT, Fd: int32(uint32(s.id)), Pad: int32(uint32(s.id >> 32))}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(h.pollfd, op, s.fd, &e))
}

func (h *Hub) forget(s *Stream) {
	h.mu.Lock()
	delete(h.streams, s.id)
	h.mu.Unlock()
}
