package wire

import (
	"bytes"
	"io"
	"net"
	"runtime/debug"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// writes records what is written, and gives out zeroes without end.
type writes struct {
	net.Conn
	mu  sync.Mutex
	got [][]byte
}

func (w *writes) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.got = append(w.got, bytes.Clone(p))
	return len(p), nil
}

func (w *writes) Read(p []byte) (int, error) { return len(p), nil }
func (w *writes) Close() error               { return nil }

// taken returns what was written since it was last asked.
func (w *writes) taken() (sizes []int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.got {
		sizes = append(sizes, len(p))
	}
	w.got = nil
	return sizes
}

func TestFirstPartWaitsForItsSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		under := &writes{}
		c := New().Conn(under)
		for range 3 {
			for _, n := range []int{firstWrite, 30000} {
				if got, err := c.Write(make([]byte, n)); got != n || err != nil {
					t.Fatalf("Write(%d) = %d, %v", n, got, err)
				}
			}
		}
		total, sizes := 0, under.taken()
		for _, n := range sizes {
			total += n
		}
		if total != 3*(firstWrite+30000) {
			t.Errorf("%d bytes were written, want %d: %v", total, 3*(firstWrite+30000), sizes)
		}
		time.Sleep(2 * held)
		synctest.Wait()
		if _, err := c.Write(make([]byte, firstWrite)); err != nil {
			t.Fatal(err)
		}
		if got := under.taken(); len(got) != 0 {
			t.Errorf("written at once: %v", got)
		}
		time.Sleep(2*held + time.Millisecond)
		synctest.Wait()
		if got := under.taken(); len(got) != 1 || got[0] != firstWrite {
			t.Errorf("written when the time was over: %v, want one of %d", got, firstWrite)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}

// What is written arrives in its order, whatever the sizes.
func TestOrder(t *testing.T) {
	a, b := tcpPair(t)
	c := New().Conn(a)
	var want []byte
	for i, n := range []int{1, firstWrite, firstWrite, firstWrite, 5, firstWrite, 40000, firstWrite - 1, firstWrite} {
		p := bytes.Repeat([]byte{byte('a' + i)}, n)
		want = append(want, p...)
		if _, err := c.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(b, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("something else arrived (%v)", err)
	}
}

func tcpPair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func percent() int {
	p := debug.SetGCPercent(100)
	debug.SetGCPercent(p)
	return p
}

func TestGarbagePilesUpOnlyMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		was := debug.SetGCPercent(50)
		defer debug.SetGCPercent(was)
		w := New()
		a, b := w.Conn(&writes{}), w.Conn(&writes{})
		read := func(c net.Conn, n int) {
			if _, err := io.CopyN(io.Discard, c, int64(n)); err != nil {
				t.Fatal(err)
			}
		}
		read(a, bulkBytes/2)
		if got := percent(); got != 50 {
			t.Errorf("GC percent is %d after little, want 50", got)
		}
		read(a, bulkBytes)
		read(b, 2*bulkBytes)
		if got := percent(); got <= 50 {
			t.Errorf("GC percent is %d while much arrives, want more than 50", got)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if got := percent(); got <= 50 {
			t.Errorf("GC percent is %d while much arrives on another connection, want more than 50", got)
		}
		time.Sleep(3 * bulkPeriod)
		synctest.Wait()
		if got := percent(); got != 50 {
			t.Errorf("GC percent is %d when nothing arrives any more, want 50", got)
		}
		read(a, 2*bulkBytes)
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		if got := percent(); got != 50 {
			t.Errorf("GC percent is %d when all are closed, want 50", got)
		}
	})
}
