package supervisor

import (
	"context"
	"syscall"

	"github.com/inpod/inpod/internal/proc"
)

// rest is what a stopped program may leave behind: a shell's job, a daemon, a worker that did not hear of the stop.
type rest struct {
	before []proc.Member // its descendants, seen before the stop signal
	left   *proc.Leftovers
	cancel context.CancelFunc
}

// noteTree remembers the descendants while their parents live: later nothing connects them with the program.
func (p *process) noteTree() {
	p.rest.before = append(p.rest.before, p.run.child.Descendants()...)
}

// watchRest tells whether something outlives the main process, and if so reports when it is gone.
func (p *process) watchRest() bool {
	if p.run.child == nil {
		return false
	}
	left := p.run.child.Leftovers(p.rest.before)
	p.rest.before = nil
	alive := left.Alive()
	if len(alive) == 0 {
		return false
	}
	p.log.Info("waiting for what the program left behind", "processes", len(alive), "first", alive[0].String())
	ctx, cancel := context.WithCancel(context.Background())
	p.rest.left, p.rest.cancel = left, cancel
	go func() {
		if left.Wait(ctx) == nil {
			p.post(func() { p.restGone(left) })
		}
	}()
	return true
}

func (p *process) restGone(left *proc.Leftovers) {
	if p.rest.left != left {
		return
	}
	p.rest.cancel()
	p.rest = rest{}
	p.step(input{kind: inGone})
}

// signalRest signals what was left behind. What cannot be signalled (another user's) is not waited for.
func (p *process) signalRest(sig syscall.Signal) {
	left := p.rest.left
	if left == nil {
		return
	}
	if err := left.Signal(sig); err != nil {
		p.log.Warn("cannot signal what the program left behind", "error", err)
		go p.post(func() { p.restGone(left) })
	}
}
