package supervisor

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/inpod/inpod/internal/proc"
	"github.com/inpod/inpod/supervisor/ini"
)

// process is one program and, while it runs, its process. The goroutine of loop owns everything below owned; the
// others send it functions to run.
type process struct {
	sup   *Supervisor
	group *group
	cfg   *ini.Program // with AUTO made paths
	main  bool         // it has the agent's own stdin, stdout and stderr
	log   *slog.Logger
	box   chan func()
	quit  chan struct{} // closed to end loop
	gone  chan struct{} // closed when loop has ended
	snap  atomic.Pointer[snapshot]

	// owned
	m        machine
	starts   int
	restarts int
	asked    bool // the start that comes next is one that somebody asked for
	unlive   int
	run      *run
	abandon  context.CancelFunc // ends the spawn that is under way; nil when there is none
	expected bool
	ready    bool
	probe    string
	waiting  string
	stopWait context.CancelFunc // ends the wait for dependencies
	timer    *time.Timer
	reported bool // its final state was told to the agent
	rest     rest
	hooked   bool // pre_stop_hook ran for this stop
}

// run is one life of a program: from its spawn to its end.
type run struct {
	child      *proc.Process // nil when the process ended before its execve
	started    chan struct{} // closed when child is set, or never will be
	in         *stdin
	streams    []stream
	release    func() // gives the FastCGI socket back; may be nil
	cgroup     *cgroup
	ctx        context.Context // ends with the process: its checks stop then
	cancel     context.CancelFunc
	exited     bool
	foreground bool        // it was given the terminal
	sawLine    atomic.Bool // of readiness_log
	failed     string      // what a child without execve would have said
}

// pid may be called from the callbacks of the streams, which can be faster than the start.
func (r *run) pid() int {
	<-r.started
	if r.child == nil {
		return 0
	}
	return r.child.PID()
}

func newProcess(g *group, cfg *ini.Program, main bool) *process {
	p := &process{
		sup: g.sup, group: g, cfg: cfg, main: main,
		log: g.sup.log.With("program", namespec(cfg.Group, cfg.Name)),
		box: make(chan func()), quit: make(chan struct{}), gone: make(chan struct{}),
	}
	p.m = machine{rules: newRules(cfg), state: Stopped}
	p.snap.Store(&snapshot{done: make(chan struct{})})
	go p.loop()
	return p
}

func newRules(c *ini.Program) *rules {
	r := &rules{
		startsecs: seconds(c.Startsecs), startretries: c.Startretries, autorestart: c.Autorestart, exitCodes: c.ExitCodes,
		stopSignals: c.StopSignals, stopwait: seconds(c.Stopwaitsecs), stopasgroup: c.Stopasgroup, killasgroup: c.Killasgroup,
		oneshot: c.Oneshot, pause: seconds(c.RestartPause), delay: linear,
	}
	if len(r.stopSignals) == 0 {
		r.stopSignals = []syscall.Signal{syscall.SIGTERM}
	}
	if c.Backoff == "exponential" {
		r.delay = exponential
	}
	return r
}

func seconds(n int) time.Duration { return time.Duration(n) * time.Second }

// linear is Supervisor's back-off: one second more each time.
func linear(n int) time.Duration { return seconds(n) }

// maxBackoff caps the exponential back-off.
const maxBackoff = time.Minute

// exponential doubles from one second on. Half of it is left to chance, so that programs that fail together do
// not come back together.
func exponential(n int) time.Duration {
	d := maxBackoff
	if n < 7 {
		d = min(d, time.Second<<(n-1))
	}
	return d/2 + rand.N(d/2+1)
}

// ask runs f on the process's goroutine and waits for it.
func (p *process) ask(ctx context.Context, f func()) error {
	done, crashed := make(chan struct{}), true
	select {
	case p.box <- func() { defer close(done); f(); crashed = false }:
		<-done
		if crashed {
			return errCrashed
		}
		return nil
	case <-p.gone:
		return errRemoved
	case <-ctx.Done():
		return ctx.Err()
	}
}

