package supervisor

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/inpod/inpod/supervisor/ini"
	sys "golang.org/x/sys/unix"
)

// told writes what a step asked for, and when the machine wants to be woken, in one line.
func told(m *machine, todo []action) string {
	var words []string
	for _, a := range todo {
		switch a.kind {
		case doSpawn:
			words = append(words, "spawn")
		case doAbandon:
			words = append(words, "abandon")
		case doSignal, doSignalRest:
			word := strings.TrimPrefix(sys.SignalName(a.signal), "SIG")
			if a.kind == doSignalRest {
				word = "rest-" + word
			}
			if a.group {
				word += "-group"
			}
			words = append(words, word)
		case doChange:
			word := a.change.To.String()
			if a.change.To == Exited && !a.change.Expected {
				word += "-unexpected"
			}
			words = append(words, word)
		}
	}
	if m.armed {
		words = append(words, fmt.Sprintf("@%g", m.deadline.Seconds()))
	}
	return strings.Join(words, " ")
}

type moment struct {
	at   float64 // seconds on the clock that never goes back
	in   input
	want string
}

func TestMachine(t *testing.T) {
	pid := func(n int) input { return input{kind: inSpawned, pid: n} }
	exit := func(code int) input {
		return input{kind: inExited, code: code, text: fmt.Sprintf("exit status %d", code)}
	}
	in := func(k inputKind) input { return input{kind: k, text: "why"} }
	base := rules{
		startsecs: seconds(1), startretries: 3, exitCodes: []int{0}, stopSignals: []syscall.Signal{syscall.SIGTERM},
		stopwait: seconds(10), delay: linear,
	}
	with := func(change func(*rules)) rules { r := base; change(&r); return r }
	tests := []struct {
		name  string
		rules rules
		play  []moment
	}{
		{"starts, stays up, exits as expected", base, []moment{
			{0, in(inStart), "STARTING spawn"},
			{0.1, pid(7), "@1.1"},
			{0.5, in(inTick), "@1.1"}, // too early: a timer that was set before
			{1.1, in(inTick), "RUNNING"},
			{5, exit(0), "EXITED"},
		}},
		{"exits unexpectedly and is started again", base, []moment{
			{0, in(inStart), "STARTING spawn"},
			{0, pid(7), "@1"},
			{1, in(inTick), "RUNNING"},
			{5, exit(3), "EXITED-unexpected STARTING spawn"},
		}},
		{"autorestart=true starts again after any exit", with(func(r *rules) { r.autorestart = ini.RestartAlways }), []moment{
			{0, in(inStart), "STARTING spawn"},
			{0, pid(7), "@1"},
			{1, in(inTick), "RUNNING"},
			{5, exit(0), "EXITED STARTING spawn"},
		}},
		{"autorestart=false never does", with(func(r *rules) { r.autorestart = ini.RestartNever }), []moment{
			{0, in(inStart), "STARTING spawn"},
			{0, pid(7), "@1"},
			{1, in(inTick), "RUNNING"},
			{5, exit(3), "EXITED-unexpected"},
			{6, in(inStart), "STARTING spawn"},
		}},
		{"startsecs=0 is running at once, and restarts once a second at most", with(func(r *rules) { r.startsecs = 0 }), []moment{
			{0, in(inStart), "STARTING spawn"},
			{0, pid(7), "RUNNING"},
			{0.1, exit(1), "EXITED-unexpected @1"},
			{1, in(inTick), "STARTING spawn"},
			{1, pid(8), "RUNNING"},
			{1, exit(0), "EXITED"},
		}},
		{"after an expected exit ten times a second", with(func(r *rules) { r.startsecs, r.autorestart = 0, ini.RestartAlways }), []moment{
			{0, in(inStart), "STARTING spawn"},
			{0, pid(7), "RUNNING"},
			{0.05, exit(0), "EXITED @0.1"},
			{0.1, in(inTick), "STARTING spawn"},
		}},
		{"too quick exits back off linearly and end in FATAL", with(func(r *rules) { r.startretries = 2 }), []moment{
			{0, in(inStart), "STARTING spawn"},
			{0, pid(7), "@1"},
			{0.5, exit(0), "BACKOFF @1.5"},
			{1.5, in(inTick), "STARTING spawn"},
			{1.5, pid(8), "@2.5"},
			{2, exit(0), "BACKOFF @4"},
			{4, in(inTick), "STARTING spawn"},
			{4, pid(9), "@5"},
			{4, exit(1), "BACKOFF FATAL"},
			{5, in(inStart), "STARTING spawn"},
			{5, input{kind: inSpawnFailed, text: "can't find command 'x'"}, "BACKOFF @6"},
		}},
		{"a start that works forgets the failures before it", with(func(r *rules) { r.startretries = 1 }), []moment{
			{0, in(inStart), "STARTING spawn"},
			{0, pid(7), "@1"},
			{0, exit(1), "BACKOFF @1"},
			{1, in(inTick), "STARTING spawn"},
			{1, pid(8), "@2"},
			{2, in(inTick), "RUNNING"},
			{9, exit(1), "EXITED-unexpected STARTING spawn"},
			{9, pid(9), "@10"},
			{9, exit(1), "BACKOFF @10"},
		}},
		{"startretries=0 gives up at the first failure", with(func(r *rules) { r.startretries = 0 }), []moment{
			{0, in(inStart), "STARTING spawn"},
			{0, input{kind: inSpawnFailed, text: "x"}, "BACKOFF FATAL"},
		}},
		{"stops when asked", base, []moment{
			{0, in(inStart), "STARTING spawn"},
			{0, pid(7), "@1"},
			{1, in(inTick), "RUNNING"},
			{2, in(inStop), "STOPPING TERM @12"},
			{3, input{kind: inExited, code: -1, text: "terminated by SIGTERM"}, "STOPPED"},
		}},
		{"ignores SIGTERM and is killed, again and again", with(func(r *rules) { r.killasgroup = true }), []moment{
			{0, in(inStart), "STARTING spawn"},
			{0, pid(7), "@1"},
			{1, in(inTick), "RUNNING"},
			{2, in(inStop), "STOPPING TERM @12"},
			{12, in(inTick), "KILL-group @22"},
			{22, in(inTick), "KILL-group @32"},
			{23, exit(-1), "STOPPED"},
		}},
		{"several stop signals are sent in turn, to the group", with(func(r *rules) {
			r.stopSignals, r.stopasgroup = []syscall.Signal{syscall.SIGHUP, syscall.SIGINT}, true
		}), []moment{
			{0, in(inStart), "STARTING spawn"},
			{0, pid(7), "@1"},
			{0.5, in(inStop), "STOPPING HUP-group @10.5"},
			{10.5, in(inTick), "INT-group @20.5"},
			{20.5, in(inTick), "KILL @30.5"},
		}},
		{"stopwaitsecs=0 kills at once, but not in a loop", with(func(r *rules) { r.stopwait = 0 }), []moment{
			{0, in(inStart), "STARTING spawn"},
			{0, pid(7), "@1"},
			{0, in(inStop), "STOPPING TERM @0"},
			{0, in(inTick), "KILL @1"},
		}},
		{"a start while stopping does nothing", base, []moment{
			{0, in(inStart), "STARTING spawn"},
			{0, pid(7), "@1"},
			{0, in(inStop), "STOPPING TERM @10"},
			{1, in(inStart), "@10"},
			{2, exit(0), "STOPPED"},
		}},
		{"a stop in BACKOFF is immediate", base, []moment{
			{0, in(inStart), "STARTING spawn"},
			{0, pid(7), "@1"},
			{0, exit(1), "BACKOFF @1"},
			{0.5, in(inStop), "STOPPED"},
			{1, in(inTick), ""},
		}},
		{"a stop during the spawn waits for its outcome", base, []moment{
			{0, in(inStart), "STARTING spawn"},
			{1, in(inStop), "STOPPING abandon @11"},
			{2, pid(7), "TERM @12"},
			{3, exit(0), "STOPPED"},
			{4, in(inStart), "STARTING spawn"},
			{5, in(inStop), "STOPPING abandon @15"},
			{6, input{kind: inSpawnFailed, text: "stopped"}, "STOPPED"},
		}},
		{"what is left behind is signalled, killed at the deadline, and waited for", base, []moment{
			{0, in(inStart), "STARTING spawn"},
			{0, pid(7), "@1"},
			{0, in(inStop), "STOPPING TERM @10"},
			{1, input{kind: inExited, code: 0, leftovers: true}, "rest-TERM @10"},
			{10, in(inTick), "rest-KILL @20"},
			{11, in(inGone), "STOPPED"},
		}},
		{"a restart stops and starts", base, []moment{
			{0, in(inStart), "STARTING spawn"},
			{0, pid(7), "@1"},
			{1, in(inTick), "RUNNING"},
			{2, in(inRestart), "STOPPING TERM @12"},
			{3, exit(0), "STOPPED STARTING spawn"},
		}},
		{"a stop overtakes a restart", with(func(r *rules) { r.pause = seconds(5) }), []moment{
			{0, in(inStart), "STARTING spawn"},
			{0, pid(7), "@1"},
			{1, in(inTick), "RUNNING"},
			{2, in(inRestart), "STOPPING TERM @12"},
			{3, in(inStop), "@12"},
			{4, exit(0), "STOPPED"},
		}},
		{"restartPause delays each automatic start", with(func(r *rules) { r.pause = seconds(5) }), []moment{
			{0, in(inStart), "STARTING spawn"},
			{0, pid(7), "@1"},
			{1, in(inTick), "RUNNING"},
			{2, exit(3), "EXITED-unexpected @7"},
			{7, in(inTick), "STARTING spawn"},
		}},
		{"a oneshot that succeeds within startsecs is done", with(func(r *rules) { r.oneshot, r.autorestart = true, ini.RestartAlways }), []moment{
			{0, in(inStart), "STARTING spawn"},
			{0, pid(7), "@1"},
			{0.2, exit(0), "RUNNING EXITED"},
		}},
		{"a oneshot that fails is tried again", with(func(r *rules) { r.oneshot = true }), []moment{
			{0, in(inStart), "STARTING spawn"},
			{0, pid(7), "@1"},
			{0.2, exit(1), "BACKOFF @1.2"},
		}},
		{"shutdown starts nothing", base, []moment{
			{0, in(inStart), "STARTING spawn"},
			{0, pid(7), "@1"},
			{1, in(inTick), "RUNNING"},
			{2, in(inClose), ""},
			{3, exit(3), "EXITED-unexpected"},
			{4, in(inStart), ""},
		}},
		{"shutdown in BACKOFF is FATAL", base, []moment{
			{0, in(inStart), "STARTING spawn"},
			{0, pid(7), "@1"},
			{0, exit(1), "BACKOFF @1"},
			{0, in(inClose), "@1"},
			{0, in(inGiveUp), "FATAL"},
		}},
		{"a signal that the kernel refuses", base, []moment{
			{0, in(inStart), "STARTING spawn"},
			{0, pid(7), "@1"},
			{1, in(inTick), "RUNNING"},
			{2, in(inStop), "STOPPING TERM @12"},
			{2, in(inSignalFailed), "UNKNOWN"},
			{3, exit(3), "EXITED-unexpected"},
		}},
		{"a panic while it runs", base, []moment{
			{0, in(inStart), "STARTING spawn"},
			{0, pid(7), "@1"},
			{1, in(inTick), "RUNNING"},
			{2, in(inCrashed), "STOPPING KILL @12"},
			{3, exit(-1), "FATAL"},
			{4, in(inStart), "STARTING spawn"},
		}},
		{"a panic while it is spawned", base, []moment{
			{0, in(inStart), "STARTING spawn"},
			{0, in(inCrashed), "STOPPING abandon @1"},
			{1, pid(7), "KILL @11"},
			{1, exit(-1), "FATAL"},
		}},
		{"a panic before it runs", base, []moment{
			{0, in(inCrashed), "FATAL"},
			{0, in(inCrashed), ""},
		}},
	}
	wall := time.Date(2026, 3, 29, 12, 0, 0, 0, time.UTC)
	clocks := map[string]func(up time.Duration) time.Time{
		"steady":      wall.Add,
		"set back":    func(up time.Duration) time.Time { return wall.Add(-up * 3600) },
		"set forward": func(up time.Duration) time.Time { return wall.Add(up * 3600) },
	}
	for _, test := range tests {
		for clock, at := range clocks {
			t.Run(test.name+"/"+clock, func(t *testing.T) {
				m := &machine{rules: &test.rules, state: Stopped}
				for i, mo := range test.play {
					up := time.Duration(mo.at * float64(time.Second))
					if got := told(m, m.step(mo.in, instant{wall: at(up), up: up})); got != mo.want {
						t.Fatalf("step %d, at %gs: got %q, want %q", i, mo.at, got, mo.want)
					}
				}
			})
		}
	}
}

