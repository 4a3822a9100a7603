package output

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func newHub(t testing.TB, o HubOptions) *Hub {
	t.Helper()
	h, err := NewHub(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func open(t testing.TB, h *Hub, o Options) *Stream {
	t.Helper()
	if o.Program == "" {
		o.Program = "prog"
	}
	if o.Channel == "" {
		o.Channel = "stdout"
	}
	s, err := h.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// say writes as the child would.
func say(t testing.TB, s *Stream, text string) {
	t.Helper()
	if _, err := s.ChildEnd().WriteString(text); err != nil {
		t.Fatal(err)
	}
}

// end closes the child's end and drains.
func end(t testing.TB, s *Stream) {
	t.Helper()
	_ = s.ChildEnd().Close()
	if err := s.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func content(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func wantContent(t testing.TB, path, want string) {
	t.Helper()
	if got := content(t, path); got != want {
		t.Errorf("%s = %q, want %q", filepath.Base(path), got, want)
	}
}

// eventually polls; it is for what only the file system can tell.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		runtime.Gosched()
		<-time.After(2 * time.Millisecond)
	}
}

// lockedBuffer collects what several goroutines write.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestStreamWritesAsItCame(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	s := open(t, newHub(t, HubOptions{}), Options{Targets: []string{path}})
	say(t, s, "no newline")
	eventually(t, "the bytes are in the file while the program runs", func() bool { return content(t, path) == "no newline" })
	say(t, s, " and more\x00\xff\n")
	end(t, s)
	wantContent(t, path, "no newline and more\x00\xff\n")
}

func TestDrainDoesNotWaitForAGrandchild(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	s := open(t, newHub(t, HubOptions{}), Options{Targets: []string{path}})
	say(t, s, "last words")
	// The write end stays open, as in a grandchild.
	if err := s.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantContent(t, path, "last words")
	signalled := make(chan error, 1)
	go func() { _, err := s.ChildEnd().WriteString("x"); signalled <- err }()
	if err := <-signalled; !errors.Is(err, syscall.EPIPE) {
		t.Errorf("a write after Drain: %v, want EPIPE", err)
	}
	if err := s.Drain(t.Context()); err != nil {
		t.Errorf("a second Drain: %v", err)
	}
}

func TestDrainOfAWriterThatNeverStops(t *testing.T) {
	s := open(t, newHub(t, HubOptions{}), Options{Targets: []string{"/dev/null"}})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			if _, err := s.ChildEnd().Write(make([]byte, 4096)); err != nil {
				return
			}
		}
	}()
	if err := s.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-done
}

func TestProgramClosesItsOutput(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	h := newHub(t, HubOptions{})
	s := open(t, h, Options{Targets: []string{path}})
	say(t, s, "bye")
	_ = s.ChildEnd().Close()
	eventually(t, "the pipe is closed", func() bool {
		s.lock <- struct{}{}
		defer s.unlock()
		return s.fd < 0
	})
	wantContent(t, path, "bye")
	end(t, s)
}

// Two streams of the same file, as stdout_logfile and stderr_logfile with one path, rotate it together.
func TestSharedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	h := newHub(t, HubOptions{})
	a := open(t, h, Options{Targets: []string{path}, Maxbytes: 10, Backups: 1})
	b := open(t, h, Options{Channel: "stderr", Targets: []string{path}, Maxbytes: 10, Backups: 1})
	say(t, a, "0123456789")
	eventually(t, "rotation", func() bool { _, err := os.Stat(path + ".1"); return err == nil })
	say(t, b, "b")
	end(t, b)
	end(t, a)
	wantContent(t, path, "b")
	wantContent(t, path+".1", "0123456789")
	if len(h.files) != 0 {
		t.Errorf("%d files still open", len(h.files))
	}
}

func TestSeveralTargets(t *testing.T) {
	dir := t.TempDir()
	one, two := filepath.Join(dir, "one"), filepath.Join(dir, "two")
	s := open(t, newHub(t, HubOptions{}), Options{Targets: []string{one, " " + two, "NONE", "", "/dev/null"}})
	say(t, s, "both\n")
	end(t, s)
	wantContent(t, one, "both\n")
	wantContent(t, two, "both\n")
}

