package agent

import (
	"log/slog"
	"sync/atomic"
	"time"
)

// Phase is where the pod is in its life.
type Phase int32

// The phases, in their order. Only a restart of everything (ctl reload) goes back, to PhaseStarting.
const (
	PhaseStarting Phase = iota
	PhaseReady
	PhaseDraining
	PhaseStopping
)

var phaseNames = [...]string{"starting", "ready", "draining", "stopping"}

func (p Phase) String() string { return phaseNames[p] }

// phases holds the phase. The main loop alone changes it; everybody reads.
type phases struct {
	log   *slog.Logger
	now   atomic.Int32
	since atomic.Int64 // Unix nanoseconds
}

func (p *phases) get() Phase { return Phase(p.now.Load()) }

func (p *phases) sinceTime() time.Time { return time.Unix(0, p.since.Load()) }

func (p *phases) set(to Phase, reason string) {
	from := p.get()
	p.now.Store(int32(to))
	p.since.Store(time.Now().UnixNano())
	if from != to {
		p.log.Info("phase", "from", from.String(), "to", to.String(), "reason", reason)
	}
}
