package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// holdings counts what a leak would add to: goroutines, descriptors, files that inotify watches.
func (a *testAgent) holdings() [3]int {
	a.t.Helper()
	pid := a.cmd.Process.Pid
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		a.t.Fatal(err)
	}
	watched := 0
	infos, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	for _, f := range infos {
		b, _ := os.ReadFile(f) // it may be closed by now
		watched += strings.Count(string(b), "inotify wd:")
	}
	_, body := a.do(true, "GET", "/metrics")
	goroutines := 0
	for line := range strings.Lines(body) {
		if n, ok := strings.CutPrefix(line, "go_goroutines "); ok {
			if _, err := fmt.Sscan(n, &goroutines); err != nil {
				a.t.Fatal(err)
			}
		}
	}
	return [3]int{goroutines, len(fds), watched}
}

// settled waits until the agent holds no more than before, but for a request or two that are just being answered.
func (a *testAgent) settled(before [3]int) {
	a.t.Helper()
	var now [3]int
	deadline := time.Now().Add(patience)
	for {
		now = a.holdings()
		if now[0] <= before[0]+3 && now[1] <= before[1]+3 && now[2] <= before[2] {
			return
		}
		if time.Now().After(deadline) {
			a.t.Fatalf("goroutines, descriptors and watched files: got %v, had %v before", now, before)
		}
		<-time.After(50 * time.Millisecond)
	}
}

func TestStormsOfReloadsLeakNothing(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/conf.d/p.ini", "[program:p]\ncommand=sleep 1000\nstartsecs=0\n")
	addrs := [2]string{free(t), free(t)}
	settings := func(i int) string {
		return fmt.Sprintf("drain: {deadline: %ds}\nproxy: {routes: [{listen: %q, upstream: 'h:1', health: off}]}\n", 10+i, addrs[i%2])
	}
	write(t, dir+"/inpod.yaml", settings(0))
	a := launch(t, dir, nil).started()
	a.stdout.wait(t, `"to":"ready"`)
	cut := func(s string) string {
		_, rest, _ := strings.Cut(s, `"pid":`)
		n, _, _ := strings.Cut(rest, ",")
		return n
	}
	// A program without a readiness check does not keep the agent from being ready: it may still be on its way.
	var pid string
	poll(t, "the program's pid", func() bool {
		pid = a.get("/api/v1/programs/p")
		return cut(pid) != ""
	})
	for _, i := range []int{1, 0} { // the files are watched once their changes are seen, which may be later than ready
		write(t, dir+"/inpod.yaml", settings(i))
		poll(t, "a change that is seen", func() bool { return strings.Contains(a.get("/api/v1/config"), fmt.Sprintf(`"deadline":"%ds"`, 10+i)) })
	}
	before := a.holdings()

	for range 1000 {
		a.signal(syscall.SIGHUP)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 10 {
				if resp, body := a.do(true, "POST", "/api/v1/reload"); resp.StatusCode != 200 {
					t.Errorf("reload: got %d %s", resp.StatusCode, body)
				}
			}
		})
		write(t, dir+"/tmp", settings(i))
		if err := os.Rename(dir+"/tmp", dir+"/inpod.yaml"); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	write(t, dir+"/inpod.yaml", settings(50))
	poll(t, "the last settings", func() bool { return strings.Contains(a.get("/api/v1/config"), `"deadline":"1m"`) })
	a.settled(before)
	if now := a.get("/api/v1/programs/p"); cut(now) != cut(pid) {
		t.Errorf("the program: got %s, want that it runs on as %s", now, pid)
	}
}

// get is the body of a GET on the control socket.
func (a *testAgent) get(path string) string {
	a.t.Helper()
	_, body := a.do(true, "GET", path)
	return body
}

// A signal at any moment of the start ends the agent, and its programs with it.
func TestSIGTERMDuringTheStart(t *testing.T) {
	for i := range 24 {
		dir := t.TempDir()
		write(t, dir+"/s.conf", "[supervisord]\n[program:p]\ncommand=sh -c 'echo $$ > "+dir+"/pid; exec sleep 1000'\n[program:q]\ncommand=sleep 1000\nreadiness_exec=false\n")
		a := launch(t, dir, nil)
		<-time.After(time.Duration(i) * 500 * time.Microsecond)
		a.signal(syscall.SIGTERM)
		// Before the runtime is there the signal itself ends the process.
		code := a.code()
		if ws := a.cmd.ProcessState.Sys().(syscall.WaitStatus); code != 0 && ws.Signal() != syscall.SIGTERM {
			t.Errorf("after %d × 0.5 ms: got %s, want exit status 0 or the signal's end", i, a.cmd.ProcessState)
		}
		var pid int
		if _, err := fmt.Sscan(read(t, dir+"/pid"), &pid); err == nil && syscall.Kill(pid, 0) == nil {
			t.Errorf("after %d × 0.5 ms: the program is left", i)
		}
	}
}

// Where the agent's output goes may be full or gone; programs run on, and the agent answers.
func TestOutputThatCannotBeWritten(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	rd, wr, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	rd.Close()
	defer wr.Close()
	for _, tt := range []struct {
		name   string
		stdout *os.File
		conf   string
	}{
		{"full", full, "pidfile=/dev/full\n"},
		{"closed", wr, ""},
		{"full main log", full, "logfile=/dev/full\nlogfile_maxbytes=0\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir+"/s.conf", "[supervisord]\n"+tt.conf+"[program:p]\ncommand=sh -c 'while :; do echo words; echo > "+dir+"/lives; sleep 0.01; done'\n"+
				"startsecs=0\nstdout_logfile=/dev/stdout\nstdout_logfile_maxbytes=0\n[program:q]\ncommand=sh -c 'while :; do echo words; sleep 0.01; done'\nstartsecs=0\nstdout_logfile=/dev/full\nstdout_logfile_maxbytes=0\n")
			a := newTestAgent(t, dir, nil)
			a.cmd.Stdout = tt.stdout
			a.start(func() {})
			poll(t, "the control socket", func() bool { _, err := os.Stat(a.socket); return err == nil })
			poll(t, "ready", func() bool { resp, _ := a.do(true, "GET", "/readyz"); return resp.StatusCode == 200 })
			for range 3 { // it goes on
				_ = os.Remove(dir + "/lives")
				poll(t, "a living program", func() bool { _, err := os.Stat(dir + "/lives"); return err == nil })
			}
			if _, body := a.do(true, "GET", "/metrics"); strings.Contains(body, "\ninpod_output_lost_bytes_total 0\n") {
				t.Error("no lost output is counted")
			}
			a.signal(syscall.SIGTERM)
			if got := a.code(); got != 0 {
				t.Errorf("exit code %d, want 0", got)
			}
		})
	}
}
