package supervisor

import "testing"

func TestHooks(t *testing.T) {
	b := start(t, `
[program:p]
command=/bin/sh -c 'trap "echo stopped >> DIR/story; exit 0" TERM; echo runs >> DIR/story; while :; do sleep 0.02; done'
pre_start_hook=/bin/sh -c 'echo before >> DIR/story'
pre_stop_hook=/bin/sh -c 'echo hook >> DIR/story'
startsecs=0
stopwaitsecs=600
[program:bad]
command=/bin/sleep 600
pre_start_hook=/no/such/hook
pre_stop_hook=/bin/false
startsecs=0
`)
	b.eventually("it runs", func() bool { return b.read("story") == "before\nruns\n" })
	if err := b.StopProcess(b.ctx(), "p", true); err != nil {
		t.Fatal(err)
	}
	if got, want := b.read("story"), "before\nruns\nhook\nstopped\n"; got != want {
		t.Errorf("the story is %q, want %q", got, want)
	}
	b.awaitState("bad", Running)
	if err := b.StopProcess(b.ctx(), "bad", true); err != nil {
		t.Errorf("a hook that fails kept the program from stopping: %v", err)
	}
}
