package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/inpod/inpod/e2e/lab"
)

// pidNamespace is the command that makes what follows PID 1. A plain user needs a user namespace for it.
func pidNamespace(t *testing.T) []string {
	t.Helper()
	wrap := []string{"/usr/bin/unshare", "-pf", "--mount-proc"}
	if os.Getuid() != 0 {
		wrap = append(wrap, "-Ur")
	}
	if out, err := exec.Command(wrap[0], append(wrap[1:], "/bin/true")...).CombinedOutput(); err != nil {
		if os.Getuid() != 0 {
			t.Skipf("this kernel gives a plain user no PID namespace: %s", out)
		}
		t.Fatalf("cannot make a PID namespace: %v: %s", err, out)
	}
	return wrap
}

// init is the pid, outside, of what is PID 1 inside.
func (a *agent) init() int {
	a.t.Helper()
	var pid int
	a.until("PID 1 of the namespace", func() bool {
		kids := lab.Children(a.d.PID())
		if len(kids) == 1 {
			pid = kids[0]
		}
		return pid > 0
	})
	return pid
}

func zombiesBelow(pid int) []int {
	var out []int
	for _, c := range lab.Children(pid) {
		if u, err := lab.ReadUsage(c); err == nil && u.State == "Z" {
			out = append(out, c)
		}
	}
	return out
}

