package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/inpod/inpod/supervisor/ini"
)

// alive tells whether a process with that number is there and is no zombie.
func alive(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	return !strings.HasPrefix(rest, "Z")
}

// pidIn waits for a file that holds a process number.
func (b *bench) pidIn(name string) (pid int) {
	b.t.Helper()
	b.eventually(name+" holds a pid", func() bool {
		text := b.read(name)
		if !strings.HasSuffix(text, "\n") {
			return false
		}
		var err error
		pid, err = strconv.Atoi(strings.TrimSpace(text))
		return err == nil
	})
	return pid
}

// fault asserts that err is the fault with that text.
func (b *bench) fault(err error, want string) {
	b.t.Helper()
	var f *Fault
	if !errors.As(err, &f) {
		b.t.Errorf("got error %v, want fault %q", err, want)
		return
	}
	if got := f.Error(); got != want {
		b.t.Errorf("got fault %q, want %q", got, want)
	}
}

func TestStopTakesTheDaemonsAlong(t *testing.T) {
	b := start(t, `
[program:parent]
command=/bin/sh -c 'setsid /bin/sh -c "echo \$\$ > DIR/daemon; exec sleep 600" & sleep 600 & echo $! > DIR/child; wait'
startsecs=0
`)
	daemon, child := b.pidIn("daemon"), b.pidIn("child")
	if err := b.StopProcess(b.ctx(), "parent", true); err != nil {
		t.Fatal(err)
	}
	for _, pid := range []int{daemon, child} {
		if alive(pid) {
			t.Errorf("process %d lives, want it gone when the program is STOPPED", pid)
		}
	}
}

func TestDaemonOfAProgramThatEndsByItselfIsLeftAlone(t *testing.T) {
	b := start(t, `
[program:parent]
command=/bin/sh -c 'setsid sleep 600 & echo $! > DIR/daemon; exit 0'
startsecs=0
autorestart=false
`)
	b.awaitState("parent", Exited)
	if daemon := b.pidIn("daemon"); !alive(daemon) {
		t.Errorf("process %d is gone, want it left alone", daemon)
	}
}

func TestIgnoresSIGTERM(t *testing.T) {
	b := start(t, `
[program:deaf]
command=/bin/sh -c 'trap "" TERM; echo ready; while :; do sleep 600; done'
stdout_logfile=DIR/deaf.log
stopwaitsecs=1
startsecs=0
`)
	b.eventually("it is deaf", func() bool { return b.read("deaf.log") != "" })
	begin := time.Now()
	if err := b.StopProcess(b.ctx(), "deaf", true); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took < time.Second {
		t.Errorf("it was stopped after %v, want stopwaitsecs=1 to pass first", took)
	}
	if s := b.snap("deaf"); s.state != Stopped || s.exitstatus != -1 {
		t.Errorf("got %v with status %d, want STOPPED with -1", s.state, s.exitstatus)
	}
}

func TestGrandchildHoldsStdout(t *testing.T) {
	b := start(t, `
[program:p]
command=/bin/sh -c 'sleep 600 & echo $! > DIR/holder; echo last words; exit 0'
stdout_logfile=DIR/p.log
startsecs=0
autorestart=false
`)
	b.awaitState("p", Exited)
	if got, want := b.read("p.log"), "last words\n"; got != want {
		t.Errorf("the log is %q, want %q", got, want)
	}
	if !alive(b.pidIn("holder")) {
		t.Error("the grandchild is gone, want it to hold stdout still")
	}
}

