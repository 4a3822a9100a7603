package proxy

import (
	"net/netip"
	"syscall"
	"time"

	"github.com/inpod/inpod/proxy/http1"
	"github.com/inpod/inpod/proxy/poll"
)

// exchange is one request and its response on their way through.
type exchange struct {
	active bool // a request has begun and has not been counted yet
	route  *route
	stat   *series
	start  int64
	up     *upConn
	queued bool  // stands in the queue
	slot   bool  // holds a slot of the route's limiter
	asked  int64 // when the slot was asked for

	dialled netip.AddrPort // the address that was tried last
	dials   int            // how many have been

	// The request as it goes upstream: its head and what of its body was there, then pieces of the body.
	out     []byte
	outAt   int
	again   bool // out holds the whole of what was sent: it can be sent once more
	reqBody http1.Body
	length  int64
	framing http1.Framing
	taken   int64 // bytes of the body so far
	sentAll bool  // the request has been sent to its end
	refused bool  // the upstream takes no more of it

	respBody http1.Body
	answered bool // the response's head has been composed
	rechunk  bool // the response goes out in chunks
	upKeep   bool // the upstream keeps its connection
	ended    bool // the response has been composed to its end
	cut      bool // the response ends with the connection: HTTP/1.0

	head    bool // the method is HEAD
	http10  bool
	keep    bool // the client keeps the connection
	expects bool // the client waits for 100 Continue
	upgrade bool
	text    bool // errors as text, not JSON
	stays   bool // the client has not said that this is its last request: it may be sending the next
	orca    orcaFormat
	status  int
	sent    int64 // bytes to the client
	reason  string
	line    logLine // for the access log; only where it is wanted
	ttfb    int64
	tunnel  *tunnel
}

var (
	methodHead = []byte("HEAD")
	methodGet  = []byte("GET")
)

func (x *exchange) method() []byte {
	if x.head {
		return methodHead
	}
	return methodGet
}

// begin takes the request whose head is in w.req; rest is what came behind it.
func (c *client) begin(rest []byte) {
	w, req := c.w, &c.w.req
	c.SetDeadline(0)
	x := c.newExchange()
	x.head, x.http10, x.keep, x.expects = string(req.Method) == "HEAD", req.Minor == 0, req.KeepAlive, req.Continue
	x.length, x.framing = req.Length, req.Framing
	x.stays = req.KeepAlive
	x.reqBody.Begin(req.Framing, req.Length)
	if c.inner {
		c.remote = lastAddr(req.Get("X-Forwarded-For"))
	}
	x.text = wantsText(req.Get("Accept"))
	x.orca = orcaOf(req)
	x.route = c.l.match(req.Host, req.Path)
	if w.p.logs.Load().wanted {
		x.line.take(w.buffer(), req)
	}
	if x.route == nil {
		x.stat = w.nowhere
		f := errNoRoute(req.Host, req.Path)
		c.keep(rest)
		c.answerError(f)
		return
	}
	r := x.route
	x.stat = r.stat[w.id]
	if c.link != nil {
		c.link.to.wait.Store(int64(r.IdleTimeout))
	}
	x.upgrade = len(req.Upgrade) > 0 && r.WebSocket
	if limit := int64(r.MaxBody); limit > 0 && x.framing == http1.Length && x.length > limit {
		c.keep(rest)
		c.answerError(errTooLarge(limit))
		return
	}
	x.out, x.again = c.appendRequest(w.buffer(), req), true
	// What is there of the body goes out with the head. A client that waits for 100 Continue has sent none.
	out, used, err := c.encodeRequest(x.out, rest[:min(len(rest), scratch)])
	x.out = out
	c.keep(rest[used:])
	if err != nil {
		c.answerError(refusal(err))
		return
	}
	c.enter()
}

// enter asks for a slot.
func (c *client) enter() {
	x := c.x
	c.state = waiting
	x.asked = c.w.loop.Now()
	switch x.route.limiter.enter(&c.wait) {
	case admitted:
		x.slot = true
		x.stat.queueTime.observe(0)
		c.connect()
	case waits:
		x.queued = true
		c.SetDeadline(x.asked + int64(x.route.QueueTimeout))
	case refused:
		c.answerError(errOverload(x.route, "the queue is full"))
	}
}

// onTurn is called when the request's turn has come; the request may be gone by then.
func (c *client) onTurn() {
	x := c.x
	if c.stale > 0 {
		c.stale-- // of a request that is over; its slot has been given back
		return
	}
	x.slot, x.queued = true, false
	c.SetDeadline(0)
	x.stat.queueTime.observe(c.w.loop.Now() - x.asked)
	c.connect()
}

