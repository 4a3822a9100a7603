package proc

import (
	"fmt"
	"syscall"
)

// Process is a process that a Reaper started. It leads a process group of its own.
type Process struct {
	r    *Reaper
	pid  int
	done chan struct{}

	// Guarded by r.mu; status is fixed once done is closed.
	status    Status
	reaped    bool
	groupGone bool // the group has no member any more: its number may belong to somebody else
}

// register puts p into the table. The caller holds mu for reading, which keeps the reaper out.
func (r *Reaper) register(p *Process) {
	r.tableMu.Lock()
	defer r.tableMu.Unlock()
	if old := r.groups[p.pid]; old != nil {
		// The kernel gave the number away, so nothing of the old group was left.
		old.groupGone = true
		delete(r.groups, p.pid)
	}
	r.table[p.pid] = p
	r.childless.Store(false)
}

// PID returns the process identifier, which is that of its process group too. It may belong to another
// process once Done is closed.
func (p *Process) PID() int { return p.pid }

// Done is closed when the process has ended and was reaped.
func (p *Process) Done() <-chan struct{} { return p.done }

// Status returns how the process ended. It is only valid after Done.
func (p *Process) Status() Status {
	select {
	case <-p.done:
		return p.status
	default:
		return Status{}
	}
}

// Signal sends sig to the process alone. It returns ErrDone when the process has been reaped.
func (p *Process) Signal(sig syscall.Signal) error {
	p.r.mu.RLock()
	defer p.r.mu.RUnlock()
	if p.reaped {
		return fmt.Errorf("cannot signal process %d: %w", p.pid, ErrDone)
	}
	if err := syscall.Kill(p.pid, sig); err != nil {
		return fmt.Errorf("cannot signal process %d: %w", p.pid, err)
	}
	return nil
}

// SignalGroup sends sig to the members of the process group, also when its leader has ended. It returns ErrDone
// when no member is left.
func (p *Process) SignalGroup(sig syscall.Signal) error {
	p.r.mu.RLock()
	defer p.r.mu.RUnlock()
	if p.reaped && !p.groupLeft() {
		return fmt.Errorf("cannot signal process group %d: %w", p.pid, ErrDone)
	}
	err := syscall.Kill(-p.pid, sig)
	if err == syscall.ESRCH && !p.reaped {
		err = syscall.Kill(p.pid, sig) // it has moved to another group of its session
	} else if err == syscall.ESRCH {
		err = ErrDone
	}
	if err != nil {
		return fmt.Errorf("cannot signal process group %d: %w", p.pid, err)
	}
	return nil
}

// groupLeft tells whether the group of a reaped leader still has members. A process with the leader's number
// proves that the group became empty in between: the kernel keeps the number while it names a group. The caller
// holds r.mu.
func (p *Process) groupLeft() bool {
	p.r.tableMu.Lock()
	gone := p.groupGone
	p.r.tableMu.Unlock()
	return !gone && syscall.Kill(p.pid, 0) == syscall.ESRCH && !groupEmpty(p.pid)
}
