package e2e

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/inpod/inpod/e2e/lab"
)

// metric is the value of a metric without labels.
func (a *agent) metric(name string) float64 {
	_, body := a.get("/metrics")
	for _, line := range strings.Split(body, "\n") {
		var v float64
		if text, ok := strings.CutPrefix(line, name+" "); ok {
			if _, err := fmt.Sscan(text, &v); err == nil {
				return v
			}
		}
	}
	return -1
}

const leavesOrphans = `
[program:orphans]
command=%(ENV_PROG)s orphans 50
startsecs=0
autorestart=false
[program:daemon]
command=%(ENV_PROG)s daemonize %(ENV_DIR)s/daemon.pid
startsecs=0
autorestart=false
[program:mark]
command=%(ENV_PROG)s mark %(ENV_DIR)s/order stopped
stdout_logfile=%(ENV_DIR)s/mark.log
startsecs=0
`

// wantOrphansReaped checks that the agent, seen from outside as pid, adopts what its programs leave behind.
func (a *agent) wantOrphansReaped(pid int) {
	a.t.Helper()
	a.untilState("orphans", "EXITED")
	a.untilState("daemon", "EXITED")
	a.untilFile("mark.log", "up")
	a.until("50 orphans reaped", func() bool { return a.metric("inpod_orphans_reaped_total") >= 50 })
	if !lab.Until(patience, func() bool { return len(zombiesBelow(pid)) == 0 }) {
		a.t.Errorf("zombies: %v", describe(zombiesBelow(pid)))
	}
	daemons := 0
	for _, p := range lab.Children(pid) {
		if cmd, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p)); strings.HasSuffix(string(cmd), "testprog\x00run\x00") {
			daemons++
		}
	}
	if daemons != 1 {
		a.t.Errorf("the daemon is not the agent's child: the children are %v", describe(lab.Children(pid)))
	}
}

// TestBelowAnotherInit is `docker run --init`: tini is PID 1, inpod its child.
func TestBelowAnotherInit(t *testing.T) {
	t.Parallel()
	a := startAgent(t, setup{
		wrap:  append(pidNamespace(t), "/usr/bin/tini", "--"),
		files: map[string]string{"programs/p.ini": leavesOrphans},
	})
	init := a.init()
	kids := lab.Children(init)
	if len(kids) != 1 {
		t.Fatalf("children of tini: got %v, want the agent", describe(kids))
	}
	a.wantOrphansReaped(kids[0])
	if err := syscall.Kill(init, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	a.wantExit("exit 0")
	a.untilFile("order", "stopped")
}

// TestSharedPIDNamespace is a pod with shareProcessNamespace: PID 1 is another process, and processes of other
// containers are there to be seen. The agent ends its own programs and what they left, and touches nothing else.
func TestSharedPIDNamespace(t *testing.T) {
	t.Parallel()
	s := setup{files: map[string]string{"programs/p.ini": leavesOrphans + `
[program:deaf]
command=%(ENV_PROG)s run ignore=TERM
stopwaitsecs=1
startsecs=0
`}}
	a := prepare(t, s)
	fate := a.path("neighbour")
	s.wrap = append(pidNamespace(t), bins.Prog, "pod", fate)
	a.launch(s)
	a.until("the agent answers", func() bool { code, _ := a.get("/livez"); return code == 200 || a.d.Exited() })
	if a.d.Exited() {
		t.Fatalf("the agent has gone: %s", a.d.WaitExit(0))
	}
	pid := 0
	for _, p := range lab.Children(a.init()) {
		if exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", p)); exe == a.bin {
			pid = p
		}
	}
	if pid == 0 {
		t.Fatalf("no agent among %v", describe(lab.Children(a.init())))
	}
	a.wantOrphansReaped(pid)
	a.untilState("deaf", "RUNNING")
	if err := syscall.Kill(a.init(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	a.wantExit("exit 0")
	a.untilFile("order", "stopped")
	if got, _ := os.ReadFile(fate); string(got) != "<nil>\n<nil>\n" {
		t.Errorf("the other container's two processes after the agent's end: got %q, want both alive", got)
	}
	if got, err := os.ReadFile(fate + ".mark"); err == nil {
		t.Errorf("the other container was sent signals: %q", got)
	}
}
