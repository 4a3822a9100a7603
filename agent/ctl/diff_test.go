package ctl

import (
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/inpod/inpod/internal/testport"
)

const diffConf = `
[unix_http_server]
file=DIR/s.sock
[supervisord]
logfile=DIR/main.log
loglevel=warn
pidfile=DIR/s.pid
childlogdir=DIR
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[include]
files=DIR/more/*.ini
[program:talker]
command=/bin/sh -c "echo this goes to stdout; echo und dies nach stderr: Grüße >&2; exec sleep 1000"
startsecs=0
stdout_logfile=DIR/talker.out
stderr_logfile=DIR/talker.err
[program:quiet]
command=sleep 1000
startsecs=0
stdout_logfile=NONE
stderr_logfile=NONE
priority=3
[program:cat]
command=cat
startsecs=0
stdout_logfile=DIR/cat.out
[program:web]
command=sleep 1000
startsecs=0
numprocs=2
process_name=%(program_name)s_%(process_num)d
[program:manual]
command=sleep 1000
startsecs=0
autostart=false
[program:quick]
command=true
autostart=false
startsecs=60
startretries=0
[program:lost]
command=DIR/no-such-file
autostart=false
[program:notexec]
command=DIR/notexec
autostart=false
[program:a-program-whose-name-is-longer-than-thirty-letters]
command=sleep 1000
startsecs=0
autostart=false
[program:one]
command=sleep 1000
startsecs=0
[program:two]
command=sleep 1000
startsecs=0
[group:pair]
programs=one,two
priority=5
`

