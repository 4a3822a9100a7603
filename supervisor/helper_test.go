package supervisor

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/inpod/inpod/internal/proc"
	"github.com/inpod/inpod/supervisor/ini"
	"github.com/inpod/inpod/supervisor/output"
)

// patience is how long a test waits for what must come. It is long because a busy machine is no failure.
const patience = time.Minute

// bench is a supervisor under test with a directory of its own.
type bench struct {
	*Supervisor
	t       *testing.T
	dir     string
	changes chan Change
	stop    func()
	opt     Options
}

// logWriter shows a supervisor's log when the test fails. A check that ends with its program may say its last word after
// the end of the test, when T takes none.
type logWriter struct {
	mu sync.Mutex
	t  *testing.T // nil after the test
}

func newLogWriter(t *testing.T) *logWriter {
	w := &logWriter{t: t}
	t.Cleanup(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.t = nil
	})
	return w
}

func (w *logWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.t != nil {
		w.t.Log(strings.TrimSpace(string(p)))
	}
	return len(p), nil
}

// start runs the programs of text, in which DIR is a fresh directory, until the test ends.
func start(t *testing.T, text string, change ...func(*Options)) *bench {
	t.Helper()
	b := &bench{t: t, dir: t.TempDir(), changes: make(chan Change, 10_000)}
	log := slog.New(slog.NewTextHandler(newLogWriter(t), &slog.HandlerOptions{Level: slog.LevelDebug}))
	reaper, err := proc.New(log)
	if err != nil {
		t.Fatal(err)
	}
	hub, err := output.NewHub(output.HubOptions{Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	b.write(text)
	cfg, err := b.load()
	if err != nil {
		t.Fatal(err)
	}
	b.opt = Options{Reaper: reaper, Hub: hub, Logger: log, Config: cfg, Load: b.load}
	for _, f := range change {
		f(&b.opt)
	}
	if b.Supervisor, err = New(b.opt); err != nil {
		t.Fatal(err)
	}
	b.Subscribe(func(c Change) { b.changes <- c })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	stopped := false
	b.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run returned %v, want nil", err)
			}
		case <-time.After(patience):
			t.Errorf("Run has not returned; programs: %+v", b.AllProcessInfo())
		}
	}
	t.Cleanup(func() {
		b.stop()
		rest, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := reaper.StopRest(rest, 0); err != nil {
			t.Error(err)
		}
		if err := hub.Close(); err != nil {
			t.Error(err)
		}
		if err := reaper.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func (b *bench) conf() string { return filepath.Join(b.dir, "supervisord.conf") }

func (b *bench) write(text string) {
	b.t.Helper()
	text = "[supervisord]\nchildlogdir=DIR\n" + text
	if err := os.WriteFile(b.conf(), []byte(strings.ReplaceAll(text, "DIR", b.dir)), 0o644); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) load() (*ini.Config, error) { return ini.Load(ini.Options{Main: b.conf()}) }

// read returns a file of the test's directory, "" when it is not there.
func (b *bench) read(name string) string {
	data, _ := os.ReadFile(filepath.Join(b.dir, name))
	return string(data)
}

// snap returns the snapshot of a process.
func (b *bench) snap(name string) *snapshot {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		changed := b.groupsChanged()
		if p, err := b.findProcess(name); err == nil {
			return p.snap.Load()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			b.t.Fatalf("there is no program %q", name)
		}
	}
}

// await follows the states of a process to the first that fits.
func (b *bench) await(name, what string, fits func(*snapshot) bool) *snapshot {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := b.snap(name).until(ctx, fits)
	if err != nil {
		b.t.Fatalf("%s is %+v, want %s", name, *b.snap(name), what)
	}
	return s
}

func (b *bench) awaitState(name string, want State) *snapshot {
	b.t.Helper()
	return b.await(name, want.String(), func(s *snapshot) bool { return s.state == want })
}

// eventually polls what cannot be waited for, such as a file that another process writes.
func (b *bench) eventually(what string, ok func() bool) {
	b.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			b.t.Fatalf("it never came true that %s", what)
		}
	}
}

func (b *bench) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	b.t.Cleanup(cancel)
	return ctx
}