func TestOpenErrorsNameTheKey(t *testing.T) {
	h := newHub(t, HubOptions{})
	dir := t.TempDir()
	for _, tc := range []struct {
		name string
		opt  Options
		want string
	}{
		{"no directory", Options{Channel: "stdout", Targets: []string{dir + "/none/x.log"}}, "cannot open stdout_logfile: open " + dir + "/none/x.log: no such file or directory"},
		{"a directory", Options{Channel: "stderr", Targets: []string{"/dev/null", dir}}, "cannot open stderr_logfile: open " + dir + ": is a directory"},
		{"a closed descriptor", Options{Channel: "stdout", Targets: []string{"/dev/fd/987"}}, "cannot open stdout_logfile: open /dev/fd/987: bad file descriptor"},
		{"format", Options{Format: "xml"}, `cannot use stdout_format "xml": it is raw or json, or absent`},
		{"syslog server", Options{Channel: "stdout", Targets: []string{"syslog host"}}, `cannot open stdout_logfile: cannot read "syslog host": a server is syslog @[udp:|tcp:]host[:port]`},
		{"facility", Options{Channel: "stdout", Targets: []string{"syslog"}, SyslogFacility: "x"}, `cannot open stdout_logfile: syslog_facility "x" is unknown`},
		{"priority", Options{Channel: "stdout", Syslog: true, SyslogPriority: "x"}, `cannot open stdout_syslog: syslog_stdout_priority "x" is unknown`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, err := h.Open(tc.opt)
			if s != nil || err == nil || err.Error() != tc.want {
				t.Errorf("Open = %v, %v; want error %q", s, err, tc.want)
			}
		})
	}
	if len(h.streams) != 0 || len(h.files) != 0 {
		t.Errorf("left behind: %d streams, %d files", len(h.streams), len(h.files))
	}
}

func TestClearAndReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	h := newHub(t, HubOptions{})
	s := open(t, h, Options{Targets: []string{path, "/dev/null"}})
	say(t, s, "old")
	eventually(t, "written", func() bool { return content(t, path) == "old" })
	if err := s.Clear(); err != nil {
		t.Fatal(err)
	}
	wantContent(t, path, "")
	if err := os.Rename(path, path+".moved"); err != nil {
		t.Fatal(err)
	}
	if err := h.Reopen(); err != nil {
		t.Fatal(err)
	}
	say(t, s, "new")
	end(t, s)
	wantContent(t, path, "new")
	wantContent(t, path+".moved", "")
	if _, err := os.Stat("/dev/null"); err != nil {
		t.Errorf("/dev/null: %v", err)
	}
	if err := errors.Join(s.Clear(), s.Reopen()); err != nil {
		t.Errorf("on an ended stream: %v", err)
	}
}

func TestDeletedDirectoryAndBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "logs")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "x.log")
	var log lockedBuffer
	h := newHub(t, HubOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	s := open(t, h, Options{Targets: []string{path}, Maxbytes: 5, Backups: 1})
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		before := h.Stats().BytesRead
		say(t, s, "0123456789")
		eventually(t, "read", func() bool { return h.Stats().BytesRead == before+10 })
	}
	eventually(t, "the failures are counted", func() bool { return h.Stats().WriteErrors >= 3 })
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	say(t, s, "back")
	end(t, s)
	wantContent(t, path, "back")
	if n := strings.Count(log.String(), "cannot be written"); n != 1 {
		t.Errorf("the failure was logged %d times, want 1:\n%s", n, log.String())
	}
	if !strings.Contains(log.String(), "written again") {
		t.Errorf("the recovery was not logged:\n%s", log.String())
	}
}

func TestDiskFull(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "x.log")
	h := newHub(t, HubOptions{})
	s := open(t, h, Options{Targets: []string{"/dev/full", path}})
	say(t, s, "kept elsewhere")
	end(t, s)
	wantContent(t, path, "kept elsewhere")
	if got := h.Stats(); got.WriteErrors != 1 || got.BytesLost != 14 || got.BytesRead != 14 {
		t.Errorf("stats = %+v", got)
	}
}

