package supervisor

import (
	"bufio"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/inpod/inpod/internal/proc"
	"github.com/inpod/inpod/supervisor/ini"
	sys "golang.org/x/sys/unix"
)

// onTerminal makes this test binary run once more, as the test called name, on a terminal of its own, and returns
// what the test's user sees and types.
func onTerminal(t *testing.T, name string) (screen *bufio.Reader, keys *os.File, p *proc.Process) {
	t.Helper()
	ptmx, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ptmx.Close() })
	n, err := sys.IoctlGetInt(int(ptmx.Fd()), sys.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := sys.IoctlSetPointerInt(int(ptmx.Fd()), sys.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	r, err := proc.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	spec := proc.NewSpec(self, "-test.run=^"+name+"$")
	spec.Env = append(os.Environ(), "ON_TERMINAL=yes")
	spec.TTY, spec.Stdin, spec.Stdout, spec.Stderr = true, tty, tty, tty
	if p, err = r.Start(spec); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.SignalGroup(syscall.SIGKILL) })
	return bufio.NewReader(ptmx), ptmx, p
}

// TestMainHasTheTerminal plays `inpod run -- CMD` on a terminal: CMD reads what is typed and gets Ctrl-C, the agent
// does not, and afterwards the terminal is the agent's again.
func TestMainHasTheTerminal(t *testing.T) {
	if os.Getenv("ON_TERMINAL") != "" {
		agentOnTerminal(t)
		return
	}
	screen, keys, _ := onTerminal(t, t.Name())
	see := func(want string) {
		t.Helper()
		for {
			line, err := screen.ReadString('\n')
			if err != nil {
				t.Fatalf("the terminal ended (%v) before it showed %q", err, want)
			}
			t.Logf("%q", line)
			if strings.Contains(line, want) {
				return
			}
		}
	}
	see("type")
	_, _ = keys.WriteString("hello\n")
	see("heard hello")
	_, _ = keys.WriteString("\x03")
	see("interrupted")
	see("agent: main ended with 5, foreground true, interrupts 0")
}

func agentOnTerminal(t *testing.T) {
	interrupts := make(chan os.Signal, 10)
	signal.Notify(interrupts, syscall.SIGINT)
	defer signal.Stop(interrupts)
	ended := make(chan int, 1)
	script := `trap 'echo interrupted; exit 5' INT; echo type; read x; echo heard $x; while :; do sleep 0.05; done`
	start(t, "", func(o *Options) {
		o.Main = &ini.Program{
			Name: "main", Group: "main", Argv: []string{"/bin/sh", "-c", script},
			Umask: -1, UID: -1, GID: -1, Autostart: true, Autorestart: ini.RestartNever,
		}
		o.OnMain = func(_ State, code int) { ended <- code }
	})
	code := <-ended
	_, _ = os.Stdout.WriteString("agent: main ended with " + itoa(code) + ", foreground " + strconv.FormatBool(inForeground(os.Stdin)) + ", interrupts " + itoa(len(interrupts)) + "\n")
}
