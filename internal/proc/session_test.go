package proc

import (
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A session of its own is a process group of its own too, which signals reach.
func TestSession(t *testing.T) {
	r := newTestReaper(t)
	spec := shell("exec sleep 1000")
	spec.Session = true
	p, err := r.Start(spec)
	if err != nil {
		t.Fatal(err)
	}
	if sid, err := unix.Getsid(p.PID()); sid != p.PID() {
		t.Errorf("session %d of process %d (%v)", sid, p.PID(), err)
	}
	if err := p.SignalGroup(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	select {
	case <-p.Done():
	case <-testContext(t).Done():
		t.Fatal("it does not end")
	}
	if got := p.Status().Signal; got != syscall.SIGTERM {
		t.Errorf("signal %v, want %v", got, syscall.SIGTERM)
	}
}