func TestEnds(t *testing.T) {
	b := start(t, `
[program:killed]
command=/bin/sh -c 'kill -SEGV $$'
startsecs=0
autorestart=false
[program:code]
command=/bin/sh -c 'exit 7'
startsecs=0
autorestart=false
[program:fine]
command=/bin/sh -c 'exit 7'
startsecs=0
exitcodes=0,7
[program:quick]
command=/bin/sh -c 'exit 0'
startsecs=600
startretries=0
[program:nosuch]
command=/no/such/command
startretries=0
[program:nofile]
command=nosuchcommand
startretries=0
[program:dir]
command=/tmp
startretries=0
[program:chdir]
command=/bin/true
directory=/no/such/dir
startsecs=0
autorestart=false
stderr_logfile=DIR/chdir.log
[program:noexec]
command=DIR/garbage
startsecs=0
autorestart=false
redirect_stderr=true
stdout_logfile=DIR/noexec.log
[program:nolog]
command=/bin/true
stdout_logfile=DIR/adir
startretries=0
`, func(o *Options) {
		dir := filepath.Dir(o.Config.Files[0])
		if err := errors.Join(os.WriteFile(filepath.Join(dir, "garbage"), []byte{1, 2, 3}, 0o755), os.Mkdir(filepath.Join(dir, "adir"), 0o755)); err != nil {
			t.Fatal(err)
		}
	})
	tests := []struct {
		name     string
		state    State
		spawnerr string
		status   int
	}{
		{"killed", Exited, "Bad exit code -1", -1},
		{"code", Exited, "Bad exit code 7", 7},
		{"fine", Exited, "", 7},
		{"quick", Fatal, "Exited too quickly (process log may have details)", 0},
		{"nosuch", Fatal, "can't find command '/no/such/command'", 0},
		{"nofile", Fatal, "can't find command 'nosuchcommand'", 0},
		{"dir", Fatal, "command at '/tmp' is a directory", 0},
		{"chdir", Exited, "Bad exit code 127", 127},
		{"noexec", Exited, "Bad exit code 127", 127},
		{"nolog", Fatal, "unknown error making dispatchers for 'nolog': EISDIR", 0},
	}
	for _, test := range tests {
		s := b.awaitState(test.name, test.state)
		if s.spawnerr != test.spawnerr || s.exitstatus != test.status || s.pid != 0 {
			t.Errorf("%s: got spawnerr %q, status %d, pid %d; want %q, %d, 0", test.name, s.spawnerr, s.exitstatus, s.pid, test.spawnerr, test.status)
		}
	}
	const after = "\nsupervisor: child process was not spawned\n"
	if got, want := b.read("chdir.log"), "supervisor: couldn't chdir to /no/such/dir: ENOENT"+after; got != want {
		t.Errorf("the log is %q, want %q", got, want)
	}
	if got, want := b.read("noexec.log"), "supervisor: couldn't exec "+b.dir+"/garbage: ENOEXEC"+after; got != want {
		t.Errorf("the log is %q, want %q", got, want)
	}
	b.fault(b.StartProcess(b.ctx(), "nofile", true), "NO_FILE: can't find command 'nosuchcommand'")
	b.fault(b.StartProcess(b.ctx(), "dir", true), "NOT_EXECUTABLE: command at '/tmp' is a directory")
	b.fault(b.StartProcess(b.ctx(), "quick", true), "SPAWN_ERROR: quick")
	b.fault(b.StartProcess(b.ctx(), "nolog", true), "SPAWN_ERROR: nolog")
}

func TestOutput(t *testing.T) {
	const size = 64 << 20
	b := start(t, fmt.Sprintf(`
[program:nonewline]
command=/usr/bin/printf 'no newline'
stdout_logfile=DIR/nonewline.log
startsecs=0
autorestart=false
[program:closes]
command=/bin/sh -c 'exec 1>&- 2>&-; echo $$ > DIR/closes; exec sleep 600'
startsecs=0
[program:much]
command=/usr/bin/head -c %d /dev/zero
stdout_logfile=DIR/much.log
stdout_logfile_maxbytes=0
startsecs=0
autorestart=false
`, size))
	b.awaitState("nonewline", Exited)
	if got, want := b.read("nonewline.log"), "no newline"; got != want {
		t.Errorf("the log is %q, want %q", got, want)
	}
	b.awaitState("much", Exited)
	if st, err := os.Stat(filepath.Join(b.dir, "much.log")); err != nil || st.Size() != size {
		t.Errorf("the log is %v (%v), want %d bytes", st, err, size)
	}
	pid := b.pidIn("closes")
	if s := b.awaitState("closes", Running); s.pid != pid {
		t.Errorf("it is %v with pid %d, want RUNNING with %d", s.state, s.pid, pid)
	}
}

