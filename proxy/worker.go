package proxy

import (
	"sync/atomic"

	"github.com/inpod/inpod/proxy/http1"
	"github.com/inpod/inpod/proxy/poll"
)

const (
	// scratch is read and written at a time: large bodies move with few system calls, and no connection owns so much.
	scratch = 64 << 10
	// turn is what a connection may move before the others of its loop get their turn.
	turn = 4 * scratch
	// smallBuffer holds a usual head or the rest of a write; larger ones are made when they are needed.
	smallBuffer = 4 << 10
	// keptBuffers bounds the memory that a worker holds for later.
	keptBuffers = 256
)

// nowhere is the route in the metrics of requests that no route is for, or that could not be read.
const nowhere = "none"

// worker is one event loop and what its connections share. Everything but the atomics belongs to the loop's goroutine.
type worker struct {
	p    *Proxy
	id   int // index in Proxy.workers and in per-worker slices
	loop *poll.Loop

	in   []byte // what was read last; valid until the next read
	out  []byte // what is being composed
	req  http1.Request
	resp http1.Response

	clients client // head of the ring of all clients
	free    [][]byte
	rested  []*exchange // for the next requests
	nowhere *series     // of requests that no route is for
	none    exchange    // that of a client which has none

	flying atomic.Int64 // requests whose response has not been written to its end
	last   atomic.Int64 // when the last request began, in poll's time
	open   atomic.Int64 // client connections
	pairs  atomic.Int64 // ways in from inpod's own TLS and HTTP/2 side
}

func newWorker(p *Proxy, id int) (*worker, error) {
	w := &worker{p: p, id: id, in: make([]byte, scratch), out: make([]byte, 0, scratch+smallBuffer)}
	w.clients.prev, w.clients.next = &w.clients, &w.clients
	w.nowhere = p.metrics.of(nowhere, p.loops)[id]
	var err error
	w.loop, err = poll.New(func(v any, stack []byte) {
		p.log.Error("BUG: panic in a request", "error", v, "stack", string(stack))
	})
	return w, err
}

// buffer gives an empty buffer; done with it, put it back.
func (w *worker) buffer() []byte {
	if n := len(w.free); n > 0 {
		b := w.free[n-1]
		w.free = w.free[:n-1]
		return b
	}
	return make([]byte, 0, smallBuffer)
}

// put takes a buffer back. Those that have grown are left to the garbage collector.
func (w *worker) put(b []byte) {
	if cap(b) == smallBuffer && len(w.free) < keptBuffers {
		w.free = append(w.free, b[:0])
	}
}

// hold appends to a buffer that may not exist yet.
func (w *worker) hold(buf, data []byte) []byte {
	if buf == nil {
		buf = w.buffer()
	}
	return append(buf, data...)
}

// do runs f on the loop's goroutine and waits for it. After the loop's end f is not run.
func (w *worker) do(f func()) {
	done := make(chan struct{})
	if w.loop.Post(func() {
		defer close(done)
		f()
	}) {
		<-done
	}
}

// each calls f for every client of the worker; f may close it.
func (w *worker) each(f func(c *client)) {
	for c := w.clients.next; c != &w.clients; {
		next := c.next
		f(c)
		c = next
	}
}

// requestBegins and requestEnded keep the count that Wait waits for. Requests of HTTP/2 are counted by the front: the
// loop's part in them ends before the client has it all.
func (c *client) requestBegins() {
	if w := c.w; !c.inner {
		w.flying.Add(1)
		w.last.Store(w.loop.Now())
	}
}

// requestEnded may be called by any goroutine.
func (c *client) requestEnded() {
	if w := c.w; !c.inner && w.flying.Add(-1) == 0 && w.p.waits.Load() > 0 {
		w.p.announce()
	}
}
