package sshd

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// terminalEnv names a link that a process of this test reads as a file of keys.
const terminalEnv = "INPOD_SSHD_TEST_TERMINAL"

// A file of keys that is a link to a terminal does not make that the agent's controlling one: see sshd/sftp.
func TestKeysThatAreATerminal(t *testing.T) {
	if name := os.Getenv(terminalEnv); name != "" {
		if _, _, err := readBounded(name, maxKeys); err == nil {
			t.Error("a terminal was read")
		}
		stat := read(t, "/proc/self/stat")
		if tty := strings.Fields(stat[strings.LastIndexByte(stat, ')'):])[5]; tty != "0" {
			t.Errorf("the controlling terminal is %s, want none", tty)
		}
		return
	}
	term, err := openTerminal(&account{own: true})
	if err != nil {
		t.Fatal(err)
	}
	defer term.close()
	link := filepath.Join(t.TempDir(), "authorized_keys")
	if err := os.Symlink(term.name, link); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKeysThatAreATerminal$")
	cmd.Env = append(os.Environ(), terminalEnv+"="+link)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
