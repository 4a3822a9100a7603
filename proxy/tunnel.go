package proxy

import (
	"io"
	"time"

	"github.com/inpod/inpod/proxy/http1"
	"github.com/inpod/inpod/proxy/poll"
)

const (
	// tunnelRest is how long the second direction of a tunnel may be silent when the first has ended.
	tunnelRest = 30 * time.Second
	// closeGrace is how long a WebSocket client may take to answer a Close.
	closeGrace = 5 * time.Second
	// tunnelHeld is what is held for the slower side of a tunnel.
	tunnelHeld = scratch
)

// switchProtocols makes a tunnel of the exchange, as the upstream's 101 says (RFC 9110 section 7.8). rest is what the
// upstream has sent behind it.
func (c *client) switchProtocols(rest []byte) {
	w, x, resp := c.w, c.x, &c.w.resp
	if !x.upgrade || len(resp.Upgrade) == 0 {
		c.answerError(errBadResponse(x.route, &http1.Error{Text: "it switches protocols though nobody asked for it"}))
		return
	}
	w.out = appendStatusLine(w.out[:0], resp.Status, resp.Reason)
	w.out = appendFields(w.out, resp.Fields)
	w.out = append(w.out, "Connection: Upgrade\r\n"...)
	w.out = http1.AppendField(w.out, "Upgrade", resp.Upgrade)
	w.out = append(w.out, "\r\n"...)
	c.state = tunnelling
	c.SetDeadline(0)
	x.up.SetDeadline(0)
	if c.link != nil {
		c.link.to.wait.Store(0)
	}
	x.out, x.outAt = x.out[:0], 0
	x.tunnel = &tunnel{}
	if equalFold(resp.Upgrade, "websocket") {
		x.tunnel.ws = &frames{}
	}
	x.stat.tunnels.Add(1)
	if err := c.write(w.out); err != nil {
		c.left()
		return
	}
	if len(c.in) > 0 { // sent before the answer
		x.out = append(x.out, c.in...)
		c.dropIn()
	}
	if len(rest) > 0 && !c.toClient(rest) {
		return
	}
	if c.w.p.accepting.Load() && !c.retired {
		c.tunnel()
	} else {
		c.goAway()
	}
}

// tunnel is the state of an upgraded connection.
type tunnel struct {
	clientEnded, upstreamEnded bool // no more will come from there
	clientShut, upstreamShut   bool // the end has been passed on to there
	ws                         *frames
	away                       bool // a Close of ours is due at the next frame boundary
	closed                     bool // and has been sent: nothing else goes to the client
}

// tunnel moves what there is, in both directions.
func (c *client) tunnel() {
	x := c.x
	t := x.tunnel
	if len(c.out) > 0 && c.Out && !c.flush() {
		return
	}
	if !c.flushUp() {
		return
	}
	moved := 0
	for c.In && !t.clientEnded && len(x.out)-x.outAt < tunnelHeld {
		if moved > turn {
			c.Again()
			break
		}
		n, err := c.Read(c.w.in)
		if err == poll.ErrAgain {
			break
		}
		if err != nil {
			t.clientEnded = true
			if err != io.EOF {
				c.tunnelOver()
				return
			}
			break
		}
		moved += n
		if !c.toUpstream(c.w.in[:n]) {
			return
		}
	}
	for x.up.In && !t.upstreamEnded && len(c.out)-c.outAt < tunnelHeld {
		if moved > 2*turn {
			x.up.Again()
			break
		}
		n, err := x.up.Read(c.w.in)
		if err == poll.ErrAgain {
			break
		}
		if err != nil {
			t.upstreamEnded = true
			if err != io.EOF {
				c.tunnelOver()
				return
			}
			break
		}
		moved += n
		if !c.toClient(c.w.in[:n]) {
			return
		}
	}
	c.endTunnel(moved > 0)
}

// endTunnel passes the end of one direction on, and ends the exchange when both are over, or when the one that is left says
// nothing any more.
func (c *client) endTunnel(moved bool) {
	x := c.x
	t := x.tunnel
	if t.clientEnded && !t.upstreamShut && x.outAt == len(x.out) {
		t.upstreamShut = true
		shutdownWrite(&x.up.Sock)
	}
	if t.upstreamEnded && !t.clientShut && len(c.out) == 0 {
		t.clientShut = true
		shutdownWrite(&c.Sock)
	}
	switch {
	case t.clientShut && (t.upstreamShut || t.closed):
		c.tunnelOver()
	case (t.clientShut || t.upstreamShut) && (c.Deadline() == 0 || moved && !t.closed):
		c.SetDeadline(c.w.loop.Now() + int64(tunnelRest))
	}
}

func (c *client) tunnelOver() {
	c.x.keep = false
	c.close()
}

// toUpstream writes or holds.
func (c *client) toUpstream(data []byte) bool {
	x := c.x
	x.taken += int64(len(data))
	if len(x.out) == x.outAt {
		n, err := x.up.write(data)
		if err != nil && err != poll.ErrAgain {
			c.tunnelOver()
			return false
		}
		data = data[n:]
		x.out, x.outAt = x.out[:0], 0
	}
	x.out = append(x.out, data...)
	return true
}

func (c *client) flushUp() bool {
	x := c.x
	if err := x.push(); err != nil {
		c.tunnelOver()
		return false
	}
	if x.outAt == len(x.out) {
		x.out, x.outAt = x.out[:0], 0
	} else if x.outAt > tunnelHeld {
		x.out = append(x.out[:0], x.out[x.outAt:]...)
		x.outAt = 0
	}
	return true
}

// toClient writes or holds; of a WebSocket that is to be closed it lets pass what belongs to the frame that has begun.
func (c *client) toClient(data []byte) bool {
	t := c.x.tunnel
	if t.closed {
		return true
	}
	pass := len(data)
	if t.ws != nil {
		pass = t.ws.advance(data, t.away)
	}
	if pass > 0 {
		if err := c.write(data[:pass]); err != nil {
			c.tunnelOver()
			return false
		}
	}
	if t.away && t.ws.boundary() {
		return c.sendClose()
	}
	return true
}

// goAway tells a WebSocket client with Close 1001 that the server goes away (RFC 6455 section 7.4.1). Other protocols
// cannot be told; they run until the deadline.
func (c *client) goAway() {
	t := c.x.tunnel
	if t.ws == nil || t.away {
		return
	}
	t.away = true
	if t.ws.boundary() && !c.sendClose() {
		return
	}
	c.tunnel()
}

// sendClose writes our Close, unless the upstream has sent its own. The client's answer goes to the upstream, which so
// hears of it, and answers in its turn.
func (c *client) sendClose() bool {
	t := c.x.tunnel
	t.closed = true
	if !t.ws.sawClose {
		if err := c.write(closeGoingAway); err != nil {
			c.tunnelOver()
			return false
		}
	}
	c.SetDeadline(c.w.loop.Now() + int64(closeGrace))
	return true
}
