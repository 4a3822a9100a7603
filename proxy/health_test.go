package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/inpod/inpod/config"
)

// checked is a Checker that the test leads.
type checked struct {
	hangs bool
	began time.Time

	mu    sync.Mutex
	times []time.Duration
	err   error
}

func (c *checked) String() string { return "ask it" }

func (c *checked) Check(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.times = append(c.times, time.Since(c.began))
	if c.hangs {
		c.mu.Unlock()
		<-ctx.Done()
		c.mu.Lock()
		return fmt.Errorf("ask it: %w", ctx.Err())
	}
	if c.err == errPanic {
		panic("oh")
	}
	return c.err
}

func (c *checked) says(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
}

func (c *checked) asked() []time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.times)
}

var (
	errDown  = errors.New("ask it: connection refused")
	errPanic = errors.New("panic")
)

// monitored is a monitor with what it reported.
type monitored struct {
	*health
	t     *testing.T
	check *checked

	mu      sync.Mutex
	changes []string
	sent    []string       // the paths of the warm-up requests
	fails   map[string]int // how many of them will fail
}

// requests returns what was sent since it was last called.
func (m *monitored) requests() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := strings.Join(m.sent, "")
	m.sent = nil
	return s
}

func watch(t *testing.T, r config.Route, change func(*monitored)) *monitored {
	t.Helper()
	r.Listen, r.Path, r.Upstream = ":8080", "/", "127.0.0.1:8000"
	r.HealthPeriod, r.HealthTimeout, r.HealthFailures = 10*time.Second, 2*time.Second, 3
	for i := range r.Warmup {
		w := &r.Warmup[i]
		w.Method, w.Count, w.Timeout = "GET", max(w.Count, 1), 5*time.Second
	}
	m := &monitored{t: t, check: &checked{began: time.Now()}, fails: map[string]int{}}
	began := time.Now()
	warm := func(ctx context.Context, w config.Warmup) error {
		if w.Path == "/slow" {
			<-ctx.Done()
			return errors.New("no answer in time")
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		m.sent = append(m.sent, w.Path)
		if m.fails[w.Path] > 0 {
			m.fails[w.Path]--
			return errors.New("status 500, want 200–399")
		}
		return nil
	}
	changed := func(ready bool, detail string) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.changes = append(m.changes, fmt.Sprintf("%v %v %s", time.Since(began), ready, detail))
	}
	m.health = newHealth(slog.New(slog.NewTextHandler(io.Discard, nil)), r, false, m.check, warm, changed)
	if change != nil {
		change(m)
	}
	m.start()
	t.Cleanup(m.stop)
	time.Sleep(time.Millisecond) // so that what follows never falls together with a timer of the monitor
	return m
}

// after lets time pass and holds what the monitor says against ready and detail.
func (m *monitored) after(d time.Duration, ready bool, detail string) {
	m.t.Helper()
	time.Sleep(d)
	synctest.Wait()
	if gotReady, got := m.Ready(); gotReady != ready || got != detail {
		m.t.Errorf("after %v: got %v, %q, want %v, %q", time.Since(m.check.began), gotReady, got, ready, detail)
	}
}

func (m *monitored) reported(want ...string) {
	m.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if diff := cmp.Diff(want, m.changes); diff != "" {
		m.t.Errorf("changes (-want +got):\n%s", diff)
	}
}

func TestHealthBeforeStart(t *testing.T) {
	warmup := []config.Warmup{{Path: "/"}}
	for _, tt := range []struct {
		debug  bool
		check  Checker
		warmup []config.Warmup
		ready  bool
		detail string
	}{
		{false, &checked{}, nil, false, "ask it: not checked yet"},
		{false, &checked{}, warmup, false, "ask it: not checked yet"},
		{false, nil, warmup, false, "not warmed up yet"},
		{false, nil, nil, true, ""},
		{true, &checked{}, warmup, true, "debug mode: nothing is checked"},
	} {
		h := newHealth(slog.New(slog.DiscardHandler), config.Route{Warmup: tt.warmup}, tt.debug, tt.check, nil, nil)
		if ready, detail := h.Ready(); ready != tt.ready || detail != tt.detail {
			t.Errorf("%+v: got %v, %q", tt, ready, detail)
		}
		h.stop() // without start
	}
}

func TestHealthPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := watch(t, config.Route{}, func(m *monitored) { m.check.says(errDown) })
		m.after(0, false, errDown.Error())
		m.after(3*time.Second, false, errDown.Error())
		m.check.says(nil)
		m.after(time.Second, true, "")
		m.after(22*time.Second, true, "")
		ms := time.Millisecond
		want := []time.Duration{0, 250 * ms, 750 * ms, 1750 * ms, 2750 * ms, 3750 * ms, 13750 * ms, 23750 * ms}
		if diff := cmp.Diff(want, m.check.asked()); diff != "" {
			t.Errorf("times of the checks (-want +got):\n%s", diff)
		}
		m.reported("3.75s true ")
	})
}

func TestHealthFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := watch(t, config.Route{}, nil)
		m.after(0, true, "")
		m.check.says(errDown)
		m.after(11*time.Second, true, "") // two failures: after the first it is asked every second
		m.check.says(nil)
		m.after(10*time.Second, true, "")
		m.check.says(errDown)
		m.after(2500*time.Millisecond, true, "")
		m.after(500*time.Millisecond, false, errDown.Error())
		m.check.says(errors.New("ask it: status 503, want 200–399"))
		m.after(250*time.Millisecond, false, "ask it: status 503, want 200–399")
		m.check.says(nil)
		m.after(500*time.Millisecond, true, "") // it is asked sooner while somebody waits
		m.reported("0s true ", "24s false "+errDown.Error(), "24.75s true ")
	})
}

// A check that hangs fails when its time is over; stop does not wait for that.
func TestHealthTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := watch(t, config.Route{}, func(m *monitored) { m.check.hangs = true })
		m.after(1998*time.Millisecond, false, "ask it: not checked yet")
		m.after(2*time.Millisecond, false, "ask it: context deadline exceeded")
		time.Sleep(time.Second)
		if got := m.check.asked(); len(got) != 2 || got[1] != 2250*time.Millisecond {
			t.Errorf("got checks at %v, want the second 250ms after the end of the first", got)
		}
		began := time.Now()
		m.stop()
		if took := time.Since(began); took != 0 {
			t.Errorf("stop took %v, want it to cut off the check", took)
		}
		m.reported()
	})
}

func TestHealthPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := watch(t, config.Route{}, func(m *monitored) { m.check.says(errPanic) })
		m.after(0, false, "the check panicked; see the log")
		m.check.says(nil)
		m.after(time.Second, true, "")
	})
}

func TestWarmUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := config.Route{Warmup: []config.Warmup{{Path: "/a", Count: 2}, {Path: "/b", Count: 3}, {Path: "/c"}}}
		m := watch(t, r, func(m *monitored) { m.fails["/b"] = 2 })
		m.after(0, false, "warm-up 2 of 3: GET /b: status 500, want 200–399")
		m.after(time.Second, false, "warm-up 2 of 3: GET /b: status 500, want 200–399")
		m.after(time.Second, true, "")
		if got := m.requests(); got != "/a/a/b/b/b/b/b/c" {
			t.Errorf("got the requests %s", got)
		}
		if len(m.check.asked()) != 3 { // asked before each attempt
			t.Errorf("got checks at %v, want 3", m.check.asked())
		}

		// Down is cold; two failures are not down.
		m.check.says(errDown)
		m.after(11*time.Second, true, "")
		m.check.says(nil)
		m.after(10*time.Second, true, "")
		if got := m.requests(); got != "" {
			t.Errorf("got the requests %s, want no more", got)
		}
		m.check.says(errDown)
		m.after(3*time.Second, false, errDown.Error())
		m.check.says(nil)
		m.after(time.Second, true, "")
		if got := m.requests(); got != "/a/a/b/b/b/c" {
			t.Errorf("got the requests %s", got)
		}
	})
}