func TestStopAndStartAtOddTimes(t *testing.T) {
	b := start(t, `
[program:starting]
command=/bin/sleep 600
startsecs=600
[program:backoff]
command=/bin/false
startsecs=600
startretries=100
[program:stopping]
command=/bin/sh -c 'trap "echo heard" TERM; echo ready; while :; do sleep 0.05; done'
stdout_logfile=DIR/stopping.log
startsecs=0
stopwaitsecs=600
`)
	b.awaitState("starting", Starting)
	b.fault(b.StartProcess(b.ctx(), "starting", true), "ALREADY_STARTED: starting")
	if err := b.StopProcess(b.ctx(), "starting", true); err != nil {
		t.Error(err)
	}
	b.fault(b.StopProcess(b.ctx(), "starting", true), "NOT_RUNNING: starting")

	b.awaitState("backoff", Backoff)
	b.fault(b.StartProcess(b.ctx(), "backoff", true), "ALREADY_STARTED: backoff")
	if err := b.StopProcess(b.ctx(), "backoff", true); err != nil {
		t.Error(err)
	}
	if s := b.snap("backoff"); s.state != Stopped {
		t.Errorf("it is %v, want STOPPED", s.state)
	}

	b.eventually("it is ready", func() bool { return b.read("stopping.log") == "ready\n" })
	if err := b.StopProcess(b.ctx(), "stopping", false); err != nil {
		t.Error(err)
	}
	b.fault(b.StartProcess(b.ctx(), "stopping", true), "ABNORMAL_TERMINATION: stopping")
	if err := b.StartProcess(b.ctx(), "stopping", false); err != nil {
		t.Errorf("a start without wait while stopping: got %v, want nil as Supervisor", err)
	}
	b.fault(b.StopProcess(b.ctx(), "stopping", true), "NOT_RUNNING: stopping")
	if err := b.SignalProcess("stopping", "USR1"); err != nil { // its end
		t.Errorf("a signal while stopping: %v", err)
	}
	b.awaitState("stopping", Stopped)
}

func TestNoStartIsLostDuringASlowSpawn(t *testing.T) {
	b := start(t, `
[program:slow]
command=/bin/sleep 600
pre_start_hook=/bin/sh -c 'echo $$ > DIR/hook; exec sleep 600'
autostart=false
startsecs=0
`)
	if err := b.ask("slow", (*process).requestStart); err != nil {
		t.Fatal(err)
	}
	hook := b.pidIn("hook")
	if s := b.snap("slow"); s.state != Starting || s.pid != 0 {
		t.Errorf("it is %v with pid %d, want STARTING without", s.state, s.pid)
	}
	if err := b.StopProcess(b.ctx(), "slow", true); err != nil {
		t.Fatal(err)
	}
	if alive(hook) {
		t.Error("the hook lives, want it gone with the stop")
	}
}

// ask runs f on a process's own goroutine.
func (b *bench) ask(name string, f func(*process)) error {
	b.t.Helper()
	b.snap(name) // waits for it
	p, err := b.findProcess(name)
	if err != nil {
		return err
	}
	return p.ask(context.Background(), func() { f(p) })
}

func TestEnvironment(t *testing.T) {
	b := start(t, `
[group:g]
programs=env
[program:env]
command=/bin/sh -c 'env; pwd; umask'
process_name=one
environment=FOO="bar",SECOND="de"
directory=/usr
umask=027
stdout_logfile=DIR/env.log
startsecs=0
autorestart=false
`, func(o *Options) {
		o.ServerURL = "unix:///tmp/x.sock"
		o.Env = []string{"PATH=/bin:/usr/bin", "HOME=/home/agent", "USER=agent", "FOO=overridden"}
	})
	b.awaitState("g:one", Exited)
	got := map[string]bool{}
	for line := range strings.Lines(b.read("env.log")) {
		got[strings.TrimSpace(line)] = true
	}
	for _, want := range []string{
		"SUPERVISOR_ENABLED=1", "SUPERVISOR_PROCESS_NAME=one", "SUPERVISOR_GROUP_NAME=g", "SUPERVISOR_SERVER_URL=unix:///tmp/x.sock",
		"FOO=bar", "SECOND=de", "HOME=/home/agent", "USER=agent", "/usr", "0027",
	} {
		if !got[want] {
			t.Errorf("%q is missing in %v", want, got)
		}
	}
}

func TestUser(t *testing.T) {
	b := start(t, `
[program:user]
command=/bin/sh -c 'id -u; id -g; echo $HOME'
user=nobody
stdout_logfile=DIR/user.log
stderr_logfile=DIR/user.err
startsecs=0
autorestart=false
`, func(o *Options) { o.Env = []string{"PATH=/bin:/usr/bin", "HOME=/root"} })
	b.awaitState("user", Exited)
	if os.Geteuid() == 0 {
		if got, want := b.read("user.log"), "65534\n65534\n/root\n"; got != want {
			t.Errorf("it says %q, want %q", got, want)
		}
		return
	}
	want := "supervisor: couldn't setuid to 65534: Can't drop privilege as nonroot user\nsupervisor: child process was not spawned\n"
	if got := b.read("user.err"); os.Geteuid() != 65534 && got != want {
		t.Errorf("it says %q, want %q", got, want)
	}
}

