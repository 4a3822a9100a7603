package supervisor

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestDependenciesWaitForReadiness(t *testing.T) {
	b := start(t, `
[program:web]
command=/bin/sleep 600
depends_on=db,migrate
priority=1
startsecs=0
[program:db]
command=/bin/sleep 600
readiness_exec=/usr/bin/test -e DIR/db.ready
readiness_period=0.05
readiness_timeout=60
startsecs=0
[program:migrate]
command=/bin/sh -c 'echo done > DIR/migrated'
oneshot=true
depends_on=db
`)
	b.awaitState("db", Running)
	b.await("web", "waiting for db", func(s *snapshot) bool { return s.waiting == "db" })
	info, err := b.ProcessInfo("web")
	if err != nil || info.Statename != "STOPPED" || info.Description != "waiting for db" {
		t.Errorf("got %s %q (%v), want STOPPED \"waiting for db\"", info.Statename, info.Description, err)
	}
	if ready, checks := b.Ready(); ready || len(checks) != 2 {
		t.Errorf("Ready() = %v, %v; want false and two checks", ready, checks)
	}
	if err := os.WriteFile(filepath.Join(b.dir, "db.ready"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	b.awaitState("web", Running)
	if got := b.read("migrated"); got != "done\n" {
		t.Errorf("web runs before migrate has ended: %q", got)
	}
	b.await("db", "ready", func(s *snapshot) bool { return s.ready })
	if ready, checks := b.Ready(); !ready {
		t.Errorf("Ready() = false, %v; want true", checks)
	}
	b.stop()
	var order []string
	for len(b.changes) > 0 {
		if c := <-b.changes; c.To == Stopped {
			order = append(order, c.Process)
		}
	}
	if want := []string{"web", "db"}; !slices.Equal(order, want) {
		t.Errorf("stopped in the order %v, want %v", order, want)
	}
}

func TestAWaitingProgramCanBeStopped(t *testing.T) {
	b := start(t, `
[program:web]
command=/bin/sleep 600
depends_on=db
startsecs=0
[program:db]
command=/bin/sleep 600
readiness_log=never
startsecs=0
`)
	b.await("web", "waiting", func(s *snapshot) bool { return s.waiting == "db" })
	b.fault(b.StartProcess(b.ctx(), "web", true), "ALREADY_STARTED: web")
	if err := b.StopProcess(b.ctx(), "web", true); err != nil {
		t.Fatal(err)
	}
	if s := b.snap("web"); s.waiting != "" || s.state != Stopped {
		t.Errorf("got %+v, want STOPPED and not waiting", *s)
	}
}

func TestReadinessByLogAndTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b := start(t, fmt.Sprintf(`
[program:log]
command=/bin/sh -c 'read x; echo starting; echo "listening on 80"; exec sleep 600'
readiness_log=^listening on [0-9]+$
startsecs=0
[program:tcp]
command=/bin/sleep 600
readiness_tcp=%s
startsecs=0
`, l.Addr()))
	b.await("tcp", "ready", func(s *snapshot) bool { return s.ready })
	if s := b.awaitState("log", Running); s.ready {
		t.Error("log is ready before it said so")
	}
	if err := b.SendStdin("log", "\n"); err != nil {
		t.Fatal(err)
	}
	b.await("log", "ready", func(s *snapshot) bool { return s.ready })
}

func TestLivenessRestarts(t *testing.T) {
	b := start(t, `
[program:p]
command=/bin/sleep 600
liveness_exec=/usr/bin/test -e DIR/alive
liveness_period=0.05
liveness_timeout=60
liveness_failures=2
startsecs=0
autorestart=false
`, withScript("alive", ""))
	first := b.awaitState("p", Running)
	if err := os.Remove(filepath.Join(b.dir, "alive")); err != nil {
		t.Fatal(err)
	}
	s := b.await("p", "restarted by its liveness check", func(s *snapshot) bool { return s.unlive == 1 && s.state == Running && s.pid != first.pid })
	if s.pid == 0 {
		t.Error("it has no pid")
	}
}

func TestCron(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		schedule, err := parseCron("*/15 * * * *")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		begin := time.Now()
		var fired []string
		go followCron(ctx, schedule, func() { fired = append(fired, time.Since(begin).String()) })
		time.Sleep(46 * time.Minute)
		cancel()
		synctest.Wait()
		if want := []string{"15m0s", "30m0s", "45m0s"}; !slices.Equal(fired, want) {
			t.Errorf("it fired after %v, want %v", fired, want)
		}
	})
}

func TestCronStartsTheProgram(t *testing.T) {
	b := start(t, `
[program:job]
command=/bin/sh -c 'echo ran >> DIR/job'
cron=* * * * * *
autostart=false
autorestart=false
startsecs=0
`)
	b.eventually("it ran", func() bool { return b.read("job") != "" })
}

