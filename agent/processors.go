package agent

import (
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
	cores   int
	clients func() int64 // connections of the proxy
	set     func(n int)

	serving atomic.Bool // the proxy has clients, or had some lately

	mu     sync.Mutex
	now    int
	logins int // SSH connections
	timer  *time.Timer
	closed bool
}

func newProcessors(clients func() int64) *processors {
	cores := runtime.GOMAXPROCS(0)
	return &processors{cores: cores, now: cores, clients: clients, set: func(n int) { runtime.GOMAXPROCS(n) }}
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
	n := p.cores
	switch {
	case p.closed:
	case p.serving.Load():
		n++
	case p.logins > 0:
		n = min(n, p.logins)
	}
	if n != p.now {
		p.now = n
		p.set(n)
	}
}

// close puts things back as they were.
func (p *processors) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.timer != nil {
		p.timer.Stop()
	}
	p.adjust()
}