// The upstream goes down in the middle of its warm-up: what it did before does not count.
func TestWarmUpBeginsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := config.Route{Warmup: []config.Warmup{{Path: "/a"}, {Path: "/b"}}}
		m := watch(t, r, func(m *monitored) { m.fails["/b"] = 1 })
		m.after(0, false, "warm-up 2 of 2: GET /b: status 500, want 200–399")
		m.check.says(errDown)
		m.after(4*time.Second, false, errDown.Error())
		m.check.says(nil)
		m.after(time.Second, true, "")
		if got := m.requests(); got != "/a/b/a/b" {
			t.Errorf("got the requests %s", got)
		}
	})
}

func TestWarmUpTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := config.Route{Warmup: []config.Warmup{{Path: "/slow", Count: 100}}}
		m := watch(t, r, nil)
		m.after(4*time.Second, false, "warm-up 1 of 1: GET /slow (1 of 100)")
		m.after(time.Second, false, "warm-up 1 of 1: GET /slow: no answer in time")
		m.after(time.Second, false, "warm-up 1 of 1: GET /slow (1 of 100)")
		began := time.Now()
		m.stop()
		if took := time.Since(began); took != 0 {
			t.Errorf("stop took %v, want it to cut off the request", took)
		}
	})
}

// With health: off the warm-up is all there is, and then nothing runs any more.
func TestHealthOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := config.Route{Warmup: []config.Warmup{{Path: "/a"}}}
		m := watch(t, r, func(m *monitored) { m.health.check, m.fails["/a"] = nil, 1 })
		m.after(0, false, "warm-up 1 of 1: GET /a: status 500, want 200–399")
		m.failedToConnect()
		m.failedToConnect()
		m.failedToConnect()
		m.after(time.Second, true, "")
		<-m.done
		m.failedToConnect()
		m.failedToConnect()
		m.failedToConnect()
		m.after(time.Minute, true, "")
		m.connected()
		m.reported("1s true ")
	})
}

func TestDebugIsReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		check := &checked{err: errDown}
		h := newHealth(slog.New(slog.DiscardHandler), config.Route{Warmup: []config.Warmup{{Path: "/"}}}, true, check, nil, nil)
		h.start()
		for range 5 {
			h.failedToConnect()
		}
		time.Sleep(time.Minute)
		if ready, detail := h.Ready(); !ready || detail != "debug mode: nothing is checked" || len(check.times) != 0 {
			t.Errorf("got %v, %q after %d checks, want ready and none", ready, detail, len(check.times))
		}
		h.stop()
	})
}

func TestPassiveMarking(t *testing.T) {
	const failed = "3 connections to 127.0.0.1:8000 in a row failed"
	synctest.Test(t, func(t *testing.T) {
		m := watch(t, config.Route{Warmup: []config.Warmup{{Path: "/a"}}}, nil)
		m.after(time.Second, true, "")
		m.failedToConnect()
		m.failedToConnect()
		m.connected()
		m.failedToConnect()
		m.failedToConnect()
		m.after(0, true, "")
		m.failedToConnect()
		m.after(0, false, failed)
		m.failedToConnect()
		m.after(249*time.Millisecond, false, failed)
		m.connected()
		m.after(0, true, "")

		// A check that succeeds counts too, and comes soon.
		m.after(3*time.Second, true, "")
		for range 4 {
			m.failedToConnect()
		}
		m.after(249*time.Millisecond, false, failed)
		m.after(2*time.Millisecond, true, "")
		if got := m.requests(); got != "/a" {
			t.Errorf("got the requests %s, want one: it was not down", got)
		}

		// The checks find out that it is down: then a connection is not enough.
		m.check.says(errDown)
		for range 3 {
			m.failedToConnect()
		}
		m.after(time.Millisecond, false, failed)
		m.after(2*time.Second, false, errDown.Error())
		m.connected()
		m.after(0, false, errDown.Error())
		m.check.says(nil)
		m.after(time.Second, true, "")
		if got := m.requests(); got != "/a" {
			t.Errorf("got the requests %s, want one more", got)
		}
		m.reported("0s true ", "1.001s false "+failed, "1.25s true ", "4.25s false "+failed, "4.5s true ",
			"4.501s false "+failed, "7.251s true ")
	})
}

