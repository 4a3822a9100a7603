package e2e

import (
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/inpod/inpod/e2e/lab"
	"golang.org/x/sys/unix"
)

// terminal is a command on a pseudo terminal of its own, as its session's leader.
type terminal struct {
	t      *testing.T
	keys   *os.File
	screen safeBuffer
	cmd    *exec.Cmd
	done   chan struct{}
}

func openTerminal(t *testing.T, dir string, env []string, rows, cols uint16, argv ...string) *terminal {
	t.Helper()
	ptmx, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(ptmx.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(ptmx.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	term := &terminal{t: t, keys: ptmx, done: make(chan struct{})}
	term.resize(rows, cols)
	term.cmd = exec.Command(argv[0], argv[1:]...)
	term.cmd.Dir, term.cmd.Env = dir, env
	term.cmd.Stdin, term.cmd.Stdout, term.cmd.Stderr = tty, tty, tty
	term.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := term.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.Copy(&term.screen, ptmx) // ends with EIO when nobody has the terminal open any more
	}()
	go func() {
		_ = term.cmd.Wait()
		close(term.done)
	}()
	t.Cleanup(func() {
		_ = term.cmd.Process.Kill() // its programs go with the terminal: SIGHUP
		<-term.done
		ptmx.Close()
		<-read
		if t.Failed() {
			t.Logf("the screen:\n%s", term.screen.String())
		}
	})
	return term
}

func (term *terminal) resize(rows, cols uint16) {
	term.t.Helper()
	size := &unix.Winsize{Row: rows, Col: cols}
	if err := unix.IoctlSetWinsize(int(term.keys.Fd()), unix.TIOCSWINSZ, size); err != nil {
		term.t.Fatal(err)
	}
}

func (term *terminal) press(keys string) {
	term.t.Helper()
	if _, err := io.WriteString(term.keys, keys); err != nil {
		term.t.Fatal(err)
	}
}

func (term *terminal) untilSeen(text string) {
	term.t.Helper()
	if !lab.Until(patience, func() bool { return strings.Contains(term.screen.String(), text) }) {
		term.t.Fatalf("%q never came on the screen", text)
	}
}

// TestMainProgramOnATerminal is `docker run -it IMAGE CMD`: the window, the keys and the job control characters are
// CMD's, whoever is PID 1.
func TestMainProgramOnATerminal(t *testing.T) {
	t.Parallel()
	for _, where := range []struct {
		name string
		wrap func(*testing.T) []string
	}{{"child", func(*testing.T) []string { return nil }}, {"PID 1", pidNamespace}} {
		t.Run(where.name, func(t *testing.T) {
			t.Parallel()
			a := prepare(t, setup{})
			argv := append(where.wrap(t), a.bin, "run", "--", bins.Prog, "tty")
			term := openTerminal(t, a.dir, a.env, 24, 80, argv...)
			term.untilSeen("tty up 24x80")
			term.press("hello\r")
			term.untilSeen("<hello>")
			term.resize(50, 132)
			term.untilSeen("got WINCH 50x132")
			for _, key := range []struct{ char, signal string }{{"\x03", "INT"}, {"\x1c", "QUIT"}, {"\x1a", "TSTP"}} {
				term.press(key.char)
				term.untilSeen("got " + key.signal + " 50x132")
			}
			if code, _ := a.get("/livez"); code != 200 {
				t.Errorf("livez after Ctrl-C, Ctrl-\\ and Ctrl-Z: got %d, want 200", code)
			}
			term.press("bye\r")
			if !lab.Until(patience, func() bool {
				select {
				case <-term.done:
					return true
				default:
					return false
				}
			}) {
				t.Fatal("the agent has not ended with its program")
			}
			if got := term.cmd.ProcessState.ExitCode(); got != 7 {
				t.Errorf("exit code: got %d, want the program's 7", got)
			}
		})
	}
}
