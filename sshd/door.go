package sshd

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// How far a connection has come that is not logged in. Those that have come the least far make room first: a flood of
// connections that say nothing does not keep anybody out who does.
const (
	stageSilent = iota // has sent nothing
	stageIdent         // has sent its identification
	stageKeys          // has finished the key exchange and tries to log in
	stageIn            // is logged in
)

// peer is a connection as the network sees it. It counts, and knows how far the client has come.
type peer struct {
	net.Conn
	addr     netip.Addr // of the client, without a zone; invalid where it has none
	came     time.Time
	stage    atomic.Int32
	lastRead atomic.Int64 // Unix nanoseconds
	in, out  atomic.Uint64
	closing  sync.Once
}

func newPeer(c net.Conn) *peer {
	w := &peer{Conn: c, came: time.Now()}
	if t, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		w.addr = t.AddrPort().Addr().Unmap().WithZone("")
	}
	w.lastRead.Store(w.came.UnixNano())
	return w
}

// Read implements net.Conn.
func (w *peer) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	if n > 0 {
		w.in.Add(uint64(n))
		w.lastRead.Store(time.Now().UnixNano())
		w.stage.CompareAndSwap(stageSilent, stageIdent)
	}
	return n, err
}

// Write implements net.Conn.
func (w *peer) Write(b []byte) (int, error) {
	n, err := w.Conn.Write(b)
	w.out.Add(uint64(n))
	return n, err
}

// Close implements net.Conn; it may be called often.
func (w *peer) Close() (err error) {
	w.closing.Do(func() { err = w.Conn.Close() })
	return err
}

// door bounds the connections, those that are not logged in more tightly.
type door struct {
	mu            sync.Mutex
	waiting, most int // connections that may be logging in, connections in all
	in            map[*peer]bool
	strangers     map[*peer]bool // those of in that are not logged in
	closed        bool
	failures      map[netip.Prefix]*failure
}

func newDoor() *door {
	return &door{in: map[*peer]bool{}, strangers: map[*peer]bool{}, failures: map[netip.Prefix]*failure{}}
}

func (d *door) limit(waiting, most int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waiting, d.most = waiting, most
}

// enter lets a connection in; it may cost another one its place. It tells false when every place is taken by somebody
// who is logged in.
func (d *door) enter(w *peer) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	for len(d.strangers) >= d.waiting || len(d.in) >= d.most {
		last := d.least()
		if last == nil {
			return false
		}
		delete(d.strangers, last)
		delete(d.in, last)
		_ = last.Close()
	}
	d.in[w], d.strangers[w] = true, true
	return true
}

// least is the stranger that has come the least far, the oldest of several.
func (d *door) least() (last *peer) {
	for w := range d.strangers {
		switch {
		case last == nil, w.stage.Load() < last.stage.Load():
			last = w
		case w.stage.Load() == last.stage.Load() && w.came.Before(last.came):
			last = w
		}
	}
	return last
}

// known is called when a connection has logged in.
func (d *door) known(w *peer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.strangers, w)
	w.stage.Store(stageIn)
}

func (d *door) leave(w *peer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.strangers, w)
	delete(d.in, w)
}

// close ends every connection and lets none in any more.
func (d *door) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	for w := range d.in {
		_ = w.Close()
	}
}

func (d *door) counts() (strangers, in int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.strangers), len(d.in)
}