// diffSteps are run one after another, by both clients, each against its own supervisord.
func diffSteps() []step {
	running := []string{"talker RUNNING", "quiet RUNNING", "cat RUNNING", "web:web_0 RUNNING", "web:web_1 RUNNING", "pair:one RUNNING", "pair:two RUNNING"}
	return []step{
		{await: running, line: "status"},
		{line: "status all"},
		{line: "status web:*"},
		{line: "status web:"},
		{line: "status web:web_1 talker"},
		{line: "status talker talker"},
		{line: "status nobody"},
		{line: "status nobody:*"},
		{line: "status web:nobody quiet"},
		{line: "status manual"},
		{line: "status web"},
		{line: "  status   quiet  "},
		{line: "status a-program-whose-name-is-longer-than-thirty-letters quiet"},
		// pid
		{line: "pid"},
		{line: "pid talker"},
		{line: "pid manual"},
		{line: "pid nobody"},
		{line: "pid web:web_0 nobody pair:one"},
		{line: "pid all"},
		{line: "pid web:*"},
		// start
		{line: "start"},
		{line: "start manual"},
		{line: "start manual"},
		{line: "start nobody"},
		{line: "start nobody:*"},
		{line: "start quick"},
		{line: "start lost"},
		{line: "start notexec"},
		{line: "start manual nobody quick"},
		{line: "start web:*", sorted: true},
		{line: "start web:web_0"},
		{line: "start pair:nobody"},
		{line: "start web"},
		// stop
		{line: "stop"},
		{line: "stop manual"},
		{line: "stop manual"},
		{line: "stop nobody"},
		{line: "stop nobody:*"},
		{line: "stop web:*", sorted: true},
		{line: "stop web:*"},
		{line: "start web:*", sorted: true},
		{line: "stop pair:one pair:two manual"},
		{line: "start pair:*"},
		{line: "stop lost"},
		{line: "status"},
		// signal
		{line: "signal"},
		{line: "signal HUP"},
		{line: "signal NOPE quiet"},
		{line: "signal NOPE web:*"},
		{line: "signal HUP manual"},
		{line: "signal USR9 all"},
		{line: "signal HUP nobody"},
		{line: "signal HUP nobody:*"},
		{line: "signal CONT quiet web:* nobody"},
		{line: "signal 18 quiet"},
		{line: "signal SIGCONT web:web_0"},
		{line: "signal cont quiet"},
		// restart
		{line: "restart"},
		{line: "restart quiet"},
		{line: "restart manual"},
		{line: "restart nobody"},
		{line: "restart web:*", sorted: true},
		{line: "restart nobody:* quiet", sorted: true},
		{line: "restart lost"},
		// logs
		{line: "tail"},
		{line: "tail talker"},
		{line: "tail talker stderr"},
		{line: "tail talker STDOUT"},
		{line: "tail -10 talker"},
		{line: "tail -10 talker stderr"},
		{line: "tail -0 talker"},
		{line: "tail --5 talker"},
		{line: "tail -1_0 talker"},
		{line: "tail -x talker"},
		{line: "tail - talker"},
		{line: "tail -99999999999 talker"},
		{line: "tail talker stdin"},
		{line: "tail talker it's"},
		{line: "tail -5"},
		{line: "tail a b c d"},
		{line: "tail -f talker stderr more"},
		{line: "tail nobody"},
		{line: "tail quiet"},
		{line: "tail web:*"},
		{line: "tail manual stderr"},
		{line: "tail -f nobody"},
		{line: "tail -f quiet"},
		{line: "tail -f talker", until: "stdout\n"},
		{line: "tail -f talker stderr", until: "Grüße\n"},
		{line: "maintail", sorted: true},
		{line: "maintail -20", sorted: true},
		{line: "maintail x"},
		{line: "maintail -x"},
		{line: "maintail -5 -6"},
		{line: "clear"},
		{line: "clear talker"},
		{line: "tail talker"},
		{line: "clear nobody"},
		{line: "clear web:*"},
		{line: "clear quiet nobody"},
		{line: "clear all"},
		// fg
		{line: "fg"},
		{line: "fg a b"},
		{line: "fg nobody"},
		{line: "fg lost"},
		{line: "fg cat", stdin: "hello\n", until: "hello\n", last: "Exiting foreground\n"},
		// configuration
		{line: "avail"},
		{line: "avail x"},
		{line: "reread"},
		{line: "reread x"},
		{line: "update"},
		{files: map[string]string{
			"more/new.ini":  "[program:new]\ncommand=sleep 1000\nstartsecs=0\n[program:other]\ncommand=sleep 1000\nautostart=false\n",
			"more/gone.ini": "[program:gone]\ncommand=sleep 1000\nstartsecs=0\n",
		}, line: "reread"},
		{line: "avail"},
		{line: "update nobody"},
		{line: "update nobody gone"},
		{line: "add new nobody"},
		{line: "add new"},
		{line: "add other"},
		{line: "status new gone other"},
		{line: "remove new"},
		{line: "remove nobody"},
		{line: "remove other manual"},
		{line: "remove"},
		{line: "add"},
		{
			files: map[string]string{
				"more/new.ini":  "[program:new]\ncommand=sleep 2000\nstartsecs=0\n[program:other]\ncommand=sleep 1000\nautostart=false\n",
				"more/gone.ini": "",
			}, line: "reread",
		},
		{line: "update all"},
		{line: "status"},
		{line: "update"},
		{files: map[string]string{"more/bad.ini": "[program:bad]\nautostart=perhaps\n"}, line: "reread"},
		{line: "update"},
		{files: map[string]string{"more/bad.ini": "no section\n"}, line: "reread"},
		{files: map[string]string{"more/bad.ini": ""}, line: "reread"},
		// the rest
		{line: "version"},
		{line: "version x"},
		{line: "help"},
		{line: "?"},
		{line: "help help"},
		{line: "help status"},
		{line: "help nope"},
		{line: "nope"},
		{line: "nope with args"},
		{line: "!ls"},
		{line: "foo-bar"},
		{line: "status*"},
		{line: "? x"},
		{line: "EOF"},
		{line: "exit"},
		{line: "quit"},
		{line: "open nonsense"},
		{line: "open ftp://x"},
		{line: "open unix:///nonexistent/sock"},
		{line: "stop all", sorted: true},
		{line: "stop all"},
		{line: "start all", sorted: true},
		{line: "signal CONT all"},
		{line: "restart all", sorted: true},
		{line: "stop all nobody", sorted: true},
		{line: "shutdown x"},
		{line: "reload x"},
		{line: "", stdin: "status quiet\n\nnope\npid nobody\nhelp\nshutdown\nn\nreload\n\nversion\nquit\nstatus\n"},
		{line: "", stdin: "version\nversion"},
		{line: "", stdin: ""},
		{line: "", stdin: "open unix:///nonexistent/sock\nversion\nshutdown\ny\n"},
		{line: "reload"},
		{line: "shutdown", await: []string{"quiet RUNNING"}},
	}
}

func helpSteps() []step {
	var steps []step
	for _, a := range strings.Fields("add avail clear exit fg maintail open pid quit reload remove reread restart shutdown signal " +
		"start status stop tail update version EOF drain") {
		steps = append(steps, step{line: "help " + a})
	}
	return steps
}

// step is one action, with what has to be there before it.
type step struct {
	line, stdin, until, last string
	sorted                   bool // processes start and stop in any order
	files                    map[string]string
	await                    []string
}

func TestSameAsSupervisorctl(t *testing.T) {
	ctl := startDriver(t)
	theirs, ours := startPeer(t, diffConf), startPeer(t, diffConf)
	for _, p := range []*peer{theirs, ours} {
		p.mkdir(t, "more")
		p.awaitLog(t, "talker.out", "stdout\n")
		p.awaitLog(t, "talker.err", "Grüße\n")
	}
	steps := append(helpSteps(), diffSteps()...)
	for _, s := range steps {
		for _, p := range []*peer{theirs, ours} {
			for name, text := range s.files {
				p.write(t, name, text)
			}
			p.await(t, s.await...)
		}
		r := request{Stdin: s.stdin, Until: s.until, Last: s.last, Args: []string{"-s", theirs.url()}}
		if s.line != "" {
			r.Args = append(r.Args, strings.Split(s.line, " ")...)
		}
		var want, got answer
		var both sync.WaitGroup
		both.Go(func() { want = normal(theirs, ctl.run(t, r), s.sorted) })
		got = normal(ours, runOurs(t, Options{ServerURL: ours.url()}, s.line, r), s.sorted)
		both.Wait()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q %q (-supervisorctl +ours):\n%s", s.line, s.stdin, diff)
		}
	}
	t.Logf("%d invocations compared", len(steps))
}