func TestStdin(t *testing.T) {
	b := start(t, `
[program:cat]
command=/bin/cat
stdout_logfile=DIR/cat.log
startsecs=0
[program:deaf]
command=/bin/sh -c 'exec 0<&-; echo $$ > DIR/deaf; exec sleep 600'
startsecs=0
[program:off]
command=/bin/cat
autostart=false
`)
	b.awaitState("cat", Running)
	big := strings.Repeat("x", 300_000) + "\n"
	for _, text := range []string{"hällo\n", big} {
		if err := b.SendStdin("cat", text); err != nil {
			t.Fatal(err)
		}
	}
	b.eventually("cat has said it all", func() bool { return b.read("cat.log") == "hällo\n"+big })
	b.pidIn("deaf")
	b.awaitState("deaf", Running) // which it may be later than it says so: our own end of its stdin is closed then
	b.fault(b.SendStdin("deaf", "x"), "NO_FILE: deaf")
	b.fault(b.SendStdin("off", "x"), "NOT_RUNNING: off")
	b.fault(b.SendStdin("nobody", "x"), "BAD_NAME: nobody")
}

func TestSignals(t *testing.T) {
	b := start(t, `
[program:p]
command=/bin/sh -c 'trap "echo hup" HUP; echo ready; while :; do sleep 0.05; done'
stdout_logfile=DIR/p.log
startsecs=0
[program:off]
command=/bin/true
autostart=false
`)
	b.eventually("it is ready", func() bool { return b.read("p.log") == "ready\n" })
	b.awaitState("p", Running) // it may be ready before
	if err := b.SignalProcess("p", "hup"); err != nil {
		t.Fatal(err)
	}
	b.eventually("it heard", func() bool { return b.read("p.log") == "ready\nhup\n" })
	if err := b.SignalProcess("p", "0"); err != nil {
		t.Errorf("signal 0: got %v, want true as from Supervisor", err)
	}
	b.fault(b.SignalProcess("p", "NOSUCH"), "BAD_SIGNAL: NOSUCH")
	b.fault(b.SignalProcess("p", ""), "BAD_SIGNAL: ")
	b.fault(b.SignalProcess("", "HUP"), "BAD_NAME: ")
	b.fault(b.SignalProcess("off", "HUP"), "NOT_RUNNING: off")
	b.fault(b.SignalProcess("off", "NOSUCH"), "BAD_SIGNAL: NOSUCH")
	got, err := b.SignalAll("CONT")
	if err != nil || len(got) != 1 || got[0] != (ProcessStatus{"p", "p", Success, "OK"}) {
		t.Errorf("SignalAll = %v, %v; want p alone with OK", got, err)
	}
	if _, err := b.SignalGroup("nosuch", "HUP"); err == nil || err.Error() != "BAD_NAME: nosuch" {
		t.Errorf("got %v, want BAD_NAME: nosuch", err)
	}
}

func TestMainProgram(t *testing.T) {
	type end struct {
		state State
		code  int
	}
	for command, want := range map[string]end{
		"exit 3":        {Exited, 3},
		"exit 0":        {Exited, 0},
		"kill -KILL $$": {Exited, 128 + int(syscall.SIGKILL)},
	} {
		t.Run(command, func(t *testing.T) {
			ended := make(chan end, 1)
			start(t, "", func(o *Options) {
				o.Main = &ini.Program{
					Name: "main", Group: "main", Argv: []string{"/bin/sh", "-c", command}, Command: command,
					Umask: -1, UID: -1, GID: -1, Autostart: true, Autorestart: ini.RestartNever,
				}
				o.OnMain = func(s State, code int) { ended <- end{s, code} }
			})
			select {
			case got := <-ended:
				if got != want {
					t.Errorf("got %v, want %v", got, want)
				}
			case <-time.After(patience):
				t.Error("it never ended")
			}
		})
	}
}

func TestEssential(t *testing.T) {
	ended := make(chan string, 4)
	b := start(t, `
[program:job]
command=/bin/true
essential=true
oneshot=true
startsecs=0
[program:core]
command=/bin/sh -c 'exit 9'
essential=true
autorestart=false
startsecs=0
`, func(o *Options) {
		o.OnEssential = func(name string, s State, code int) { ended <- fmt.Sprint(name, " ", s, " ", code) }
	})
	b.awaitState("job", Exited)
	select {
	case got := <-ended:
		if want := "core EXITED 9"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	case <-time.After(patience):
		t.Error("nobody was told")
	}
}
