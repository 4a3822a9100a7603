package supervisor

import (
	"context"
	"errors"
	"sort"
	"strings"
	"syscall"
	"time"

	"github.com/inpod/inpod/internal/proc"
	"github.com/inpod/inpod/supervisor/ini"
	sys "golang.org/x/sys/unix"
)

// deferred waits for the outcome of something that was begun, and tells when it came.
type deferred func(context.Context) (time.Duration, error)

// find returns the process that name means; nil when it means the whole group.
func (s *Supervisor) find(name string) (*group, *process, error) {
	if s.closing.Load() {
		return nil, nil, &Fault{Code: ShutdownState}
	}
	groupName, processName := splitNamespec(name)
	g := s.group(groupName)
	if g == nil {
		return nil, nil, &Fault{BadName, name}
	}
	if processName == "" {
		return g, nil, nil
	}
	if p := g.process(processName); p != nil {
		return g, p, nil
	}
	return nil, nil, &Fault{BadName, name}
}

func (s *Supervisor) findGroup(name string) (*group, error) {
	if s.closing.Load() {
		return nil, &Fault{Code: ShutdownState}
	}
	if g := s.group(name); g != nil {
		return g, nil
	}
	return nil, &Fault{BadName, name}
}

// findProcess is find for what cannot be done to a group.
func (s *Supervisor) findProcess(name string) (*process, error) {
	_, p, err := s.find(name)
	if err == nil && p == nil {
		err = &Fault{BadName, name}
	}
	return p, err
}

// all returns every process by priority.
func (s *Supervisor) all() ([]*process, error) {
	if s.closing.Load() {
		return nil, &Fault{Code: ShutdownState}
	}
	var procs []*process
	for _, g := range groupsByPriority(*s.groups.Load()) {
		procs = append(procs, g.byPriority()...)
	}
	return procs, nil
}

// StartProcess starts a process, or a whole group for "group:*". With wait it returns when the process is RUNNING.
// Errors are a *Fault or the context's.
func (s *Supervisor) StartProcess(ctx context.Context, name string, wait bool) error {
	g, p, err := s.find(name)
	if err != nil {
		return err
	}
	if p == nil {
		_, err := s.StartGroup(ctx, g.cfg.Name, wait)
		return err
	}
	return finish(ctx)(p.beginStart(ctx, name, wait))
}

// finish waits for what was begun.
func finish(ctx context.Context) func(deferred, error) error {
	return func(d deferred, err error) error {
		if d != nil {
			_, err = d(ctx)
		}
		return err
	}
}

func (p *process) beginStart(ctx context.Context, name string, wait bool) (deferred, error) {
	if _, err := p.command(); err != nil {
		if errors.Is(err, proc.ErrNotFound) {
			return nil, &Fault{NoFile, err.Error()}
		}
		return nil, &Fault{NotExecutable, err.Error()}
	}
	var fault *Fault
	var from *snapshot
	err := p.ask(ctx, func() {
		s := p.snap.Load()
		switch {
		case s.isRunning() || p.waiting != "":
			fault = &Fault{AlreadyStarted, name}
		case s.state == Unknown:
			fault = &Fault{Failed, name + " is in an unknown process state"}
		default:
			p.requestStart()
		}
		from = p.snap.Load()
	})
	if err != nil {
		return nil, gone(err, name)
	}
	if fault != nil {
		return nil, fault
	}
	if from.waiting == "" {
		if from, err = from.until(ctx, func(s *snapshot) bool { return !s.spawning }); err != nil {
			return nil, err
		}
		if from.spawnerr != "" {
			return nil, &Fault{SpawnError, name}
		}
	}
	if !wait || from.state == Running {
		return nil, nil
	}
	return func(ctx context.Context) (time.Duration, error) {
		s, err := from.until(ctx, func(s *snapshot) bool { return s.state != Starting && s.waiting == "" })
		switch {
		case err != nil:
			return 0, err
		case s.state == Running:
			return s.at, nil
		case s.spawnerr != "":
			return s.at, &Fault{SpawnError, name}
		}
		return s.at, &Fault{AbnormalTermination, name}
	}, nil
}

