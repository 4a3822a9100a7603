package proc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// StopRest ends everything that still runs below this process, at the end of its life: SIGTERM to all, SIGKILL to
// all after grace, until every child has been reaped. As PID 1 that is every process of the PID namespace, sessions
// that were started from outside too: they end with PID 1 anyway, and this way they are asked first.
// It returns an error that names what is left when ctx ends first.
func (r *Reaper) StopRest(ctx context.Context, grace time.Duration) error {
	event, cancel := r.watch()
	defer cancel()
	if r.childless.Load() {
		return nil
	}
	err := r.signalRest(syscall.SIGTERM, syscall.SIGCONT) // a stopped process ends only when it goes on
	timer := time.NewTimer(grace)
	defer timer.Stop()
	for !r.childless.Load() {
		select {
		case <-event:
		case <-timer.C:
			err = r.signalRest(syscall.SIGKILL)
			timer.Reset(pollMax)
		case <-ctx.Done():
			left := r.host.below(os.Getpid())
			return errors.Join(fmt.Errorf("cannot end what still runs, %v: %w", left, context.Cause(ctx)), err)
		}
	}
	return nil
}

func (r *Reaper) signalRest(sigs ...syscall.Signal) error {
	var errs []error
	for _, sig := range sigs {
		if r.host.init {
			if err := syscall.Kill(-1, sig); err != nil && err != syscall.ESRCH {
				errs = append(errs, fmt.Errorf("cannot signal all processes: %w", err))
			}
			continue
		}
		for _, m := range r.host.below(os.Getpid()) {
			errs = append(errs, m.signal(sig))
		}
	}
	return errors.Join(errs...)
}
