package proxy

import (
	"bytes"
	"io"
	"net/netip"
	"time"

	"github.com/inpod/inpod/proxy/http1"
	"github.com/inpod/inpod/proxy/poll"
	"golang.org/x/sys/unix"
)

const (
	// headerTimeout bounds how long a client may take to send its request line and headers.
	headerTimeout = 30 * time.Second
	// lingerTime and lingerBytes bound how long, and how much of, a request that was answered early is read and thrown
	// away, so that the client sees the answer and not a reset (RFC 9112 section 9.6).
	lingerTime  = 2 * time.Second
	lingerBytes = 4 << 20
)

type clientState uint8

const (
	idle       clientState = iota // between requests, or before the first
	reading                       // a request's head is coming
	waiting                       // for a slot of the route, or for a connection to the upstream
	exchanging                    // request and response are on their way
	answering                     // inpod's own answer is being written; the rest of a short request is read before
	tunnelling                    // upgraded
	lingering                     // answered, and closed as soon as the client has seen it
	gone
)

// client is a connection of a client. Its requests come one after the other; x is the present one.
type client struct {
	poll.Sock
	w          *worker
	l          *listener
	prev, next *client

	remote    netip.Addr
	forwarded []byte // of every request: for=…;proto=…
	proto     string // http or https
	inner     bool   // from inpod's own HTTP/2 side, which has set the forwarded fields
	link      *link  // of TLS

	state    clientState
	first    bool   // no request has been read yet
	retired  bool   // its listener is gone: the next answer is the last
	in       []byte // read and not used yet
	out      []byte // composed and not written yet
	outAt    int    // written of out
	lingered int
	seq      uint32    // of x
	x        *exchange // worker.none between requests: a connection that rests holds none
	wait     waiter    // of x
	turnCome func()    // onTurn, made once
	stale    int       // calls of it that are on their way and concern nobody any more
}

// adopt makes a client of a connected descriptor. What comes from outside, the listener has counted.
func (w *worker) adopt(fd int, l *listener, from origin) {
	if w.p.closing.Load() {
		w.disown(fd, from)
		return
	}
	c := &client{w: w, l: l, remote: from.addr, proto: from.proto, inner: from.inner, link: from.link, first: true, x: &w.none}
	c.turnCome = c.onTurn
	c.wait.ready = func() { w.loop.Post(c.turnCome) }
	if err := w.loop.Add(fd, c, &c.Sock); err != nil {
		w.p.log.Error("cannot watch a connection", "error", err)
		w.disown(fd, from)
		return
	}
	c.forwarded = appendForwarded(nil, from)
	c.enlist()
	if c.outer() {
		w.p.client()
	} else {
		w.pairs.Add(1)
	}
	c.SetDeadline(w.loop.Now() + int64(headerTimeout))
}

// disown closes a descriptor that became no client.
func (w *worker) disown(fd int, from origin) {
	unix.Close(fd)
	if from.outer() {
		w.open.Add(-1)
	}
}

// enlist puts the client at the end of its worker's ring, unlist takes it out.
func (c *client) enlist() {
	c.prev, c.next = c.w.clients.prev, &c.w.clients
	c.prev.next, c.next.prev = c, c
}

func (c *client) unlist() { c.prev.next, c.next.prev = c.next, c.prev }

// rests tells whether there is no request, not even one that the loop has not read yet.
func (c *client) rests() bool { return c.state == idle && len(c.in) == 0 && c.Quiet() }

// close ends the connection for good.
func (c *client) close() {
	if c.state == gone {
		return
	}
	c.account()
	c.state = gone
	c.dropExchange()
	c.dropIn()
	c.dropOut()
	c.unlist()
	if c.outer() {
		c.w.open.Add(-1)
	} else {
		c.w.pairs.Add(-1)
	}
	c.Close()
}

// outer is origin's.
func (c *client) outer() bool { return !c.inner && c.link == nil }

// abort ends the connection so that the client notices: what it has is not all.
func (c *client) abort() {
	if c.link != nil {
		c.link.cut.Store(true)
	}
	c.Reset()
	c.close()
}

// leave gives the connection away: its descriptor belongs to the caller.
func (c *client) leave() int {
	fd := c.Release()
	c.close()
	return fd
}