// gone makes a fault of the race between a call and the removal of its program, and of a panic.
func gone(err error, name string) error {
	switch {
	case errors.Is(err, errRemoved):
		return &Fault{BadName, name}
	case errors.Is(err, errCrashed):
		return &Fault{Failed, name + ": " + err.Error()}
	}
	return err
}

// StopProcess stops a process, or a whole group for "group:*". With wait it returns when the process is gone.
func (s *Supervisor) StopProcess(ctx context.Context, name string, wait bool) error {
	g, p, err := s.find(name)
	if err != nil {
		return err
	}
	if p == nil {
		_, err := s.StopGroup(ctx, g.cfg.Name, wait)
		return err
	}
	return finish(ctx)(p.beginStop(ctx, name, wait))
}

func (p *process) beginStop(ctx context.Context, name string, wait bool) (deferred, error) {
	var fault *Fault
	var from *snapshot
	err := p.ask(ctx, func() {
		if !p.snap.Load().stoppable() {
			fault = &Fault{NotRunning, name}
			return
		}
		p.cancelWait()
		p.step(input{kind: inStop})
		from = p.snap.Load()
		if from.state == Unknown {
			fault = &Fault{Failed, "unknown problem killing " + p.cfg.Name}
		}
	})
	if err != nil {
		return nil, gone(err, name)
	}
	if fault != nil {
		return nil, fault
	}
	if !wait || from.isStopped() {
		return nil, nil
	}
	return func(ctx context.Context) (time.Duration, error) {
		s, err := from.until(ctx, (*snapshot).isStopped)
		if err != nil {
			return 0, err
		}
		return s.at, nil
	}, nil
}

// SignalProcess sends a signal, named as "HUP", "SIGHUP" or "1", to a process, or to a group for "group:*".
func (s *Supervisor) SignalProcess(name, sig string) error {
	g, p, err := s.find(name)
	if err != nil {
		return err
	}
	if p == nil {
		_, err := s.SignalGroup(g.cfg.Name, sig)
		return err
	}
	return p.sendSignal(name, sig)
}

func (p *process) sendSignal(name, sig string) error {
	number, err := ini.ParseSignal(sig)
	if err != nil && strings.TrimSpace(sig) != "0" { // 0 only asks whether there is a process
		return &Fault{BadSignal, sig}
	}
	var fault *Fault
	err = p.ask(context.Background(), func() {
		switch {
		case !p.snap.Load().isSignallable():
			fault = &Fault{NotRunning, name}
		case p.m.pid == 0:
			fault = &Fault{Failed, "attempted to send " + p.cfg.Name + " sig " + sig + " but it wasn't running"}
		default:
			fault = p.forward(number)
		}
	})
	if err != nil {
		return gone(err, name)
	}
	if fault != nil {
		return fault
	}
	return nil
}

func (p *process) forward(sig syscall.Signal) *Fault {
	err := p.run.child.Signal(sig)
	if err == nil || errors.Is(err, proc.ErrDone) || errors.Is(err, syscall.ESRCH) {
		return nil
	}
	p.step(input{kind: inSignalFailed})
	return &Fault{Failed, "unknown problem sending sig " + sys.SignalName(sig) + " (" + p.cfg.Name + "): " + err.Error()}
}

