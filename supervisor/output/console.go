package output

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// console is the agent's own stdout or stderr, which programs and the agent's log share.
type console struct {
	label string

	mu      sync.Mutex
	f       *os.File
	midline bool    // the last byte written was no newline
	owner   *Stream // who wrote it
}

// newConsole copies the descriptor. On descriptors 1 and 2 Go's os.File turns EPIPE into the end of the process, and
// a reader of our output that went away is no reason to end; opening /dev/stdout anew would fail where it is a socket
// or belongs to another user.
func newConsole(f *os.File, label string) (*console, error) {
	c := &console{label: label}
	if f == nil {
		return c, nil
	}
	conn, err := f.SyscallConn() // f.Fd() would make the description blocking for everybody
	if err != nil {
		return nil, err
	}
	var fd int
	var dupErr error
	err = conn.Control(func(old uintptr) { fd, dupErr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 3) })
	if err = errors.Join(err, dupErr); err != nil {
		return nil, fmt.Errorf("cannot copy the descriptor of %s: %w", label, err)
	}
	c.f = os.NewFile(uintptr(fd), label)
	return c, nil
}

func (c *console) name() string { return c.label }
func (c *console) release()     {}

// write writes a block in one piece. Only one goroutine is ever in the write, the others wait for the lock: a reader
// that is slow holds back the programs, and takes one thread.
func (c *console) write(s *Stream, block []byte) error {
	if len(block) == 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.f == nil {
		return nil
	}
	if c.midline && c.owner != s {
		if _, err := c.f.Write([]byte{'\n'}); err != nil {
			return err
		}
	}
	n, err := c.f.Write(block)
	if n > 0 {
		c.midline, c.owner = block[n-1] != '\n', s
	}
	return err
}

// Write lets the agent's own log share the console.
func (c *console) Write(p []byte) (int, error) {
	if err := c.write(nil, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (c *console) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.f != nil {
		_ = c.f.Close()
		c.f = nil
	}
}

// fdTarget is /dev/fd/N for N > 2.
type fdTarget struct{ console }

func openFD(fd int, value string) (target, error) {
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: value, Err: err}
	}
	return &fdTarget{console{label: value, f: os.NewFile(uintptr(dup), value)}}, nil
}

func (t *fdTarget) release() { t.close() }