// newExchange begins an exchange.
func (c *client) newExchange() *exchange {
	w := c.w
	if n := len(w.rested); n > 0 {
		c.x, w.rested = w.rested[n-1], w.rested[:n-1]
	} else {
		c.x = &exchange{}
	}
	c.x.active, c.x.start = true, w.loop.Now()
	c.seq++
	c.requestBegins()
	return c.x
}

// dropExchange gives back what an exchange that is over has used.
func (c *client) dropExchange() {
	w := c.w
	if c.x == &w.none {
		return
	}
	*c.x = exchange{reqBody: c.x.reqBody, respBody: c.x.respBody} // for the memory of their trailers; Begin resets the rest
	if len(w.rested) < keptBuffers {
		w.rested = append(w.rested, c.x)
	}
	c.x = &w.none
}

func (c *client) dropIn() {
	if c.in != nil {
		c.w.put(c.in)
		c.in = nil
	}
}

func (c *client) dropOut() {
	if c.out != nil {
		c.w.put(c.out)
		c.out, c.outAt = nil, 0
	}
}

// Abort implements poll.Handler: a panic costs this client its connection, and its upstream.
func (c *client) Abort() {
	c.x.reason = "internal"
	c.close()
}

// Event implements poll.Handler.
func (c *client) Event() {
	if c.Out && len(c.out) > 0 && !c.flush() {
		return
	}
	switch c.state {
	case idle, reading:
		c.readHead()
		if c.Hup && (c.state == waiting || c.state == exchanging && !c.x.ended) {
			c.left() // it came with the request, and is not said again
		}
	case waiting:
		if c.Hup {
			c.left()
		}
	case exchanging:
		if c.Hup && !c.x.ended {
			c.left()
			return
		}
		c.pumpRequest()
		if c.state == exchanging && c.x.answered {
			c.pumpResponse()
		}
	case answering:
		c.discard()
	case tunnelling:
		c.tunnel()
	case lingering:
		c.linger()
	}
}

// Timeout implements poll.Handler.
func (c *client) Timeout() {
	switch c.state {
	case idle:
		if !c.rests() { // a request, in the last moment
			c.In = true
			c.Event()
			return
		}
		c.close()
	case reading:
		c.answerError(errHeaderTimeout)
	case waiting:
		c.queueTimeout()
	case exchanging:
		c.x.reason = "client_timeout"
		if !c.x.answered && len(c.out) == 0 {
			c.answerError(errBodyTimeout)
			return
		}
		c.close()
	default:
		c.close()
	}
}

// readHead reads requests until one has to be waited for.
func (c *client) readHead() {
	w := c.w
	if len(c.in) > 0 && c.state == idle { // what came behind the last request
		c.SetDeadline(w.loop.Now() + int64(headerTimeout))
		if c.state = reading; c.parse(c.in) {
			return
		}
	}
	for c.In {
		n, err := c.Read(w.in)
		if err == poll.ErrAgain {
			return
		}
		if err != nil {
			c.close() // nothing, or half a head, and nobody to answer
			return
		}
		data := w.in[:n]
		if len(c.in) > 0 {
			c.in = append(c.in, data...)
			if bytes.IndexByte(data, '\n') < 0 && len(c.in) > http1.PrefaceLen && len(c.in) <= http1.MaxHead {
				continue // no line has ended: a head that comes byte by byte is not read as often
			}
			data = c.in
		}
		if c.state == idle {
			c.state = reading
			c.SetDeadline(w.loop.Now() + int64(headerTimeout))
		}
		if c.parse(data) {
			return
		}
	}
}

// parse begins the request in data. It returns false when more has to be read first.
func (c *client) parse(data []byte) bool {
	if c.first && c.outer() { // behind TLS the handshake has said what is spoken
		switch is, maybe := http1.Preface(data); {
		case is:
			c.l.handOff(c, data)
			return true
		case maybe:
			c.keep(data)
			return false
		}
	}
	n, err := c.w.req.Parse(data)
	if err != nil {
		c.answerError(refusal(err))
		return true
	}
	if n == 0 {
		c.keep(data)
		return false
	}
	c.first = false
	c.begin(data[n:])
	return true
}

