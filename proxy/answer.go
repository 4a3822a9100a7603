package proxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/inpod/inpod/proxy/http1"
)

// ErrorHeader carries the reason of an answer that inpod gave itself.
const ErrorHeader = "X-Inpod-Error"

// discardBytes is how much of a request's body is read for nothing, so that the connection can go on.
const discardBytes = 256 << 10

// failure is an answer of inpod's own: what happened, and what can be done.
type failure struct {
	status     int
	reason     string // one word
	text, hint string
	retryAfter int // seconds; 0: not said
	final      bool
}

// reasonClientGone is counted for a client that did not wait for its answer.
const reasonClientGone = "client_gone"

var (
	errHeaderTimeout = &failure{
		status: 408, reason: "client_timeout", text: "the request's head did not come within " + headerTimeout.String(), final: true,
	}
	errBodyTimeout = &failure{
		status: 408, reason: "client_timeout", text: "the request's body stopped coming", hint: "idle_timeout of the route is how long it may pause", final: true,
	}
)

func errNoRoute(host, path []byte) *failure {
	return &failure{
		status: 404, reason: "no_route", text: fmt.Sprintf("no route for %s%s", clip(host), clip(path)),
		hint: "proxy.routes has the routes; inpod ctl routes lists them",
	}
}

// refusal is the answer to a request that cannot be read.
func refusal(err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	var e *http1.Error
	if !errors.As(err, &e) {
		return &failure{status: 400, reason: "bad_request", text: err.Error(), final: true}
	}
	return &failure{status: e.Status, reason: e.Reason, text: e.Text, final: true}
}

// Error implements error, for a failure that comes up where errors are handed on.
func (f *failure) Error() string { return f.text }

func errTooLarge(limit int64) *failure { return tooLarge(limit).(*failure) }

func tooLarge(limit int64) error {
	return &failure{
		status: 413, reason: "body_too_large", text: fmt.Sprintf("the request's body is larger than %d bytes", limit),
		hint: "max_body of the route is the limit",
	}
}

func errOverload(r *route, why string) *failure {
	status, _ := strconv.Atoi(r.OverloadStatus)
	running, waiting := r.limiter.load()
	return &failure{
		status: status, reason: "overloaded", retryAfter: r.retryAfter(waiting),
		text: fmt.Sprintf("%s: %d being worked on, %d waiting", why, running, waiting),
		hint: "try again after Retry-After",
	}
}

func errUpstreamDown(r *route, err error) *failure {
	return &failure{
		status: 502, reason: "upstream_down", text: fmt.Sprintf("cannot connect to the upstream %s: %v", r.Upstream, cause(err)),
		hint: "the server has not started yet, has ended, or listens elsewhere", retryAfter: 1,
	}
}

func errConnectTimeout(r *route) *failure {
	return &failure{
		status: 504, reason: "upstream_connect_timeout", text: fmt.Sprintf("the upstream %s took no connection within %s", r.Upstream, dialTimeout),
	}
}

func errTimeout(r *route) *failure {
	return &failure{
		status: 504, reason: "upstream_timeout", text: fmt.Sprintf("the upstream %s gave no answer within %s", r.Upstream, r.Timeout),
		hint: "predictions that take longer: stream the answer, use an asynchronous mode (Prefer: respond-async) where the route has one, or raise timeout of the route",
	}
}

func errStalled(r *route) *failure {
	return &failure{
		status: 504, reason: "upstream_stalled", text: fmt.Sprintf("the upstream %s stopped taking the request's body", r.Upstream),
	}
}

func errClosed(r *route) *failure {
	return &failure{
		status: 502, reason: "upstream_closed", text: fmt.Sprintf("the upstream %s closed the connection without an answer", r.Upstream),
		hint: "its log may say why; the request may have been carried out",
	}
}

func errClosedEarly(r *route) *failure {
	return &failure{
		status: 502, reason: "upstream_closed", text: fmt.Sprintf("the upstream %s closed the connection while the request was being sent", r.Upstream),
	}
}

