package supervisor

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

func itoa(n int) string { return strconv.Itoa(n) }

// A snapshot is what the world may know about a process at one moment. It never changes, except that the next one
// is linked to it when it comes: who follows the links sees every state, however short.
type snapshot struct {
	state      State
	pid        int
	started    time.Time
	stopped    time.Time
	at         time.Duration // when this snapshot was made
	exitstatus int
	spawnerr   string
	expected   bool // the last exit was one of exitcodes
	starts     int  // how often it was asked to be spawned
	restarts   int
	unlive     int // restarts that a liveness check caused
	spawning   bool
	ready      bool
	final      bool   // nothing will start it by itself
	again      bool   // it has ended, or ends now, and will be started again
	waiting    string // what a start waits for, "" = none
	probe      string // the last failure of its readiness check

	done chan struct{} // closed when next is set
	next *snapshot
}

var (
	runningStates    = [...]State{Running, Backoff, Starting}
	stoppedStates    = [...]State{Stopped, Exited, Fatal, Unknown}
	signallableState = [...]State{Running, Starting, Stopping}
)

func (s *snapshot) in(states []State) bool {
	for _, st := range states {
		if s.state == st {
			return true
		}
	}
	return false
}

func (s *snapshot) isRunning() bool     { return s.in(runningStates[:]) }
func (s *snapshot) isStopped() bool     { return s.in(stoppedStates[:]) }
func (s *snapshot) isSignallable() bool { return s.in(signallableState[:]) }

// after waits for the snapshot that follows s.
func (s *snapshot) after(ctx context.Context) (*snapshot, error) {
	select {
	case <-s.done:
		return s.next, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// until follows the snapshots from s on to the first that fits.
func (s *snapshot) until(ctx context.Context, fits func(*snapshot) bool) (*snapshot, error) {
	for !fits(s) {
		var err error
		if s, err = s.after(ctx); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// description is the text that supervisorctl status prints after the state (rpcinterface.py, _interpretProcessInfo).
func (s *snapshot) description(name string, now time.Time) string {
	if s.waiting != "" && s.isStopped() {
		return "waiting for " + s.waiting
	}
	switch s.state {
	case Running:
		return fmt.Sprintf("pid %d, uptime %s", s.pid, uptime(now.Unix()-s.started.Unix()))
	case Fatal, Backoff:
		if s.spawnerr != "" {
			return s.spawnerr
		}
		return fmt.Sprintf("unknown error (try \"tail %s\")", name)
	case Stopped, Exited:
		if s.started.IsZero() {
			return "Not started"
		}
		// A process that never ran has stopped at the beginning of time, there as here.
		return time.Unix(unix(s.stopped), 0).Format("Jan 02 03:04 PM")
	}
	return ""
}

// uptime is how Python prints a timedelta.
func uptime(seconds int64) string {
	seconds = max(seconds, 0)
	clock := fmt.Sprintf("%d:%02d:%02d", seconds/3600%24, seconds/60%60, seconds%60)
	switch days := seconds / 86400; days {
	case 0:
		return clock
	case 1:
		return "1 day, " + clock
	default:
		return fmt.Sprintf("%d days, %s", days, clock)
	}
}

func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func (p *process) info(now time.Time) ProcessInfo {
	s := p.snap.Load()
	return ProcessInfo{
		Name: p.cfg.Name, Group: p.cfg.Group, Description: s.description(p.cfg.Name, now),
		Start: int(unix(s.started)), Stop: int(unix(s.stopped)), Now: int(now.Unix()),
		State: int(s.state), Statename: s.state.String(), Spawnerr: s.spawnerr, Exitstatus: s.exitstatus,
		Logfile: p.logfile("stdout"), StdoutLogfile: p.logfile("stdout"), StderrLogfile: p.logfile("stderr"), Pid: s.pid,
	}
}
