package sshd

import (
	"cmp"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// How far a connection has come that is not logged in. When there are too many, those make room that have not even begun
// a key exchange, but for the last few of them: a login needs a moment to get there. So a flood of connections that say
// little or nothing keeps nobody out. Of those that have come equally far, the address with the most of them makes room:
// a flood of one address keeps nobody else out, however far it goes.
const (
	stageNew   = iota // has sent nothing, or an identification, or less
	stageOffer        // has sent more than that: it has begun with the key exchange
	stageKeys         // has finished the key exchange and tries to log in
	stageIn           // is logged in
)

// identSize is the longest identification (RFC 4253, 4.2).
const identSize = 255

const (
	newShare = 2 // one in so many places is kept for connections that have not begun
	// moment is what everybody is granted to come further. Until somebody has had it nobody else is let in, and waits in
	// the kernel's queue: a client whose turn comes late logs in late, one that is thrown out does not.
	moment = 250 * time.Millisecond
)

// peer is a connection as the network sees it. It counts, and knows how far the client has come.
type peer struct {
	net.Conn
	addr     netip.Addr // of the client, without a zone; invalid where it has none
	came     time.Time
	stage    atomic.Int32
	lastRead atomic.Int64 // Unix nanoseconds
	in, out  atomic.Uint64
	moved    func(at time.Time) // told of each read; may be nil
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
		all := w.in.Add(uint64(n))
		now := time.Now()
		w.lastRead.Store(now.UnixNano())
		if w.moved != nil {
			w.moved(now)
		}
		if all > identSize && w.stage.Load() == stageNew {
			w.stage.CompareAndSwap(stageNew, stageOffer)
		}
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
	strangers     map[*peer]bool       // those of in that are not logged in
	crowd         map[netip.Prefix]int // strangers by address
	closed        bool
	left          chan struct{} // has one when somebody who waits should look again
	failures      map[netip.Prefix]*failure
}

func newDoor() *door {
	return &door{in: map[*peer]bool{}, strangers: map[*peer]bool{}, crowd: map[netip.Prefix]int{}, failures: map[netip.Prefix]*failure{}, left: make(chan struct{}, 1)}
}

func (d *door) limit(waiting, most int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waiting, d.most = waiting, most
}

// enter lets a connection in; it may cost another one its place, and then it may take a moment. It tells false when every
// place is taken by somebody who is logged in.
func (d *door) enter(w *peer) bool {
	for {
		wait, ok := d.tryEnter(w)
		if wait == 0 {
			return ok
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-d.left:
		}
		t.Stop()
	}
}

// tryEnter is enter that does not wait, and tells how long to.
func (d *door) tryEnter(w *peer) (wait time.Duration, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return 0, false
	}
	for len(d.strangers) >= d.waiting || len(d.in) >= d.most {
		last, wait := d.least()
		if last == nil {
			return wait, false
		}
		d.drop(last)
		delete(d.in, last)
		_ = last.Close()
	}
	w.came = time.Now()
	d.in[w], d.strangers[w] = true, true
	d.crowd[network(w.addr)]++
	return 0, true
}

// tell wakes who waits to enter.
func (d *door) tell() {
	select {
	case d.left <- struct{}{}:
	default:
	}
}

// least is the stranger that makes room for another: of those that have had their moment. When none has, wait is how long
// that takes; when there is none at all, it is 0.
func (d *door) least() (last *peer, wait time.Duration) {
	beginners := 0
	for w := range d.strangers {
		if w.stage.Load() == stageNew {
			beginners++
		}
	}
	among := func(w *peer) bool { return w.stage.Load() > stageNew }
	if beginners == len(d.strangers) || beginners > d.waiting/newShare {
		among = func(w *peer) bool { return w.stage.Load() == stageNew }
	}
	now := time.Now()
	for w := range d.strangers {
		switch left := moment - now.Sub(w.came); {
		case !among(w):
		case left > 0:
			if wait == 0 || left < wait {
				wait = left
			}
		case last == nil || d.before(w, last):
			last = w
		}
	}
	return last, wait
}

// before tells whether w makes room before v does; both have begun, or neither.
func (d *door) before(w, v *peer) bool {
	return cmp.Or(cmp.Compare(w.stage.Load(), v.stage.Load()), cmp.Compare(d.crowd[network(v.addr)], d.crowd[network(w.addr)]), w.came.Compare(v.came)) < 0
}

// drop takes a stranger off the list; the caller holds mu.
func (d *door) drop(w *peer) {
	if !d.strangers[w] {
		return
	}
	delete(d.strangers, w)
	if n := network(w.addr); d.crowd[n] > 1 {
		d.crowd[n]--
	} else {
		delete(d.crowd, n)
	}
}

// known is called when a connection has logged in.
func (d *door) known(w *peer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.drop(w)
	d.tell()
	w.stage.Store(stageIn)
}

func (d *door) leave(w *peer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.drop(w)
	delete(d.in, w)
	d.tell()
}

// close ends every connection and lets none in any more.
func (d *door) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	d.tell()
	for w := range d.in {
		_ = w.Close()
	}
}

func (d *door) counts() (strangers, in int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.strangers), len(d.in)
}