func TestBackoffDelays(t *testing.T) {
	for n, want := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 10: 10 * time.Second} {
		if got := linear(n); got != want {
			t.Errorf("linear(%d) = %v, want %v", n, got, want)
		}
	}
	for n, want := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 4: 8 * time.Second, 7: maxBackoff, 1000: maxBackoff} {
		for range 100 {
			if got := exponential(n); got < want/2 || got > want {
				t.Errorf("exponential(%d) = %v, want between %v and %v", n, got, want/2, want)
			}
		}
	}
}

func TestDescription(t *testing.T) {
	start := time.Date(2026, 11, 22, 2, 24, 9, 0, time.Local)
	tests := []struct {
		snap snapshot
		now  time.Time
		want string
	}{
		{snapshot{state: Running, pid: 12, started: start}, start.Add(5 * time.Second), "pid 12, uptime 0:00:05"},
		{snapshot{state: Running, pid: 12, started: start}, start.Add(25*time.Hour + 61*time.Second), "pid 12, uptime 1 day, 1:01:01"},
		{snapshot{state: Running, pid: 12, started: start}, start.Add(72 * time.Hour), "pid 12, uptime 3 days, 0:00:00"},
		{snapshot{state: Running, pid: 12, started: start}, start.Add(-time.Hour), "pid 12, uptime 0:00:00"},
		{snapshot{state: Fatal, spawnerr: "can't find command 'x'"}, start, "can't find command 'x'"},
		{snapshot{state: Backoff}, start, `unknown error (try "tail web")`},
		{snapshot{state: Stopped}, start, "Not started"},
		{snapshot{state: Stopped, started: start, stopped: start}, start, "Nov 22 02:24 AM"},
		{snapshot{state: Exited, started: start, stopped: start.Add(12 * time.Hour)}, start, "Nov 22 02:24 PM"},
		{snapshot{state: Starting, pid: 12, started: start}, start, ""},
		{snapshot{state: Stopping, pid: 12, started: start}, start, ""},
		{snapshot{state: Stopped, waiting: "db"}, start, "waiting for db"},
	}
	for _, test := range tests {
		if got := test.snap.description("web", test.now); got != test.want {
			t.Errorf("%v: got %q, want %q", test.snap.state, got, test.want)
		}
	}
}
