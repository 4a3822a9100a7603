package e2e

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/inpod/inpod/e2e/lab"
)

// The agent as PID 1 of a PID namespace: what sessions leave behind is its own to reap.
func TestSSHAsPID1(t *testing.T) {
	t.Parallel()
	s := startSSHAs(t, "", setup{}, "", "-pf", "--mount-proc")
	init := s.init()
	if out := s.must(t, "", s.ssh("box", "readlink /proc/1/exe")...); out != s.bin+"\n" {
		t.Fatalf("PID 1 is %s", out)
	}
	t.Run("all at once", func(t *testing.T) { // what runs in parallel ends before it does
		t.Run("statuses", func(t *testing.T) { t.Parallel(); pid1Statuses(t, s) })
		t.Run("signals", func(t *testing.T) { t.Parallel(); sshSignals(t, s) })
		t.Run("terminal", func(t *testing.T) { t.Parallel(); sshTerminal(t, s) })
		t.Run("daemon", func(t *testing.T) { t.Parallel(); pid1Daemon(t, s) })
		t.Run("scp", func(t *testing.T) { t.Parallel(); sshSCP(t, s) })
		t.Run("sftp", func(t *testing.T) { t.Parallel(); sshSFTP(t, s) })
	})
	if !lab.Until(patience, func() bool { return len(zombiesBelow(init)) == 0 }) {
		t.Errorf("zombies: %v", describe(zombiesBelow(init)))
	}
	if err := syscall.Kill(init, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.wantExit("exit 0")
}

// pid1Statuses runs 1,000 commands over a few connections, every status among them and each with an orphan, and wants
// each one's output, whole, and its own status.
func pid1Statuses(t *testing.T, s *sshSide) {
	const workers, each = 4, 256
	var all sync.WaitGroup
	for w := range workers {
		sock := s.path(fmt.Sprintf("client/mux%d", w))
		s.background(t, s.ssh("-M", "-S", sock, "-N", "box")...)
		if !lab.Until(patience, func() bool { _, err := os.Stat(sock); return err == nil }) {
			t.Fatal("the master does not come up")
		}
		all.Add(1)
		go func() {
			defer all.Done()
			for code := range each {
				script := fmt.Sprintf("(sleep 0.01 >/dev/null 2>&1 &); echo out %d; echo err %d >&2; exit %d", w, code, code)
				e := s.run(t, "", s.ssh("-S", sock, "-o", "ControlMaster=no", "box", script)...)
				if want := (ended{fmt.Sprintf("out %d\n", w), fmt.Sprintf("err %d\n", code), code}); e != want {
					t.Errorf("got %+v, want %+v", e, want)
				}
			}
		}()
	}
	all.Wait()
}

// pid1Daemon leaves a process behind that lives on without the session, and ends without leaving a zombie.
func pid1Daemon(t *testing.T, s *sshSide) {
	for _, host := range s.hosts() {
		for _, tty := range []string{"-T", "-tt"} {
			pid := strings.TrimSpace(s.must(t, "", s.ssh(tty, host, "setsid sleep 1003 </dev/null >/dev/null 2>&1 & sleep 0.1; echo $!")...))
			got := s.must(t, "", s.ssh(host, "ps -o ppid=,stat=,args= -p "+pid)...)
			if f := strings.Fields(got); len(f) < 3 || f[0] != "1" || f[2] != "sleep" {
				t.Errorf("%s %s: the daemon %s is %q", host, tty, pid, got)
				continue
			}
			s.must(t, "", s.ssh(host, "kill "+pid)...)
			if !lab.Until(patience, func() bool { return s.run(t, "", s.ssh(host, "ps -p "+pid)...).code != 0 }) {
				t.Errorf("%s %s: %s is never reaped", host, tty, pid)
			}
		}
	}
}
