package sshd

import (
	"errors"
	"maps"
	"sync"
	"syscall"
)

// processes are those that sessions have started, and the only way to start one. A connection that ends leaves them to
// what OpenSSH leaves them to: the end of a terminal is SIGHUP, closed pipes are all that others see, and what was sent
// into the background (nohup, tmux) lives on. The end of the server is the end of all of them.
type processes struct {
	spawner Spawner

	mu     sync.RWMutex // held for reading while one is started: none is missed at the end
	closed bool

	runMu   sync.Mutex
	running map[Process]bool // some of them may have ended
	sweep   int              // those are looked for when there are so many
}

// fewProcesses need not be looked through.
const fewProcesses = 64

var errClosed = errors.New("the agent ends")

func newProcesses(s Spawner) *processes {
	return &processes{spawner: s, running: map[Process]bool{}, sweep: fewProcesses}
}

// Start implements Spawner.
func (p *processes) Start(c Command) (Process, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed {
		return nil, errClosed
	}
	proc, err := p.spawner.Start(c)
	if err != nil {
		return nil, err
	}
	p.runMu.Lock()
	defer p.runMu.Unlock()
	p.running[proc] = true
	if len(p.running) >= p.sweep {
		maps.DeleteFunc(p.running, func(proc Process, _ bool) bool { return hasEnded(proc) })
		p.sweep = max(fewProcesses, 2*len(p.running))
	}
	return proc, nil
}

// end lets none be started any more and asks those that run to end, with their groups, as a terminal that is gone does
// and then as a shutdown does; an interactive shell heeds only the first. What ignores both is the caller's, who knows
// when all of the container has to be gone.
func (p *processes) end() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.runMu.Lock()
	defer p.runMu.Unlock()
	for proc := range p.running {
		if hasEnded(proc) {
			continue // its number may be another's
		}
		for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGCONT, syscall.SIGTERM} {
			_ = proc.SignalGroup(sig) // it may just have ended
		}
	}
}

func hasEnded(p Process) bool {
	select {
	case <-p.Done():
		return true
	default:
		return false
	}
}
