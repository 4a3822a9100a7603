package proxy

import "sync"

// limiter bounds the requests that an upstream works on at the same time. Those above wait, first in first out, and those
// above that are refused. It is shared by all workers.
type limiter struct {
	mu      sync.Mutex
	limit   int // 0: none
	most    int // that may wait
	running int
	waiting int
	first   *waiter
	last    *waiter
}

// waiter is a request in the queue.
type waiter struct {
	ready  func() // called, on any goroutine, when the request's turn has come; it holds a slot then
	next   *waiter
	queued bool
}

type admission int

const (
	admitted admission = iota // holds a slot: release must follow
	waits                     // ready will be called, unless leave comes first
	refused
)

func newLimiter(limit, queue int) *limiter { return &limiter{limit: limit, most: queue} }

func (l *limiter) enter(w *waiter) admission {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.limit == 0 || l.running < l.limit && l.waiting == 0:
		l.running++
		return admitted
	case l.waiting >= l.most:
		return refused
	}
	if w.next = nil; l.first == nil {
		l.first = w
	} else {
		l.last.next = w
	}
	l.last, w.queued = w, true
	l.waiting++
	return waits
}

// leave takes a waiter out of the queue. False: its turn has come meanwhile, and it holds a slot.
func (l *limiter) leave(w *waiter) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !w.queued {
		return false
	}
	var before *waiter
	for at := l.first; at != w; at = at.next {
		before = at
	}
	if before == nil {
		l.first = w.next
	} else {
		before.next = w.next
	}
	if l.last == w {
		l.last = before
	}
	w.next, w.queued = nil, false
	l.waiting--
	return true
}

// release gives a slot back: to the first that waits, if one does.
func (l *limiter) release() {
	l.mu.Lock()
	if l.first == nil || l.running > l.limit && l.limit > 0 {
		l.running--
		l.mu.Unlock()
		return
	}
	w := l.pop()
	l.mu.Unlock()
	w.ready()
}

// set changes the bounds. What runs goes on; those that wait move up where there is room now.
func (l *limiter) set(limit, queue int) {
	l.mu.Lock()
	l.limit, l.most = limit, queue
	var up []*waiter
	for l.first != nil && (l.limit == 0 || l.running < l.limit) {
		l.running++
		up = append(up, l.pop())
	}
	l.mu.Unlock()
	for _, w := range up {
		w.ready()
	}
}

// pop takes the first waiter out; there must be one.
func (l *limiter) pop() *waiter {
	w := l.first
	if l.first = w.next; l.first == nil {
		l.last = nil
	}
	w.next, w.queued = nil, false
	l.waiting--
	return w
}

func (l *limiter) load() (running, waiting int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.running, l.waiting
}
