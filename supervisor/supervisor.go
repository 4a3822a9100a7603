// Package supervisor runs programs as Supervisor 4 does (supervisord.org): it starts, restarts and stops them, takes
// their output to its targets, tells event listeners what happens, and answers the control interface.
//
// Enter at [New] and [Supervisor.Run]; the other methods are the control interface, safe for concurrent use. Each
// program has a state machine without I/O (machine) that one goroutine drives (process); everybody else reads its
// immutable snapshots. What goes beyond Supervisor is readiness, liveness, dependencies that wait for readiness,
// oneshot and essential programs, cron, restarts when files change, and limits.
//
// It neither serves XML-RPC (supervisor/xmlrpc does) nor reads ini files by itself: Options.Load is called for that.
package supervisor

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inpod/inpod/internal/proc"
	"github.com/inpod/inpod/supervisor/ini"
	"github.com/inpod/inpod/supervisor/output"
)

// Options are what a Supervisor needs from outside.
type Options struct {
	Reaper *proc.Reaper
	Hub    *output.Hub
	Logger *slog.Logger
	// Config says what to run.
	Config *ini.Config
	// Load reads the configuration anew, for Reread.
	Load func() (*ini.Config, error)
	// Env is the environment that programs inherit; nil is the agent's own.
	Env []string
	// ServerURL is SUPERVISOR_SERVER_URL of programs that do not set serverurl; "" = none.
	ServerURL string

	// Main is a program that is not in any ini file, with the agent's own stdin, stdout and stderr: `inpod run -- CMD`.
	Main *ini.Program
	// OnMain hears that Main will not run again: its last state (EXITED, FATAL) and its exit status as a shell tells it.
	OnMain func(state State, code int)
	// OnEssential hears the same of a program with essential=true. Both must not block.
	OnEssential func(name string, state State, code int)
	// Hold, when it is not nil, keeps programs from being started by themselves until it is closed.
	Hold <-chan struct{}
}

// Change is one step of a program from one state to another.
type Change struct {
	Process, Group string
	From, To       State
	PID            int  // of the process that the change is about, 0 when there is none
	Tries          int  // how many starts in a row have failed
	Expected       bool // for EXITED: the status is one of exitcodes
	Exit           int  // the exit code, -1 when a signal ended it
	At             time.Time
}

// Supervisor runs the programs of one configuration.
type Supervisor struct {
	opt       Options
	log       *slog.Logger
	bus       *bus
	cgroups   *cgroups
	epoch     time.Time
	path      string // PATH of the agent, where commands are looked for
	stripANSI bool

	mainStatus atomic.Int64 // of Main's last process, as a shell tells it
	closing    atomic.Bool
	begun      atomic.Bool                   // autostart has asked every program
	stopped    chan struct{}                 // closed when Shutdown is done
	groups     atomic.Pointer[[]*group]      // in the order in which they were added
	groupsNews atomic.Pointer[chan struct{}] // closed when groups changes
	config     atomic.Pointer[ini.Config]    // what was read last
	watcher    *watcher

	mu          sync.Mutex // guards changes of groups, and what follows
	subscribers map[*func(Change)]struct{}
	shutdown    bool
	// named are the programs of the groups of config with AUTO made paths: who removes a group and adds it again goes
	// on with the same files, as in Supervisor.
	named map[*ini.Group][]ini.Program
}

// New prepares a Supervisor; Run starts it.
func New(opt Options) (*Supervisor, error) {
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	if opt.Env == nil {
		opt.Env = os.Environ()
	}
	s := &Supervisor{
		opt: opt, log: opt.Logger, epoch: time.Now(), path: defaultPath, stripANSI: opt.Config.Supervisord.StripANSI,
		stopped: make(chan struct{}), subscribers: map[*func(Change)]struct{}{},
		named: map[*ini.Group][]ini.Program{},
	}
	for _, kv := range opt.Env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok && v != "" {
			s.path = v
		}
	}
	identifier := opt.Config.Supervisord.Identifier
	if identifier == "" {
		identifier = "supervisor"
	}
	s.bus = newBus(opt.Logger, identifier)
	s.cgroups = newCgroups(opt.Logger)
	s.groups.Store(&[]*group{})
	news := make(chan struct{})
	s.groupsNews.Store(&news)
	s.config.Store(opt.Config)
	return s, nil
}

func (s *Supervisor) now() instant {
	t := time.Now()
	return instant{wall: t, up: t.Sub(s.epoch)}
}

