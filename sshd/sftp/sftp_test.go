package sftp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/inpod/inpod/sshd/files"
)

func TestVersionAndExtensions(t *testing.T) {
	c := dial(t, all())
	c.send([]byte{typeInit, 0, 0, 0, 6})
	p := c.receive()
	q := &parser{b: p[1:]}
	if v := q.uint32(); p[0] != typeVersion || v != 3 {
		t.Fatalf("answer of type %d, version %d; want VERSION 3", p[0], v)
	}
	got := map[string]string{}
	for len(q.b) > 0 && q.err == nil {
		name := q.string()
		got[name] = q.string()
	}
	want := map[string]string{
		"posix-rename@openssh.com": "1", "statvfs@openssh.com": "2", "fstatvfs@openssh.com": "2", "hardlink@openssh.com": "1",
		"fsync@openssh.com": "1", "lsetstat@openssh.com": "1", "limits@openssh.com": "1", "expand-path@openssh.com": "1",
		"copy-data": "1", "home-directory": "1", "users-groups-by-id@openssh.com": "1",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if err := c.end(); err != nil {
		t.Errorf("Serve = %v, want nil", err)
	}
}

func TestReadAndWrite(t *testing.T) {
	dir := t.TempDir()
	c := start(t, all())
	name := filepath.Join(dir, "f")
	h := c.open(name, flagWrite|flagCreate|flagRead)
	// Everything is sent before anything is read: the answers come in order.
	want := make([]byte, 3*maxData+1000)
	for i := range want {
		want[i] = byte(i * 7 >> 3)
	}
	var ids []uint32
	go func() {
		for off := 0; off < len(want); off += maxData {
			part := want[off:min(off+maxData, len(want))]
			c.send(c.request(typeWrite, h, uint64(off), string(part)))
		}
	}()
	for range 4 {
		p := c.receive()
		if p[0] != typeStatus || binary.BigEndian.Uint32(p[5:]) != statusOK {
			t.Fatalf("WRITE: %q", p)
		}
		ids = append(ids, binary.BigEndian.Uint32(p[1:]))
	}
	for i := 1; i < len(ids); i++ {
		if ids[i] != ids[0]+uint32(i) {
			t.Errorf("answers in the order %v", ids)
		}
	}
	var got []byte
	for {
		kind, q := c.ask(typeRead, h, uint64(len(got)), uint32(maxPacket))
		if kind == typeStatus {
			if code := q.uint32(); code != statusEOF {
				t.Fatalf("READ at the end: status %d", code)
			}
			break
		}
		got = append(got, q.bytes()...)
	}
	if !bytes.Equal(got, want) {
		t.Error("what is read is not what was written")
	}
	c.must(typeClose, h)
	if code := c.code(typeClose, h); code != statusFailure {
		t.Errorf("CLOSE of a closed handle: status %d, want %d", code, statusFailure)
	}
	h2 := c.open(name, flagRead)
	if h2 == h {
		t.Error("a new handle is the same as an old one")
	}
	if code := c.code(typeRead, h, uint64(0), uint32(1)); code != statusFailure {
		t.Errorf("READ by an old handle: status %d, want %d", code, statusFailure)
	}
}

func TestAppend(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	write(t, name, "one ")
	c := start(t, all())
	h := c.open(name, flagWrite|flagAppend)
	c.must(typeWrite, h, uint64(0), "two ")
	c.must(typeWrite, h, uint64(1), "three")
	if got := contents(t, name); got != "one two three" {
		t.Errorf("got %q", got)
	}
}

func TestHandlesAreBounded(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	write(t, name, "x")
	c := start(t, all())
	var last string
	for range maxHandles {
		last = c.open(name, flagRead)
	}
	if code := c.code(typeOpen, name, uint32(flagRead), attrs{}); code != statusFailure {
		t.Errorf("one more: status %d, want %d", code, statusFailure)
	}
	c.must(typeClose, last)
	c.open(name, flagRead)
}

func TestCopyData(t *testing.T) {
	dir := t.TempDir()
	text := strings.Repeat("0123456789", 60_000)
	write(t, filepath.Join(dir, "a"), text)
	c := start(t, all())
	from := c.open(filepath.Join(dir, "a"), flagRead)
	to := c.open(filepath.Join(dir, "b"), flagWrite|flagCreate)
	c.must(typeExtended, "copy-data", from, uint64(0), uint64(0), to, uint64(0))
	c.must(typeExtended, "copy-data", from, uint64(5), uint64(3), to, uint64(len(text)))
	if got := contents(t, filepath.Join(dir, "b")); got != text+"567" {
		t.Errorf("got %d bytes, want %d and the three", len(got), len(text)+3)
	}
	again := c.open(filepath.Join(dir, "a"), flagWrite)
	if code := c.code(typeExtended, "copy-data", from, uint64(0), uint64(0), again, uint64(len(text))); code == statusOK {
		t.Error("a file was copied to its own end")
	}
}

func TestExtensions(t *testing.T) {
	dir := t.TempDir()
	home := filepath.Join(dir, "home")
	if err := os.Mkdir(home, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "a"), "a")
	write(t, filepath.Join(dir, "b"), "b")
	c := start(t, Options{Access: files.ReadWrite, Home: home})
	if code := c.code(typeRename, filepath.Join(dir, "a"), filepath.Join(dir, "b")); code != statusFailure {
		t.Errorf("RENAME onto a file: status %d, want %d", code, statusFailure)
	}
	c.must(typeExtended, "posix-rename@openssh.com", filepath.Join(dir, "a"), filepath.Join(dir, "b"))
	if got := contents(t, filepath.Join(dir, "b")); got != "a" {
		t.Errorf("b holds %q after a took its place", got)
	}
	c.must(typeExtended, "hardlink@openssh.com", filepath.Join(dir, "b"), "linked")
	if got := contents(t, filepath.Join(home, "linked")); got != "a" {
		t.Errorf("the hard link holds %q", got)
	}
	for _, p := range []string{"~", "~/", ".", ""} {
		kind, q := c.ask(typeExtended, "expand-path@openssh.com", p)
		if n := q.uint32(); kind != typeName || n != 1 {
			t.Fatalf("expand-path %q: type %d", p, kind)
		}
		if got := q.string(); got != home {
			t.Errorf("expand-path %q = %q, want %q", p, got, home)
		}
	}
	kind, q := c.ask(typeExtended, "limits@openssh.com")
	if kind != typeExtendedReply || q.uint64() != maxPacket || q.uint64() != maxData || q.uint64() != maxData || q.uint64() != maxHandles {
		t.Error("limits are not what is served")
	}
	kind, q = c.ask(typeExtended, "users-groups-by-id@openssh.com", string(appendUint32(nil, 0)), string(appendUint32(nil, 4_000_000_000)))
	users, groups := q.string(), q.string()
	if kind != typeExtendedReply || users != "\x00\x00\x00\x04root" || groups != "\x00\x00\x00\x00" {
		t.Errorf("users and groups: %q %q", users, groups)
	}
	if code := c.code(typeExtended, "unheard-of@example.org"); code != statusUnsupported {
		t.Errorf("an unknown extension: status %d, want %d", code, statusUnsupported)
	}
	if code := c.code(99); code != statusBadMessage && code != statusUnsupported {
		t.Errorf("an unknown type: status %d", code)
	}
}

