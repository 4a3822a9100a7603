package ini

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestKeysBeyondSupervisor(t *testing.T) {
	dir := t.TempDir()
	env := write(t, filepath.Join(dir, "app.env"), "# comment\nexport A=file\nB = 'two words' # why\nC=\"line 1\nline\\t2\"\nD=plain # rest\nE=\n")
	c := load(t, `
[supervisord]
environment=A="outer",Z="outer"
[program-default]
nice=3
[program:db]
command=/bin/cat
readiness_tcp=5432
[program:web]
command=/bin/cat
environment=D="own"
envFiles=`+env+`
depends_on=db,
readiness_http=8000:/health
readiness_period=0.5
readiness_timeout=250ms
readiness_failures=7
liveness_exec=/bin/true x
essential=true
restart_backoff=Exponential
stdout_format=JSON
stdout_logfile=/tmp/a.log, /dev/stdout, syslog, syslog @tcp:log.example:6514
syslog_facility=LOCAL3
syslog_stderr_priority=crit
syslog_tag=t
oom_score_adj=-500
nice=-5
memory_limit=1.5Gi
cpu_limit=250m
restartPause=2
cron=*/5 * * * * *
stopsignal=TERM INT
user=0:0
restart_when_binary_changed=true
restart_cmd_when_binary_changed=/bin/echo changed
restart_signal_when_file_changed=HUP
restart_directory_monitor=/tmp/%(program_name)s
pre_start_hook=/bin/echo %(process_num)d
pre_stop_hook=/bin/true
[program:once]
command=/bin/true
oneshot=true
[program:old]
command=/bin/cat
liveness_check_script=tcp://127.0.0.1:80
liveness_check_initial_delay=5
`)
	byName := map[string]Program{}
	for _, g := range c.Groups {
		byName[g.Name] = g.Programs[0]
	}
	web := byName["web"]
	nice, oom := -5, -500
	want := Program{
		Name: "web", Group: "web", Section: "program:web", File: web.File, Line: web.Line,
		Command: "/bin/cat", Argv: []string{"/bin/cat"}, Umask: -1, Priority: 999, Autostart: true, Startsecs: 1, Startretries: 3,
		ExitCodes: []int{0}, StopSignals: []syscall.Signal{syscall.SIGTERM, syscall.SIGINT}, Stopwaitsecs: 10,
		User: "0:0", UID: 0, GID: 0, Groups: web.Groups,
		Environment: map[string]string{"A": "file", "B": "two words", "C": "line 1\nline\t2", "D": "own", "E": "", "Z": "outer"},
		Stdout: Log{
			File: "/tmp/a.log", Also: []string{"/dev/stdout", "syslog @tcp:log.example:6514"}, Maxbytes: 50 << 20, Backups: 10,
			Syslog: true, SyslogFacility: "local3", SyslogTag: "t",
		},
		Stderr:    Log{File: "AUTO", Maxbytes: 50 << 20, Backups: 10, SyslogFacility: "local3", SyslogPriority: "crit", SyslogTag: "t"},
		DependsOn: []string{"db"},
		Readiness: &Check{HTTP: "8000:/health", Period: 0.5, Timeout: 0.25, Failures: 7},
		Liveness:  &Check{Exec: "/bin/true x", Period: 10, Timeout: 1, Failures: 3},
		Essential: true, Backoff: "exponential", RestartPause: 2, Format: "json", OOMScoreAdj: &oom, Nice: &nice,
		MemoryLimit: 3 << 29, CPULimit: 0.25, Cron: "*/5 * * * * *", RestartOnBinaryChange: true,
		WatchDir: "/tmp/web", WatchPattern: "*", BinaryChangeCmd: "/bin/echo changed", FileChangeSignal: syscall.SIGHUP,
		PreStartHook: "/bin/echo 0", PreStopHook: "/bin/true",
	}
	if diff := cmp.Diff(want, web); diff != "" {
		t.Errorf("program web (-want +got):\n%s", diff)
	}
	if once := byName["once"]; once.Startsecs != 0 || once.Autorestart != RestartNever || *once.Nice != 3 {
		t.Errorf("got once %+v, want startsecs 0, autorestart false and nice 3 of [program-default]", once)
	}
	if diff := cmp.Diff(&Check{TCP: "127.0.0.1:80", Delay: 5, Period: 60, Timeout: 30, Failures: 3}, byName["old"].Liveness); diff != "" {
		t.Errorf("older liveness (-want +got):\n%s", diff)
	}
	if c.Files[len(c.Files)-1] != env {
		t.Errorf("got files %v, want %s among them", c.Files, env)
	}
}

func TestCommandThatCannotBeSplit(t *testing.T) {
	c := load(t, "[program:a]\ncommand=/bin/echo 'x\n[program:b]\ncommand=\n")
	for i, want := range []string{`can't parse command "/bin/echo 'x": No closing quotation`, "command is empty"} {
		if p := c.Groups[i].Programs[0]; p.CommandError != want || p.Argv != nil {
			t.Errorf("got %q, %q, want %q and no words", p.CommandError, p.Argv, want)
		}
	}
}

func TestAccountsWithoutFiles(t *testing.T) {
	dir := t.TempDir()
	none := &accounts{passwd: dir + "/passwd", group: dir + "/group"}
	if acc, ok := none.user("1234"); !ok || acc.uid != 1234 || acc.gid != -1 {
		t.Errorf("got %+v, %v, want uid 1234 and no group", acc, ok)
	}
	if _, _, ok := none.userGroup("1:2"); !ok {
		t.Error("got no 1:2, want it without any file")
	}
	write(t, dir+"/passwd", "broken\nann:x:7:8:Ann:/home/ann:/bin/sh\nann:x:9:9::/:/bin/sh\n")
	write(t, dir+"/group", "ann:x:8:\nstaff:x:50:bob,ann\nnone\n")
	some := &accounts{passwd: dir + "/passwd", group: dir + "/group"}
	acc, ok := some.user("ann")
	if diff := cmp.Diff([]int{8, 50}, some.supplementary(acc, acc.gid)); !ok || acc.uid != 7 || diff != "" {
		t.Errorf("got %+v, %v, groups (-want +got):\n%s", acc, ok, diff)
	}
	for _, wrong := range []string{"bob-who", "-1", "99999999999999", ""} {
		if acc, ok := some.user(wrong); ok {
			t.Errorf("user(%q) = %+v, want none", wrong, acc)
		}
	}
}

func TestGlob(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.conf", "b.conf", "c.ini", ".h.conf", "[x].conf", "d1/e.conf", "d2/f.conf"} {
		write(t, filepath.Join(dir, name), "")
	}
	for pattern, want := range map[string]string{
		"*.conf": "[x].conf a.conf b.conf", "?.conf": "a.conf b.conf", "[ab].conf": "a.conf b.conf", "[!a].conf": "b.conf",
		"[a-b].*": "a.conf b.conf", ".*.conf": ".h.conf", "[[]x].conf": "[x].conf", "d?/*.conf": "d1/e.conf d2/f.conf",
		"d1/e.conf": "d1/e.conf", "none": "", "none/*": "", "**/e.conf": "d1/e.conf", "*": "[x].conf a.conf b.conf c.ini d1 d2", "[a": "",
	} {
		var got []string
		for _, name := range glob(filepath.Join(dir, pattern)) {
			got = append(got, strings.TrimPrefix(name, dir+"/"))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("glob(%q) = %q, want %q", pattern, got, want)
		}
	}
}
