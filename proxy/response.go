package proxy

import (
	"errors"
	"io"

	"github.com/inpod/inpod/proxy/http1"
	"github.com/inpod/inpod/proxy/poll"
	"golang.org/x/sys/unix"
)

// upstreamEvent: there is news of the upstream of an exchange.
func (c *client) upstreamEvent() {
	x := c.x
	if x.outAt < len(x.out) && x.up.Out {
		if !c.flushRequest() {
			return
		}
		if c.pumpRequest(); c.state != exchanging || x.up == nil {
			return
		}
	}
	if x.up.In && !x.answered {
		// epoll does not say again what it has said: what follows the head, an end perhaps, is read now.
		if c.readResponse(); c.state != exchanging || x.up == nil {
			return
		}
	}
	c.pumpResponse()
}

// readResponse reads up to the response's head and passes it on with what of the body has come.
func (c *client) readResponse() {
	x := c.x
	rest, ok, err := x.up.readHead(x.method())
	for ok && c.w.resp.Status < 200 && c.w.resp.Status != 101 {
		if err = c.interim(); err != nil {
			break
		}
		// The final head may have come with it.
		if rest, ok, err = x.up.nextHead(rest, x.method()); err == nil && !ok {
			rest, ok, err = x.up.readHead(x.method())
		}
	}
	switch {
	case err != nil:
		c.responseFailed(err)
	case ok:
		c.respond(rest)
	}
}

// interim passes a 1xx response on (RFC 9110 section 15.2); 100 Continue has been sent by inpod itself. A client that is far
// behind gets none: it can do without.
func (c *client) interim() error {
	w, x := c.w, c.x
	if w.resp.Status == 100 || x.http10 || len(c.out)-c.outAt > int(x.route.Buffer) {
		return nil
	}
	w.out = appendStatusLine(w.out[:0], w.resp.Status, w.resp.Reason)
	w.out = appendFields(w.out, w.resp.Fields)
	w.out = append(w.out, "\r\n"...)
	if err := c.write(w.out); err != nil {
		return errClientGone
	}
	return nil
}

var errClientGone = errors.New("the client has gone")

// responseFailed: the upstream has given no response, or none that can be passed on.
func (c *client) responseFailed(err error) {
	x := c.x
	if err == errClientGone {
		c.left()
		return
	}
	if x.again && x.up.untouched(err) {
		c.sendAgain()
		return
	}
	if x.again && x.up.doubtful(err) {
		x.up.doubt = true
		x.up.SetDeadline(c.w.loop.Now() + int64(doubtTime))
		return
	}
	var bad *http1.Error
	switch {
	case errors.As(err, &bad):
		c.answerError(errBadResponse(x.route, bad))
	case x.refused:
		c.answerError(errClosedEarly(x.route))
	default:
		c.answerError(errClosed(x.route))
	}
}

// respond passes the response in w.resp on; rest is what came behind its head.
func (c *client) respond(rest []byte) {
	w, x, resp := c.w, c.x, &c.w.resp
	x.answered, x.status, x.ttfb = true, resp.Status, w.loop.Now()-x.start
	if x.up.in != nil {
		defer func(in []byte) { w.put(in) }(x.up.in)
		x.up.in = nil
	}
	if resp.Status == 101 {
		c.switchProtocols(rest)
		return
	}
	x.respBody.Begin(resp.Framing, resp.Length)
	body := resp.Framing != http1.NoBody
	x.rechunk = body && resp.Framing != http1.Length && !x.http10
	x.cut = body && resp.Framing != http1.Length && x.http10
	x.upKeep = resp.KeepAlive && !x.refused
	if w.p.draining.Load() || c.retired {
		x.keep = false
	}
	if !x.sentAll {
		x.keep = x.keep && x.reqBody.Done()
	}
	w.out = c.appendResponse(w.out[:0], resp)
	x.up.SetDeadline(0)
	c.relay(rest, true)
}