func errBadResponse(r *route, err *http1.Error) *failure {
	return &failure{
		status: 502, reason: "upstream_bad_response", text: fmt.Sprintf("the upstream %s sent no valid HTTP response: %s", r.Upstream, strings.TrimPrefix(err.Text, "the upstream's response: ")),
	}
}

// cause is the last error of a chain: "connection refused" rather than the addresses that the text names already.
func cause(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

// answerError ends the exchange with inpod's own answer. The connection goes on when what is left of the request is
// little.
func (c *client) answerError(f *failure) {
	w, x := c.w, c.x
	if !x.active { // the head could not be read
		x = c.newExchange()
		x.stays, x.stat = true, w.nowhere
		x.reqBody.Begin(http1.NoBody, 0)
	}
	c.leaveQueue()
	c.release(false)
	x.status, x.reason, x.answered, x.ended, x.cut = f.status, f.reason, true, true, false
	switch left := x.reqBody.Remaining(); {
	case f.final, w.p.draining.Load(), c.retired, left > discardBytes, left < 0, x.expects && !x.reqBody.Done():
		x.keep = false
	}
	c.state, c.lingered = answering, 0
	c.SetDeadline(w.loop.Now() + int64(lingerTime))
	if err := c.write(c.compose(f)); err != nil {
		c.left()
		return
	}
	c.answered()
}

// answered goes on when the answer has been composed, and again when it has been written.
func (c *client) answered() {
	if c.x.keep {
		c.discard()
		return
	}
	if len(c.out) == 0 {
		c.finish()
	}
}

// closing gives up on keeping the connection.
func (c *client) closing() {
	c.x.keep = false
	c.answered()
}

// compose writes the answer.
func (c *client) compose(f *failure) []byte {
	x := c.x
	body := errorBody(f, x.text)
	reason := http.StatusText(f.status)
	if reason == "" {
		reason = "Unknown Status Code"
	}
	kind := "application/json"
	if x.text {
		kind = "text/plain; charset=utf-8"
	}
	out := append(strconv.AppendInt([]byte("HTTP/1.1 "), int64(f.status), 10), " "+reason+"\r\n"...)
	out = http1.AppendField(out, "Date", time.Now().UTC().Format(http.TimeFormat))
	out = http1.AppendField(out, "Content-Type", kind)
	out = http1.AppendField(out, "Content-Length", strconv.Itoa(len(body)))
	out = http1.AppendField(out, ErrorHeader, f.reason)
	if f.retryAfter > 0 {
		out = http1.AppendField(out, "Retry-After", strconv.Itoa(f.retryAfter))
	}
	switch {
	case !x.keep:
		out = http1.AppendField(out, "Connection", "close")
	case x.http10:
		out = http1.AppendField(out, "Connection", "keep-alive")
	}
	out = append(out, "\r\n"...)
	if x.head {
		return out
	}
	return append(out, body...)
}

func errorBody(f *failure, text bool) []byte {
	if text {
		b := append([]byte("inpod: "), f.text...)
		if f.hint != "" {
			b = append(append(b, '\n'), f.hint...)
		}
		return append(b, '\n')
	}
	body, err := json.Marshal(struct {
		Error  string `json:"error"`
		Reason string `json:"reason"`
		Hint   string `json:"hint,omitempty"`
	}{f.text, f.reason, f.hint})
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return append(body, '\n')
}

// wantsText tells whether a client would rather read text: a browser, or one that asks for it. Everybody else gets JSON.
func wantsText(accept []byte) bool {
	if len(accept) == 0 || bytes.Contains(accept, []byte("json")) {
		return false
	}
	return bytes.Contains(accept, []byte("text/"))
}

// retryAfter estimates, in seconds, when a place will be free: the time that the requests ahead take, as the recent
// ones did.
func (r *route) retryAfter(waiting int) int {
	mean := r.meanDuration()
	limit := max(r.Concurrency, 1)
	return int(min(max(time.Duration(waiting/limit+1)*mean/time.Second, 1), 60))
}
