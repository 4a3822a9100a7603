package output

import (
	"runtime"
	"sync"
	"sync/atomic"
)

const (
	largePiece = 64 << 10 // what one read takes: a pipe holds no more by default
	smallPiece = 4 << 10  // the same when many streams are read at once
	maxHeld    = 8 << 20  // unfinished lines of all streams together
)

// buffers lends what a read needs. Only so many large buffers are out at any time, twice as many as goroutines can
// run: whoever comes when they are all taken (most of those who have them then wait for a target that is slow) gets
// along with a small one. So nobody ever waits for a buffer, and a thousand busy streams cost a few megabytes.
type buffers struct {
	most         int32 // large buffers
	out          atomic.Int32
	large, small sync.Pool // *[]byte

	// What a piece became in raw or JSON, for large pieces and for small ones.
	formattedLarge, formattedSmall sync.Pool // *[]byte
}

func newBuffers() *buffers {
	b := &buffers{most: int32(max(4, 2*runtime.GOMAXPROCS(0)))}
	b.large.New = func() any { p := make([]byte, largePiece); return &p }
	b.small.New = func() any { p := make([]byte, smallPiece); return &p }
	b.formattedLarge.New = func() any { return new([]byte) }
	b.formattedSmall.New = func() any { return new([]byte) }
	return b
}

func (b *buffers) take() *[]byte {
	for out := b.out.Load(); out < b.most; out = b.out.Load() {
		if b.out.CompareAndSwap(out, out+1) {
			return b.large.Get().(*[]byte)
		}
	}
	return b.small.Get().(*[]byte)
}

func (b *buffers) put(p *[]byte) {
	if len(*p) == smallPiece {
		b.small.Put(p)
		return
	}
	b.large.Put(p)
	b.out.Add(-1)
}

// takeFormatted lends room for what a block of n bytes becomes.
func (b *buffers) takeFormatted(n int) *[]byte {
	if n > smallPiece {
		return b.formattedLarge.Get().(*[]byte)
	}
	return b.formattedSmall.Get().(*[]byte)
}

// putFormatted takes it back, unless a long line has made it larger than is worth keeping.
func (b *buffers) putFormatted(n int, p *[]byte) {
	switch {
	case n > smallPiece && cap(*p) <= 4*largePiece:
		b.formattedLarge.Put(p)
	case n <= smallPiece && cap(*p) <= 4*smallPiece:
		b.formattedSmall.Put(p)
	}
}