func TestPID1ReapsAndDrains(t *testing.T) {
	t.Parallel()
	a := startAgent(t, setup{
		wrap: pidNamespace(t),
		files: map[string]string{"programs/p.ini": `
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
`},
	})
	a.untilState("orphans", "EXITED")
	a.untilState("daemon", "EXITED")
	a.untilFile("mark.log", "up")
	init := a.init()
	if !lab.Until(patience, func() bool { return len(zombiesBelow(init)) == 0 }) {
		t.Errorf("zombies: %v", describe(zombiesBelow(init)))
	}
	// The last of them may be on its way to its end.
	a.until("50 orphans reaped", func() bool {
		_, body := a.get("/metrics")
		for _, line := range strings.Split(body, "\n") {
			if v, ok := strings.CutPrefix(line, "inpod_orphans_reaped_total "); ok {
				n, err := strconv.ParseFloat(v, 64)
				return err == nil && n >= 50
			}
		}
		return false
	})
	if err := syscall.Kill(init, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	a.wantExit("exit 0")
	a.untilFile("order", "stopped")
}

func TestMainProgramsExitCode(t *testing.T) {
	t.Parallel()
	outside := func(*testing.T) []string { return nil }
	for _, where := range []struct {
		name string
		wrap func(*testing.T) []string
	}{{"child", outside}, {"PID 1", pidNamespace}} {
		for _, tc := range []struct {
			args []string
			want string
		}{
			{[]string{"exit", "0"}, "exit 0"},
			{[]string{"exit", "1"}, "exit 1"},
			{[]string{"exit", "42"}, "exit 42"},
			{[]string{"exit", "127"}, "exit 127"},
			{[]string{"exit", "255"}, "exit 255"},
			{[]string{"kill", "TERM"}, "exit 143"},
			{[]string{"kill", "KILL"}, "exit 137"},
			{[]string{"kill", "SEGV"}, "exit 139"},
		} {
			t.Run(where.name+" "+strings.Join(tc.args, " "), func(t *testing.T) {
				t.Parallel()
				s := setup{wrap: where.wrap(t), args: append([]string{"--", bins.Prog}, tc.args...)}
				a := prepare(t, s)
				a.launch(s)
				a.wantExit(tc.want)
			})
		}
	}
	t.Run("missing", func(t *testing.T) {
		t.Parallel()
		s := setup{args: []string{"--", "/no/such/program"}}
		a := prepare(t, s)
		a.launch(s)
		a.wantExit("exit 127")
	})
}

func TestMainProgramIsDrained(t *testing.T) {
	t.Parallel()
	s := setup{
		wrap: pidNamespace(t), args: []string{"--", bins.Prog, "run", "out=main-up", "slow=300ms", "term=7"},
		files: map[string]string{"programs/side.ini": "[program:side]\ncommand=%(ENV_PROG)s run\nstartsecs=0\n"},
	}
	a := startAgent(t, s)
	a.untilState("side", "RUNNING")
	a.untilFile("daemon.out", "main-up")
	if err := syscall.Kill(a.init(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	a.wantExit("exit 7")
}

// bareRoot is a directory with nothing but two static binaries: no shell, no /etc/passwd, no /tmp.
func bareRoot(t *testing.T, ini string) string {
	t.Helper()
	root := filepath.Join(shortDir(t), "root")
	for _, d := range []string{"proc", "dev", "programs"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for from, to := range map[string]string{bins.Inpod: "inpod", bins.Prog: "testprog"} {
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, to), data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "programs/p.ini"), []byte(ini), 0o644); err != nil {
		t.Fatal(err)
	}
	return root
}

func TestBareReadOnlyRootWithoutRights(t *testing.T) {
	t.Parallel()
	const ini = `
[program:a]
command=/testprog run "out=CHILD:alive"
stdout_logfile=/dev/stdout
stdout_logfile_maxbytes=0
stderr_logfile=/dev/stderr
stderr_logfile_maxbytes=0
startsecs=0
[program:orphans]
command=/testprog orphans 20
stdout_logfile=/dev/null
stderr_logfile=NONE
startsecs=0
autorestart=false
`
	root := bareRoot(t, ini)
	// The shell belongs to the outside: chroot is the last step before inpod.
	script := `set -e
mount --bind "$ROOT" "$ROOT"
mount -t proc proc "$ROOT/proc"
mount --rbind /dev "$ROOT/dev"
mount -o remount,ro,bind "$ROOT"
exec ` + chrootCommand()
	argv := []string{"/usr/bin/unshare", "-pfm"}
	if slices.Contains(pidNamespace(t), "-Ur") {
		argv = append(argv, "-Ur")
	}
	argv = append(argv, "/bin/sh", "-c", script)
	a := prepare(t, setup{env: []string{"ROOT=" + root, "INPOD_SUPERVISOR_INCLUDE=[/programs/*.ini]"}})
	d, err := lab.Start(a.dir, withoutVar(a.env, "INPOD_ADMIN_SOCKET"), argv...)
	if err != nil {
		t.Fatal(err)
	}
	a.d = d
	t.Cleanup(func() {
		d.Kill()
		if t.Failed() {
			t.Logf("the agent says:\n%s", tailOf(d.Output(), 4000))
		}
	})
	a.until("the agent answers", func() bool { code, _ := a.get("/livez"); return code == http.StatusOK || d.Exited() })
	if d.Exited() {
		t.Fatalf("the agent has gone: %s", d.WaitExit(0))
	}
	a.untilState("a", "RUNNING")
	a.untilState("orphans", "EXITED")
	a.untilFile("daemon.out", "CHILD:alive")
	init := a.init()
	if left := zombiesBelow(init); len(left) > 0 && !lab.Until(patience, func() bool { return len(zombiesBelow(init)) == 0 }) {
		t.Errorf("zombies: %v", left)
	}
	if err := syscall.Kill(init, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	a.wantExit("exit 0")
}

// chrootCommand enters $ROOT, gives up every right and becomes inpod. What root holds in its bounding set is what
// chroot itself needs; the change of user then leaves nothing of it. A plain user's rights end at its namespace.
func chrootCommand() string {
	if os.Getuid() != 0 {
		return `/usr/sbin/chroot "$ROOT" /inpod run`
	}
	return `/usr/bin/setpriv --bounding-set=-all,+sys_chroot,+setuid,+setgid --inh-caps=-all ` +
		`/usr/sbin/chroot --userspec=54321:54321 --groups= "$ROOT" /inpod run`
}

func withoutVar(env []string, name string) []string {
	var out []string
	for _, v := range env {
		if !strings.HasPrefix(v, name+"=") {
			out = append(out, v)
		}
	}
	return out
}

// TestNoStatusIsLost runs 10,000 short programs as PID 1 while orphans are born all the time.
func TestNoStatusIsLost(t *testing.T) {
	t.Parallel()
	const procs, rounds = 250, 40
	conf := fmt.Sprintf(`
[supervisord]
logfile=/dev/null
logfile_maxbytes=0
[unix_http_server]
file=%%(here)s/s.sock
[program:noise]
command=%%(ENV_PROG)s orphans 200
startsecs=0
autorestart=true
stdout_logfile=NONE
stderr_logfile=NONE
[program:w]
command=/bin/sh -c "exit %%(process_num)d"
process_name=%%(process_num)d
numprocs=%d
startsecs=0
autostart=false
autorestart=false
stdout_logfile=NONE
stderr_logfile=NONE
`, procs)
	s := setup{
		wrap: pidNamespace(t), files: map[string]string{"supervisord.conf": conf},
		args: []string{"-c", "supervisord.conf"}, static: true,
	}
	a := startAgent(t, s)
	a.untilState("noise", "RUNNING")
	c := lab.NewClient("unix://"+a.path("s.sock"), "", "", true)
	defer c.Close()
	wrong := 0
	for range rounds {
		if _, err := c.Call(t.Context(), "supervisor.startProcessGroup", "w", false); err != nil {
			t.Fatal(err)
		}
		var list []any
		if !lab.Until(patience, func() bool {
			v, err := c.Call(t.Context(), "supervisor.getAllProcessInfo")
			if err != nil {
				t.Fatal(err)
			}
			list, _ = v.([]any)
			for _, e := range list {
				if m := e.(map[string]any); m["group"] == "w" && m["statename"] != "EXITED" {
					return false
				}
			}
			return true
		}) {
			t.Fatalf("not all programs have exited: %v", list)
		}
		for _, e := range list {
			m := e.(map[string]any)
			if m["group"] == "w" && fmt.Sprint(m["exitstatus"]) != fmt.Sprint(m["name"]) {
				wrong++
				t.Errorf("program %v: got exit status %v", m["name"], m["exitstatus"])
			}
		}
	}
	init := a.init()
	if !lab.Until(patience, func() bool { return len(zombiesBelow(init)) == 0 }) {
		t.Errorf("zombies: %v", describe(zombiesBelow(init)))
	}
	t.Logf("%d statuses, %d wrong", procs*rounds, wrong)
	_ = syscall.Kill(init, syscall.SIGTERM)
	a.wantExit("exit 0")
}
