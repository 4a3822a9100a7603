// Package wire makes the connections under x/crypto/ssh cheaper. It knows nothing of SSH but how that package uses a
// connection, which measurements have shown to cost more than the encryption:
//
//   - A packet leaves in two writes, the first of them 4,096 bytes (its buffer's size), so that for each packet the
//     kernel is asked twice and the peer is woken twice. Conn keeps the first part until the second comes.
//   - A packet that arrives is copied into memory of its own. While much arrives, a small process like ours, with few
//     megabytes alive, collects garbage a few hundred times for a gigabyte. Wire lets more of it pile up meanwhile.
//   - OpenSSH's client waits for the acknowledgement of one small packet before it sends the next (Nagle), and the
//     kernel waits 40 ms before it acknowledges what is not answered. While a client logs in it is told at once.
//
// Enter at New and Wire.Conn; a server has one Wire.
package wire

import (
	"net"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	firstWrite = 4096                 // bufio's default size
	held       = 2 * time.Millisecond // the longest that a first part waits for its second

	bulkBytes  = 4 << 20     // so much in a second is bulk
	bulkPeriod = time.Second // how often it is looked at
	garbage    = 16 << 20    // what may pile up meanwhile, in bytes
	smallest   = 4 << 20     // the runtime's own idea of a heap without anything

	quickReads = 64 // a login takes some ten
)

// Wire is what the connections of a server share.
type Wire struct {
	mu     sync.Mutex
	bulks  int // connections on which much arrives
	normal int // the percentage without them
	larges larges
}

// New makes a Wire.
func New() *Wire { return &Wire{} }

// begin and end bracket the time in which much arrives on a connection.
func (w *Wire) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.bulks++; w.bulks > 1 {
		return
	}
	percent := int(garbage * 100 / max(live(), smallest))
	if w.normal = debug.SetGCPercent(percent); w.normal < 0 || w.normal >= percent {
		debug.SetGCPercent(w.normal) // it is off, or laxer already
	}
}

func (w *Wire) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.bulks--; w.bulks == 0 {
		debug.SetGCPercent(w.normal)
	}
}

// live is what the last collection found alive, in bytes.
func live() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	if s[0].Value.Kind() != metrics.KindUint64 {
		return smallest
	}
	return s[0].Value.Uint64()
}

// Conn wraps a connection for ssh.NewServerConn.
func (w *Wire) Conn(c net.Conn) net.Conn {
	wrapped := &conn{Conn: c, wire: w, since: time.Now()}
	if sc, ok := c.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			wrapped.raw, wrapped.quick = raw, quickReads
		}
	}
	return wrapped
}

type conn struct {
	net.Conn
	wire *Wire

	// Of the reader.
	read  int
	since time.Time
	raw   syscall.RawConn
	quick int // so many more reads are acknowledged at once

	mu    sync.Mutex
	first []byte      // a first part that waits
	turn  uint        // counts the first parts
	timer *time.Timer // runs while one may be waiting
	armed bool
	wrote error // what the timer's write met

	bulkMu  sync.Mutex
	bulk    *time.Timer // not nil while much arrives
	arrived int         // in this period
	closed  bool
}

// Read counts, and begins a time of bulk.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.quick > 0 && err == nil {
		c.quick--
		c.acknowledge()
	}
	if c.read += n; c.read >= bulkBytes/4 {
		c.count(c.read)
		c.read = 0
	}
	return n, err
}

// acknowledge makes the kernel do so now; it forgets soon that it was told to (tcp(7), TCP_QUICKACK).
func (c *conn) acknowledge() {
	err := c.raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) // a unix socket has none, and needs none
	})
	if err != nil {
		c.quick = 0 // it is closed
	}
}

// count is told of each megabyte.
func (c *conn) count(n int) {
	c.bulkMu.Lock()
	defer c.bulkMu.Unlock()
	if c.closed {
		return
	}
	c.arrived += n
	if c.bulk != nil {
		return
	}
	if now := time.Now(); now.Sub(c.since) > bulkPeriod {
		c.since, c.arrived = now, n
	}
	if c.arrived >= bulkBytes {
		c.wire.begin()
		c.arrived = 0
		c.bulk = time.AfterFunc(bulkPeriod, c.look)
	}
}

// look ends the time of bulk when little has arrived lately.
func (c *conn) look() {
	c.bulkMu.Lock()
	defer c.bulkMu.Unlock()
	switch {
	case c.bulk == nil:
	case c.arrived < bulkBytes/4:
		c.bulk = nil
		c.wire.end()
	default:
		c.arrived = 0
		c.bulk.Reset(bulkPeriod)
	}
}

// Write keeps what looks like the first part of a packet. If nothing follows, it was not, and a timer sends it.
func (c *conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wrote != nil {
		return 0, c.wrote
	}
	if len(p) == firstWrite && len(c.first) == 0 {
		c.first = append(c.first, p...)
		c.turn++
		c.arm()
		return len(p), nil
	}
	if len(c.first) == 0 {
		return c.Conn.Write(p)
	}
	parts := net.Buffers{c.first, p}
	c.first = c.first[:0]
	n, err := parts.WriteTo(c.Conn)
	return max(0, int(n)-firstWrite), err
}

// arm makes sure that the timer runs. It is not stopped when the second part comes, which would cost more than to let
// it run now and then.
func (c *conn) arm() {
	if c.armed {
		return
	}
	c.armed = true
	turn := c.turn
	if c.timer != nil {
		c.timer.Stop()
	}
	c.timer = time.AfterFunc(held, func() { c.late(turn) })
}

// late sends a first part that has waited since the timer was armed; a later one waits on.
func (c *conn) late(turn uint) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.armed = false
	switch {
	case len(c.first) == 0:
	case c.turn != turn:
		c.arm()
	default:
		_, c.wrote = c.Conn.Write(c.first)
		c.first = c.first[:0]
	}
}

// Close ends the time of bulk too. A part that waits is not sent: x/crypto/ssh closes when it has nothing to say, or
// cannot.
func (c *conn) Close() error {
	c.bulkMu.Lock()
	c.closed = true
	if c.bulk != nil {
		c.bulk.Stop()
		c.bulk = nil
		c.wire.end()
	}
	c.bulkMu.Unlock()
	return c.Conn.Close()
}
