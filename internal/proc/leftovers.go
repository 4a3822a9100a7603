package proc

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"
)

// Descendants lists the processes below p as they are now, parents first. Take it before p is stopped: what
// has left p's process group can only be found while its parents live.
func (p *Process) Descendants() []Member {
	p.r.mu.RLock()
	reaped := p.reaped
	p.r.mu.RUnlock()
	if reaped {
		return nil
	}
	return p.r.host.below(p.pid) // a number is not given away again within the time this takes
}

// Leftovers is what outlived a process: the members of its process group, those of its earlier descendants that
// still live, and what is below them now.
type Leftovers struct {
	p *Process

	mu    sync.Mutex
	known []Member // alive when last looked at
}

// Leftovers returns what outlives p. Give it what Descendants returned before the stop.
func (p *Process) Leftovers(before []Member) *Leftovers {
	return &Leftovers{p: p, known: before}
}

// Alive looks which of them live. It costs next to nothing when the group is empty and no descendant was known.
func (l *Leftovers) Alive() []Member {
	l.mu.Lock()
	defer l.mu.Unlock()
	candidates := l.survivors()
	if l.groupLeft() {
		for _, m := range everything() {
			if m.PGID == l.p.pid {
				candidates = append(candidates, m)
			}
		}
	}
	if len(candidates) > 0 {
		pids := make([]int, len(candidates))
		for i, m := range candidates {
			pids[i] = m.PID
		}
		candidates = append(candidates, l.p.r.host.below(pids...)...)
	}
	return l.keep(candidates)
}

// keep stores the living members of all, each once.
func (l *Leftovers) keep(all []Member) []Member {
	seen := map[int]bool{}
	var alive []Member
	for _, m := range all {
		if m.dead() || seen[m.PID] || m.PID == l.p.pid {
			continue
		}
		seen[m.PID] = true
		alive = append(alive, m)
	}
	l.known = alive
	return append([]Member(nil), alive...)
}

// survivors returns the known members that still live, as they are now. The caller holds l.mu.
func (l *Leftovers) survivors() []Member {
	var alive []Member
	for _, m := range l.known {
		if now, ok := readMember(m.PID); ok && now.same(m) && !now.dead() {
			alive = append(alive, now)
		}
	}
	return alive
}

func (l *Leftovers) groupLeft() bool {
	r := l.p.r
	r.mu.RLock()
	defer r.mu.RUnlock()
	return !l.p.reaped || l.p.groupLeft()
}

// gone tells whether none lives. While one of the known does, it looks no further.
func (l *Leftovers) gone() bool {
	l.mu.Lock()
	known := l.survivors()
	l.mu.Unlock()
	return len(known) == 0 && len(l.Alive()) == 0
}

// Signal sends sig to the process group first, at once and without gaps, and then to each of the others. The
// error names those that could not be signalled; processes that are gone are none.
func (l *Leftovers) Signal(sig syscall.Signal) error {
	err := l.p.SignalGroup(sig)
	if errors.Is(err, ErrDone) {
		err = nil
	}
	errs := []error{err}
	for _, m := range l.Alive() {
		if m.PGID != l.p.pid {
			errs = append(errs, m.signal(sig))
		}
	}
	return errors.Join(errs...)
}

// Looking again without an event is only needed for processes that end below somebody else than us.
const (
	pollMin = 10 * time.Millisecond
	pollMax = 250 * time.Millisecond
)

// Wait returns when none of them lives, or with the cause of ctx's end.
func (l *Leftovers) Wait(ctx context.Context) error {
	event, cancel := l.p.r.watch()
	defer cancel()
	for poll := pollMin; !l.gone(); poll = min(2*poll, pollMax) {
		timer := time.NewTimer(poll)
		select {
		case <-event:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("cannot wait for what process %d left: %w", l.p.pid, context.Cause(ctx))
		}
		timer.Stop()
	}
	return nil
}

// End sends sig, waits for grace, sends SIGKILL to what is left then, again until nothing is, and returns early
// only when ctx ends.
func (l *Leftovers) End(ctx context.Context, sig syscall.Signal, grace time.Duration) error {
	err := l.Signal(sig)
	if l.waitFor(ctx, grace) {
		return nil
	}
	for ctx.Err() == nil {
		err = l.Signal(syscall.SIGKILL)
		if l.waitFor(ctx, pollMax) {
			return nil
		}
	}
	return errors.Join(fmt.Errorf("cannot end %v that process %d left: %w", l.Alive(), l.p.pid, context.Cause(ctx)), err)
}

func (l *Leftovers) waitFor(ctx context.Context, d time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return l.Wait(ctx) == nil
}
