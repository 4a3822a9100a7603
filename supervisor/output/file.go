package output

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"sync"
	"syscall"
)

// file is a log file that rotates as Supervisor's RotatingFileHandler does: after a write that brought it to
// maxbytes or beyond, file becomes file.1, file.1 becomes file.2, and the oldest goes. What is not a regular file
// (a FIFO, /dev/null, a terminal) is never rotated, removed or truncated.
type file struct {
	hub  *Hub // nil for the main log
	path string

	mu       sync.Mutex
	refs     int // guarded by the hub's mutex, not by mu
	f        *os.File
	closed   bool
	regular  bool
	size     int64
	maxbytes int64
	backups  int
	rotateAt int64
}

// newFile opens path for appending.
func newFile(path string, maxbytes int64, backups int) (*file, error) {
	f := &file{path: path, maxbytes: maxbytes, backups: backups}
	if err := f.open(0); err != nil {
		return nil, err
	}
	return f, nil
}

// openFile gives the one writer of path: streams that log to the same file share it, so that one of them never
// goes on writing to a file that another has renamed.
func (h *Hub) openFile(path string, maxbytes int64, backups int) (*file, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if f, ok := h.files[path]; ok {
		f.refs++
		return f, nil
	}
	f, err := newFile(path, maxbytes, backups)
	if err != nil {
		return nil, err
	}
	f.hub, f.refs = h, 1
	h.files[path] = f
	return f, nil
}

func (f *file) release() {
	f.hub.mu.Lock()
	f.refs--
	last := f.refs == 0
	if last {
		delete(f.hub.files, f.path)
	}
	f.hub.mu.Unlock()
	if last {
		_ = f.Close()
	}
}

func (f *file) name() string { return f.path }

func (f *file) write(_ *Stream, block []byte) error {
	_, err := f.Write(block)
	return err
}

// open opens the file anew; f.mu is held. flag may add O_TRUNC.
func (f *file) open(flag int) error {
	if f.f != nil {
		_ = f.f.Close()
		f.f = nil
	}
	flag |= os.O_WRONLY | os.O_APPEND | os.O_CREATE
	if fi, err := os.Stat(f.path); err == nil && fi.Mode()&fs.ModeNamedPipe != 0 {
		// Without O_NONBLOCK the open of a FIFO waits for a reader.
		flag = os.O_WRONLY | syscall.O_NONBLOCK
	}
	w, err := os.OpenFile(f.path, flag, 0o666)
	if err != nil {
		if errors.Is(err, syscall.ENXIO) {
			// A FIFO that nobody reads yet: every write tries again.
			f.regular = false
			return nil
		}
		return err
	}
	fi, err := w.Stat()
	if err != nil {
		_ = w.Close()
		return err
	}
	f.f, f.regular, f.size = w, fi.Mode().IsRegular(), fi.Size()
	f.rotateAt = f.maxbytes
	return nil
}

// Write appends p and rotates afterwards when that is due.
func (f *file) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.f == nil {
		if err := f.open(0); err != nil {
			return 0, err
		}
		if f.f == nil {
			return 0, &fs.PathError{Op: "open", Path: f.path, Err: syscall.ENXIO}
		}
	}
	n, err := f.f.Write(p)
	f.size += int64(n)
	if err != nil {
		if !f.regular {
			_ = f.f.Close()
			f.f = nil
		}
		return n, err
	}
	if f.regular && f.maxbytes > 0 && f.size >= f.rotateAt {
		return n, f.rotate()
	}
	return n, nil
}

// rotate moves the file away and starts a new one; f.mu is held. When it cannot, the file goes on growing and the
// next attempt is one maxbytes later.
func (f *file) rotate() error {
	// Somebody may have truncated the file below us (logrotate's copytruncate): then it is not full.
	if fi, err := f.f.Stat(); err == nil && fi.Size() < f.rotateAt {
		f.size = fi.Size()
		return nil
	}
	for i := f.backups - 1; i > 0; i-- {
		if err := rename(f.numbered(i), f.numbered(i+1)); err != nil {
			return f.rotateLater(err)
		}
	}
	if f.backups > 0 {
		if err := rename(f.path, f.numbered(1)); err != nil {
			return f.rotateLater(err)
		}
	}
	return f.open(os.O_TRUNC)
}

func (f *file) rotateLater(err error) error {
	f.rotateAt = f.size + f.maxbytes
	return fmt.Errorf("cannot rotate %q: %w", f.path, err)
}

func (f *file) numbered(i int) string { return f.path + "." + strconv.Itoa(i) }

// rename is rename(2), where a missing source is nothing to do: somebody cleaned up.
func rename(from, to string) error {
	if err := os.Rename(from, to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Reopen opens the path again, after something else has renamed the file.
func (f *file) Reopen() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || (f.f != nil && !f.regular) {
		return nil
	}
	return f.open(0)
}

// Clear removes the file and starts an empty one. Backups stay.
func (f *file) Clear() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || !f.regular {
		return nil
	}
	if err := os.Remove(f.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return f.open(0)
}

// Close closes the file.
func (f *file) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	if f.f == nil {
		return nil
	}
	err := f.f.Close()
	f.f = nil
	return err
}
