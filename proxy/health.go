package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"github.com/inpod/inpod/config"
)

// Checker is one health check of an upstream. The error of Check says what was asked, what came and what was wanted.
type Checker interface {
	Check(ctx context.Context) error
	String() string
}

const (
	// While a route is not ready somebody waits for it: the pauses between checks grow from one to the other, and
	// are never longer than health_period.
	firstPause = 250 * time.Millisecond
	lastPause  = time.Second
	// A warm-up request that failed is tried again after this long.
	warmupPause = time.Second
	// So many connections in a row must fail until the route is marked without waiting for a check.
	maxFailedConnections = 3
	// The reason why a route is not ready yet is logged when it changes, but not more often than this.
	logPause = 10 * time.Second
)

// health says whether a route's upstream can take requests: it passes its check, its warm-up succeeded and
// connections to it do not fail. One goroutine, between start and stop, owns what the atomics do not hold.
type health struct {
	route   config.Route
	check   Checker // nil: off
	warm    func(ctx context.Context, w config.Warmup) error
	changed func(ready bool, detail string)
	log     *slog.Logger
	debug   bool

	state  atomic.Pointer[readiness]
	failed atomic.Int32  // connections in a row
	wake   chan struct{} // holds one: failed reached its limit, or left it

	cancel context.CancelFunc
	done   chan struct{}

	up       bool // the check passed, and has not failed too often since
	failures int  // checks in a row
	warmed   int  // entries of the warm-up that succeeded
	marked   bool // connections fail
	pause    time.Duration
	logged   time.Time
}

// readiness is what Ready answers.
type readiness struct {
	ready  bool
	detail string
}

