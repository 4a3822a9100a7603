package supervisor

import (
	"errors"
	"os"
	"sync"
	"syscall"

	sys "golang.org/x/sys/unix"
)

// maxInput bounds what waits for a program that does not read its stdin.
const maxInput = 16 << 20

var errNoStdin = errors.New("stdin is closed")

// stdin is the write end of a program's standard input. Its write never blocks: what the pipe does not take waits
// in a buffer for a goroutine that exists only as long as there is something in it.
type stdin struct {
	mu      sync.Mutex
	w       *os.File
	closed  bool
	pending []byte
	writing bool
}

// newStdin makes the pipe; child is the end for the child, which the caller closes.
func newStdin() (in *stdin, child *os.File, err error) {
	var fds [2]int
	if err := sys.Pipe2(fds[:], sys.O_CLOEXEC); err != nil {
		return nil, nil, err
	}
	// Only our end: a program expects its stdin to block.
	if err := sys.SetNonblock(fds[1], true); err != nil {
		_, _ = sys.Close(fds[0]), sys.Close(fds[1])
		return nil, nil, err
	}
	return &stdin{w: os.NewFile(uintptr(fds[1]), "stdin")}, os.NewFile(uintptr(fds[0]), "stdin"), nil
}

// write takes all of p or returns an error: the program has closed its stdin, ended, or does not read.
func (in *stdin) write(p []byte) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		return errNoStdin
	}
	if len(in.pending) == 0 && !in.writing {
		n, err := in.try(p)
		if err != nil {
			return err
		}
		p = p[n:]
	}
	if len(in.pending)+len(p) > maxInput {
		return errors.New("it does not read its stdin")
	}
	in.pending = append(in.pending, p...)
	if len(in.pending) > 0 && !in.writing {
		in.writing = true
		go in.drain()
	}
	return nil
}

// try writes what the pipe takes now.
func (in *stdin) try(p []byte) (n int, err error) {
	conn, err := in.w.SyscallConn()
	if err != nil {
		return 0, err
	}
	cerr := conn.Write(func(fd uintptr) bool {
		n, err = sys.Write(int(fd), p)
		return true
	})
	if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EINTR) {
		err = nil
	}
	return max(n, 0), errors.Join(cerr, err)
}

// drain writes what is pending until there is nothing or the pipe is closed.
func (in *stdin) drain() {
	for {
		in.mu.Lock()
		p := in.pending
		in.pending = nil
		if len(p) == 0 || in.closed {
			in.writing = false
			in.mu.Unlock()
			return
		}
		in.mu.Unlock()
		if _, err := in.w.Write(p); err != nil {
			in.close()
		}
	}
}

func (in *stdin) close() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.closed {
		in.closed = true
		in.pending = nil
		_ = in.w.Close()
	}
}
