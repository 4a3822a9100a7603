package http1

import (
	"bytes"
	"testing"
)

// control looks at eight bytes at a time; each byte must be found at each place in and behind such a word.
func TestControl(t *testing.T) {
	for c := range 256 {
		bad := c < 0x20 && c != '\t' || c == 0x7f
		for size := range 20 {
			for at := range size {
				for _, around := range []byte{' ', '~', '\t', 0x80, 0xff} {
					b := bytes.Repeat([]byte{around}, size)
					b[at] = byte(c)
					want := size
					if bad {
						want = at
					}
					if got := control(b, 0); got != want {
						t.Fatalf("%q: got %d, want %d", b, got, want)
					}
					if got := control(b, at); got != want {
						t.Fatalf("%q from %d: got %d, want %d", b, at, got, want)
					}
					if got := control(b, at+1); got != size {
						t.Fatalf("%q from %d: got %d, want %d", b, at+1, got, size)
					}
				}
			}
		}
	}
}

func TestNumber(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "9": 9, "10": 10, "4611686018427387904": 1 << 62, "": -1, "00": -1, "01": -1, "-1": -1, "+1": -1, "1 ": -1,
		"4611686018427387905": -1, "9999999999999999999": -1, "18446744073709551616": -1, "1a": -1, "/": -1, ":": -1,
	} {
		got, ok := number([]byte(text))
		if !ok {
			got = -1
		}
		if got != want {
			t.Errorf("%q: got %d, want %d", text, got, want)
		}
	}
}
