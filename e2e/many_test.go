package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/inpod/inpod/e2e/lab"
)

// pidsByName is what /api/v1/programs says of all programs that run.
func (a *agent) pidsByName() map[string]int {
	_, body := a.get("/api/v1/programs")
	var list []program
	if err := json.Unmarshal([]byte(body), &list); err != nil {
		return nil
	}
	out := map[string]int{}
	for _, p := range list {
		if p.State == "RUNNING" {
			out[p.Name] = p.PID
		}
	}
	return out
}

func TestReloadOfManyKeepsTheUnchanged(t *testing.T) {
	t.Parallel()
	const count = 200
	write := func(change func(i int) string) string {
		var b strings.Builder
		for i := range count {
			b.WriteString(change(i))
		}
		return b.String()
	}
	same := func(i int) string {
		return fmt.Sprintf("[program:p%d]\ncommand=/bin/sleep 600\nstartsecs=0\nstdout_logfile=NONE\nstderr_logfile=NONE\n", i)
	}
	a := startAgent(t, setup{
		files: map[string]string{"programs/p.ini": write(same)}, env: []string{"INPOD_SUPERVISOR_AUTO_UPDATE=true"},
	})
	a.until("all run", func() bool { return len(a.pidsByName()) == count })
	before := a.pidsByName()
	// One changes, one goes, one comes.
	a.write("programs/p.ini", write(func(i int) string {
		switch i {
		case 7:
			return strings.Replace(same(i), "600", "601", 1)
		case 8:
			return same(count)
		}
		return same(i)
	}))
	if err := a.d.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	var after map[string]int
	a.until("the change", func() bool {
		after = a.pidsByName()
		return len(after) == count && after["p8"] == 0 && after["p200"] != 0 && after["p7"] != before["p7"]
	})
	for name, pid := range before {
		if name != "p7" && name != "p8" && after[name] != pid {
			t.Errorf("%s did not change: got pid %d after the reload, %d before", name, after[name], pid)
		}
	}
	// The same files once more change nothing.
	if err := a.d.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	reloads := func() string {
		_, body := a.get("/metrics")
		for _, line := range strings.Split(body, "\n") {
			if n, ok := strings.CutPrefix(line, `inpod_config_reloads_total{result="ok"} `); ok {
				return n
			}
		}
		return ""
	}
	first := reloads()
	_ = a.d.Signal(syscall.SIGHUP)
	a.until("another reload", func() bool { return reloads() != first })
	for name, pid := range a.pidsByName() {
		if after[name] != pid {
			t.Errorf("%s: got pid %d after a reload without a change, %d before", name, pid, after[name])
		}
	}
}

// TestSupervisorctlWithMany drives 300 processes with the real client.
func TestSupervisorctlWithMany(t *testing.T) {
	t.Parallel()
	const count = 300
	a := startAgent(t, setup{files: map[string]string{"programs/p.ini": fmt.Sprintf(`
[program:w]
command=/bin/sleep 600
process_name=w%%(process_num)03d
numprocs=%d
startsecs=0
stdout_logfile=NONE
stderr_logfile=NONE
`, count)}})
	a.until("all run", func() bool { return len(a.pidsByName()) == count })
	ctl := func(args ...string) (string, int) {
		cmd := exec.Command(lab.Supervisorctl, append([]string{"-s", "unix://" + a.path("agent.sock")}, args...)...)
		cmd.Dir, cmd.Env = a.dir, a.env
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatalf("cannot run supervisorctl: %v", err)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
	for _, tc := range []struct {
		args []string
		line string // one a process
		code int
	}{
		{[]string{"status"}, "RUNNING   pid", 0},
		{[]string{"stop", "w:*"}, ": stopped", 0},
		{[]string{"status", "w:*"}, "STOPPED", 3},
		{[]string{"start", "all"}, ": started", 0},
		{[]string{"signal", "CONT", "all"}, ": signalled", 0},
		{[]string{"restart", "w:*"}, ": started", 0},
	} {
		begin := time.Now()
		out, code := ctl(tc.args...)
		if n := strings.Count(out, tc.line); n != count || code != tc.code {
			t.Errorf("supervisorctl %v: got exit %d and %d lines with %q, want %d and %d\n%s",
				tc.args, code, n, tc.line, tc.code, count, tailOf(out, 500))
		}
		t.Logf("supervisorctl %v took %s", tc.args, time.Since(begin).Round(10*time.Millisecond))
	}
	out, code := ctl("pid", "all")
	if n := len(strings.Fields(out)); n != count || code != 0 {
		t.Errorf("supervisorctl pid all: got exit %d and %d pids, want 0 and %d", code, n, count)
	}
}
