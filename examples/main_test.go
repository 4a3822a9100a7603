package examples

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// inpod is the binary under test, set once by TestMain.
var inpod string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "examples-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	inpod = filepath.Join(dir, "inpod")
	if built := os.Getenv("TEST_BIN_DIR"); built != "" {
		inpod = filepath.Join(built, "inpod")
		return m.Run()
	}
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", inpod, "../cmd/inpod")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "cannot build inpod: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// within bounds a whole test; the examples train a model and wait for Python to start.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// script prepares a command that is asked to stop before it is killed, so that it can stop what it started.
func script(ctx context.Context, env []string, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = env
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	return cmd
}

// freePorts finds TCP ports that nobody listens on. They are below the range from which the kernel takes ports for
// outgoing connections: one of those could have such a port before the program under test binds it.
func freePorts(t *testing.T, n int) []int {
	t.Helper()
	ports := make([]int, 0, n)
	for tries := 0; len(ports) < n; tries++ {
		if tries == 1000 {
			t.Fatal("no port is free")
		}
		ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10240+rand.IntN(20000)))
		if err != nil {
			continue
		}
		defer ln.Close() // not before all are found
		ports = append(ports, ln.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

// eventually polls what cannot be awaited.
func eventually(ctx context.Context, t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// noneLeft fails when a process still has mark, a directory of this test, in its environment.
func noneLeft(t *testing.T, mark string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		env, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(env, []byte(mark)) {
			continue // gone, or another user's
		}
		line, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline"))
		t.Errorf("left running: %s %s", filepath.Dir(file), bytes.ReplaceAll(line, []byte{0}, []byte{' '}))
	}
}

// without returns the environment without some variables.
func without(env []string, names ...string) []string {
	kept := make([]string, 0, len(env))
	for _, entry := range env {
		name, _, _ := strings.Cut(entry, "=")
		keep := true
		for _, n := range names {
			keep = keep && n != name
		}
		if keep {
			kept = append(kept, entry)
		}
	}
	return kept
}