// normal replaces what differs from one supervisord to the next: paths, pids, times.
func normal(p *peer, a answer, sorted bool) answer {
	replace := func(s string) string {
		s = strings.ReplaceAll(s, p.dir, "DIR")
		for _, rule := range [][2]string{
			{`pid \d+, uptime \d+:\d\d:\d\d`, "pid N, uptime T"},
			{`(?m)^[1-9]\d*$`, "N"},
			{`(?m)[A-Z][a-z]{2} \d\d \d\d:\d\d (AM|PM)$`, "DATE"},
			{`(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} `, "DATE "},
			{`: file: \S+ line: \d+`, ""}, // a place in Python's source
		} {
			s = regexp.MustCompile(rule[0]).ReplaceAllString(s, rule[1])
		}
		return s
	}
	out := strings.SplitAfter(replace(a.Out), "\n")
	if sorted {
		slices.Sort(out)
	}
	return answer{strings.Join(out, ""), replace(a.Err), a.Code}
}

const loginConf = `
[inet_http_server]
port=127.0.0.1:PORT
username=ann
password=secret:word
[unix_http_server]
file=DIR/s.sock
[supervisord]
logfile=DIR/main.log
pidfile=DIR/s.pid
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[program:talker]
command=/bin/sh -c "echo hello; exec sleep 1000"
stdout_logfile=DIR/talker.out
startsecs=0
`

// TestSameAsSupervisorctlByNetwork asks one supervisord over TCP, with and without the right password, and
// servers that are not there.
func TestSameAsSupervisorctlByNetwork(t *testing.T) {
	port, closed := freePort(t), testport.Closed(t)
	ctl, p := startDriver(t), startPeer(t, strings.ReplaceAll(loginConf, "PORT", port))
	url := "http://127.0.0.1:" + port
	p.await(t, "talker RUNNING")
	p.awaitLog(t, "talker.out", "hello\n")
	type login struct{ url, user, password string }
	right, wrong, none := login{url, "ann", "secret:word"}, login{url, "ann", "nope"}, login{url: url}
	down, away := login{url: "http://" + closed}, login{url: "unix:///nonexistent/s.sock"}
	file, odd := login{url: "unix:///etc/passwd"}, login{url: "ftp://x/y"}
	steps := []struct {
		login
		line, stdin, until string
	}{
		{right, "status", "", ""},
		{right, "pid talker", "", ""},
		{right, "stop nobody", "", ""},
		{right, "version", "", ""},
		{right, "tail talker", "", ""},
		{right, "tail -f talker", "", "hello\n"},
		{right, "maintail -f", "", "entered RUNNING state"},
		{right, "", "pid nobody\n", ""},
		{wrong, "status", "", ""},
		{wrong, "stop talker", "", ""},
		{wrong, "reread", "", ""},
		{wrong, "tail -f talker", "", ""},
		{wrong, "shutdown", "", ""},
		{none, "status", "", ""},
		{none, "avail", "", ""},
		{none, "fg talker", "", ""},
		{none, "", "ann\nsecret:word\nversion\n", ""},
		{none, "", "", ""},
		{odd, "status", "", ""},
		{odd, "reload", "", ""},
	}
	for _, line := range strings.Fields("status start stop restart signal tail maintail reread update avail pid clear shutdown reload fg version") {
		for _, l := range []login{down, away, file} {
			steps = append(steps, struct {
				login
				line, stdin, until string
			}{l, line, "", ""})
		}
	}
	for _, s := range steps {
		r := request{Args: []string{"-s", s.url}, Stdin: s.stdin, Until: s.until}
		if s.user != "" {
			r.Args = append(r.Args, "-u", s.user, "-p", s.password)
		}
		if s.line != "" {
			r.Args = append(r.Args, strings.Fields(s.line)...)
		}
		want := normal(p, ctl.run(t, r), false)
		got := normal(p, runOurs(t, Options{ServerURL: s.url, Username: s.user, Password: s.password}, s.line, r), false)
		want.Err = regexp.MustCompile(`(?s)\S+ GetPassWarning.*echoed\.\n`).ReplaceAllString(want.Err, "")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%+v (-supervisorctl +ours):\n%s", s, diff)
		}
	}
	t.Logf("%d invocations compared", len(steps))
}