// newHealth makes the monitor of a route, which does nothing before start. Without a check (nil) the route is ready
// once it is warm. debug makes it ready at once and for ever. changed, which may be nil, is called by the monitor's
// goroutine, each time the route becomes ready or stops being it; it must not call stop.
func newHealth(log *slog.Logger, r config.Route, debug bool, check Checker,
	warm func(ctx context.Context, w config.Warmup) error, changed func(ready bool, detail string),
) *health {
	h := &health{
		route: r, check: check, warm: warm, changed: changed, debug: debug,
		log:  log.With("route", r.Name()),
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	switch {
	case debug:
		h.state.Store(&readiness{ready: true, detail: "debug mode: nothing is checked"})
	case check == nil && len(r.Warmup) == 0:
		h.state.Store(&readiness{ready: true})
	case check == nil:
		h.state.Store(&readiness{detail: "not warmed up yet"})
	default:
		h.state.Store(&readiness{detail: fmt.Sprintf("%v: not checked yet", check)})
	}
	return h
}

// serves tells whether the monitor is as good for r, so that a reload need not begin again.
func (h *health) serves(r config.Route, debug bool) bool {
	a, b := h.route, r
	return h.debug == debug && a.Name() == b.Name() && a.Upstream == b.Upstream && a.Health == b.Health &&
		a.HealthPeriod == b.HealthPeriod && a.HealthTimeout == b.HealthTimeout && a.HealthFailures == b.HealthFailures &&
		slices.Equal(a.Warmup, b.Warmup)
}

// Ready tells whether the route is ready, and if not, why.
func (h *health) Ready() (bool, string) {
	s := h.state.Load()
	return s.ready, s.detail
}

// failedToConnect and connected tell how a connection to the upstream went. Any goroutine may call them, for every
// request: they touch one atomic, and wake the monitor only where something changes.
func (h *health) failedToConnect() {
	if h.failed.Add(1) == maxFailedConnections {
		h.nudge()
	}
}

func (h *health) connected() {
	if h.failed.Load() != 0 && h.failed.Swap(0) >= maxFailedConnections {
		h.nudge()
	}
}

func (h *health) nudge() {
	select {
	case h.wake <- struct{}{}:
	default: // it has not looked yet, and will see this too
	}
}

// start begins to check. Call it once.
func (h *health) start() {
	ctx, cancel := context.WithCancel(context.Background())
	h.cancel = cancel
	if ready, _ := h.Ready(); ready && (h.debug || h.check == nil) {
		close(h.done)
		return
	}
	go func() {
		defer close(h.done)
		h.run(ctx)
	}()
}

// stop ends the monitor, cutting off a check, and returns when its goroutine has ended. What Ready says stays.
func (h *health) stop() {
	if h.cancel != nil {
		h.cancel()
		<-h.done
	}
}

func (h *health) run(ctx context.Context) {
	for ctx.Err() == nil {
		pause := h.round(ctx)
		next := time.Now().Add(pause) // counted from the end of the round
		if ready, _ := h.Ready(); ready && h.check == nil {
			return // nothing can change any more
		}
		for h.woken(ctx, next) {
			if sooner := time.Now().Add(h.look()); sooner.Before(next) {
				next = sooner
			}
		}
	}
}

// woken waits until next and tells whether something happened before.
func (h *health) woken(ctx context.Context, next time.Time) bool {
	timer := time.NewTimer(time.Until(next))
	defer timer.Stop()
	select {
	case <-h.wake:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

// round checks once and, where that is due, goes on with the warm-up. It returns how long to wait until the next.
func (h *health) round(ctx context.Context) time.Duration {
	if h.check != nil {
		err := h.guard(func() error { return h.ask(ctx, h.route.HealthTimeout, h.check.Check) })
		if ctx.Err() != nil {
			return 0
		}
		if err != nil {
			return h.checkFailed(err)
		}
	}
	h.up, h.failures, h.marked = true, 0, false
	h.failed.Store(0)
	for h.warmed < len(h.route.Warmup) {
		if err := h.warmUp(ctx); err != nil {
			if ctx.Err() == nil {
				h.set(false, err.Error())
			}
			return warmupPause
		}
		h.warmed++
	}
	h.set(true, "")
	return h.route.HealthPeriod
}

func (h *health) checkFailed(err error) time.Duration {
	h.failures++
	if h.up && h.failures >= h.route.HealthFailures {
		// It may have been restarted meanwhile, and be cold.
		h.up, h.warmed = false, 0
	}
	if ready, _ := h.Ready(); ready && h.up {
		return min(h.route.HealthPeriod, lastPause) // soon: is it one that was lost, or is it down?
	}
	h.set(false, err.Error())
	return h.quick()
}

// look takes what the data plane found out about connections. It returns how long the next check may be away.
func (h *health) look() time.Duration {
	failing := h.failed.Load() >= maxFailedConnections
	switch {
	case failing && !h.marked && h.check != nil:
		h.marked = true
		if ready, _ := h.Ready(); ready {
			h.set(false, fmt.Sprintf("%d connections to %s in a row failed", maxFailedConnections, h.route.Upstream))
			return h.quick()
		}
	case !failing && h.marked:
		h.marked = false
		if h.up && h.warmed == len(h.route.Warmup) {
			h.set(true, "")
		}
	}
	return h.route.HealthPeriod
}

// quick is the pause before the next check while the route is not ready.
func (h *health) quick() time.Duration {
	h.pause = max(firstPause, min(2*h.pause, lastPause))
	return min(h.pause, h.route.HealthPeriod)
}

// warmUp sends the requests of the next entry.
func (h *health) warmUp(ctx context.Context) error {
	w := h.route.Warmup[h.warmed]
	name := fmt.Sprintf("warm-up %d of %d: %s %s", h.warmed+1, len(h.route.Warmup), w.Method, w.Path)
	for i := range w.Count {
		if w.Count == 1 {
			h.set(false, name)
		} else {
			h.set(false, fmt.Sprintf("%s (%d of %d)", name, i+1, w.Count))
		}
		err := h.guard(func() error {
			return h.ask(ctx, w.Timeout, func(ctx context.Context) error { return h.warm(ctx, w) })
		})
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (h *health) ask(ctx context.Context, timeout time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return f(ctx)
}

// guard turns a panic into an error: a check must not take the pod down.
func (h *health) guard(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			h.log.Error("BUG: a health check panicked", "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
			err = errors.New("the check panicked; see the log")
		}
	}()
	return f()
}

// set changes what Ready says and tells whom it concerns.
func (h *health) set(ready bool, detail string) {
	old := h.state.Load()
	if old.ready == ready && old.detail == detail {
		return
	}
	h.state.Store(&readiness{ready: ready, detail: detail})
	now := time.Now()
	switch {
	case ready:
		h.pause = 0
		h.log.Info("the route is ready")
	case old.ready:
		h.logged = now
		h.log.Warn("the route is not ready any more", "why", detail)
	case now.Sub(h.logged) >= logPause:
		h.logged = now
		h.log.Info("the route is not ready yet", "why", detail)
	}
	if old.ready != ready && h.changed != nil {
		h.changed(ready, detail)
	}
}
