package sftp

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/inpod/inpod/sshd/files"
)

// pack joins packets to what arrives on the stream.
func pack(packets ...[]byte) (b []byte) {
	for _, p := range packets {
		b = append(appendUint32(b, uint32(len(p))), p...)
	}
	return b
}

// FuzzServe serves arbitrary bytes: nothing makes it panic, take much memory, or leave the jail. Every complete
// request gets one answer.
func FuzzServe(f *testing.F) {
	c := &client{}
	hello := []byte{typeInit, 0, 0, 0, 3}
	handle := string([]byte{0, 0, 0, 0})
	for kind := byte(typeOpen); kind <= typeSymlink; kind++ {
		f.Add(pack(hello, c.request(kind, "f", "g", attrs{flags: 0xf}), c.request(kind, handle, uint64(0), uint32(9)), c.request(kind)))
	}
	for _, e := range extensions() {
		f.Add(pack(hello, c.request(typeExtended, e.name, "f", "g", attrs{}), c.request(typeExtended, e.name, handle, uint64(1), uint64(2), handle, uint64(3))))
	}
	f.Add(pack(hello, c.request(typeOpen, "f", uint32(0x3f&^flagExcl), attrs{}), c.request(typeWrite, handle, uint64(1<<62), "x"),
		c.request(typeRead, handle, uint64(0), uint32(0xffffffff)), c.request(typeClose, handle)))
	f.Add(pack(hello, c.request(typeOpendir, "."), c.request(typeReaddir, handle), c.request(typeSetstat, "f", []byte{0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff})))
	f.Add([]byte{0, 4, 0, 0, 1})
	f.Fuzz(func(t *testing.T, in []byte) {
		dir := t.TempDir()
		jail, outside := filepath.Join(dir, "jail"), filepath.Join(dir, "secret")
		if err := os.Mkdir(jail, 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, outside, "SECRET")
		s := &stream{in: bytes.NewReader(in)}
		opts := Options{Root: jail, Access: files.ReadWrite, Quota: files.NewQuota(jail, 1<<20)}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := serve(s, opts, func() bool { return false })
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; took > 2<<20+64*uint64(len(in))+2*uint64(s.out.Len()) {
			t.Errorf("%d bytes of memory for %d bytes of input", took, len(in))
		}
		if err != nil && bytes.Contains([]byte(err.Error()), []byte("BUG")) {
			t.Error(err)
		}
		if st, err := os.Stat(outside); err != nil || st.Size() != 6 || contents(t, outside) != "SECRET" {
			t.Error("what is outside of the jail was changed")
		}
	})
}