func TestSetstat(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	write(t, name, "0123456789")
	c := start(t, all())
	c.must(typeSetstat, name, attrs{flags: attrSize | attrMode | attrTimes, size: 4, mode: 0o100640, atime: 1_000_000_000, mtime: 1_100_000_000})
	st, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if st.Size() != 4 || st.Mode() != 0o640 || st.ModTime().Unix() != 1_100_000_000 {
		t.Errorf("size %d, mode %v, time %d", st.Size(), st.Mode(), st.ModTime().Unix())
	}
	h := c.open(name, flagWrite)
	c.must(typeFsetstat, h, attrs{flags: attrSize | attrMode | attrTimes, size: 6, mode: 0o600, atime: 1, mtime: 2})
	if st, err = os.Stat(name); err != nil || st.Size() != 6 || st.Mode() != 0o600 || st.ModTime().Unix() != 2 {
		t.Errorf("FSETSTAT: size %d, mode %v, time %d (%v)", st.Size(), st.Mode(), st.ModTime().Unix(), err)
	}
	link := name + "-link"
	if err := os.Symlink("nowhere", link); err != nil {
		t.Fatal(err)
	}
	c.must(typeExtended, "lsetstat@openssh.com", link, attrs{flags: attrTimes, atime: 5, mtime: 6})
	if st, err = os.Lstat(link); err != nil || st.ModTime().Unix() != 6 {
		t.Errorf("lsetstat: time %d (%v)", st.ModTime().Unix(), err)
	}
}