var errRemoved = errors.New("the program was removed")

// post runs f on the process's goroutine, later.
func (p *process) post(f func()) {
	select {
	case p.box <- f:
	case <-p.gone:
	}
}

func (p *process) loop() {
	defer close(p.gone)
	for p.turn() {
	}
}

// turn waits for the next thing that happens and does what follows. It returns false at the end.
func (p *process) turn() (more bool) {
	exited, deadline := (<-chan struct{})(nil), (<-chan time.Time)(nil)
	if p.run != nil && p.run.child != nil && !p.run.exited {
		exited = p.run.child.Done()
	}
	if p.timer != nil && p.m.armed {
		deadline = p.timer.C
	}
	defer func() {
		if v := recover(); v != nil {
			p.crashed(v)
		}
	}()
	more = true
	select {
	case f := <-p.box:
		f()
	case <-exited:
		p.ended(p.run.child.Status())
	case <-deadline:
		p.step(input{kind: inTick})
	case <-p.quit:
		more = false
		p.cancelWait()
	}
	return more
}

// step tells the machine what happened, does what it says, and lets the world see the result.
func (p *process) step(in input) {
	now := p.sup.now()
	todo := p.m.step(in, now)
	last := -1
	for i, a := range todo {
		if a.kind == doChange {
			last = i
		}
	}
	var failed error
	for i, a := range todo {
		switch a.kind {
		case doChange:
			p.changed(a.change, i == last, now)
		case doSpawn:
			p.startSpawn()
		case doAbandon:
			p.abandon()
		case doSignal:
			failed = p.signal(a.signal, a.group)
		case doSignalRest:
			p.signalRest(a.signal)
		case doLog:
			p.logAction(a)
		}
	}
	if p.m.armed {
		if p.timer == nil {
			p.timer = time.NewTimer(p.m.deadline - now.up)
		} else {
			p.timer.Reset(p.m.deadline - now.up)
		}
	} else if p.timer != nil {
		p.timer.Stop()
	}
	p.publish(p.m.state, p.m.pid)
	if failed != nil {
		p.log.Error("cannot signal", "error", failed)
		p.step(input{kind: inSignalFailed})
		return
	}
	p.reportFinal()
}

func (p *process) logAction(a action) {
	attrs := make([]any, 0, 4)
	if p.m.pid != 0 {
		attrs = append(attrs, "pid", p.m.pid)
	}
	if a.detail != "" {
		attrs = append(attrs, "detail", a.detail)
	}
	if a.warn {
		p.log.Warn(a.msg, attrs...)
	} else {
		p.log.Info(a.msg, attrs...)
	}
}

// changed tells everybody of a new state.
func (p *process) changed(c Change, last bool, now instant) {
	c.Process, c.Group, c.At = p.cfg.Name, p.cfg.Group, now.wall
	if c.To == Exited {
		p.expected = c.Expected
	}
	if c.To == Starting {
		p.expected, p.reported = false, false
		p.starts++
		if !p.asked {
			p.restarts++
		}
		p.asked = false
	}
	if c.To != Starting && c.To != Running {
		p.ready = false
	}
	pid := c.PID
	if last {
		pid = p.m.pid
	}
	p.sup.bus.stateChanged(c)
	if p.group.pool != nil {
		p.group.pool.changed(p.listener(), c.To)
	}
	if c.To == Running {
		p.startLiveness()
	}
	p.publish(c.To, pid)
	p.sup.tell(c)
}

// publish makes a new snapshot when something differs from the last.
func (p *process) publish(state State, pid int) {
	old := p.snap.Load()
	s := &snapshot{
		state: state, pid: pid, started: p.m.started, stopped: p.m.stopped, at: p.sup.now().up,
		exitstatus: p.m.exitstatus, spawnerr: p.m.spawnerr, expected: p.expected,
		starts: p.starts, restarts: p.restarts, unlive: p.unlive, spawning: p.m.spawning,
		final: p.m.final(), again: p.m.returns(), waiting: p.waiting, probe: p.probe,
	}
	s.ready = p.isReady(s)
	was := *old
	was.at, was.done, was.next = s.at, nil, nil
	if was == *s {
		return
	}
	s.done = make(chan struct{})
	p.snap.Store(s)
	old.next = s
	close(old.done)
}

