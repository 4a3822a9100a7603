package e2e

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
)

func TestDependsOnWaitsForReadiness(t *testing.T) {
	t.Parallel()
	a := gated(t, `
[program:second]
command=%(ENV_PROG)s run
depends_on=gate
startsecs=0
[program:third]
command=%(ENV_PROG)s run
depends_on=second
startsecs=0
`)
	a.untilState("gate", "RUNNING")
	if p := a.program("second"); p.PID != 0 {
		t.Errorf("second runs before gate is ready: %+v", p)
	}
	if code, _ := a.get("/readyz"); code != 503 {
		t.Errorf("readyz: got %d, want 503", code)
	}
	a.write("ready", "")
	a.untilState("second", "RUNNING")
	a.untilState("third", "RUNNING")
	a.untilPhase("ready")
}

func TestReadinessKinds(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	a := startAgent(t, setup{
		env: []string{fmt.Sprintf("GATE=%d", port)},
		files: map[string]string{"programs/p.ini": `
[program:tcp]
command=%(ENV_PROG)s gate 127.0.0.1:%(ENV_GATE)s %(ENV_DIR)s
readiness_tcp=127.0.0.1:%(ENV_GATE)s
readiness_period=0.1
startsecs=0
[program:exec]
command=%(ENV_PROG)s run
readiness_exec=test -e %(ENV_DIR)s/exec-ready
readiness_period=0.1
startsecs=0
[program:log]
command=%(ENV_PROG)s cat
readiness_log=listening on [0-9]+
startsecs=0
stdout_logfile=%(ENV_DIR)s/log.log
`},
	})
	ready := func(name string) func() bool { return func() bool { return a.program(name).Ready } }
	a.until("tcp is ready", ready("tcp"))
	a.untilState("exec", "RUNNING")
	if a.program("exec").Ready || a.program("log").Ready {
		t.Error("exec and log are ready too early")
	}
	a.write("exec-ready", "")
	a.until("exec is ready", ready("exec"))
	if code, body := a.get("/readyz?verbose"); code != 503 || !strings.Contains(body, "[-]program/log failed") {
		t.Errorf("readyz?verbose: got %d %s, want log to fail", code, body)
	}
	c := a.control()
	defer c.Close()
	a.untilState("log", "RUNNING")
	if _, err := c.Call(t.Context(), "supervisor.sendProcessStdin", "log", "listening on 8080\n"); err != nil {
		t.Fatal(err)
	}
	a.until("log is ready", ready("log"))
	a.untilPhase("ready")
}

func TestLivenessRestarts(t *testing.T) {
	t.Parallel()
	a := startAgent(t, setup{
		env: []string{fmt.Sprintf("GATE=%d", freePort(t))},
		files: map[string]string{"programs/p.ini": `
[program:gate]
command=%(ENV_PROG)s gate 127.0.0.1:%(ENV_GATE)s %(ENV_DIR)s
liveness_http=http://127.0.0.1:%(ENV_GATE)s/live
liveness_period=0.2
liveness_failures=2
startsecs=0
`},
	})
	a.untilState("gate", "RUNNING")
	before := a.program("gate").PID
	a.write("dead", "")
	a.until("a new process", func() bool { p := a.program("gate"); return p.PID != 0 && p.PID != before })
	if err := os.Remove(a.path("dead")); err != nil {
		t.Fatal(err)
	}
	a.untilState("gate", "RUNNING")
	a.until("the restart in /metrics", func() bool {
		_, body := a.get("/metrics")
		return strings.Contains(body, `inpod_program_liveness_restarts_total{group="gate",program="gate"}`)
	})
	if code, _ := a.get("/livez"); code != 200 {
		t.Errorf("livez of the agent: got %d, want 200", code)
	}
}

func TestEssential(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, how string }{
		{"exits", "command=%(ENV_PROG)s run for=500ms code=3\nautorestart=false\nstartsecs=0"},
		{"fatal", "command=/no/such/program\nstartretries=0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := setup{files: map[string]string{"programs/p.ini": "[program:need]\nessential=true\n" + tc.how +
				"\n[program:other]\ncommand=%(ENV_PROG)s mark %(ENV_DIR)s/order other\nstartsecs=0\n"}}
			a := prepare(t, s)
			a.launch(s)
			if got := a.d.WaitExit(patience); !strings.HasPrefix(got, "exit ") || got == "exit 0" {
				t.Errorf("agent: got %s, want an exit that is not 0", got)
			}
			if left := a.d.Leftovers(); len(left) > 0 {
				t.Errorf("left behind: %v", describe(left))
			}
		})
	}
}

