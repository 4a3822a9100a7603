package sftp

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// terminalEnv names the terminal that a process of this test opens.
const terminalEnv = "SFTP_TEST_TERMINAL"

// A terminal that a client opens does not become the agent's controlling one. The agent may be a session leader (PID 1 is), and
// whoever has the other end could then send it signals by typing.
func TestTerminalOfAUser(t *testing.T) {
	if name := os.Getenv(terminalEnv); name != "" {
		c := start(t, all())
		c.must(typeClose, c.open(name, flagRead|flagWrite))
		stat, err := os.ReadFile("/proc/self/stat")
		if err != nil {
			t.Fatal(err)
		}
		if tty := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')'):]))[5]; tty != "0" {
			t.Errorf("the controlling terminal is %s, want none", tty)
		}
		return
	}
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestTerminalOfAUser$")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=/dev/pts/%d", terminalEnv, n))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
