package wire

import "sync"

// LargeSize is that of the buffers for what flows: a few packets at once, since every call and every wake-up for one costs
// as much as its bytes.
const LargeSize = 128 << 10

// largeMost bounds what all connections have of them at one time: 4 MiB. Who gets none does with what it has.
const largeMost = 32

// larges lends out the large buffers.
type larges struct {
	mu   sync.Mutex
	lent int
	pool sync.Pool // the collector takes those that nobody wants
}

// Large lends a buffer, or returns nil when too many are out.
func (w *Wire) Large() *[LargeSize]byte {
	l := &w.larges
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lent == largeMost {
		return nil
	}
	l.lent++
	if b, ok := l.pool.Get().(*[LargeSize]byte); ok {
		return b
	}
	return new([LargeSize]byte)
}

// Return takes back what Large lent; nil is nothing.
func (w *Wire) Return(b *[LargeSize]byte) {
	if b == nil {
		return
	}
	l := &w.larges
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lent--
	l.pool.Put(b)
}
