//go:build images

package images

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A container has its host's clock, and the tests must not set that. Under qemu-user every look at the clock is a call
// into the C library, which libfaketime answers as the file FAKETIME_TIMESTAMP_FILE says: a static Go binary with a
// clock of its own.
func TestOddClock(t *testing.T) {
	t.Parallel()
	libs, err := filepath.Glob("/usr/lib/*/faketime/libfaketime.so.1")
	if err != nil || len(libs) == 0 {
		t.Fatalf("libfaketime is missing: %v; hack/install.sh images installs it", err)
	}
	dir := t.TempDir()
	clock := filepath.Join(dir, "clock")
	set := func(to string) {
		if err := os.WriteFile(clock, []byte(to+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	set("@2001-02-03 04:05:06")
	ini := filepath.Join(dir, "clock.ini")
	text := "[program:tick]\ncommand=/bin/sleep infinity\n[program:tock]\ncommand=/bin/sh -c \"exit 3\"\nstartsecs=1\nstartretries=2\n"
	if err := os.WriteFile(ini, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	admin := ln.Addr().String()
	ln.Close()

	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "qemu-x86_64", filepath.Join(lab.root, "bin/inpod"), "run", "-c", ini)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "LD_PRELOAD=" + libs[0], "FAKETIME_TIMESTAMP_FILE=" + clock, "FAKETIME_NO_CACHE=1",
		"FAKETIME_DONT_FAKE_MONOTONIC=1", "INPOD_SSH_LISTEN=off", "INPOD_ADMIN_LISTEN=" + admin, "INPOD_ADMIN_SOCKET=" + dir + "/s",
		"INPOD_SUPERVISOR_INCLUDE=[]",
	}
	var out lockedBuffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(tail(out.String(), 40))
		}
	})
	get := func(path string) string {
		resp, err := http.Get("http://" + admin + path)
		if err != nil {
			return err.Error()
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body) // what is missing is seen
		return fmt.Sprint(resp.StatusCode, " ", string(body))
	}
	// Back-off and startsecs go by a clock that nobody sets.
	await(t, "ready in 2001", func() bool { return strings.HasPrefix(get("/readyz"), "200") })
	await(t, "FATAL in 2001", func() bool { return strings.Contains(out.String(), `"msg":"gave up`) })
	for _, to := range []string{"@2038-01-19 03:14:00", "@1970-01-02 00:00:00", "@2026-01-01 00:00:00"} {
		set(to)
		await(t, "a look at "+to, func() bool { return strings.HasPrefix(get("/livez"), "200") })
	}
	for want, in := range map[string]string{
		`inpod_program_up{group="tick",program="tick"} 1`:             "/metrics",
		`inpod_program_restarts_total{group="tick",program="tick"} 0`: "/metrics",
		"200": "/readyz",
	} {
		if got := get(in); !strings.Contains(got, want) {
			t.Errorf("GET %s after the jumps: no %q", in, want)
		}
	}
	began := time.Now()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || time.Since(began) > 30*time.Second {
		t.Errorf("SIGTERM: %v after %s, want exit code 0", err, time.Since(began))
	}
	if !strings.Contains(out.String(), `{"time":"2001-02-03T`) || !strings.Contains(out.String(), `{"time":"2026-01-01T`) {
		t.Error("the log does not have the times of that clock: the test did not do what it is for")
	}
}

// lockedBuffer can be read while it is written.
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
