package sshd

import (
	"errors"
	"io"
	"os"
	"syscall"

	"github.com/inpod/inpod/sshd/wire"
	"golang.org/x/sys/unix"
)

// pipeSize is what a pipe holds on which much flows. The kernel's own 64 KiB are two packets, and wake either side for
// each. It is asked for when it is needed: what a user's pipes may hold together is bounded (pipe(7)).
const pipeSize = 256 << 10

func widen(pipe syscall.RawConn) {
	_ = pipe.Control(func(fd uintptr) { // as it was is good too
		if size, err := unix.FcntlInt(fd, unix.F_GETPIPE_SZ, 0); err == nil && size < pipeSize {
			_, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, pipeSize)
		}
	})
}

// input copies from a client to a process until either ends.
func (c *conn) input(to *os.File, from io.Reader) {
	buf := make([]byte, 2<<10) // what people type is short
	var large *[wire.LargeSize]byte
	defer func() { c.s.transport.Return(large) }()
	for {
		n, err := from.Read(buf)
		if n > 0 {
			c.touch()
			if _, werr := to.Write(buf[:n]); werr != nil {
				// The process does not read. What comes is dropped, so that the client can send its EOF.
				_, _ = io.Copy(io.Discard, from)
				return
			}
		}
		switch {
		case err != nil:
			return
		case n < len(buf):
			if large != nil && n < bufferSize/8 { // much came, and that is over
				c.s.transport.Return(large)
				large, buf = nil, make([]byte, bufferSize)
			}
		case n < bufferSize:
			buf = make([]byte, bufferSize)
		case large == nil:
			if large = c.s.transport.Large(); large != nil {
				buf = large[:]
				if raw, err := to.SyscallConn(); err == nil {
					widen(raw)
				}
			}
		}
	}
}

// output copies from a process to a client until either ends. It holds a buffer only while there is something to copy:
// most sessions wait.
func (c *conn) output(to io.Writer, from *os.File) {
	defer from.Close()
	raw, err := from.SyscallConn()
	if err != nil {
		return
	}
	for wide, much := false, false; ; {
		n, err := c.outputOnce(to, raw, much)
		if err != nil || n <= 0 {
			return
		}
		if much = n >= bufferSize; much && !wide {
			wide = true
			widen(raw)
		}
	}
}

// outputOnce waits for output and copies what is there, with a large buffer where much is expected. The end of the output
// is 0 bytes, or an error, which nobody can be told.
func (c *conn) outputOnce(to io.Writer, from syscall.RawConn, much bool) (n int, err error) {
	var small *[bufferSize]byte
	var large *[wire.LargeSize]byte
	var buf []byte
	defer func() {
		if small != nil {
			c.s.buffers.Put(small)
		}
		c.s.transport.Return(large)
	}()
	var rerr error
	err = from.Read(func(fd uintptr) bool {
		if much {
			large = c.s.transport.Large()
		}
		if large != nil {
			buf = large[:]
		} else {
			small = c.s.buffers.Get().(*[bufferSize]byte)
			buf = small[:]
		}
		for {
			n, rerr = unix.Read(int(fd), buf)
			if rerr != unix.EINTR {
				break
			}
		}
		if rerr != unix.EAGAIN {
			return true
		}
		// Nothing is held while there is nothing.
		if small != nil {
			c.s.buffers.Put(small)
		}
		c.s.transport.Return(large)
		small, large = nil, nil
		return false
	})
	if err != nil || n <= 0 {
		return 0, errors.Join(err, rerr)
	}
	c.touch()
	_, err = to.Write(buf[:n])
	return n, err
}
