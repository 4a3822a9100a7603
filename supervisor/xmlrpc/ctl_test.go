package xmlrpc

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/inpod/inpod/supervisor/output"
)

// TestSupervisorctl drives the handler with Debian's unmodified supervisorctl.
func TestSupervisorctl(t *testing.T) {
	f := newFake(t)
	mainLog, err := output.OpenMainLog("", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(mainLog, "main log\n")
	o := Options{Supervisor: f, PID: func() int { return 4711 }, MainLog: mainLog, Follow: output.Follow, Username: "u", Password: "p"}
	for _, url := range []string{serveUnix(t, o), serveTCP(t, o)} {
		for _, tc := range []struct {
			args string
			want string
			code int
		}{
			{"status", "app:slow                         STOPPED   Not started\napp:web                          RUNNING   pid 77, uptime 0:00:05\n", 3},
			{"pid", "4711\n", 0},
			{"pid app:web", "77\n", 0},
			{"stop app:web", "app:web: stopped\n", 0},
			{"stop app:web", "app:web: ERROR (not running)\n", 0},
			{"start app:web", "app:web: started\n", 0},
			{"start nope", "nope: ERROR (no such process)\n", 1},
			{"signal HUP app:web", "app:web: signalled\n", 0},
			{"reread", "new: available\nold: disappeared\n", 0},
			{"tail app:web", "hello from web\n\n", 0},
			{"maintail", "main log\n\n", 0},
			{"version", "4.2.5\n", 0},
		} {
			out, code := ctl(t, url, tc.args)
			if out != tc.want || code != tc.code {
				t.Errorf("supervisorctl %s = %d\n%q\nwant %d\n%q", tc.args, code, out, tc.code, tc.want)
			}
		}
		for path, first := range map[string]string{"tail -f app:web": "hello from web", "maintail -f": "main log"} {
			followWithCtl(t, url, path, first)
		}
	}
	if out, code := ctl(t, serveTCP(t, o), "status", "-u", "x"); code != 1 || !strings.Contains(out, "Server requires authentication") {
		t.Errorf("without the password: %d %q", code, out)
	}
}

func ctlCommand(t *testing.T, url, args string, more ...string) *exec.Cmd {
	t.Helper()
	if len(more) == 0 {
		more = []string{"-u", "u", "-p", "p"}
	}
	conf := filepath.Join(t.TempDir(), "ctl.conf")
	if err := os.WriteFile(conf, []byte("[supervisorctl]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "/usr/bin/supervisorctl", append(append([]string{"-c", conf, "-s", url}, more...), strings.Fields(args)...)...)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LANG=C.UTF-8", "PYTHONUNBUFFERED=1"}
	return cmd
}

func ctl(t *testing.T, url, args string, more ...string) (string, int) {
	t.Helper()
	cmd := ctlCommand(t, url, args, more...)
	out, _ := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatalf("cannot run supervisorctl: Debian's package supervisor is needed")
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func followWithCtl(t *testing.T, url, args, first string) {
	t.Helper()
	cmd := ctlCommand(t, url, args)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for _, want := range []string{"==> Press Ctrl-C to exit <==", first} {
		if !lines.Scan() || lines.Text() != want {
			t.Errorf("supervisorctl %s printed %q, want %q", args, lines.Text(), want)
		}
	}
	_ = cmd.Process.Signal(syscall.SIGINT)
	_ = cmd.Wait()
}
