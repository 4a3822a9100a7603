package sshd

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"testing"
)

// recorded is a process that writes down which signals it gets.
type recorded struct {
	done    chan struct{}
	mu      sync.Mutex
	signals []syscall.Signal
}

func (r *recorded) PID() int              { return 1 }
func (r *recorded) Done() <-chan struct{} { return r.done }
func (r *recorded) Exit() Exit            { return Exit{} }

func (r *recorded) SignalGroup(sig syscall.Signal) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.signals = append(r.signals, sig)
	return nil
}

func (r *recorded) got() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return fmt.Sprint(r.signals)
}

type starter func(Command) (Process, error)

func (f starter) Start(c Command) (Process, error) { return f(c) }

// At the end of the server every process that runs is told, those that have ended are not, and none is started after
// that: not even one whose start was under way.
func TestTheEndOfAllProcesses(t *testing.T) {
	var mu sync.Mutex
	var all []*recorded
	p := newProcesses(starter(func(Command) (Process, error) {
		r := &recorded{done: make(chan struct{})}
		mu.Lock()
		defer mu.Unlock()
		if all = append(all, r); len(all)%2 == 0 {
			close(r.done)
		}
		return r, nil
	}))
	var wg sync.WaitGroup
	for range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 1000 {
				if _, err := p.Start(Command{}); err != nil {
					if !errors.Is(err, errClosed) {
						t.Error(err)
					}
					return
				}
			}
		}()
	}
	if !within(patience, func() bool { mu.Lock(); defer mu.Unlock(); return len(all) > 1000 }) {
		t.Error("nothing is started")
	}
	p.end()
	mu.Lock()
	n := len(all)
	mu.Unlock()
	wg.Wait()
	if len(all) != n {
		t.Errorf("%d were started after the end", len(all)-n)
	}
	if _, err := p.Start(Command{}); !errors.Is(err, errClosed) {
		t.Errorf("after the end: %v", err)
	}
	for i, r := range all {
		want := "[hangup continued terminated]"
		if i%2 == 1 {
			want = "[]"
		}
		if got := r.got(); got != want {
			t.Fatalf("process %d of %d got %s, want %s", i, n, got, want)
		}
	}
	if len(p.running) > len(all)*3/4 {
		t.Errorf("%d of %d are remembered, half of which have ended", len(p.running), len(all))
	}
}

// What a client leaves behind when it is gone: a terminal's end is SIGHUP, pipes are closed, and nothing else happens,
// as with OpenSSH. So what was sent into the background lives on.
func TestWhatAConnectionLeaves(t *testing.T) {
	s := start(t, defaults(t))
	type left struct {
		name, command string
		tty, lives    bool
		pid           int
	}
	list := []*left{
		{name: "on a terminal", command: "echo $$.; exec sleep 1000", tty: true},
		{name: "on a terminal, as nohup does", command: "trap '' HUP; echo $$.; exec sleep 1000", tty: true, lives: true},
		{name: "a session of its own", command: "setsid sh -c 'echo $$.; exec sleep 1000'; sleep 1000", tty: true, lives: true},
		{name: "what reads", command: "echo $$.; cat; :"},
		{name: "what writes", command: "echo $$.; while echo x; do sleep 0.1; done"},
		{name: "what does neither", command: "echo $$.; exec sleep 1000", lives: true},
		{name: "in the background", command: "sh -c 'echo $$.; exec nohup sleep 1000 >/dev/null 2>&1 </dev/null' & wait", lives: true},
	}
	for _, l := range list {
		c := s.dial()
		ss, err := c.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		if l.tty {
			if err := ss.RequestPty("xterm", 24, 80, nil); err != nil {
				t.Fatal(err)
			}
		}
		out, _ := ss.StdoutPipe()
		in, _ := ss.StdinPipe()
		defer in.Close()
		if err := ss.Start(l.command); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fscanf(out, "%d.", &l.pid); err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.Copy(io.Discard, out) }()
		_ = c.Close()
	}
	alive := func(l *left) bool { _, err := os.Stat(fmt.Sprintf("/proc/%d", l.pid)); return err == nil }
	for _, l := range list {
		if !l.lives && !within(patience, func() bool { return !alive(l) }) {
			t.Errorf("%s: it lives on", l.name)
		}
	}
	if !within(patience, func() bool { return len(s.connections()) == 0 }) {
		t.Error("connections are left")
	}
	for _, l := range list {
		if l.lives && !alive(l) {
			t.Errorf("%s: it has ended", l.name)
		}
	}
	s.stop()
	for _, l := range list {
		if l.lives && alive(l) { // those that are left are for the agent to end, which is another test's
			_ = syscall.Kill(l.pid, syscall.SIGKILL)
		}
	}
}
