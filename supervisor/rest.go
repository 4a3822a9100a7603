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
	r := p.run
	go func() {
		_ = left.Wait(ctx)
		p.post(func() { p.restGone(r, left) })
	}()
	return true
}

// restGone is what happens when nothing of the life r is left, or it is given up.
func (p *process) restGone(r *run, left *proc.Leftovers) {
	p.finish(r)
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
		p.rest.cancel()
	}
}
