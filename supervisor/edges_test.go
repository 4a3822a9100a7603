package supervisor

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// While programs are held back, neither a group that is added nor a schedule starts any.
func TestHoldHoldsWhatIsAddedAndCron(t *testing.T) {
	hold := make(chan struct{})
	b := start(t, `
[program:old]
command=/bin/sleep 600
startsecs=0
[program:timed]
command=/bin/sh -c 'echo >> DIR/timed'
cron=* * * * * *
autostart=false
startsecs=0
autorestart=false
`, func(o *Options) { o.Hold = hold })
	b.snap("timed")
	b.write(`
[program:old]
command=/bin/sleep 600
startsecs=0
[program:new]
command=/bin/sleep 600
startsecs=0
[program:timed]
command=/bin/sh -c 'echo >> DIR/timed'
cron=* * * * * *
autostart=false
startsecs=0
autorestart=false
`)
	if _, _, _, err := b.Reread(); err != nil {
		t.Fatal(err)
	}
	if err := b.AddGroup("new"); err != nil {
		t.Fatal(err)
	}
	<-time.After(1500 * time.Millisecond) // a second has begun, whenever the test did
	for _, name := range []string{"old", "new", "timed"} {
		if s := b.snap(name); s.starts > 0 || s.waiting != "" {
			t.Errorf("%s is %+v while programs are held back", name, *s)
		}
	}
	close(hold)
	for _, name := range []string{"old", "new"} {
		b.awaitState(name, Running)
	}
	b.awaitState("timed", Exited)
}

// Who starts a program that waits for another one gets the outcome of the start, and not that of the wait.
func TestAStartWaitsForDependencies(t *testing.T) {
	b := start(t, `
[program:web]
command=/bin/sleep 600
autostart=false
depends_on=db
startsecs=0
[program:db]
command=/bin/sleep 600
autostart=false
readiness_exec=/usr/bin/test -e DIR/db.ready
readiness_period=0.05
readiness_timeout=60
startsecs=0
`)
	b.snap("web")
	outcome := make(chan error, 1)
	go func() { outcome <- b.StartProcess(b.ctx(), "web", true) }()
	b.await("web", "waiting for db", func(s *snapshot) bool { return s.waiting == "db" })
	if err := os.WriteFile(filepath.Join(b.dir, "db.ready"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := <-outcome; err != nil {
		t.Errorf("the start that waited for db: got %v, want nil", err)
	}
	b.awaitState("web", Running)
}

// A name in depends_on means the program of that name where there is one, also in a group that is called the same.
func TestADependencyIsTheProgramBeforeTheGroup(t *testing.T) {
	b := start(t, `
[group:db]
programs=db,cache
[program:db]
command=/bin/sleep 600
startsecs=0
[program:cache]
command=/bin/sleep 600
depends_on=db
startsecs=0
`)
	b.awaitState("db:cache", Running)
}

// A removal that is refused changes nothing: what was about to be started is started.
func TestARefusedRemovalLeavesTheGroupAsItWas(t *testing.T) {
	b := start(t, `
[group:g]
programs=a,w,z
[program:a]
command=/bin/sh -c 'echo >> DIR/starts; exit 1'
autorestart=true
startsecs=0
priority=1
[program:w]
command=/bin/sleep 600
depends_on=later
startsecs=0
priority=2
[program:z]
command=/bin/sleep 600
startsecs=0
priority=3
[program:later]
command=/bin/sleep 600
autostart=false
readiness_exec=/usr/bin/test -e DIR/later.ready
readiness_period=0.05
readiness_timeout=60
startsecs=0
`)
	b.awaitState("g:z", Running)
	b.await("g:w", "waiting", func(s *snapshot) bool { return s.waiting == "later" })
	for range 3 {
		s := b.await("g:a", "between two lives", func(s *snapshot) bool { return s.state == Exited })
		b.fault(b.RemoveGroup("g"), "STILL_RUNNING: g")
		if _, err := s.until(b.ctx(), func(s *snapshot) bool { return s.state == Running }); err != nil {
			t.Fatalf("a is %+v, want it started again", *b.snap("g:a"))
		}
	}
	if s := b.snap("g:w"); s.waiting != "later" {
		t.Errorf("w is %+v, want it still waiting for later", *s)
	}
	if err := os.WriteFile(filepath.Join(b.dir, "later.ready"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	b.awaitState("g:w", Running)
}

// A program that ends and is about to be started again can be stopped.
func TestAPauseBetweenTwoLivesCanBeEnded(t *testing.T) {
	b := start(t, `
[program:p]
command=/bin/false
autorestart=true
startsecs=0
restartpause=600
`)
	b.awaitState("p", Exited)
	if err := b.StopProcess(b.ctx(), "p", true); err != nil {
		t.Errorf("a stop in the pause: got %v, want nil", err)
	}
	if s := b.snap("p"); s.state != Stopped || s.again {
		t.Errorf("p is %+v, want STOPPED for good", *s)
	}
	b.fault(b.StopProcess(b.ctx(), "p", true), "NOT_RUNNING: p")
	if err := b.StartProcess(b.ctx(), "p", true); err != nil {
		t.Errorf("a start afterwards: got %v, want nil", err)
	}
}

// What a shell leaves behind at a stop has its output until it has ended, too: it must not die of a broken pipe.
func TestWhatIsLeftMayWriteUntilItsEnd(t *testing.T) {
	b := start(t, `
[program:p]
command=/bin/sh -c 'sh -c "trap \"echo bye; sleep 0.2; echo >&2; echo done; exit\" TERM; echo up; while :; do sleep 0.05; done" & wait'
stdout_logfile=DIR/p.log
stderr_logfile=DIR/p.err
startsecs=0
stopwaitsecs=600
`)
	b.eventually("it has a child", func() bool { return b.read("p.log") == "up\n" })
	if err := b.StopProcess(b.ctx(), "p", true); err != nil {
		t.Fatal(err)
	}
	if got, want := b.read("p.log"), "up\nbye\ndone\n"; got != want {
		t.Errorf("the log holds %q, want %q", got, want)
	}
}