// leaveQueue gives the request's place in the queue up.
func (c *client) leaveQueue() {
	x := c.x
	if x.queued && !x.slot && !x.route.limiter.leave(&c.wait) {
		// A slot is on its way to this request: the next one gets it.
		c.stale++
		x.route.limiter.release()
	}
	x.queued = false
}

// queueTimeout: the request has waited long enough.
func (c *client) queueTimeout() {
	x := c.x
	if x.slot || !x.route.limiter.leave(&c.wait) {
		return // its turn has just come
	}
	x.queued = false
	c.answerError(errOverload(x.route, "no place became free within "+x.route.QueueTimeout.String()))
}

// connect finds a connection to the upstream.
func (c *client) connect() {
	w, x := c.w, c.x
	u := x.route.upstream
	if up := w.take(u); up != nil {
		x.up, up.c = up, c
		c.send()
		return
	}
	c.dial(u)
}

func (c *client) dial(u *upstream) {
	c.x.dials = 0
	to, ok := u.address()
	if !ok {
		c.w.p.resolve(c, u)
		return
	}
	c.dialTo(u, to)
}

// resolved is called with what the resolver said, unless the request is over.
func (c *client) resolved(seq uint32, u *upstream, to netip.AddrPort, err error) {
	switch {
	case c.seq != seq || c.state != waiting:
	case err != nil:
		c.connectFailed(err)
	default:
		c.dialTo(u, to)
	}
}

func (c *client) dialTo(u *upstream, to netip.AddrPort) {
	c.x.dialled = to
	c.x.dials++
	up, err := c.w.dial(c, u, to)
	if err != nil {
		c.connectFailed(err)
		return
	}
	c.x.stat.dials.Add(1)
	c.x.up = up
}

// connectFailed: no connection can be had, or not to this address of a name.
func (c *client) connectFailed(err error) {
	x := c.x
	if to, ok := x.route.upstream.other(x.dialled); ok && 0 < x.dials && x.dials < maxDials {
		if x.up != nil {
			x.up.drop()
			x.up = nil
		}
		c.dialTo(x.route.upstream, to)
		return
	}
	x.route.health.failedToConnect()
	if err == syscall.ETIMEDOUT {
		c.answerError(errConnectTimeout(x.route))
		return
	}
	c.answerError(errUpstreamDown(x.route, err))
}

// send begins to send the request on x.up.
func (c *client) send() {
	x := c.x
	c.state = exchanging
	if x.expects && !x.reqBody.Done() {
		if err := c.write(continueLine); err != nil {
			c.left()
			return
		}
	}
	x.expects = false
	if !c.flushRequest() {
		return
	}
	if c.pumpRequest(); c.state == exchanging && x.up != nil && x.up.In {
		c.upstreamEvent() // it has answered before it was asked
	}
}

// flushRequest sends what is held of the request. It returns false when the exchange is over.
func (c *client) flushRequest() bool {
	if err := c.x.push(); err != nil {
		return c.sendFailed(err)
	}
	c.armRequest()
	return true
}

// push writes to the upstream what there is room for.
func (x *exchange) push() error {
	for x.outAt < len(x.out) && x.up.Out {
		n, err := x.up.write(x.out[x.outAt:])
		if err == poll.ErrAgain {
			break
		}
		if err != nil {
			return err
		}
		x.outAt += n
	}
	return nil
}

// armRequest sets the deadline that fits what is waited for.
func (c *client) armRequest() {
	x := c.x
	now := c.w.loop.Now()
	switch {
	case x.outAt < len(x.out): // the upstream takes no more for now
		x.up.SetDeadline(now + int64(x.route.IdleTimeout))
	case !x.reqBody.Done() && !x.refused: // the client has to send more
		x.up.SetDeadline(0)
	case !x.answered:
		x.sentAll = true
		x.up.SetDeadline(now + int64(x.route.Timeout))
	default:
		x.sentAll = true
		c.armResponse()
	}
}

// sendFailed: the upstream does not take the request. It may have answered before it had read all of it (413).
func (c *client) sendFailed(err error) bool {
	x := c.x
	if x.again && x.up.untouched(err) {
		c.sendAgain()
		return false
	}
	x.refused = true
	x.outAt = len(x.out)
	x.up.In, x.up.Hup = true, true
	c.upstreamEvent()
	return false
}