func TestRestartsWhenFilesChange(t *testing.T) {
	b := start(t, `
[program:bin]
command=DIR/tool
restart_when_binary_changed=true
startsecs=0
[program:conf]
command=/bin/sh -c 'trap "echo hup >> DIR/hups" HUP; echo ready > DIR/trapped; while :; do sleep 0.05; done'
restart_directory_monitor=DIR/conf.d
restart_file_pattern=*.conf
restart_signal_when_file_changed=HUP
startsecs=0
`, withScript("tool", "#!/bin/sh\nexec sleep 600\n"), func(o *Options) {
		_ = os.Mkdir(filepath.Join(filepath.Dir(o.Config.Files[0]), "conf.d"), 0o755)
	})
	first := b.awaitState("bin", Running)
	b.eventually("conf traps", func() bool { return b.read("trapped") != "" })
	b.eventually("the files are watched", func() bool { return b.watcher.active.Load() == 2 })
	if err := os.WriteFile(filepath.Join(b.dir, "tool.new"), []byte("#!/bin/sh\nexec sleep 601\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(b.dir, "tool.new"), filepath.Join(b.dir, "tool")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"conf.d/ignored.txt", "conf.d/a.conf"} {
		if err := os.WriteFile(filepath.Join(b.dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b.await("bin", "running anew", func(s *snapshot) bool { return s.state == Running && s.pid != first.pid })
	b.eventually("conf got one HUP", func() bool { return b.read("hups") == "hup\n" })
}

func TestFastCGI(t *testing.T) {
	b := start(t, `
[fcgi-program:f]
command=/bin/sh -c 'readlink /proc/self/fd/0; exec sleep 600'
socket=unix://DIR/f.sock
socket_mode=0700
process_name=%(program_name)s_%(process_num)d
numprocs=2
stdout_logfile=DIR/%(process_num)d.log
startsecs=0
`)
	b.eventually("both have a stdin", func() bool { return b.read("0.log") != "" && b.read("1.log") != "" })
	if one, two := b.read("0.log"), b.read("1.log"); one != two || !strings.HasPrefix(one, "socket:") {
		t.Errorf("their stdins are %q and %q, want one socket", one, two)
	}
	c, err := net.Dial("unix", filepath.Join(b.dir, "f.sock"))
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	b.fault(b.SendStdin("f:f_0", "x"), "NO_FILE: f:f_0")
}

func TestRereadAddRemove(t *testing.T) {
	const same = "[program:same]\ncommand=/bin/sleep 600\nstartsecs=0\n"
	b := start(t, same+"[program:changes]\ncommand=/bin/sleep 600\nstartsecs=0\n[program:goes]\ncommand=/bin/sleep 600\nstartsecs=0\n")
	b.awaitState("goes", Running)
	b.write(same + "[program:changes]\ncommand=/bin/sleep 601\nstartsecs=0\n[program:comes]\ncommand=/bin/sleep 600\nstartsecs=0\n")
	added, changed, removed, err := b.Reread()
	if got := fmt.Sprint(added, changed, removed, err); got != "[comes] [changes] [goes] <nil>" {
		t.Errorf("Reread() = %s, want [comes] [changes] [goes] <nil>", got)
	}
	b.fault(b.RemoveGroup("goes"), "STILL_RUNNING: goes")
	b.fault(b.RemoveGroup("nosuch"), "BAD_NAME: nosuch")
	if err := b.StopProcess(b.ctx(), "goes", true); err != nil {
		t.Fatal(err)
	}
	if err := b.RemoveGroup("goes"); err != nil {
		t.Fatal(err)
	}
	b.fault(b.StartProcess(b.ctx(), "goes", true), "BAD_NAME: goes")
	b.fault(b.AddGroup("goes"), "BAD_NAME: goes")
	b.fault(b.AddGroup("same"), "ALREADY_ADDED: same")
	if err := b.AddGroup("comes"); err != nil {
		t.Fatal(err)
	}
	b.awaitState("comes", Running)
	b.write("[program:same]\n")
	if _, _, _, err := b.Reread(); err == nil || !strings.HasPrefix(err.Error(), "CANT_REREAD: ") {
		t.Errorf("got %v, want CANT_REREAD", err)
	}
	if got := len(b.AllConfigInfo()); got != 3 {
		t.Errorf("%d programs are configured after a bad reread, want the 3 of before", got)
	}
}

func TestLogs(t *testing.T) {
	b := start(t, `
[program:p]
command=/bin/sh -c 'printf "0123456789"; exec sleep 600'
stdout_logfile=DIR/p.log
stderr_logfile=NONE
startsecs=0
[program:auto]
command=/bin/sh -c 'echo out; exec sleep 600'
startsecs=0
`, withScript("old-stdout---supervisor-abc.log", ""), withScript("old-stdout---other-abc.log", ""))
	b.awaitState("p", Running)
	b.eventually("p has written", func() bool { return b.read("p.log") == "0123456789" })
	for _, test := range []struct {
		offset, length int64
		want           string
	}{
		{0, 0, "0123456789"}, {2, 3, "234"}, {-4, 0, "6789"}, {-400, 0, "0123456789"}, {-4, 2, "BAD_ARGUMENTS"}, {0, -1, "BAD_ARGUMENTS"}, {50, 0, ""},
	} {
		got, err := b.ReadLog("p", "stdout", test.offset, test.length)
		if err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("ReadLog(%d, %d) = %q, want %q", test.offset, test.length, got, test.want)
		}
	}
	if _, err := b.ReadLog("p", "stderr", 0, 0); err == nil || err.Error() != "NO_FILE" {
		t.Errorf("got %v, want NO_FILE", err)
	}
	if text, next, over, err := b.TailLog("p", "stdout", 0, 4); text != "6789" || next != 10 || !over || err != nil {
		t.Errorf("TailLog = %q, %d, %v, %v; want \"6789\", 10, true", text, next, over, err)
	}
	path, err := b.LogPath("auto", "stdout")
	if err != nil || !strings.HasPrefix(path, b.dir+"/auto-stdout---supervisor-") {
		t.Errorf("the AUTO log is %q (%v)", path, err)
	}
	if err := b.ClearLogs("p"); err != nil || b.read("p.log") != "" {
		t.Errorf("after ClearLogs (%v) the log is %q, want it empty", err, b.read("p.log"))
	}
	if _, err := os.Stat(filepath.Join(b.dir, "old-stdout---supervisor-abc.log")); err == nil {
		t.Error("an old AUTO log is left")
	}
	if _, err := os.Stat(filepath.Join(b.dir, "old-stdout---other-abc.log")); err != nil {
		t.Error("the AUTO log of another supervisor was removed")
	}
}

// TestAutoLogsOfAGroupAddedAgain: the files stay the same until the configuration is read anew.
func TestAutoLogsOfAGroupAddedAgain(t *testing.T) {
	b := start(t, `
[program:p]
command=/bin/sleep 1000
autostart=false
`)
	path := func() string {
		t.Helper()
		path, err := b.LogPath("p", "stdout")
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	again := func() {
		t.Helper()
		if err := b.RemoveGroup("p"); err != nil {
			t.Fatal(err)
		}
		if err := b.AddGroup("p"); err != nil {
			t.Fatal(err)
		}
	}
	b.snap("p")
	first := path()
	again()
	if got := path(); got != first {
		t.Errorf("added again it logs to %q, want %q", got, first)
	}
	if got := b.AllConfigInfo()[0].Program.Stdout.File; got != first {
		t.Errorf("getAllConfigInfo has %q, want %q", got, first)
	}
	if _, _, _, err := b.Reread(); err != nil {
		t.Fatal(err)
	}
	again()
	if got := path(); got == first {
		t.Errorf("after a reread it logs to %q as before, want a file of its own", got)
	}
}

func TestPriorities(t *testing.T) {
	b := start(t, `
[program:last]
command=/bin/sleep 600
priority=30
startsecs=0
[group:g]
programs=b,a
priority=20
[program:a]
command=/bin/sleep 600
priority=1
startsecs=0
[program:b]
command=/bin/sleep 600
priority=2
startsecs=0
[program:first]
command=/bin/sleep 600
priority=10
startsecs=0
`)
	b.awaitState("last", Running)
	var started []string
	for len(b.changes) > 0 {
		if c := <-b.changes; c.To == Starting {
			started = append(started, c.Process)
		}
	}
	if want := []string{"first", "a", "b", "last"}; !slices.Equal(started, want) {
		t.Errorf("started %v, want %v", started, want)
	}
	got, err := b.StopAll(b.ctx(), true)
	if err != nil || len(got) != 4 {
		t.Errorf("StopAll = %v, %v; want 4 results", got, err)
	}
	got, err = b.StartAll(b.ctx(), true)
	if err != nil || len(got) != 4 || got[0].Name != "first" || got[0].Description != "OK" {
		t.Errorf("StartAll = %v, %v; want 4 results in order", got, err)
	}
	for len(b.changes) > 0 {
		<-b.changes
	}
	b.stop()
	var stopped []string
	for len(b.changes) > 0 {
		if c := <-b.changes; c.To == Stopping {
			stopped = append(stopped, c.Process)
		}
	}
	if want := []string{"last", "b", "a", "first"}; !slices.Equal(stopped, want) {
		t.Errorf("stopped %v, want %v", stopped, want)
	}
	if _, err := b.StartAll(context.Background(), true); err == nil || err.Error() != "SHUTDOWN_STATE" {
		t.Errorf("got %v, want SHUTDOWN_STATE", err)
	}
}
