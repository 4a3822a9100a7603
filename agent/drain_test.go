package agent

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/inpod/inpod/config"
)

// plane is a data plane with a request now and then.
type plane struct {
	mu    sync.Mutex
	begun time.Time
	steps []string
	last  time.Time
	busy  time.Duration // how long after StopAccepting requests are in flight
}

func (p *plane) step(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.steps = append(p.steps, name+" "+time.Since(p.begun).String())
}

func (p *plane) BeginDrain()    { p.step("begin") }
func (p *plane) StopAccepting() { p.step("stop") }
func (p *plane) Wait(ctx context.Context) error {
	select {
	case <-time.After(p.busy):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *plane) LastRequest() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last
}

// users are logins that end after a time of their own.
type users struct {
	stay     time.Duration
	deadline time.Time
	closed   bool
}

func (u *users) BeginDrain(deadline time.Time) { u.deadline = deadline }
func (u *users) Close()                        { u.closed = true }
func (u *users) Wait(ctx context.Context) error {
	return (&plane{busy: u.stay}).Wait(ctx)
}

func TestDrainWaitsForLogins(t *testing.T) {
	for _, tt := range []struct{ stay, want time.Duration }{{0, 0}, {time.Minute, time.Minute}, {time.Hour, 90 * time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			began, u := time.Now(), &users{stay: tt.stay}
			d := startDrain(slog.New(slog.DiscardHandler), &plane{begun: began}, u, config.Drain{Deadline: 90 * time.Second})
			<-d.done
			if got := time.Since(began); got != tt.want || !u.closed || !u.deadline.Equal(began.Add(90*time.Second)) {
				t.Errorf("stay %s: ended after %s, closed %v, deadline %s; want %s, true, 90s", tt.stay, got, u.closed, u.deadline.Sub(began), tt.want)
			}
		})
	}
}

func TestDrainSteps(t *testing.T) {
	const s = time.Second
	for _, tt := range []struct {
		name  string
		cfg   config.Drain
		busy  time.Duration
		do    func(*plane, *drain)
		steps []string
		end   time.Duration
	}{
		{"nothing to wait for", config.Drain{Deadline: 90 * s}, 0, nil, []string{"begin 0s", "stop 0s"}, 0},
		{"the delay", config.Drain{Delay: 60 * s, Deadline: 90 * s}, 5 * s, nil, []string{"begin 0s", "stop 1m0s"}, 65 * s},
		{"the deadline", config.Drain{Delay: 60 * s, Deadline: 90 * s}, time.Hour, nil, []string{"begin 0s", "stop 1m0s"}, 90 * s},
		{"skipped", config.Drain{Delay: 60 * s, Deadline: 90 * s}, 0, func(_ *plane, d *drain) {
			time.Sleep(3 * s)
			d.skipDelay()
			d.skipDelay()
		}, []string{"begin 0s", "stop 3s"}, 3 * s},
		{"cancelled", config.Drain{Delay: 60 * s, Deadline: 90 * s}, time.Hour, func(_ *plane, d *drain) {
			time.Sleep(2 * s)
			d.cancel()
		}, []string{"begin 0s", "stop 2s"}, 2 * s},
		{"quiet from the start", config.Drain{Delay: 60 * s, Deadline: 90 * s, Quiet: 10 * s}, 0, nil, []string{"begin 0s", "stop 10s"}, 10 * s},
		{"quiet after a request", config.Drain{Delay: 60 * s, Deadline: 90 * s, Quiet: 10 * s}, 0, func(p *plane, _ *drain) {
			time.Sleep(8 * s)
			p.mu.Lock()
			p.last = time.Now()
			p.mu.Unlock()
		}, []string{"begin 0s", "stop 18s"}, 18 * s},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &plane{begun: time.Now(), busy: tt.busy}
				d := startDrain(slog.New(slog.DiscardHandler), p, &users{}, tt.cfg)
				if tt.do != nil {
					tt.do(p, d)
				}
				<-d.done
				if !slices.Equal(p.steps, tt.steps) {
					t.Errorf("steps: got %q, want %q", p.steps, tt.steps)
				}
				if got := time.Since(p.begun); got != tt.end {
					t.Errorf("ended after %s, want %s", got, tt.end)
				}
			})
		})
	}
}
