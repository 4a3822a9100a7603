package agent

import (
	"context"
	"os"
	"syscall"
	"time"
)

// command is what others ask of the main loop.
type command struct {
	kind commandKind
	code int           // of the program that ended
	name string        // of the program that ended
	ack  chan struct{} // closed when the command has been taken; may be nil
	hook chan struct{} // of a drain: closed when who asked for it has heard that it is over; nil where nobody waits
}

type commandKind int

const (
	cmdDrain    commandKind = iota // inpod drain
	cmdShutdown                    // supervisor.shutdown: stop without a drain, as supervisord does
	cmdRestart                     // supervisor.restart: stop all, read everything again, start all
	cmdMainEnded
	cmdEssentialEnded
)

// send hands a command to the main loop; after its end it does nothing.
func (a *agent) send(c command) {
	select {
	case a.commands <- c:
	case <-a.ended:
	}
}

// hookGrace is how long the programs' stop waits for hooks that asked for the drain to hear of its end.
const hookGrace = time.Second

// readyPoll is how often starting looks whether it is over.
const readyPoll = 50 * time.Millisecond

// run is the state of the main loop.
type run struct {
	a       *agent
	gen     *generation
	drain   *drain
	signals int // SIGTERM and SIGINT so far
	code    int
	over    bool
	reason  string // why it is over
	restart bool
	begun   bool // the programs may start: what comes before them is done
	hooks   []chan struct{}
}

// loop owns the phase. It returns the exit code when the programs of the last generation are stopped.
func (a *agent) loop(ctx context.Context, l *loaded, sigs *signals) int {
	defer close(a.ended)
	r := &run{a: a, begun: len(a.prep.steps) == 0}
	for begun := false; ; begun = true {
		gen, err := a.newGeneration(l, a.prep.passed)
		if err != nil {
			a.log.Error("cannot start the programs", "error", err)
			return exitNotBegun
		}
		r.gen, r.restart, r.over = gen, false, false
		handlers := a.rpcServers(gen, l.ini)
		gen.listed()
		a.current.Store(gen)
		if !begun {
			a.startRest(l)
		}
		a.servers.servePrograms(handlers)
		r.events(ctx, sigs)
		if r.restart {
			a.restarting.Store(true)
			if r.stopToRestart(ctx, sigs); !r.restart {
				r.events(ctx, sigs)
			}
			a.restarting.Store(false)
		}
		if !r.restart {
			r.leave()
			a.prep.stop()
			a.phase.set(PhaseStopping, r.reason)
			a.proxy.Close()
			gen.stop()
			if r.code == exitOK {
				r.code = gen.sup.MainStatus() // of one that was stopped with the others
			}
			return r.code
		}
		l = a.reload.restart()
		a.phase.set(PhaseStarting, "restart")
	}
}

// events handles what comes until the programs are to be stopped.
func (r *run) events(ctx context.Context, sigs *signals) {
	ticker := time.NewTicker(readyPoll)
	defer ticker.Stop()
	r.checkReady(ticker)
	prepared := r.a.prep.done
	if r.begun {
		prepared = nil
	}
	for !r.over {
		var drained <-chan struct{}
		if r.drain != nil {
			drained = r.drain.done
		}
		select {
		case sig := <-sigs.c:
			r.signal(sig)
		case c := <-r.a.commands:
			r.take(c)
		case <-ticker.C:
			r.checkReady(ticker)
		case <-prepared:
			prepared = nil
			r.prepared(r.a.prep.err)
		case <-drained:
			r.end("drained")
		case <-ctx.Done():
			r.begin("context ended")
			ctx = context.Background()
		}
	}
	if r.drain != nil {
		r.drain.cancel()
		<-r.drain.done
	}
}

// leave tells those who wait for the drain that it is over.
func (r *run) leave() {
	close(r.a.drained)
	for _, hook := range r.hooks {
		<-hook // bounded by hookGrace
	}
}