// What the client does not say in order ends the session, and what it asks for wrongly is answered.
func TestBadPackets(t *testing.T) {
	for _, test := range []struct {
		name  string
		bytes []byte
		want  string
	}{
		{"no length", []byte{0, 0, 0, 0}, "packet of 0 bytes"},
		{"too long", []byte{0x7f, 0, 0, 0}, "packet of 2130706432 bytes"},
		{"version 2", []byte{0, 0, 0, 5, typeInit, 0, 0, 0, 2}, "version 2"},
		{"before the version", []byte{0, 0, 0, 5, typeStat, 0, 0, 0, 1}, "before the version"},
		{"cut", []byte{0, 0, 0, 5, typeInit, 0}, io.ErrUnexpectedEOF.Error()},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := serve(&stream{in: bytes.NewReader(test.bytes)}, all(), func() bool { return false })
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Serve = %v, want %q", err, test.want)
			}
		})
	}
	c := start(t, all())
	for kind := byte(typeOpen); kind <= typeSymlink; kind++ {
		if code := c.code(kind, []byte{0xff, 0xff, 0xff, 0xff}); code != statusBadMessage {
			t.Errorf("a short request of type %d: status %d, want %d", kind, code, statusBadMessage)
		}
	}
}

type stream struct {
	in  io.Reader
	out bytes.Buffer
}

func (s *stream) Read(p []byte) (int, error)  { return s.in.Read(p) }
func (s *stream) Write(p []byte) (int, error) { return s.out.Write(p) }
func (s *stream) Close() error                { return nil }

func TestContextEndsTheSession(t *testing.T) {
	a, b := pair(t)
	defer a.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, b, all()) }()
	why := errors.New("drained")
	cancel(why)
	if err := <-done; !errors.Is(err, why) {
		t.Errorf("Serve = %v, want %v", err, why)
	}
}

func TestAudit(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "f")
	var got []string
	opts := all()
	opts.Audit = func(tr files.Transfer) {
		got = append(got, fmt.Sprint(filepath.Base(tr.Path), " ", tr.Direction, " ", tr.Bytes, " ", tr.Err))
	}
	c := start(t, opts)
	h := c.open(name, flagWrite|flagCreate)
	c.must(typeWrite, h, uint64(0), "hello")
	c.must(typeClose, h)
	h = c.open(name, flagRead)
	c.must(typeRead, h, uint64(1), uint32(100))
	c.must(typeClose, h)
	h = c.open(name, flagWrite)
	c.must(typeWrite, h, uint64(0), "HE")
	if err := c.end(); err != nil {
		t.Fatal(err)
	}
	want := []string{"f write 5 <nil>", "f read 4 <nil>", "f write 2 " + files.ErrCut.Error()}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
