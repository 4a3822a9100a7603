package output

import (
	"bytes"
	"testing"
)

// FuzzCuts: what comes out does not depend on where reads cut the input.
func FuzzCuts(f *testing.F) {
	for _, seed := range []string{
		"plain\n", "a\x1b[31mred\x1b[0m\n", "x" + captureBegin + "event" + captureEnd + "y\n", "\x1b", "\x1b\x1b[", captureBegin + captureBegin,
		captureEnd + "<!--XSUPERVISOR:BEG", "\r\n\n\xff\xfe",
	} {
		f.Add([]byte(seed), uint8(1), uint8(3))
	}
	f.Fuzz(func(t *testing.T, data []byte, first, second uint8) {
		whole := cutRun([][]byte{bytes.Clone(data)})
		var pieces [][]byte
		for rest, n := data, []int{int(first)%7 + 1, int(second)%40 + 1}; len(rest) > 0; n[0], n[1] = n[1], n[0] {
			m := min(n[0], len(rest))
			pieces = append(pieces, bytes.Clone(rest[:m]))
			rest = rest[m:]
		}
		if got := cutRun(pieces); got != whole {
			t.Errorf("in pieces: got %q, want %q as in one", got, whole)
		}
	})
}

// cutRun returns what the parts of the pipeline make of the pieces.
func cutRun(pieces [][]byte) (out [4]string) {
	var ansi ansiStripper
	var lines lineCutter
	c := newCapture(1 << 40)
	take := func(i int) func([]byte) { return func(b []byte) { out[i] += string(b) } }
	same := func(b []byte) []byte { return b }
	for _, p := range pieces {
		out[0] += string(ansi.strip(bytes.Clone(p)))
		c.feed(bytes.Clone(p), take(1), same, func(b []byte) { out[2] += string(b) + "|" })
		lines.feed(p, func(b []byte, _ bool) { out[3] += string(b) })
	}
	c.flush(take(1))
	lines.flush(func(b []byte, _ bool) { out[3] += string(b) }, false)
	return out
}