// keep stores what was read and cannot be used yet; data may be a part of c.in.
func (c *client) keep(data []byte) {
	if len(data) == 0 {
		c.dropIn()
		return
	}
	if c.in == nil {
		c.in = c.w.buffer()
	}
	if len(c.in) == len(data) && &c.in[0] == &data[0] {
		return
	}
	c.in = append(c.in[:0], data...)
}

// write sends data to the client, or holds what does not fit.
func (c *client) write(data []byte) error {
	if len(c.out) == 0 {
		n, err := c.Write(data)
		if err != nil && err != poll.ErrAgain {
			return err
		}
		c.wrote(n)
		if n == len(data) {
			return nil
		}
		data = data[n:]
		c.armWrite()
	}
	if c.outAt > 0 && c.outAt >= len(c.out)/2 {
		c.out = append(c.out[:0], c.out[c.outAt:]...)
		c.outAt = 0
	}
	c.out = c.w.hold(c.out, data)
	return nil
}

func (c *client) wrote(n int) {
	c.x.sent += int64(n)
	if c.link != nil {
		c.link.wrote(n)
	}
}

// armWrite bounds how long a client may read nothing. An upgraded connection may rest for ever.
func (c *client) armWrite() {
	if c.state != tunnelling && c.state != lingering {
		c.SetDeadline(c.w.loop.Now() + int64(c.idleTimeout()))
	}
}

// flush writes what is held. It returns false when the connection is over.
func (c *client) flush() bool {
	n, err := c.Write(c.out[c.outAt:])
	if err != nil && err != poll.ErrAgain {
		c.left()
		return false
	}
	c.wrote(n)
	c.outAt += n
	if c.outAt < len(c.out) {
		if n > 0 {
			c.armWrite()
		}
		return true
	}
	c.dropOut()
	return c.flushed()
}

// flushed goes on where the client's slowness had stopped it.
func (c *client) flushed() bool {
	switch c.state {
	case exchanging:
		c.SetDeadline(0)
		if c.x.ended {
			c.finish()
		}
	case answering:
		c.SetDeadline(c.w.loop.Now() + int64(lingerTime))
		c.answered()
	}
	return c.state != gone
}

func (c *client) idleTimeout() time.Duration {
	if r := c.x.route; r != nil {
		return r.IdleTimeout
	}
	return headerTimeout
}

// left is called when the client has gone before it had its answer.
func (c *client) left() {
	if c.x.reason == "" {
		c.x.reason = reasonClientGone
	}
	c.close()
}

// nextRequest makes the connection ready for another request.
func (c *client) nextRequest() {
	c.state = idle
	c.dropExchange()
	if !c.inner { // the front closes those of its own that it does not need
		c.SetDeadline(c.w.loop.Now() + int64(c.l.keepAlive()))
	}
	if len(c.in) > 0 || c.In {
		c.Again()
	}
}

// lingerClose closes once the client has seen the answer: what it still sends is thrown away, since bytes that nobody
// reads make the kernel send a reset, which takes the answer with it.
func (c *client) lingerClose() {
	c.state = lingering
	_ = unix.Shutdown(c.FD(), unix.SHUT_WR)
	c.SetDeadline(c.w.loop.Now() + int64(lingerTime))
	c.linger()
}

func (c *client) linger() {
	for c.In {
		n, err := c.Read(c.w.in)
		if err == poll.ErrAgain {
			return
		}
		if c.lingered += n; err != nil || c.lingered > lingerBytes {
			c.close()
			return
		}
	}
}

// discard reads the rest of a request that was answered without its body, so that the connection can go on.
func (c *client) discard() {
	x := c.x
	for !x.reqBody.Done() {
		data := c.in
		if len(data) == 0 {
			if !c.In {
				return
			}
			n, err := c.Read(c.w.in)
			if err == poll.ErrAgain {
				return
			}
			if err != nil {
				if err == io.EOF {
					x.reason = reasonClientGone
				}
				c.close()
				return
			}
			data = c.w.in[:n]
		}
		for len(data) > 0 && !x.reqBody.Done() {
			_, used, err := x.reqBody.Decode(data)
			if c.lingered += used; err != nil || c.lingered > discardBytes {
				c.closing()
				return
			}
			data = data[used:]
		}
		c.keep(data)
	}
	if len(c.out) == 0 {
		c.finish()
	}
}
