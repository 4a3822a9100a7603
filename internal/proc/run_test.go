package proc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestRun(t *testing.T) {
	r := newTestReaper(t)
	tests := []struct {
		name, script string
		opt          RunOptions
		code         int
		output       string
	}{
		{"output and code", "echo out; echo err >&2; exit 3", RunOptions{}, 3, "out\nerr\n"},
		{"input", "cat", RunOptions{Input: []byte("given")}, 0, "given"},
		{"input that nobody reads", "exit 4", RunOptions{Input: make([]byte, 1<<20)}, 4, ""},
		{"output is capped and still taken", "head -c 1000000 /dev/zero | tr '\\0' x; echo end >&2", RunOptions{MaxOutput: 5}, 0, "xxxxx"},
		{"no output", "exit 0", RunOptions{}, 0, ""},
		{"stdin is /dev/null", "cat; readlink /proc/self/fd/0", RunOptions{}, 0, "/dev/null\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			st, out, err := r.Run(testContext(t), shell(test.script), test.opt)
			if err != nil || st.Code != test.code || string(out) != test.output {
				t.Errorf("got %v, %q, %v, want exit status %d, %q", st, out, err, test.code, test.output)
			}
		})
	}
}

func TestRunDoesNotWaitForAGrandchild(t *testing.T) {
	r := newTestReaper(t)
	spec := shell("sleep 1000 & echo $!")
	start := time.Now()
	st, out, err := r.Run(testContext(t), spec, RunOptions{WaitDelay: 50 * time.Millisecond})
	if took := time.Since(start); err != nil || st.Code != 0 || took > patience { // far from the grandchild's end
		t.Errorf("got %v, %v after %v, want the end 50ms after the command's own", st, err, took)
	}
	killPID(t, r, string(out))
}

// What the command wrote is not lost where the time to read it is over before anybody did.
func TestRunReadsWhatIsThereAtTheEnd(t *testing.T) {
	for max, want := range map[int]string{1 << 20: strings.Repeat("x", 10_000), 5: "xxxxx"} {
		spec := Spec{}
		out, err := capture(&spec, RunOptions{MaxOutput: max})
		if err != nil {
			t.Fatal(err)
		}
		held, err := syscall.Dup(int(spec.Stdout.Fd())) // as a grandchild holds it
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.SetNonblock(held, true); err != nil {
			t.Fatal(err)
		}
		written, err := syscall.Write(held, []byte(strings.Repeat("x", 10_000))) // a plain user's pipe may be small
		if err != nil {
			t.Fatal(err)
		}
		if err := out.read.SetReadDeadline(time.Unix(1, 0)); err != nil {
			t.Fatal(err)
		}
		out.start()
		<-out.done
		if got := out.stop(0); string(got) != want[:min(len(want), written)] {
			t.Errorf("got %d bytes of %d, want %d at most", len(got), written, max)
		}
		_ = syscall.Close(held)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	r := newTestReaper(t)
	tests := []struct {
		name, script string
		grace        time.Duration
		signal       syscall.Signal
		output       string
	}{
		{"SIGTERM is enough", "sleep 1000 & echo a; echo ready >&2; wait", time.Hour, syscall.SIGTERM, "a\n"},
		{"SIGTERM is ignored", "trap '' TERM; sleep 1000 & echo b; echo ready >&2; wait", 100 * time.Millisecond, syscall.SIGKILL, "b\n"},
	}
	enough := errors.New("enough")
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(testContext(t))
			spec := shell(test.script)
			spec.Stderr = whenReady(t, func() { cancel(enough) })
			before := r.Stats().Orphans
			st, out, err := r.Run(ctx, spec, RunOptions{Grace: test.grace})
			if !errors.Is(err, enough) || st.Signal != test.signal || string(out) != test.output {
				t.Errorf("got %v, %q, %v, want %v, %q and the context's cause", st, out, err, test.signal, test.output)
			}
			if !strings.Contains(fmt.Sprint(err), `cannot finish "/bin/sh": `) {
				t.Errorf("got %q, want it to name the command", err)
			}
			waitUntil(t, func() bool { return r.Stats().Orphans > before }, "the group was not killed: its sleep lives")
		})
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := r.Run(ctx, shell("exit 0"), RunOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

func TestRunLeavesNoDescriptor(t *testing.T) {
	r := newTestReaper(t)
	run(t, r, shell("exit 0"))
	before := openFiles(t)
	for range 20 {
		run(t, r, shell("echo x"))
		if _, _, err := r.Run(testContext(t), NewSpec("/nonexistent"), RunOptions{Input: []byte("x")}); err == nil {
			t.Fatal("got no error for a missing file")
		}
	}
	if after := openFiles(t); after > before {
		t.Errorf("got %d open files, want %d as before", after, before)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// whenReady returns a file and calls ready once a program has written to it.
func whenReady(t *testing.T, ready func()) *os.File {
	t.Helper()
	rd, wr, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { wr.Close(); <-done; rd.Close() })
	go func() {
		defer close(done)
		_, _ = rd.Read(make([]byte, 1))
		ready()
	}()
	return wr
}
