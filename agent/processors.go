package agent

import (
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// quietDelay is how long the proxy must have been without a client before its processors are taken away.
const quietDelay = 5 * time.Second

// processors sets how many of the scheduler's processors there are (GOMAXPROCS) by what there is to do. A goroutine that
// becomes ready wakes a thread for every idle processor, in case there is more; where one connection hands its packets from
// goroutine to goroutine that thread finds nothing, goes to sleep again, and has taken the time of the workload's core.
// So a single SSH connection gets one processor and not all. Event loops that wait in the kernel want the opposite, one
// more than there are loops (docs/decisions/053-event-loops.md). A change stops the process for some ten microseconds.
type processors struct {
	clients func() int64 // connections of the proxy
	set     func(n int)
	release func()     // lets the runtime follow the cgroup's limit again, which set ends
	ask     func() int // how many there are

	sit func() bool // what an occupant does: a while, false when it was disturbed

	serving atomic.Bool // the proxy has clients, or had some lately

	moves    atomic.Int32 // what SSH clients have sent since they were last looked at
	since    atomic.Int64 // when that was, Unix nanoseconds
	occupied atomic.Bool
	occupant sync.WaitGroup

	mu     sync.Mutex
	cores  int // as the runtime had it when it was last its own to say
	now    int
	held   bool // set was called, and release was not since
	logins int  // SSH connections
	timer  *time.Timer
	closed bool
}

func newProcessors(clients func() int64) *processors {
	ask := func() int { return runtime.GOMAXPROCS(0) }
	cores := ask()
	release := runtime.SetDefaultGOMAXPROCS
	if os.Getenv("GOMAXPROCS") != "" { // the administrator's number, which the default does not heed
		release = func() { runtime.GOMAXPROCS(cores) }
	}
	return &processors{
		cores: cores, now: cores, clients: clients, set: func(n int) { runtime.GOMAXPROCS(n) }, release: release, ask: ask,
		sit: sit,
	}
}

// serve is told of each client of the proxy, when it is counted already.
func (p *processors) serve() {
	if p.serving.Load() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.serving.Load() {
		return
	}
	p.serving.Store(true)
	p.timer = time.AfterFunc(quietDelay, p.look)
	p.adjust()
}

// look ends serving when nobody is left.
func (p *processors) look() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.serving.Store(false) // before counting: who comes from now on is told apart
	if p.clients() > 0 {
		p.serving.Store(true)
		p.timer.Reset(quietDelay)
	}
	p.adjust()
}

// login is told how many SSH connections there are.
func (p *processors) login(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.logins = n
	p.adjust()
}

// adjust is called with mu held.
func (p *processors) adjust() {
	busy := !p.closed && (p.serving.Load() || p.logins > 0)
	if !busy {
		if p.held {
			p.release()
			p.held = false
		}
		return
	}
	if !p.held { // until now the runtime followed the limit
		p.cores = p.ask()
		p.now = p.cores
	}
	n := p.cores + 1
	if !p.serving.Load() {
		n = min(p.cores, p.logins)
	}
	if p.occupied.Load() {
		n++
	}
	if n != p.now {
		p.now, p.held = n, true
		p.set(n)
	}
}

// close puts things back as they were.
func (p *processors) close() {
	p.mu.Lock()
	p.closed = true
	if p.timer != nil {
		p.timer.Stop()
	}
	p.adjust()
	p.mu.Unlock()
	p.occupant.Wait()
}