func TestOneDeadProgramIsNoReasonToDie(t *testing.T) {
	t.Parallel()
	a := startAgent(t, setup{files: map[string]string{"programs/p.ini": "[program:dead]\ncommand=/no/such/program\nstartretries=0\n[program:ok]\ncommand=%(ENV_PROG)s run\nstartsecs=0\n"}})
	a.untilState("dead", "FATAL")
	a.untilState("ok", "RUNNING")
	if code, _ := a.get("/livez"); code != 200 {
		t.Errorf("livez: got %d, want 200", code)
	}
	if a.d.Exited() {
		t.Error("the agent has gone")
	}
}

func TestOneshotAndBackoff(t *testing.T) {
	t.Parallel()
	a := startAgent(t, setup{files: map[string]string{"programs/p.ini": `
[program:once]
command=/bin/sh -c "echo ran >> %(ENV_DIR)s/once"
oneshot=true
[program:after]
command=%(ENV_PROG)s run
depends_on=once
startsecs=0
[program:grows]
command=/bin/sh -c "date +%%s%%N >> %(ENV_DIR)s/tries; exit 1"
restart_backoff=exponential
startretries=3
`}})
	a.untilState("once", "EXITED")
	a.untilState("after", "RUNNING")
	a.untilState("grows", "FATAL")
	if data, _ := os.ReadFile(a.path("once")); string(data) != "ran\n" {
		t.Errorf("oneshot ran: got %q, want once", data)
	}
}

func TestPrefixAndJSONOutput(t *testing.T) {
	t.Parallel()
	a := startAgent(t, setup{files: map[string]string{"programs/p.ini": `
[program:plain]
command=/bin/sh -c "echo CHILD:plain; exec sleep 100"
stdout_logfile=/dev/stdout
startsecs=0
[program:named]
command=/bin/sh -c "echo CHILD:named; exec sleep 100"
stdout_logfile=/dev/stdout
stdout_format=raw
startsecs=0
[program:record]
command=/bin/sh -c "echo CHILD:record; exec sleep 100"
stdout_logfile=/dev/stdout
stdout_format=json
startsecs=0
`}})
	for _, w := range []string{"CHILD:plain", "CHILD:named", "CHILD:record"} {
		a.untilFile("daemon.out", w)
	}
	for _, line := range strings.Split(a.d.Output(), "\n") {
		switch {
		case strings.Contains(line, "CHILD:plain") && line != "CHILD:plain":
			t.Errorf("as written: got %q", line)
		case strings.Contains(line, "CHILD:named") && !strings.Contains(line, "named") || line == "CHILD:named":
			t.Errorf("raw: got %q, want the program's name before it", line)
		case strings.Contains(line, "CHILD:record") && !strings.HasPrefix(line, "{"):
			t.Errorf("json: got %q", line)
		}
	}
}

func TestNiceOOMAndSignals(t *testing.T) {
	t.Parallel()
	a := startAgent(t, setup{files: map[string]string{"programs/p.ini": `
[program:a]
command=/bin/sh -c "nice > %(ENV_DIR)s/nice; grep -E 'Sig(Blk|Ign)' /proc/self/status > %(ENV_DIR)s/signals; echo done > %(ENV_DIR)s/all; exec sleep 100"
nice=7
oom_score_adj=333
startsecs=0
`}})
	a.untilFile("all", "done")
	for file, want := range map[string]string{
		"nice": "7\n",
		// Nothing blocked or ignored is handed down.
		"signals": "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n",
	} {
		data, _ := os.ReadFile(a.path(file))
		// 32 and 33 are the C library's own: make's posix_spawn hands them down ignored, and nobody can change that.
		got := strings.NewReplacer("SigIgn:\t0000000080000000", "SigIgn:\t0000000000000000",
			"SigIgn:\t0000000180000000", "SigIgn:\t0000000000000000").Replace(string(data))
		if got != want {
			t.Errorf("%s: got %q, want %q", file, got, want)
		}
	}
	// It is set from outside right after the start: the program itself may look too early.
	a.until("oom_score_adj", func() bool {
		data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", a.program("a").PID))
		return string(data) == "333\n"
	})
	_ = a.d.Signal(syscall.SIGTERM)
	a.wantExit("exit 0")
}
