package supervisor

import (
	"testing"
)

func TestStartsRestartsAndStops(t *testing.T) {
	b := start(t, `
[program:web]
command=/bin/sh -c 'echo hello; exec sleep 600'
stdout_logfile=DIR/web.log
startsecs=0
[program:flaky]
command=/bin/sh -c 'exit 3'
startsecs=0
autorestart=unexpected
[program:off]
command=/bin/sleep 600
autostart=false
startsecs=0
`)
	b.awaitState("web", Running)
	b.eventually("web.log says hello", func() bool { return b.read("web.log") == "hello\n" })
	b.await("flaky", "restarted once", func(s *snapshot) bool { return s.restarts > 0 })
	if err := b.StartProcess(b.ctx(), "off", true); err != nil {
		t.Fatal(err)
	}
	b.awaitState("off", Running)
	if err := b.StopProcess(b.ctx(), "off", true); err != nil {
		t.Fatal(err)
	}
	if s := b.snap("off"); s.state != Stopped || s.pid != 0 || s.exitstatus != -1 {
		t.Errorf("got %+v, want STOPPED by a signal", *s)
	}
	t.Log(b.AllProcessInfo())
}