// Run starts the programs and keeps them as their configuration says until ctx ends; then it stops them all, as
// Shutdown does, and returns when they are gone.
func (s *Supervisor) Run(ctx context.Context) error {
	if !s.opt.Config.Supervisord.Nocleanup {
		s.clearAutoLogs()
	}
	var work sync.WaitGroup
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	s.watcher = newWatcher(s)
	for i := range s.opt.Config.Groups {
		s.addGroup(&s.opt.Config.Groups[i])
	}
	if s.opt.Main != nil {
		s.addGroup(&ini.Group{Name: s.opt.Main.Group, Priority: s.opt.Main.Priority, Programs: []ini.Program{*s.opt.Main}})
	}
	s.bus.notify(evRunning, func() string { return "" })
	work.Go(func() { s.watcher.run(inner) })
	work.Go(func() { guard(s.log, "ticks", func() { s.ticks(inner) }) })
	if s.released(ctx) {
		s.autostart(inner, *s.groups.Load())
		s.begun.Store(true)
	}
	select {
	case <-ctx.Done():
	case <-s.stopped:
	}
	err := s.Shutdown(context.WithoutCancel(ctx))
	cancel()
	work.Wait()
	for _, g := range *s.groups.Load() {
		g.end()
	}
	return err
}

// released waits for the end of Hold. It is false when the supervisor is stopped before: inner contexts may hear of that
// a moment later, and a program would be started.
func (s *Supervisor) released(ctx context.Context) bool {
	if s.opt.Hold == nil {
		return true
	}
	select {
	case <-s.opt.Hold:
		return true
	case <-ctx.Done():
	case <-s.stopped:
	}
	return false
}

// held tells that programs are not to be started by themselves yet.
func (s *Supervisor) held() bool {
	if s.opt.Hold == nil {
		return false
	}
	select {
	case <-s.opt.Hold:
		return false
	default:
		return true
	}
}

// ticks sends the TICK events. While nobody listens to them it sleeps.
func (s *Supervisor) ticks(ctx context.Context) {
	for {
		var timer <-chan time.Time
		when, periods := s.bus.nextTick(time.Now())
		if !when.IsZero() {
			timer = time.After(time.Until(when))
		}
		select {
		case <-timer:
			for _, period := range periods {
				s.bus.tick(period, when)
			}
		case <-s.bus.changed:
		case <-ctx.Done():
			return
		}
	}
}

// spawnPatience is how long the start of one program may hold up that of the next.
const spawnPatience = time.Second

// autostart starts the programs of the groups that want it, one after the other.
func (s *Supervisor) autostart(ctx context.Context, groups []*group) {
	for _, g := range startOrder(groups) {
		for _, p := range g.startOrder() {
			if !p.cfg.Autostart || s.closing.Load() || ctx.Err() != nil {
				continue
			}
			if s := p.snap.Load(); s.starts > 0 {
				continue // somebody was faster
			}
			if p.ask(ctx, p.requestStart) != nil {
				continue
			}
			patience, cancel := context.WithTimeout(ctx, spawnPatience)
			_, _ = p.snap.Load().until(patience, func(s *snapshot) bool { return !s.spawning })
			cancel()
		}
	}
}

// Subscribe has fn called at every change of state, until cancel. It runs on the goroutine of the program that
// changed, in the order of that program's changes: it must not block and must not call the Supervisor.
func (s *Supervisor) Subscribe(fn func(Change)) (cancel func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subscribers[&fn] = struct{}{}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.subscribers, &fn)
	}
}

func (s *Supervisor) tell(c Change) {
	s.mu.Lock()
	fns := make([]*func(Change), 0, len(s.subscribers))
	for fn := range s.subscribers {
		fns = append(fns, fn)
	}
	s.mu.Unlock()
	for _, fn := range fns {
		(*fn)(c)
	}
}

// MainStatus is the exit status of Main's last process as a shell tells it; 0 before its end. Unlike OnMain it also
// knows of a Main that was stopped with the others.
func (s *Supervisor) MainStatus() int { return int(s.mainStatus.Load()) }

// Shutdown stops all programs, those that were started last first, and returns when they are stopped, or with
// ctx's error. Nothing can be started any more.
func (s *Supervisor) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	first := !s.shutdown
	s.shutdown = true
	s.mu.Unlock()
	if first {
		s.closing.Store(true)
		s.bus.notify(evStopping, func() string { return "" })
		go guard(s.log, "shutdown", s.stopEverything)
	}
	select {
	case <-s.stopped:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Supervisor) stopEverything() {
	defer close(s.stopped)
	ctx := context.Background()
	groups := startOrder(*s.groups.Load())
	for _, g := range groups {
		for _, p := range g.procs {
			_ = p.ask(ctx, func() {
				p.cancelWait()
				p.step(input{kind: inClose})
			})
		}
	}
	slices.Reverse(groups)
	for _, g := range groups {
		g.stopAll(ctx)
	}
}
