package supervisor

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/inpod/inpod/internal/proc"
)

// peerPrograms end in the same states under Supervisor and here, whatever the time that takes.
const peerPrograms = `
[eventlistener:ears]
command=/bin/sh DIR/listen DIR/heard OK
events=EVENT
buffer_size=1000
startsecs=0
[program:quick]
command=/bin/sh -c 'exit 0'
startsecs=600
startretries=1
[program:code]
command=/bin/sh -c 'exit 3'
startsecs=0
autorestart=false
[program:signal]
command=/bin/sh -c 'kill -KILL $$'
startsecs=0
autorestart=false
[program:expected]
command=/bin/sh -c 'exit 4'
exitcodes=4
startsecs=0
[program:missing]
command=/no/such/command
startretries=0
[program:nodir]
command=/bin/true
directory=/no/such/dir
startsecs=0
autorestart=false
redirect_stderr=true
stdout_events_enabled=true
[group:pair]
programs=talk,stays
[program:talk]
command=/bin/sh -c 'printf "before<!--XSUPERVISOR:BEGIN-->h\303\244llo<!--XSUPERVISOR:END-->after, and longer than a token, else Supervisor keeps it for itself"; printf "\377x" >&2; sleep 4'
stdout_events_enabled=true
stderr_events_enabled=true
stdout_capture_maxbytes=1MB
startsecs=1
autorestart=false
[program:stays]
command=/bin/sleep 600
`

// heardOf sorts what a listener wrote by the program that it is about, without what differs from run to run.
func heardOf(text string) map[string][]string {
	by := map[string][]string{}
	pid := regexp.MustCompile(`pid:\d+`)
	name := regexp.MustCompile(`(?:process|group)name:(\S+)`)
	for _, ev := range heardEvents(text) {
		if strings.HasPrefix(ev, "TICK_") {
			continue // chance, too
		}
		who := "supervisor"
		if m := name.FindStringSubmatch(ev); m != nil {
			who = m[1]
		}
		if strings.HasPrefix(ev, "PROCESS_LOG") {
			head, data, _ := strings.Cut(ev, "\n")
			who += head[strings.LastIndex(head, " "):] // where the bytes of a stream are cut is chance
			if len(by[who]) == 0 {
				by[who] = []string{""}
			}
			by[who][0] += data
			continue
		}
		by[who] = append(by[who], pid.ReplaceAllString(ev, "pid:N"))
	}
	delete(by, "ears")
	return by
}

// settled tells whether each program has said its last word.
func settled(text string) bool {
	last := map[string]bool{
		"PROCESS_STATE_FATAL|processname:quick": false, "PROCESS_STATE_FATAL|processname:missing": false,
		"PROCESS_STATE_EXITED|processname:code": false, "PROCESS_STATE_EXITED|processname:signal": false,
		"PROCESS_STATE_EXITED|processname:expected": false, "PROCESS_STATE_EXITED|processname:nodir": false,
		"PROCESS_STATE_EXITED|processname:talk": false, "PROCESS_STATE_RUNNING|processname:stays": false,
	}
	for _, ev := range heardEvents(text) {
		what, _, _ := strings.Cut(ev, " ")
		delete(last, what)
	}
	return len(last) == 0
}

// TestEventsAreSupervisors runs the same programs under Debian's supervisord and here and compares every event that
// a listener hears.
func TestEventsAreSupervisors(t *testing.T) {
	const peer = "/usr/bin/supervisord"
	b := start(t, peerPrograms, withScript("listen", goodListener))
	theirs := &bench{t: t, dir: t.TempDir()}
	theirs.write("nodaemon=true\nlogfile=DIR/main.log\npidfile=DIR/pid\n" + peerPrograms)
	if err := os.WriteFile(filepath.Join(theirs.dir, "listen"), []byte(goodListener), 0o755); err != nil {
		t.Fatal(err)
	}
	spec := proc.NewSpec(peer, "-c", theirs.conf())
	spec.Env = os.Environ()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		_, out, err := b.opt.Reaper.Run(ctx, spec, proc.RunOptions{Grace: patience})
		t.Logf("supervisord: %s", out)
		done <- err
	}()
	defer func() {
		cancel()
		<-done
	}()
	for _, bench := range []*bench{b, theirs} {
		deadline := time.After(patience)
		for !settled(bench.read("heard")) {
			select {
			case <-time.After(20 * time.Millisecond):
			case <-deadline:
				t.Fatalf("not all events came: %s", bench.read("heard"))
			}
		}
	}
	got, want := heardOf(b.read("heard")), heardOf(theirs.read("heard"))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events differ (-Supervisor +inpod):\n%s", diff)
	}
}