// each does begin to those processes that fit, all at once, and waits for every outcome. The result has what was
// known at once first and then the others as they came: the order that Supervisor gives.
func each(ctx context.Context, procs []*process, fits func(*snapshot) bool, begin func(*process, string) (deferred, error)) ([]ProcessStatus, error) {
	type outcome struct {
		at     time.Duration
		status ProcessStatus
		err    error
	}
	results := []ProcessStatus{}
	var waits []func() outcome
	for _, p := range procs {
		if !fits(p.snap.Load()) {
			continue
		}
		d, err := begin(p, namespec(p.cfg.Group, p.cfg.Name))
		if d == nil {
			st, err := p.status(err)
			if err != nil {
				return nil, err
			}
			results = append(results, st)
			continue
		}
		waits = append(waits, func() outcome {
			at, err := d(ctx)
			st, err := p.status(err)
			return outcome{at, st, err}
		})
	}
	outcomes := make([]outcome, 0, len(waits))
	for _, wait := range waits {
		// One after the other is as good as all at once: each remembers when it came.
		o := wait()
		if o.err != nil {
			return nil, o.err
		}
		outcomes = append(outcomes, o)
	}
	// Supervisor looks every 50 ms: what comes between two looks is in the order of the programs.
	const look = 50 * time.Millisecond
	sort.SliceStable(outcomes, func(i, j int) bool { return outcomes[i].at/look < outcomes[j].at/look })
	for _, o := range outcomes {
		results = append(results, o.status)
	}
	return results, nil
}

// status makes a line of a group call's result. An error that is no fault ends the whole call.
func (p *process) status(err error) (ProcessStatus, error) {
	st := ProcessStatus{Name: p.cfg.Name, Group: p.cfg.Group, Status: Success, Description: "OK"}
	var fault *Fault
	switch {
	case errors.As(err, &fault):
		st.Status, st.Description = fault.Code, fault.Error()
	case err != nil:
		return st, err
	}
	return st, nil
}

func notRunning(s *snapshot) bool { return !s.isRunning() }

// stoppable tells that a stop has something to do: the program runs, or will be started by itself.
func (s *snapshot) stoppable() bool { return s.isRunning() || s.waiting != "" || s.again }

func startAll(ctx context.Context, procs []*process, wait bool) ([]ProcessStatus, error) {
	return each(ctx, procs, notRunning, func(p *process, name string) (deferred, error) { return p.beginStart(ctx, name, wait) })
}

func stopAll(ctx context.Context, procs []*process, wait bool) ([]ProcessStatus, error) {
	return each(ctx, procs, (*snapshot).stoppable, func(p *process, name string) (deferred, error) { return p.beginStop(ctx, name, wait) })
}

func signalAll(procs []*process, sig string) ([]ProcessStatus, error) {
	return each(context.Background(), procs, (*snapshot).isSignallable, func(p *process, name string) (deferred, error) {
		return nil, p.sendSignal(name, strings.TrimSpace(sig))
	})
}

// StartGroup starts the processes of a group that do not run.
func (s *Supervisor) StartGroup(ctx context.Context, group string, wait bool) ([]ProcessStatus, error) {
	g, err := s.findGroup(group)
	if err != nil {
		return nil, err
	}
	return startAll(ctx, g.byPriority(), wait)
}

// StartAll starts all processes that do not run.
func (s *Supervisor) StartAll(ctx context.Context, wait bool) ([]ProcessStatus, error) {
	procs, err := s.all()
	if err != nil {
		return nil, err
	}
	return startAll(ctx, procs, wait)
}

// StopGroup stops the processes of a group that run.
func (s *Supervisor) StopGroup(ctx context.Context, group string, wait bool) ([]ProcessStatus, error) {
	g, err := s.findGroup(group)
	if err != nil {
		return nil, err
	}
	return stopAll(ctx, g.byPriority(), wait)
}

// StopAll stops all processes that run.
func (s *Supervisor) StopAll(ctx context.Context, wait bool) ([]ProcessStatus, error) {
	procs, err := s.all()
	if err != nil {
		return nil, err
	}
	return stopAll(ctx, procs, wait)
}

// SignalGroup sends a signal to the processes of a group.
func (s *Supervisor) SignalGroup(group, sig string) ([]ProcessStatus, error) {
	g, err := s.findGroup(group)
	if err != nil {
		return nil, err
	}
	return signalAll(g.byPriority(), sig)
}

// SignalAll sends a signal to all processes.
func (s *Supervisor) SignalAll(sig string) ([]ProcessStatus, error) {
	procs, err := s.all()
	if err != nil {
		return nil, err
	}
	return signalAll(procs, sig)
}
