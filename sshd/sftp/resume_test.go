package sftp

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// TestACutUploadCanBeResumed cuts uploads at random bytes of the stream, as a broken connection does, while many
// writes are under way, and continues each from the size of the file, as `reput` does.
func TestACutUploadCanBeResumed(t *testing.T) {
	cuts := 200
	if testing.Short() {
		cuts = 20
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	want := make([]byte, 600_000)
	for i := range want {
		want[i] = byte(rnd.Uint32())
	}
	dir := t.TempDir()
	for i := range cuts {
		name := filepath.Join(dir, "f")
		size := []int{1000, 32 << 10, maxData}[i%3]
		var stream bytes.Buffer
		w := &client{t: t}
		stream.Write(pack([]byte{typeInit, 0, 0, 0, 3}, w.request(typeOpen, name, uint32(flagWrite|flagCreate|flagTrunc), attrs{})))
		for off := 0; off < len(want); off += size {
			part := want[off:min(off+size, len(want))]
			stream.Write(pack(w.request(typeWrite, string([]byte{0, 0, 0, 0}), uint64(off), string(part))))
		}
		cut := rnd.IntN(stream.Len())
		upload(t, stream.Bytes()[:cut])
		have, err := os.ReadFile(name)
		if err != nil && cut > 200 {
			t.Fatalf("cut at byte %d: %v", cut, err)
		}
		if !bytes.HasPrefix(want, have) {
			t.Fatalf("cut at byte %d: the file of %d bytes is not a beginning of what was sent", cut, len(have))
		}
		c := start(t, all())
		h := c.open(name, flagWrite|flagCreate)
		for off := len(have); off < len(want); off += maxData {
			c.must(typeWrite, h, uint64(off), string(want[off:min(off+maxData, len(want))]))
		}
		c.must(typeClose, h)
		if err := c.end(); err != nil {
			t.Fatal(err)
		}
		if contents(t, name) != string(want) {
			t.Fatalf("cut at byte %d, continued at %d: the file is another", cut, len(have))
		}
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
}

// upload serves what arrived before the cut, and is over when the server is.
func upload(t *testing.T, arrived []byte) {
	t.Helper()
	c := dial(t, all())
	go io.Copy(io.Discard, c.conn)
	if _, err := c.conn.Write(arrived); err != nil {
		t.Fatal(err)
	}
	_ = c.end() // a cut in a packet is an error
}