// Connections that fail and succeed in turn must not put off the check.
func TestFlappingConnectionsAreChecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := watch(t, config.Route{}, nil)
		m.after(time.Second, true, "")
		for range 200 {
			for range 3 {
				m.failedToConnect()
			}
			synctest.Wait()
			m.connected()
			time.Sleep(100 * time.Millisecond)
		}
		if n := len(m.check.asked()); n < 20 {
			t.Errorf("got %d checks in 20s, want some for each second", n)
		}
	})
}

func TestConnectedIsCheap(t *testing.T) {
	h := newHealth(slog.New(slog.DiscardHandler), config.Route{}, false, &checked{}, nil, nil)
	n := 1.0
	for try := 0; try < 5 && n != 0; try++ { // what earlier tests have left may allocate too, for a while
		n = testing.AllocsPerRun(100, func() { h.connected(); h.failedToConnect(); _, _ = h.Ready() })
	}
	if n != 0 {
		t.Errorf("got %v allocations, want none", n)
	}
}

func TestHealthServes(t *testing.T) {
	r := config.Route{
		Listen: ":1", Path: "/", Upstream: "h:1", Health: "tcp", HealthPeriod: 1, HealthTimeout: 1, HealthFailures: 1,
		Warmup: []config.Warmup{{Path: "/a"}},
	}
	h := newHealth(slog.New(slog.DiscardHandler), r, false, &checked{}, nil, nil)
	same := r
	same.Warmup, same.Timeout, same.Queue = []config.Warmup{{Path: "/a"}}, 5, 5
	if !h.serves(same, false) {
		t.Error("got false for a route with the same upstream, check and warm-up")
	}
	if h.serves(r, true) {
		t.Error("got true for debug")
	}
	for i, change := range []func(*config.Route){
		func(r *config.Route) { r.Upstream = "h:2" },
		func(r *config.Route) { r.Path = "/x" },
		func(r *config.Route) { r.Health = "off" },
		func(r *config.Route) { r.HealthPeriod++ },
		func(r *config.Route) { r.HealthTimeout++ },
		func(r *config.Route) { r.HealthFailures++ },
		func(r *config.Route) { r.Warmup = []config.Warmup{{Path: "/b"}} },
	} {
		other := r
		change(&other)
		if h.serves(other, false) {
			t.Errorf("change %d: got true", i)
		}
	}
}

func TestHealthLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		log := slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}}))
		m := watch(t, config.Route{}, func(m *monitored) {
			m.health.log = log.With("route", m.route.Name())
			m.check.says(errDown)
		})
		m.after(2*time.Second, false, errDown.Error())
		m.check.says(errors.New("ask it: EOF")) // not worth a line so soon
		m.after(2*time.Second, false, "ask it: EOF")
		m.check.says(nil)
		m.after(time.Second, true, "")
		m.check.says(errDown)
		m.after(time.Minute, false, errDown.Error())
		m.stop()
		const where = " route=:8080/"
		want := `level=INFO msg="the route is not ready yet"` + where + ` why="ask it: connection refused"
level=INFO msg="the route is ready"` + where + `
level=WARN msg="the route is not ready any more"` + where + ` why="ask it: connection refused"
`
		if diff := cmp.Diff(want, text.String()); diff != "" {
			t.Errorf("log (-want +got):\n%s", diff)
		}
	})
}
