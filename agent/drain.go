package agent

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/inpod/inpod/config"
)

// dataPlane is what a drain needs of the proxy.
type dataPlane interface {
	BeginDrain()
	StopAccepting()
	Wait(ctx context.Context) error
	LastRequest() time.Time
}

// logins is what a drain needs of the SSH server.
type logins interface {
	// BeginDrain refuses new sessions and tells the open ones when they end.
	BeginDrain(deadline time.Time)
	Wait(ctx context.Context) error
	Close()
}

// drain takes the data plane and the logins down: steps 1 to 4 of the design. Programs are not touched.
type drain struct {
	done   chan struct{} // closed when no request is in flight, or at the deadline
	cancel context.CancelFunc
	skip   chan struct{}
	once   sync.Once
}

// startDrain begins at once and goes on by itself; cancel ends it early.
func startDrain(log *slog.Logger, plane dataPlane, ssh logins, cfg config.Drain) *drain {
	deadline := time.Now().Add(cfg.Deadline)
	ctx, cancel := context.WithTimeout(context.Background(), cfg.Deadline)
	d := &drain{done: make(chan struct{}), skip: make(chan struct{}), cancel: cancel}
	plane.BeginDrain()
	ssh.BeginDrain(deadline)
	go func() {
		defer close(d.done)
		defer cancel()
		d.delay(ctx, plane, cfg)
		plane.StopAccepting()
		if err := plane.Wait(ctx); err != nil {
			log.Warn("requests are cut off", "error", err)
		}
		if err := ssh.Wait(ctx); err != nil {
			log.Warn("ssh sessions are cut off", "error", err)
		}
		ssh.Close()
	}()
	return d
}

// skipDelay ends drain.delay at once.
func (d *drain) skipDelay() { d.once.Do(func() { close(d.skip) }) }

// delay goes on serving for drain.delay, or until no request has come for drain.quiet.
func (d *drain) delay(ctx context.Context, plane dataPlane, cfg config.Drain) {
	end := time.NewTimer(cfg.Delay)
	defer end.Stop()
	var quiet <-chan time.Time
	began := time.Now()
	next := func() <-chan time.Time {
		last := plane.LastRequest()
		if last.Before(began) {
			last = began
		}
		return time.After(time.Until(last.Add(cfg.Quiet)))
	}
	if cfg.Quiet > 0 {
		quiet = next()
	}
	for {
		select {
		case <-end.C:
			return
		case <-d.skip:
			return
		case <-ctx.Done():
			return
		case <-quiet:
			if last := plane.LastRequest(); time.Since(last) >= cfg.Quiet {
				return
			}
			quiet = next()
		}
	}
}
