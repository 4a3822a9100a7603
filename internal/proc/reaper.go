package proc

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// running guards against a second Reaper. The kernel gives a process one list of children and wait4(-1) empties
// it for everybody, so this lock belongs to the process and not to any value in it.
var running atomic.Bool

// ErrDone is returned when a process to be signalled has already been reaped.
var ErrDone = os.ErrProcessDone

// ErrClosed is returned by Start after Close.
var ErrClosed = errors.New("the reaper is closed")

// Reaper starts processes and reaps every child of this one. All methods are safe for concurrent use.
type Reaper struct {
	log   *slog.Logger
	host  host
	null  *os.File
	chld  chan os.Signal
	quiet chan os.Signal // takes the signals that were ignored when we started
	stop  chan struct{}
	ended chan struct{}
	apart chan struct{} // one place for each thread that forkApart may use

	spawned, failed, reaped, orphans atomic.Uint64
	childless                        atomic.Bool // the last wait4 said ECHILD and nothing was started since

	// mu is held for reading around fork + registration and around kill, for writing around wait4 + mark:
	// a child that ends at once waits for its registration, and a reaped pid is never signalled.
	mu      sync.RWMutex
	table   map[int]*Process      // by pid: started here, not reaped
	groups  map[int]*Process      // by pgid: leader reaped, members left
	waiters map[chan struct{}]any // told after a batch that reaped an orphan or the last child
	closed  bool

	// adjMu is held for writing while this process has the oom_score_adj of a child that is being forked, for reading
	// around the other forks.
	adjMu sync.RWMutex

	// tableMu guards table, groups and Process.groupGone between holders of mu for reading.
	tableMu sync.Mutex
}

// New takes over SIGCHLD and all children of this process. When it is not PID 1 it becomes a subreaper, so that
// orphans below it come to it either way. Call it once, before anything is started.
func New(log *slog.Logger) (*Reaper, error) {
	if !running.CompareAndSwap(false, true) {
		return nil, errors.New("cannot start a reaper: one already runs in this process")
	}
	r, err := newReaper(log)
	if err != nil {
		running.Store(false)
		return nil, err
	}
	go r.loop()
	return r, nil
}

func newReaper(log *slog.Logger) (*Reaper, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot start a reaper: %w", err)
	}
	r := &Reaper{
		log: log, null: null,
		chld: make(chan os.Signal, 1), quiet: make(chan os.Signal, 1),
		stop: make(chan struct{}), ended: make(chan struct{}), apart: make(chan struct{}, 2*runtime.NumCPU()),
		table: map[int]*Process{}, groups: map[int]*Process{}, waiters: map[chan struct{}]any{},
	}
	if r.host, err = readHost(); err != nil {
		null.Close()
		return nil, fmt.Errorf("cannot start a reaper: %w", err)
	}
	if !r.host.init {
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			log.Warn("cannot become a subreaper: orphans go to another process", "error", err)
		}
	}
	if err := closeOnExec(); err != nil {
		log.Warn("cannot keep inherited descriptors from children", "error", err)
	}
	if len(r.host.ignored) > 0 {
		signal.Notify(r.quiet, r.host.ignored...)
	}
	signal.Notify(r.chld, syscall.SIGCHLD)
	return r, nil
}

// Close stops reaping. Processes that still run are left alone; their Done never closes. It is for tests: the
// agent ends with StopRest and exit.
func (r *Reaper) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	r.mu.Unlock()
	signal.Stop(r.chld)
	signal.Stop(r.quiet)
	close(r.stop)
	<-r.ended
	if !r.host.init && !r.host.subreaper {
		_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
	}
	err := r.null.Close()
	running.Store(false)
	return err
}

// Stats returns the counters.
func (r *Reaper) Stats() Stats {
	r.mu.RLock()
	n := len(r.table)
	r.mu.RUnlock()
	return Stats{
		Spawned: r.spawned.Load(), SpawnFailures: r.failed.Load(),
		Reaped: r.reaped.Load(), Orphans: r.orphans.Load(), Running: n,
	}
}

func (r *Reaper) loop() {
	defer close(r.ended)
	for {
		for r.reap() {
		}
		select {
		case <-r.chld:
		case <-r.quiet:
		case <-r.stop:
			return
		}
	}
}

// batch bounds how many children are reaped under one hold of the lock, so that a flood of orphans cannot keep
// Start and Signal out.
const batch = 64

// reap takes up to one batch of ended children and tells whether there may be more.
func (r *Reaper) reap() (more bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	adopted := false
	for range batch {
		var ws syscall.WaitStatus
		var ru syscall.Rusage
		pid, err := syscall.Wait4(-1, &ws, syscall.WNOHANG, &ru)
		if err == syscall.EINTR {
			continue
		}
		if err == nil && pid > 0 {
			adopted = !r.mark(pid, newStatus(ws, &ru)) || adopted
			continue
		}
		childless := err == syscall.ECHILD
		before := r.childless.Swap(childless)
		r.tell(adopted || childless && !before)
		return false
	}
	r.childless.Store(false)
	r.tell(adopted)
	return true
}

// mark records the end of pid and tells whether it was started here.
func (r *Reaper) mark(pid int, s Status) bool {
	p, mine := r.table[pid]
	if !mine {
		r.orphans.Add(1)
		return false
	}
	r.reaped.Add(1)
	delete(r.table, pid)
	p.reaped, p.status = true, s
	// The number stays taken while the group has members, so this asks about our group and nobody else's.
	if groupEmpty(pid) {
		p.groupGone = true
	} else {
		r.groups[pid] = p
	}
	close(p.done)
	return true
}

// tell wakes those who wait for adopted processes, after settling which groups have become empty.
func (r *Reaper) tell(changed bool) {
	if !changed {
		return
	}
	for pgid, p := range r.groups {
		if groupEmpty(pgid) {
			p.groupGone = true
			delete(r.groups, pgid)
		}
	}
	for c := range r.waiters {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// watch returns a channel that gets a value whenever an adopted process was reaped or no child is left.
func (r *Reaper) watch() (c chan struct{}, cancel func()) {
	c = make(chan struct{}, 1)
	r.mu.Lock()
	r.waiters[c] = nil
	r.mu.Unlock()
	return c, func() {
		r.mu.Lock()
		delete(r.waiters, c)
		r.mu.Unlock()
	}
}

// groupEmpty tells whether no process, not even a zombie, has the process group pgid.
func groupEmpty(pgid int) bool { return syscall.Kill(-pgid, 0) == syscall.ESRCH }
