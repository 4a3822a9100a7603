package proxy

import (
	"context"
	"log/slog"
	"math"
	"math/rand/v2"
	"time"

	"github.com/inpod/inpod/config"
	"github.com/inpod/inpod/proxy/http1"
)

// logPolicy says which requests are written to the log.
type logPolicy struct {
	wanted bool
	sample uint32 // of 2^32
	all    bool
	slow   time.Duration
	errors bool
}

func newLogPolicy(c config.AccessLog) *logPolicy {
	return &logPolicy{
		wanted: c.Sample > 0 || c.Slow > 0 || c.Errors, sample: uint32(min(c.Sample*math.MaxUint32, math.MaxUint32)), all: c.Sample >= 1,
		slow: c.Slow, errors: c.Errors,
	}
}

// logLine keeps what the log tells of a request's head. The bytes are a worker's buffer, so a request allocates none.
type logLine struct {
	buf                  []byte
	method, target, host int // ends in buf
}

// logged bounds what is kept of a target, a host and a user agent.
const logged = 512

func (l *logLine) take(buf []byte, req *http1.Request) {
	buf = append(buf, clip(req.Method)...)
	l.method = len(buf)
	buf = append(buf, clip(req.Target)...)
	l.target = len(buf)
	buf = append(buf, clip(req.Host)...)
	l.host = len(buf)
	l.buf = append(buf, clip(req.Get("User-Agent"))...)
}

func clip(b []byte) []byte { return b[:min(len(b), logged)] }

func (p *logPolicy) picks(x *exchange, took time.Duration) bool {
	return p.errors && x.reason != "" || p.slow > 0 && took >= p.slow || p.all || p.sample > 0 && rand.Uint32() < p.sample
}

// logRequest writes a request that is over to the log, when the settings want that.
func (p *Proxy) logRequest(c *client, took time.Duration) {
	x := c.x
	if policy := p.logs.Load(); policy.wanted && policy.picks(x, took) {
		p.writeRequest(c, took)
	}
	if x.line.buf != nil {
		c.w.put(x.line.buf)
		x.line.buf = nil
	}
}

func (p *Proxy) writeRequest(c *client, took time.Duration) {
	l, client := &c.x.line, ""
	if c.remote.IsValid() {
		client = c.remote.String()
	}
	if l.buf == nil { // the head could not be read
		p.writeRecord(c.x, took, client, "", "", "", "")
		return
	}
	p.writeRecord(c.x, took, client, string(l.buf[:l.method]), string(l.buf[l.method:l.target]), string(l.buf[l.target:l.host]), string(l.buf[l.host:]))
}

func (p *Proxy) writeRecord(x *exchange, took time.Duration, client, method, target, host, agent string) {
	attrs := make([]slog.Attr, 0, 14)
	add := func(key, v string) {
		if v != "" {
			attrs = append(attrs, slog.String(key, v))
		}
	}
	if x.route != nil {
		add("route", x.route.name)
	}
	add("client", client)
	add("method", method)
	add("target", target)
	add("host", host)
	add("agent", agent)
	status := x.status
	if x.reason == reasonClientGone {
		status = 499 // as nginx says
	}
	attrs = append(attrs, slog.Int("status", status), slog.Float64("seconds", took.Seconds()))
	if x.ttfb > 0 {
		attrs = append(attrs, slog.Float64("first_byte_seconds", time.Duration(x.ttfb).Seconds()))
	}
	attrs = append(attrs, slog.Int64("received", x.taken), slog.Int64("sent", x.sent))
	add("reason", x.reason)
	p.log.LogAttrs(context.Background(), slog.LevelInfo, "request", attrs...)
}
