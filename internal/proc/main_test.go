package proc

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// modeEnv makes the test binary play another role: a process that has to be PID 1, or one that was started badly.
const modeEnv = "PROC_TEST_MODE"

func TestMain(m *testing.M) {
	switch mode := os.Getenv(modeEnv); mode {
	case "":
		os.Exit(m.Run())
	case "judge":
		os.Exit(judgeMain())
	case "dirty":
		os.Exit(dirtyMain())
	case "stoprest":
		os.Exit(stopRestMain())
	default:
		fmt.Fprintf(os.Stderr, "unknown %s %q\n", modeEnv, mode)
		os.Exit(2)
	}
}

const sh = "/bin/sh"

// shell returns the Spec of a shell script.
func shell(script string) Spec {
	spec := NewSpec(sh, "-c", script)
	spec.Env = []string{"PATH=/usr/bin:/bin"}
	return spec
}

func newTestReaper(t testing.TB) *Reaper {
	t.Helper()
	r, err := New(slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// patience is how long a test waits for what must come. It is long because a busy machine is no failure, and shorter than
// the test run's own, so that a hang names its test.
const patience = time.Minute

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func mustStart(t testing.TB, r *Reaper, spec Spec) *Process {
	t.Helper()
	p, err := r.Start(spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.SignalGroup(9); await(t, p) })
	return p
}

func await(t testing.TB, p *Process) Status {
	t.Helper()
	select {
	case <-p.Done():
	case <-time.After(patience):
		t.Fatalf("process %d did not end", p.PID())
	}
	return p.Status()
}

// run runs spec to its end and returns the words it wrote.
func run(t testing.TB, r *Reaper, spec Spec) []string {
	t.Helper()
	st, out, err := r.Run(testContext(t), spec, RunOptions{})
	if err != nil || st.Code != 0 {
		t.Fatalf("run %q: got %v, %v, output %q", spec.Argv, st, err, out)
	}
	return strings.Fields(string(out))
}

// line makes a pipe for spec's output and returns a function that reads the next line of it.
func lines(t testing.TB, spec *Spec) func() string {
	t.Helper()
	rd, wr, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rd.Close(); wr.Close() })
	spec.Stdout = wr
	return func() string {
		t.Helper()
		_ = rd.SetReadDeadline(time.Now().Add(patience))
		var line []byte
		for b := make([]byte, 1); ; {
			if _, err := rd.Read(b); err != nil {
				t.Fatalf("cannot read a line: %v (have %q)", err, line)
			}
			if b[0] == '\n' {
				return string(line)
			}
			line = append(line, b[0])
		}
	}
}

// waitUntil looks until ok, for what sends no event.
func waitUntil(t testing.TB, ok func() bool, want string) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatal(want)
		}
	}
}

// killPID ends a process that a test's script named and waits until we reaped it.
func killPID(t testing.TB, r *Reaper, pid string) {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(pid))
	if err != nil {
		t.Fatal(err)
	}
	m, ok := readMember(n)
	if !ok {
		t.Fatalf("process %d is gone, want it alive", n)
	}
	if err := m.signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, func() bool { _, ok := readMember(n); return !ok }, "process "+pid+" was not reaped")
}