// relay passes data, which the upstream has just sent, on behind what stands in w.out already. The upstream, and the slot,
// are free before the client has the end: its next request may be here in a moment. first tells that the head stands there.
func (c *client) relay(data []byte, first bool) {
	w, x := c.w, c.x
	if x.respBody.Done() {
		c.upstreamDone(len(data) > 0)
	}
	for !x.ended && len(data) > 0 {
		piece, used, err := x.respBody.Decode(data)
		if err != nil {
			c.badBody(err, first)
			return
		}
		data = data[used:]
		if x.respBody.Done() {
			c.upstreamDone(len(data) > 0)
		}
		if len(piece) == 0 {
			continue
		}
		if len(w.out) > 0 || x.rechunk {
			w.out = appendData(w.out, piece, x.rechunk)
		} else if err := c.write(piece); err != nil { // large pieces are not copied
			c.left()
			return
		}
	}
	if x.ended && x.rechunk {
		w.out = http1.AppendLastChunk(w.out, x.respBody.Trailer())
	}
	if len(w.out) > 0 {
		err := c.write(w.out)
		w.out = w.out[:0]
		if cap(w.out) > 4*scratch {
			w.out = make([]byte, 0, scratch+smallBuffer)
		}
		if err != nil {
			c.left()
			return
		}
	}
	switch {
	case !x.ended:
		x.up.SetDeadline(w.loop.Now() + int64(x.route.IdleTimeout))
	case len(c.out) == 0:
		c.finish()
	}
}

// pumpResponse moves the response's body from the upstream to the client, as long as the client is not far behind.
func (c *client) pumpResponse() {
	w, x := c.w, c.x
	for moved := 0; x.answered && !x.ended && x.up.In; {
		if len(c.out)-c.outAt > int(x.route.Buffer) {
			x.up.SetDeadline(0) // the client is slow, not the upstream
			return
		}
		if moved >= turn {
			x.up.Again()
			return
		}
		n, err := x.up.Read(w.in)
		if err == poll.ErrAgain {
			if x.up.Deadline() == 0 { // the client was slow, but is so no more
				c.armResponse()
			}
			return
		}
		if err != nil {
			c.upstreamEOF(err)
			return
		}
		moved += n
		w.out = w.out[:0]
		if c.relay(w.in[:n], false); c.state != exchanging || x.up == nil {
			return
		}
	}
}

// armResponse bounds how long the upstream may send nothing, unless it is the client that is behind.
func (c *client) armResponse() {
	if x := c.x; len(c.out)-c.outAt <= int(x.route.Buffer) {
		x.up.SetDeadline(c.w.loop.Now() + int64(x.route.IdleTimeout))
	}
}

// badBody: the response's body cannot be read. As long as its head has not been sent there can be an answer.
func (c *client) badBody(err error, unsent bool) {
	var bad *http1.Error
	if unsent && errors.As(err, &bad) {
		c.answerError(errBadResponse(c.x.route, bad))
		return
	}
	c.truncated("upstream_bad_response")
}

// upstreamEOF: the upstream has closed the connection in the middle, or at the end, of its response.
func (c *client) upstreamEOF(err error) {
	x := c.x
	if err != io.EOF || x.respBody.EOF() != nil {
		c.truncated("upstream_closed")
		return
	}
	c.upstreamDone(true)
	if x.rechunk {
		if err := c.write(http1.AppendLastChunk(c.w.out[:0], nil)); err != nil {
			c.left()
			return
		}
	}
	if len(c.out) == 0 {
		c.finish()
	}
}

// truncated: the response cannot be completed. The client must see that: a missing last chunk or too few bytes do, and
// where the end of the connection is the end of the body, a reset does.
func (c *client) truncated(reason string) {
	x := c.x
	x.reason = reason
	if x.cut {
		c.abort()
		return
	}
	c.close()
}

// upstreamDone: all of the response has been read. stray tells that more came behind it.
func (c *client) upstreamDone(stray bool) {
	x := c.x
	x.ended = true
	c.release(x.upKeep && !stray && x.sentAll && x.outAt == len(x.out))
}

// upstreamTimeout: the upstream has been too slow.
func (c *client) upstreamTimeout() {
	x := c.x
	if x.answered {
		c.truncated("upstream_idle_timeout")
		return
	}
	if x.up.doubt {
		if x.again && x.up.untouched(io.EOF) {
			c.sendAgain()
			return
		}
		c.answerError(errClosed(x.route))
		return
	}
	if x.outAt < len(x.out) {
		c.answerError(errStalled(x.route))
		return
	}
	c.answerError(errTimeout(x.route))
}

// nextHead parses a head that has been read already.
func (up *upConn) nextHead(data, method []byte) (rest []byte, ok bool, err error) {
	if len(data) == 0 {
		up.dropHead()
		return nil, false, nil
	}
	n, err := up.w.resp.Parse(data, method)
	if err != nil || n > 0 {
		return data[n:], n > 0, err
	}
	up.in = append(up.w.buffer(), data...) // data may be a part of the old one
	return nil, false, nil
}

func (up *upConn) dropHead() {
	if up.in != nil {
		up.w.put(up.in)
		up.in = nil
	}
}

// shutdownWrite tells the peer that nothing follows.
func shutdownWrite(s *poll.Sock) { _ = unix.Shutdown(s.FD(), unix.SHUT_WR) }