// sendAgain sends the request on a new connection: not one byte of it has reached the upstream.
func (c *client) sendAgain() {
	x := c.x
	x.stat.retries.Add(1)
	x.up.drop()
	x.up, x.outAt, x.refused, x.sentAll = nil, 0, false, false
	c.state = waiting
	c.dial(x.route.upstream)
}

// pumpRequest moves the request's body from the client to the upstream.
func (c *client) pumpRequest() {
	x, w := c.x, c.w
	for moved := 0; x.up != nil && x.outAt == len(x.out) && !x.reqBody.Done() && !x.refused; {
		if x.again && x.up.doubt {
			return
		}
		if x.again { // what follows cannot be sent again: was the connection closed under what has gone out?
			if err := x.up.Error(); err != nil {
				c.sendFailed(err)
				return
			}
		}
		data, fromIn := c.in, true
		if len(data) == 0 {
			if !c.In {
				c.SetDeadline(w.loop.Now() + int64(x.route.IdleTimeout))
				return
			}
			if moved >= turn {
				c.Again()
				return
			}
			n, err := c.Read(w.in[:readSize(&x.reqBody)])
			if err == poll.ErrAgain {
				continue
			}
			if err != nil {
				c.left()
				return
			}
			data, fromIn = w.in[:n], false
			moved += n
		}
		x.again = false
		out, used, err := c.encodeRequest(x.out[:0], data)
		x.out, x.outAt = out, 0
		if !fromIn || used < len(data) {
			c.keep(data[used:])
		} else {
			c.dropIn()
		}
		if err != nil {
			c.bodyFailed(err)
			return
		}
		if x.reqBody.Done() && len(c.out) == 0 {
			c.SetDeadline(0)
		}
		if !c.flushRequest() {
			return
		}
	}
}

// readSize keeps what is read within the body where its end is known.
func readSize(b *http1.Body) int64 {
	if n := b.Remaining(); n > 0 && n < scratch {
		return n
	}
	return scratch
}

// bodyFailed: the client's body cannot be passed on.
func (c *client) bodyFailed(err error) {
	x := c.x
	if x.answered {
		x.reason = "bad_body"
		c.abort()
		return
	}
	c.answerError(refusal(err))
}

// encodeRequest appends to dst what src holds of the request's body, as the upstream gets it.
func (c *client) encodeRequest(dst, src []byte) (out []byte, used int, err error) {
	x := c.x
	for used < len(src) && !x.reqBody.Done() {
		data, n, err := x.reqBody.Decode(src[used:])
		used += n
		if err != nil {
			return dst, used, err
		}
		if len(data) > 0 {
			x.taken += int64(len(data))
			if limit := int64(x.route.MaxBody); limit > 0 && x.taken > limit {
				return dst, used, tooLarge(limit)
			}
			dst = appendData(dst, data, x.framing == http1.Chunked)
		}
		if x.framing == http1.Chunked && x.reqBody.Done() {
			dst = http1.AppendLastChunk(dst, x.reqBody.Trailer())
		}
	}
	return dst, used, nil
}

func appendData(dst, data []byte, chunk bool) []byte {
	if !chunk {
		return append(dst, data...)
	}
	dst = http1.AppendChunkHead(dst, len(data))
	dst = append(dst, data...)
	return append(dst, "\r\n"...)
}

// release lets go of the upstream and of the slot: the upstream has done its part.
func (c *client) release(keep bool) {
	x := c.x
	if up := x.up; up != nil {
		x.up = nil
		if keep {
			c.w.park(up)
		} else {
			up.drop()
		}
	}
	if x.slot {
		x.slot = false
		x.route.limiter.release()
	}
}

// finish ends an exchange whose response has been written to its end.
func (c *client) finish() {
	x := c.x
	closing := !x.keep || x.cut || !x.reqBody.Done()
	c.account()
	if c.retired {
		closing = true
	}
	switch {
	case !closing:
		c.nextRequest()
	case x.stays || c.In || len(c.in) > 0 || !x.reqBody.Done():
		c.lingerClose()
	default:
		c.close()
	}
}

// account counts the exchange, once and in whatever state it is, and lets go of all it held.
func (c *client) account() {
	x, w := c.x, c.w
	if !x.active {
		return
	}
	x.active = false
	c.leaveQueue()
	c.release(false)
	if x.out != nil {
		w.put(x.out)
		x.out, x.outAt = nil, 0
	}
	took := w.loop.Now() - x.start
	x.stat.observe(x, took)
	w.p.logRequest(c, time.Duration(took))
	if c.link != nil {
		c.link.finish(c.requestEnded)
	} else {
		c.requestEnded()
	}
}
