package models

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inpod/inpod/config"
)

// The states of a unit.
const (
	stateWaiting   = "waiting"
	stateFetching  = "fetching"
	stateUnpacking = "unpacking"
	stateReady     = "ready"
	stateFailed    = "failed"
)

// progress is how far a unit is. Everybody reads it, one goroutine writes.
type progress struct {
	done, total atomic.Int64  // bytes of the files; total is 0 where it is not known
	received    atomic.Uint64 // bytes that came, those that came in vain included

	mu      sync.Mutex // guards what follows
	state   string     // "" is stateWaiting
	detail  string
	began   time.Time
	ended   time.Time
	fetched time.Duration // that the last fetch took; 0 where nothing had to be fetched

	reported time.Time // of the last record of the log; of the fetching goroutine alone
}

// State is what is known of a unit.
type State struct {
	Name        string
	State       string // waiting, fetching, unpacking, ready or failed
	Detail      string
	Done, Total int64 // bytes; Total is 0 where it is not known
	Received    uint64
	Began       time.Time // zero before it was begun
	Took        time.Duration
	Fetched     time.Duration // that the last fetch took; 0 where nothing had to be fetched
	Background  bool
}

func (p *progress) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state, p.detail, p.began, p.ended = stateFetching, "", time.Now(), time.Time{}
}

func (p *progress) set(state, detail string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state, p.detail = state, detail
}

func (p *progress) end(state, detail string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state, p.detail, p.ended = state, detail, time.Now()
	if state == stateReady && p.received.Load() > 0 {
		p.fetched = p.ended.Sub(p.began)
	}
}

// States lists the units in the order of the settings.
func (f *Fetcher) States() []State {
	list := make([]State, len(f.units))
	for i, u := range f.units {
		list[i] = u.snapshot()
	}
	return list
}

func (u *unit) snapshot() State {
	p := &u.progress
	p.mu.Lock()
	defer p.mu.Unlock()
	s := State{
		Name: u.name, State: p.state, Detail: p.detail, Done: p.done.Load(), Total: p.total.Load(), Received: p.received.Load(),
		Began: p.began, Fetched: p.fetched, Background: u.model.Background,
	}
	switch {
	case s.State == "":
		s.State = stateWaiting
	case p.ended.IsZero():
		s.Took = time.Since(p.began)
	default:
		s.Took = p.ended.Sub(p.began)
	}
	if s.Detail == "" && s.State == stateFetching && s.Done > 0 {
		s.Detail = amount(s.Done, s.Total)
	}
	return s
}

// amount is what people read: 43 % (1.2GB of 2.8GB).
func amount(done, total int64) string {
	if total <= 0 {
		return bytesText(done)
	}
	return fmt.Sprintf("%d %% (%s of %s)", done*100/total, bytesText(done), bytesText(total))
}

func bytesText(n int64) string {
	for _, u := range []struct {
		name string
		size float64
	}{{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}} {
		if float64(n) >= u.size {
			return fmt.Sprintf("%.1f %s", float64(n)/u.size, u.name)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}

// reportPeriod is the time between two records of the log while a model is fetched.
const reportPeriod = 10 * time.Second

// report writes how far the fetch is, not too often.
func (u *unit) report(now time.Time) {
	if u.reported.IsZero() {
		u.reported = now
	}
	if now.Sub(u.reported) < reportPeriod {
		return
	}
	u.reported = now
	u.log.Info("fetching", "from", config.MaskQuery(u.url), "progress", amount(u.done.Load(), u.total.Load()))
}
