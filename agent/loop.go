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
	code int    // of the program that ended
	name string // of the program that ended
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

// readyPoll is how often starting looks whether it is over.
const readyPoll = 50 * time.Millisecond

// run is the state of the main loop.
type run struct {
	a       *agent
	gen     *generation
	drain   *drain
	code    int
	over    bool
	restart bool
}

// loop owns the phase. It returns the exit code when the programs of the last generation are stopped.
func (a *agent) loop(ctx context.Context, l *loaded, sigs *signals) int {
	defer close(a.ended)
	r := &run{a: a}
	for begun := false; ; begun = true {
		gen, err := a.newGeneration(l)
		if err != nil {
			a.log.Error("cannot start the programs", "error", err)
			return exitNotBegun
		}
		r.gen, r.restart, r.over = gen, false, false
		a.current.Store(gen)
		if !begun {
			a.startRest(l)
		}
		a.servers.servePrograms(a.rpcServers(gen, l.ini))
		r.events(ctx, sigs)
		if !r.restart {
			a.phase.set(PhaseStopping, "")
			a.proxy.Close()
		}
		gen.stop()
		if !r.restart {
			r.mainCode()
			return r.code
		}
		l = a.reread(l)
		a.phase.set(PhaseStarting, "restart")
	}
}

// events handles what comes until the programs are to be stopped.
func (r *run) events(ctx context.Context, sigs *signals) {
	ticker := time.NewTicker(readyPoll)
	defer ticker.Stop()
	r.checkReady(ticker)
	for !r.over {
		var drained <-chan struct{}
		if r.drain != nil {
			drained = r.drain.done
		}
		select {
		case sig := <-sigs.c:
			r.signal(sig)
		case c := <-r.a.commands:
			r.command(c)
		case <-ticker.C:
			r.checkReady(ticker)
		case <-drained:
			r.over = true
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

func (r *run) checkReady(ticker *time.Ticker) {
	if r.a.phase.get() != PhaseStarting {
		ticker.Stop()
		return
	}
	if ok, _ := r.gen.ready(); ok {
		r.a.phase.set(PhaseReady, "every program is ready")
		ticker.Stop()
	}
}

// signal follows DESIGN's table: the second SIGTERM or SIGINT stops at once.
func (r *run) signal(sig os.Signal) {
	switch sig {
	case syscall.SIGTERM, syscall.SIGINT:
		if r.drain != nil {
			r.a.log.Warn("second signal: stopping at once", "signal", sig.String())
			r.over = true
			return
		}
		r.begin(sig.String())
		if sig == syscall.SIGINT {
			r.drain.skipDelay()
		}
	case syscall.SIGQUIT:
		r.over = true
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
		r.a.log.Info("shutdown was asked for")
		r.over = true
	case cmdRestart:
		if r.drain != nil {
			return
		}
		r.a.log.Info("a restart of all programs was asked for")
		// What is bad is said now, while everything runs; it stays as it is then.
		if _, err := r.a.src.load(); err != nil {
			r.a.reload.failed(err)
			return
		}
		r.restart, r.over = true, true
	case cmdMainEnded:
		r.code, r.over = c.code, true
	case cmdEssentialEnded:
		r.a.log.Error("stopping: an essential program has ended", "program", c.name, "code", c.code)
		r.code, r.over = c.code, true
		if r.code == exitOK {
			r.code = exitFailed
		}
	}
}

// begin starts the drain, once.
func (r *run) begin(reason string) {
	if r.drain != nil {
		return
	}
	r.a.phase.set(PhaseDraining, reason)
	r.drain = startDrain(r.a.log, r.a.proxy, r.a.settings.Load().Drain)
}

// mainCode takes the code of a main program that was stopped with the others.
func (r *run) mainCode() {
	if len(r.a.opts.Main) == 0 || r.code != exitOK {
		return
	}
	select {
	case c := <-r.a.commands:
		if c.kind == cmdMainEnded {
			r.code = c.code
		}
	case <-time.After(mainCodeWait):
	}
}

// mainCodeWait bounds the wait for the report of a main program that has been stopped already.
const mainCodeWait = 100 * time.Millisecond

// reread loads everything for a restart. It was good a moment ago; should it be bad now, the last good one is used.
func (a *agent) reread(last *loaded) *loaded {
	next, err := a.src.load()
	if err != nil {
		a.reload.failed(err)
		return last
	}
	if err := a.servers.listenPrograms(next.ini); err != nil {
		a.reload.failed(err)
		return last
	}
	a.reload.replace(next)
	return next
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