// stopToRestart stops the programs of a generation that another one follows, unless somebody asks for the agent's end
// meanwhile: then r.restart is false, and what is left is the drain, which need not wait for requests to the stopped.
func (r *run) stopToRestart(ctx context.Context, sigs *signals) {
	r.restart, r.over = false, false
	r.gen.cancel()
	for {
		select {
		case <-r.gen.done:
			r.restart = r.drain == nil && !r.over
			return
		case sig := <-sigs.c:
			r.signal(sig)
		case c := <-r.a.commands:
			if c.kind != cmdRestart { // that is what is being done
				r.take(c)
			}
		case <-ctx.Done():
			r.begin("context ended")
			ctx = context.Background()
		}
		if r.drain != nil {
			r.drain.skipDelay()
		}
	}
}

// take does what was asked for, and says so to who waits for that.
func (r *run) take(c command) {
	r.command(c)
	if c.hook != nil {
		r.hooks = append(r.hooks, c.hook)
	}
	if c.ack != nil {
		close(c.ack)
	}
}

func (r *run) checkReady(ticker *time.Ticker) {
	if r.a.phase.get() != PhaseStarting {
		ticker.Stop()
		return
	}
	if ok, _ := r.gen.ready(); ok && r.a.prep.ok() && r.a.routesReady() {
		r.a.phase.set(PhaseReady, "every program and every route is ready")
		ticker.Stop()
	}
}

// signal follows DESIGN's table: the second SIGTERM or SIGINT stops at once.
func (r *run) signal(sig os.Signal) {
	switch sig {
	case syscall.SIGTERM, syscall.SIGINT:
		if r.signals++; r.signals > 1 {
			r.end("second signal: " + sig.String())
			return
		}
		r.begin(sig.String()) // nothing new where inpod drain came first
		if sig == syscall.SIGINT && r.drain != nil {
			r.drain.skipDelay()
		}
	case syscall.SIGQUIT:
		r.end(sig.String())
	case syscall.SIGHUP:
		r.a.reload.request("SIGHUP")
	case syscall.SIGUSR2:
		r.a.reopenLogs()
	}
}

func (r *run) command(c command) {
	switch c.kind {
	case cmdDrain:
		r.begin("inpod drain")
	case cmdShutdown:
		r.end("shutdown was asked for")
	case cmdRestart:
		if r.drain != nil {
			return
		}
		r.a.log.Info("a restart of all programs was asked for")
		r.restart, r.over = true, true
	case cmdMainEnded:
		r.code = c.code
		r.end("the main program has ended")
	case cmdEssentialEnded:
		r.code = c.code
		r.end("the essential program " + c.name + " has ended")
		if r.code == exitOK {
			r.code = exitFailed
		}
	}
}

// interrupted is the exit code of a main program that SIGTERM came before, as a shell tells it: a Job's step that never
// ran must not pass for one that went well.
const interrupted = 128 + int(syscall.SIGTERM)

// prepared goes on when everything is there that the programs need, and ends the agent otherwise.
func (r *run) prepared(err error) {
	r.begun = true
	if err == nil {
		r.a.log.Info("prepared; the programs are started", "took", r.a.uptime().String())
		return
	}
	r.a.log.Error("cannot start the programs", "error", err)
	r.code = exitNotBegun
	r.end("the start has failed")
}

// end makes the programs stop; the first reason is the one that counts.
func (r *run) end(reason string) {
	if !r.over {
		r.over, r.reason = true, reason
	}
}

// begin starts the drain, once.
func (r *run) begin(reason string) {
	if r.drain != nil {
		return
	}
	if r.a.prep.busy() { // nobody has been served yet
		if len(r.a.opts.Main) > 0 {
			r.code = interrupted
		}
		r.end(reason)
		return
	}
	r.a.proxy.BeginDrain() // before the phase is told: who knows of it must find it so
	r.a.phase.set(PhaseDraining, reason)
	r.drain = startDrain(r.a.log, r.a.proxy, r.a.ssh, r.a.settings.Load().Drain)
}

func (a *agent) reopenLogs() {
	a.log.Info("reopening log files")
	if err := a.mainLog.Reopen(); err != nil {
		a.log.Error("cannot reopen the main log", "error", err)
	}
	a.current.Load().sup.ReopenLogs()
	if err := a.hub.Reopen(); err != nil {
		a.log.Error("cannot reopen every log file", "error", err)
	}
}
