package supervisor

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// lockedBuffer collects a log.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// TestPanicCostsOneProgram lets a subscriber panic on the goroutine of a program's owner.
func TestPanicCostsOneProgram(t *testing.T) {
	for _, tc := range []struct {
		name   string
		panics func(Change) bool
	}{
		{"once", func(c Change) bool { return c.To == Running }},
		{"whatever happens", func(c Change) bool { return c.To != Starting }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var log lockedBuffer
			var sound atomic.Bool
			b := start(t, `
[program:bad]
command=/bin/sh -c 'trap "" TERM; sleep 1000 & echo $$ $! > DIR/bad.pids; wait'
autostart=false
stopwaitsecs=0
startsecs=0
[program:good]
command=/bin/sleep 1000
startsecs=0
`, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
			b.Subscribe(func(c Change) {
				if c.Process == "bad" && !sound.Load() && tc.panics(c) {
					panic("made up")
				}
			})
			good := b.awaitState("good", Running)
			_ = b.StartProcess(b.ctx(), "bad", false)
			s := b.awaitState("bad", Fatal)
			if want := "BUG in inpod: made up"; s.spawnerr != want || s.pid != 0 {
				t.Errorf("got spawnerr %q and pid %d, want %q and none", s.spawnerr, s.pid, want)
			}
			if got := log.String(); !strings.Contains(got, "BUG") || !strings.Contains(got, "crash_test.go") {
				t.Errorf("got log\n%s\nwant a BUG with the stack", got)
			}
			if now := b.snap("good"); now.state != Running || now.pid != good.pid {
				t.Errorf("good is %v with pid %d, want RUNNING with %d", now.state, now.pid, good.pid)
			}
			sound.Store(true)
			if err := b.StartProcess(b.ctx(), "bad", true); err != nil {
				t.Errorf("got %v, want it to start again", err)
			}
			if err := b.StopProcess(b.ctx(), "good", true); err != nil {
				t.Errorf("got %v, want good to stop", err)
			}
		})
	}
}

// TestPanicInACall ends the call with a fault and the program with FATAL.
func TestPanicInACall(t *testing.T) {
	b := start(t, `
[program:p]
command=/bin/sleep 1000
startsecs=0
`)
	b.awaitState("p", Running)
	p, err := b.findProcess("p")
	if err != nil {
		t.Fatal(err)
	}
	err = gone(p.ask(b.ctx(), func() { panic("made up") }), "p")
	b.fault(err, "FAILED: p: "+errCrashed.Error())
	b.awaitState("p", Fatal)
}