func TestFIFOWithoutAReader(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	h := newHub(t, HubOptions{})
	s := open(t, h, Options{Targets: []string{path}, Maxbytes: 1, Backups: 1})
	say(t, s, "lost")
	eventually(t, "the loss is counted", func() bool { return h.Stats().BytesLost == 4 })
	r, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	say(t, s, "heard")
	buf := make([]byte, 10)
	eventually(t, "the reader hears it", func() bool { n, _ := r.Read(buf); return string(buf[:n]) == "heard" })
	end(t, s)
	if fi, err := os.Lstat(path); err != nil || fi.Mode()&fs.ModeNamedPipe == 0 {
		t.Errorf("the FIFO became %v, %v", fi, err)
	}
}

func TestConsoleLinesDoNotMix(t *testing.T) {
	out, err := os.Create(filepath.Join(t.TempDir(), "stdout"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	h := newHub(t, HubOptions{Stdout: out, PartialDelay: time.Hour}) // a writer may be held up within its line
	const streams, lines = 8, 300
	var wg sync.WaitGroup
	for i := range streams {
		s := open(t, h, Options{Program: fmt.Sprint("p", i), Targets: []string{"/dev/fd/1"}})
		wg.Go(func() {
			for range lines {
				half := strings.Repeat(fmt.Sprint(i), 20)
				say(t, s, half)
				say(t, s, half+"\n")
			}
			end(t, s)
		})
	}
	wg.Wait()
	all := strings.Split(strings.TrimSuffix(content(t, out.Name()), "\n"), "\n")
	if len(all) != streams*lines {
		t.Fatalf("%d lines, want %d", len(all), streams*lines)
	}
	for _, l := range all {
		if len(l) != 40 || strings.Trim(l, l[:1]) != "" {
			t.Fatalf("a mixed line: %q", l)
		}
	}
}

func TestUnfinishedLineGetsItsOwn(t *testing.T) {
	out, err := os.Create(filepath.Join(t.TempDir(), "stdout"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	h := newHub(t, HubOptions{Stdout: out, PartialDelay: time.Millisecond})
	s := open(t, h, Options{Targets: []string{"/dev/stdout"}})
	say(t, s, "prompt> ")
	eventually(t, "the prompt shows", func() bool { return content(t, out.Name()) == "prompt> " })
	if _, err := h.Stdout().Write([]byte("a record of the agent\n")); err != nil {
		t.Fatal(err)
	}
	say(t, s, "answer\n")
	end(t, s)
	wantContent(t, out.Name(), "prompt> \na record of the agent\nanswer\n")
}

// A reader of our stdout that went away must not end the agent: Go ends a process at EPIPE on descriptors 1 and 2.
func TestConsoleReaderGone(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	h := newHub(t, HubOptions{Stdout: w})
	s := open(t, h, Options{Targets: []string{"/dev/stdout"}})
	_ = r.Close()
	say(t, s, "into the void\n")
	end(t, s)
	if got := h.Stats().BytesLost; got != 14 {
		t.Errorf("lost %d bytes, want 14", got)
	}
}

// A stalled stdout holds its programs back, and nothing else.
func TestBackPressure(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	h := newHub(t, HubOptions{Stdout: w})
	slow := open(t, h, Options{Targets: []string{"/dev/stdout"}})
	path := filepath.Join(t.TempDir(), "x.log")
	other := open(t, h, Options{Targets: []string{path}})
	line := strings.Repeat("x", 4095) + "\n" // a page of a pipe, so that a full one holds all that its size says
	written := make(chan struct{})
	go func() {
		defer close(written)
		for range 300 {
			if _, err := slow.ChildEnd().WriteString(line); err != nil {
				return
			}
		}
	}()
	size, err := unix.FcntlInt(w.Fd(), unix.F_GETPIPE_SZ, 0) // less than usual for a plain user who has many
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the stream is stuck in its target", func() bool { return h.Stats().BytesRead > uint64(size) })
	say(t, other, "moves on")
	end(t, other)
	wantContent(t, path, "moves on")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := slow.Drain(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Drain of a stuck stream: %v, want context.Canceled", err)
	}
	_ = r.Close()
	<-written
}

func TestHubClose(t *testing.T) {
	h, err := NewHub(HubOptions{})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "x.log")
	s := open(t, h, Options{Targets: []string{path}})
	say(t, s, "kept")
	if err := errors.Join(h.Close(), h.Close()); err != nil {
		t.Fatal(err)
	}
	wantContent(t, path, "kept")
	if _, err := h.Open(Options{Channel: "stdout", Targets: []string{path}}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Open after Close: %v", err)
	}
}
