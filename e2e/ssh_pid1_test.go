package e2e

import (
	"strings"
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

// pid1Script runs 1,000 commands on one connection, as many at once as there are threads, every status among them and each with
// an orphan.
const pid1Script = `
import sys, threading, paramiko
c = paramiko.SSHClient()
c.set_missing_host_key_policy(paramiko.AutoAddPolicy())
c.connect("127.0.0.1", int(sys.argv[1]), sys.argv[2], key_filename=sys.argv[3], allow_agent=False, look_for_keys=False)
wrong = []

def work(first):
    for i in range(first, 1024, 8):
        ch = c.get_transport().open_session()
        ch.exec_command("(sleep 0.01 >/dev/null 2>&1 &); echo out %d; echo err %d >&2; exit %d" % (i, i, i % 256))
        got = ch.makefile("r").read(), ch.makefile_stderr("r").read(), ch.recv_exit_status()
        if got != (b"out %d\n" % i, b"err %d\n" % i, i % 256):
            wrong.append((i, got))
        ch.close()

threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
for t in threads:
    t.start()
for t in threads:
    t.join()
print("ok" if not wrong else wrong)
`

// pid1Statuses wants each command's output, whole, and its own status.
func pid1Statuses(t *testing.T, s *sshSide) {
	if out := s.must(t, "", "/usr/bin/python3", "-c", pid1Script, s.port, s.user, s.key); out != "ok\n" {
		t.Errorf("got %s", out)
	}
	sshStatuses(t, s) // and with OpenSSH
}

// pid1Daemon leaves a process behind that lives on without the session, and ends without leaving a zombie.
func pid1Daemon(t *testing.T, s *sshSide) {
	for _, host := range s.hosts() {
		for _, tty := range []string{"-T", "-tt"} {
			// Before it has a session of its own the end of the terminal would be its end.
			const command = `setsid sleep 1003 </dev/null >/dev/null 2>&1 &
until read name </proc/$!/comm && test "$name" = sleep; do sleep 0.01; done; echo $!`
			pid := strings.TrimSpace(s.must(t, "", s.ssh(tty, host, command)...))
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