// isReady tells whether those that depend on the program may start.
func (p *process) isReady(s *snapshot) bool {
	switch {
	case p.cfg.Oneshot && s.state == Exited && s.expected:
		return true
	case p.cfg.Oneshot:
		return false
	case p.cfg.Readiness != nil:
		return p.ready
	}
	return s.state == Running
}

// reportFinal tells the agent of a program that has ended for good.
func (p *process) reportFinal() {
	if p.reported || p.m.closing || !p.m.final() {
		return
	}
	p.reported = true
	s := p.snap.Load()
	code := s.exitstatus
	if p.run != nil && p.run.child != nil && p.run.exited {
		code = p.run.child.Status().Shell()
	}
	if s.state == Fatal && code == 0 {
		code = 1 // it exited well, but too quickly to have been of use
		if p.run == nil {
			code = 127 // as a shell says that there is no such command
		}
	}
	switch {
	case p.main:
		if p.sup.opt.OnMain != nil {
			p.sup.opt.OnMain(s.state, code)
		}
	case p.cfg.Essential && !(p.cfg.Oneshot && s.state == Exited && s.expected):
		p.log.Error("an essential program has ended", "state", s.state.String(), "status", code)
		if p.sup.opt.OnEssential != nil {
			p.sup.opt.OnEssential(namespec(p.cfg.Group, p.cfg.Name), s.state, code)
		}
	}
}

// ended is what happens when the main process is gone.
func (p *process) ended(st proc.Status) {
	r := p.run
	r.exited = true
	if p.main {
		p.sup.mainStatus.Store(int64(st.Shell()))
	}
	r.cancel()
	if r.in != nil {
		r.in.close()
	}
	in := input{kind: inExited, code: st.Code, text: st.String()}
	if p.m.killing {
		in.leftovers = p.watchRest()
	}
	if !in.leftovers { // else they still write, and would die of a broken pipe instead of ending well
		p.finish(r)
	}
	if p.group.pool != nil {
		p.group.pool.gone(p.listener())
	}
	if r.foreground {
		if err := takeForeground(os.Stdin); err != nil {
			p.log.Debug("cannot take the terminal back", "error", err)
		}
	}
	p.step(in) // last: it may begin the next life
}

// finish gives back what a life held, when nothing of it runs any more or what does is left alone.
func (p *process) finish(r *run) {
	p.drain(r)
	r.streams = nil
	if r.release != nil {
		r.release()
		r.release = nil
	}
	r.cgroup.remove()
}

// drainTimeout bounds how long a target that blocks can hold up a program's next start.
const drainTimeout = 5 * time.Second

// drain takes what is in the pipes and closes them, whoever still holds their other ends.
func (p *process) drain(r *run) {
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	for _, s := range r.streams {
		if err := s.Drain(ctx); err != nil {
			p.log.Warn("output was lost", "error", err)
		}
	}
	if r.in != nil {
		r.in.close()
	}
}

// signal sends a signal to the process or its group. A process that is just gone is no error: its end will be seen.
func (p *process) signal(sig syscall.Signal, group bool) error {
	if p.run == nil || p.run.child == nil {
		return nil
	}
	if p.m.sent == 1 && p.cfg.PreStopHook != "" && !p.hooked {
		p.preStop(sig, group)
		return nil
	}
	p.noteTree()
	send := p.run.child.Signal
	if group {
		send = p.run.child.SignalGroup
	}
	if err := send(sig); err != nil && !errors.Is(err, proc.ErrDone) && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}

func (p *process) listener() *listener {
	for i := range p.group.procs {
		if p.group.procs[i] == p {
			return p.group.pool.members[i]
		}
	}
	panic("BUG: a process that is not in its group")
}
