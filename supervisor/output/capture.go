package output

import "bytes"

// The tokens around what becomes a PROCESS_COMMUNICATION event (supervisord.org/events.html).
const (
	captureBegin = "<!--XSUPERVISOR:BEGIN-->"
	captureEnd   = "<!--XSUPERVISOR:END-->"
)

// capture finds the tokens in a stream, wherever reads cut them.
type capture struct {
	max  int64
	in   bool
	held []byte // the end of the last piece, when a token may have begun there
	buf  []byte // captured so far
}

func newCapture(maxbytes int64) *capture { return &capture{max: maxbytes} }

// feed passes on what is outside to log, what is inside to inside (which returns what to keep) and what was captured
// to done.
func (c *capture) feed(data []byte, log func([]byte), inside func([]byte) []byte, done func([]byte)) {
	if len(c.held) > 0 {
		data = append(c.held, data...)
		c.held = nil
	}
	for len(data) > 0 {
		token := captureBegin
		if c.in {
			token = captureEnd
		}
		before, after, found := bytes.Cut(data, []byte(token))
		if !found {
			keep := prefixAtEnd(data, token)
			before, c.held = data[:len(data)-keep], bytes.Clone(data[len(data)-keep:])
		}
		if c.in {
			c.keep(inside(before))
		} else {
			log(before)
		}
		if !found {
			return
		}
		if c.in && done != nil {
			done(c.buf)
		}
		c.in, c.buf = !c.in, nil
		data = after
	}
}

// keep bounds what is captured as Supervisor's BoundIO does: a piece too many pushes as many bytes out at the front.
func (c *capture) keep(p []byte) {
	if int64(len(c.buf)+len(p)) > c.max {
		c.buf = c.buf[min(len(p), len(c.buf)):]
	}
	c.buf = append(c.buf, p...)
}

// flush gives up waiting for the rest of a token. A capture without an end is dropped.
func (c *capture) flush(log func([]byte)) {
	if !c.in && len(c.held) > 0 {
		log(c.held)
	}
	c.held, c.buf = nil, nil
}

// prefixAtEnd is the length of the longest beginning of token that data ends with.
func prefixAtEnd(data []byte, token string) int {
	for n := min(len(token)-1, len(data)); n > 0; n-- {
		if string(data[len(data)-n:]) == token[:n] {
			return n
		}
	}
	return 0
}
