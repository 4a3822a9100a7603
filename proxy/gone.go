package proxy

import (
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// watchAfter is how old a request is before its client is watched: a quick one does not pay for it.
const watchAfter = 20 * time.Millisecond

// watch looks whether the client of a request hangs up, so that the upstream does not go on working for nobody.
// Nothing may read from the client's connection meanwhile.
type watch struct {
	c     *conn
	gone  func() // called once when the client has hung up
	left  atomic.Bool
	timer *time.Timer

	mu      sync.Mutex
	stopped bool
	done    chan struct{} // closed when nobody looks any more; nil before the watch has begun
}

func watchClient(c *conn, gone func()) *watch {
	w := &watch{c: c, gone: gone}
	w.timer = time.AfterFunc(watchAfter, w.look)
	return w
}

// look waits until the connection has something to read: the end, or a pipelined request, which shows that the
// client is there.
func (w *watch) look() {
	w.mu.Lock()
	if w.stopped {
		w.mu.Unlock()
		return
	}
	done := make(chan struct{})
	w.done = done
	_ = w.c.SetReadDeadline(time.Time{})
	w.mu.Unlock()
	defer close(done)
	raw, err := w.c.SyscallConn()
	if err != nil {
		return // closed
	}
	_ = raw.Read(func(fd uintptr) bool { // its error is stop's deadline
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		if err == syscall.EAGAIN || err == syscall.EINTR {
			return false
		}
		w.left.Store(n <= 0)
		return true
	})
	if w.left.Load() {
		w.gone()
	}
}

// stop ends the watch and tells whether the client is still there.
func (w *watch) stop() bool {
	w.timer.Stop()
	w.mu.Lock()
	w.stopped = true
	done := w.done
	w.mu.Unlock()
	if done != nil {
		_ = w.c.SetReadDeadline(time.Unix(1, 0))
		<-done
		_ = w.c.SetReadDeadline(time.Time{})
	}
	return !w.left.Load()
}
