package e2e

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/inpod/inpod/e2e/lab"
)

// TestStoppedTreeIsGone: stopping a program takes with it what it started, also what moved to a session of its own.
func TestStoppedTreeIsGone(t *testing.T) {
	t.Parallel()
	a := startAgent(t, setup{files: map[string]string{"programs/p.ini": `
[program:tree]
command=%(ENV_PROG)s tree %(ENV_DIR)s/pids away
stopwaitsecs=2
startsecs=0
`}})
	a.untilFile("pids", "\n")
	if out, code := a.cli("ctl", "stop", "tree"); code != 0 || !strings.Contains(out, "tree: stopped") {
		t.Errorf("stop: got exit %d %q", code, out)
	}
	data, err := os.ReadFile(a.path("pids"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range strings.Fields(string(data)) {
		pid, _ := strconv.Atoi(f)
		if !lab.Until(patience, func() bool { return syscall.Kill(pid, 0) != nil }) {
			t.Errorf("still there: %v", describe([]int{pid}))
		}
	}
}

// TestHeldStdoutBlocksNothing: a grandchild keeps the pipe open; the program is EXITED at once and the agent ends at once.
func TestHeldStdoutBlocksNothing(t *testing.T) {
	t.Parallel()
	a := startAgent(t, setup{files: map[string]string{"programs/p.ini": `
[program:hold]
command=%(ENV_PROG)s hold 10m
startsecs=0
autorestart=false
stdout_logfile=%(ENV_DIR)s/hold.log
`}})
	a.untilState("hold", "EXITED") // neither waits for as long as the grandchild lives
	a.untilFile("hold.log", "parent leaves")
	_ = a.d.Signal(syscall.SIGTERM)
	a.wantExit("exit 0")
}

// TestGigabyteOfLogs: rotated, nothing lost, memory bounded.
func TestGigabyteOfLogs(t *testing.T) {
	t.Parallel()
	const size = 1 << 30
	a := startAgent(t, setup{static: true, files: map[string]string{"programs/p.ini": `
[program:spew]
command=%(ENV_PROG)s spew ` + strconv.Itoa(size) + `
startsecs=0
autorestart=false
stdout_logfile=%(ENV_DIR)s/logs/spew.log
stdout_logfile_maxbytes=20MB
stdout_logfile_backups=3
`, "logs/.keep": ""}})
	var peak int64
	if !lab.Until(3*time.Minute, func() bool {
		if u, err := lab.ReadUsage(a.d.PID()); err == nil && u.RSS > peak {
			peak = u.RSS
		}
		return a.program("spew").State == "EXITED"
	}) {
		t.Fatal("the program has not ended")
	}
	if peak > 40<<20 {
		t.Errorf("RSS of the agent: got %d MiB, want 40 or less", peak>>20)
	}
	files, _ := filepath.Glob(a.path("logs/spew.log*"))
	if len(files) != 4 {
		t.Errorf("log files: got %v, want 4", files)
	}
	last := ""
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil || info.Size() > 21<<20 {
			t.Errorf("%s: got %d bytes (%v), want 20 MB or a little more", filepath.Base(f), info.Size(), err)
		}
		if strings.HasSuffix(f, ".log") && info.Size() > 0 {
			data, _ := os.ReadFile(f)
			last = tailOf(string(data), 100)
		}
	}
	// Lines are numbered: the last one must be the last.
	if want := "00010737418"; !strings.Contains(last, want) {
		t.Errorf("the last line: got %q, want number %s", last, want)
	}
}
