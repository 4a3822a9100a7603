package output

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestBuffersAreBounded lets many programs write to a stdout that nobody reads, and then reads it.
func TestBuffersAreBounded(t *testing.T) {
	const streams, each = 120, 32 << 10
	for _, format := range []string{"", FormatJSON} {
		t.Run("format "+format, func(t *testing.T) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			h := newHub(t, HubOptions{Stdout: w})
			_ = w.Close() // the hub has its own
			all := make([]*Stream, streams)
			line := strings.Repeat("x", 127) + "\n"
			var said sync.WaitGroup
			for i := range all {
				all[i] = open(t, h, Options{Program: fmt.Sprintf("p%d", i), Targets: []string{"/dev/stdout"}, Format: format})
				// Not here: a plain user who has many pipes gets small ones, which are full before they are read (pipe(7)).
				said.Go(func() {
					if _, err := all[i].ChildEnd().WriteString(strings.Repeat(line, each/len(line))); err != nil {
						t.Error(err)
					}
				})
			}
			b := h.buffers
			within := func() {
				t.Helper()
				if got := b.out.Load(); got > b.most {
					t.Errorf("%d large buffers are out, want %d at most", got, b.most)
				}
			}
			piece := each
			for _, s := range all { // what others have at the time makes some smaller than others
				size, err := unix.FcntlInt(s.ChildEnd().Fd(), unix.F_GETPIPE_SZ, 0)
				if err != nil {
					t.Fatal(err)
				}
				piece = min(piece, size)
			}
			most := uint64(b.most)*uint64(piece) + (streams-uint64(b.most))*smallPiece
			eventually(t, "every stream has something in its hands", func() bool { within(); return h.Stats().BytesRead >= most })
			if got := h.Stats().BytesRead; got > streams*each/2 {
				t.Errorf("%d bytes of %d were read while nothing could be written", got, streams*each)
			}
			lines := 0
			read := make([]byte, largePiece)
			for want := streams * each / len(line); lines < want; {
				n, err := r.Read(read)
				if err != nil {
					t.Fatal(err)
				}
				lines += bytes.Count(read[:n], []byte{'\n'})
				within()
			}
			go func() { _, _ = io.Copy(io.Discard, r) }()
			said.Wait()
			for _, s := range all {
				end(t, s)
			}
			if got := b.out.Load(); got != 0 {
				t.Errorf("%d large buffers are out at the end, want none", got)
			}
		})
	}
}

// TestUnfinishedLinesAreBounded: programs that write no newline cannot fill the memory together.
func TestUnfinishedLinesAreBounded(t *testing.T) {
	const streams, each = 200, 60 << 10
	h := newHub(t, HubOptions{PartialDelay: time.Hour})
	dir := t.TempDir()
	all := make([]*Stream, streams)
	for i := range all {
		all[i] = open(t, h, Options{Targets: []string{filepath.Join(dir, fmt.Sprint(i))}, Format: FormatRaw})
		say(t, all[i], strings.Repeat("x", each))
	}
	eventually(t, "all is read", func() bool { return h.Stats().BytesRead == streams*each })
	if got := h.held.Load(); got > maxHeld+2*largePiece*int64(h.buffers.most) {
		t.Errorf("unfinished lines take %d bytes, want about %d at most", got, maxHeld)
	}
	for i, s := range all {
		end(t, s)
		got := strings.Count(content(t, filepath.Join(dir, fmt.Sprint(i))), "x")
		if got != each {
			t.Errorf("stream %d: got %d bytes of %d", i, got, each)
		}
	}
	if got := h.held.Load(); got != 0 {
		t.Errorf("unfinished lines take %d bytes at the end, want none", got)
	}
}

// TestPanicCostsOneStream lets a callback panic.
func TestPanicCostsOneStream(t *testing.T) {
	var log lockedBuffer
	h := newHub(t, HubOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	dir := t.TempDir()
	bad := open(t, h, Options{Program: "bad", OnLog: func([]byte) { panic("made up") }})
	good := open(t, h, Options{Targets: []string{filepath.Join(dir, "good.log")}})
	for range 10 {
		say(t, bad, strings.Repeat("x", 32<<10)) // more than a pipe holds: it is still read
	}
	say(t, good, "good\n")
	end(t, bad)
	end(t, good)
	wantContent(t, filepath.Join(dir, "good.log"), "good\n")
	if got := log.String(); strings.Count(got, "BUG") != 1 || !strings.Contains(got, "program=bad") {
		t.Errorf("got log\n%s\nwant one BUG of the program bad", got)
	}
	if got := h.Stats().BytesLost; got == 0 {
		t.Errorf("got no lost bytes, want those that were dropped counted")
	}
}
