package proxy

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
)

// masked makes a frame as a client sends it.
func masked(op byte, payload string) string {
	f := []byte(frame(op, payload))
	f[1] |= 0x80
	at := len(f) - len(payload)
	return string(f[:at]) + "mask" + payload
}

func TestFrameBoundaries(t *testing.T) {
	list := []string{
		frame(1, ""), frame(1, "x"), frame(2, strings.Repeat("x", 125)), frame(2, strings.Repeat("x", 126)), frame(0, strings.Repeat("\x88", 65535)),
		frame(2, strings.Repeat("x", 65536)), masked(1, ""), masked(2, strings.Repeat("x", 125)), masked(2, strings.Repeat("x", 300)), masked(2, strings.Repeat("x", 70000)),
		frame(9, "ping"), frame(10, "pong"),
	}
	all := strings.Join(list, "")
	ends := map[int]bool{0: true}
	for n, i := 0, 0; i < len(list); i++ {
		n += len(list[i])
		ends[n] = true
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for round := range 200 {
		f := &frames{}
		for at := 0; at < len(all); {
			n := min(1+rnd.IntN(1+round*10), len(all)-at)
			if got := f.advance([]byte(all[at:at+n]), false); got != n {
				t.Fatalf("at %d: advanced %d, want all %d", at, got, n)
			}
			if at += n; f.boundary() != ends[at] {
				t.Fatalf("at %d: boundary %v, want %v", at, f.boundary(), ends[at])
			}
		}
		if f.sawClose {
			t.Fatal("a Close was seen, want none")
		}
	}
	for end := range ends { // with stop, each frame ends what is taken
		f := &frames{}
		f.advance([]byte(all[:end]), false)
		if got := f.advance([]byte(all[end:]), true); got != 0 {
			t.Errorf("at the boundary %d: took %d, want nothing", end, got)
		}
	}
	for at, i := 0, 0; i < len(list); i++ {
		for _, into := range []int{1, len(list[i]) / 2, len(list[i]) - 1} {
			f := &frames{}
			f.advance([]byte(all[:at+into]), false)
			if got, want := f.advance([]byte(all[at+into:]), true), len(list[i])-into; got != want {
				t.Errorf("%d bytes into frame %d: took %d, want the rest %d", into, i, got, want)
			}
		}
		at += len(list[i])
	}
}

func TestFrameCloseIsSeen(t *testing.T) {
	for _, f := range []string{frame(8, ""), frame(8, "\x03\xe8bye"), masked(8, "\x03\xe8"), frame(1, "x") + frame(8, "")} {
		s := &frames{}
		for i := range len(f) {
			if s.sawClose && i < len(f)-6 {
				t.Errorf("%q: seen after %d bytes", f, i)
			}
			s.advance([]byte{f[i]}, false)
		}
		if !s.sawClose || !s.boundary() {
			t.Errorf("%q: Close seen %v, boundary %v; want both", f, s.sawClose, s.boundary())
		}
	}
	s := &frames{}
	s.advance([]byte(frame(2, frame(8, ""))), false)
	if s.sawClose {
		t.Error("a payload was taken for a Close")
	}
}

// However the bytes are split, the same frames are found.
func FuzzFrames(f *testing.F) {
	f.Add([]byte(frame(1, "hi")+masked(2, strings.Repeat("x", 200))), uint8(3))
	f.Add([]byte("\x82\xff\xff\xff\xff\xff\xff\xff\xff\xffmaskx"), uint8(1))
	f.Add([]byte(frame(8, "\x03\xe8")+"\x81"), uint8(2))
	f.Fuzz(func(t *testing.T, data []byte, step uint8) {
		whole, split := &frames{}, &frames{}
		if n := whole.advance(data, false); n != len(data) {
			t.Fatalf("advanced %d of %d", n, len(data))
		}
		for rest := data; len(rest) > 0; {
			n := min(int(step)+1, len(rest))
			split.advance(rest[:n], false)
			rest = rest[n:]
		}
		if whole.have != split.have || whole.payload != split.payload || whole.sawClose != split.sawClose || !bytes.Equal(whole.head[:whole.have], split.head[:split.have]) {
			t.Errorf("whole %+v, split %+v", whole, split)
		}
		stopping := &frames{}
		stopping.advance(data[:min(1, len(data))], false)
		for at := min(1, len(data)); at < len(data) && !stopping.boundary(); {
			n := stopping.advance(data[at:], true)
			if n == 0 || at+n < len(data) && !stopping.boundary() {
				t.Fatalf("stopped at %d of %d, which is no boundary", at+n, len(data))
			}
			at += n
		}
	})
}
