package proxy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"strings"
	"time"

	"github.com/inpod/inpod/config"
	"github.com/valyala/fasthttp"
)

// ErrorHeader carries the reason of an answer that inpod gave itself.
const ErrorHeader = "X-Inpod-Error"

// route is a config.Route with what it needs at run time.
type route struct {
	config.Route
	upstream *upstream
	series   *series
}

func newRoute(r config.Route, m *metrics) *route {
	return &route{Route: r, upstream: newUpstream(r.Upstream), series: m.route(r.Name())}
}

// matches tells whether path is the route's path or lies below it.
func (r *route) matches(path []byte) bool {
	prefix := strings.TrimSuffix(r.Path, "/")
	if len(path) < len(prefix) || string(path[:len(prefix)]) != prefix {
		return false
	}
	return len(path) == len(prefix) || path[len(prefix)] == '/'
}

func (l *listener) handle(ctx *fasthttp.RequestCtx) {
	start := time.Now()
	c := ctx.Conn().(*conn)
	var r *route
	for _, candidate := range *l.routes.Load() {
		if candidate.matches(ctx.Path()) {
			r = candidate
			break
		}
	}
	status := 0
	l.p.requestBegins(start)
	c.begin(func() {
		if r != nil {
			r.series.observe(status, time.Since(start))
		}
		l.p.requestEnded()
	})
	defer func() {
		if e := recover(); e != nil { // one request must not take the agent down
			l.p.log.Error("BUG: panic in a request", "part", "proxy", "error", fmt.Sprint(e), "stack", string(debug.Stack()))
			ctx.Response.Reset()
			ctx.Response.Header.SetConnectionClose()
			fail(ctx, fasthttp.StatusInternalServerError, "internal", "inpod failed on this request")
		}
		// Until the client has gone, so that it looks for another pod.
		if l.p.draining.Load() || c.retired.Load() {
			ctx.Response.Header.SetConnectionClose()
		}
		status = ctx.Response.StatusCode()
	}()
	if ambiguous(&ctx.Request.Header) {
		badRequest(ctx, nil)
		return
	}
	if r == nil {
		fail(ctx, fasthttp.StatusNotFound, "no_route", fmt.Sprintf("no route for %s", ctx.Path()))
		if ctx.Request.IsBodyStream() {
			ctx.Response.Header.SetConnectionClose()
		}
		return
	}
	r.serve(ctx)
}

// ambiguous tells whether two servers may disagree about where the request ends, which is how requests are
// smuggled (RFC 9112 section 6.3): Transfer-Encoding beside Content-Length or in HTTP/1.0.
func ambiguous(h *fasthttp.RequestHeader) bool {
	if h.ContentLength() != -1 {
		return false
	}
	return !h.IsHTTP11() || bytes.Contains(bytes.ToLower(h.RawHeaders()), []byte("content-length:"))
}

// serve passes one request on and sets up the response; its body is streamed by fasthttp after serve has returned.
func (r *route) serve(ctx *fasthttp.RequestCtx) {
	req := fasthttp.AcquireRequest()
	defer fasthttp.ReleaseRequest(req)
	ctx.Request.Header.CopyTo(&req.Header)
	forwardHeader(&req.Header, ctx)
	var in *body
	if ctx.Request.IsBodyStream() {
		in = &body{r: ctx.RequestBodyStream(), c: ctx.Conn()}
		req.SetBodyStream(in, ctx.Request.Header.ContentLength())
	}

	resp, uc, err := r.upstream.roundTrip(req, in, ctx.Conn().(*conn), r.Timeout)
	if in != nil && !in.ended {
		// What is left of the body stands where the next request would be.
		ctx.Response.Header.SetConnectionClose()
	}
	if err != nil {
		err.answer(ctx)
		return
	}
	closing := ctx.Response.Header.ConnectionClose()
	length := resp.Header.ContentLength()
	stripHop(&resp.Header)
	resp.Header.CopyTo(&ctx.Response.Header)
	ctx.Response.Header.SetNoDefaultContentType(true)
	if closing {
		ctx.Response.Header.SetConnectionClose()
	}
	stream := resp.BodyStream()
	switch {
	case stream == nil: // HEAD, 204, 304
		ctx.Response.SkipBody = true
		r.upstream.release(uc, !resp.ConnectionClose())
		fasthttp.ReleaseResponse(resp)
	case length >= 0 && length <= uc.br.Buffered():
		// All of it is here: one write, and the connection is free before the client has read it.
		data := make([]byte, length)
		_, rerr := io.ReadFull(stream, data)
		ctx.Response.SetBodyRaw(data)
		keep := rerr == nil && !resp.ConnectionClose()
		resp.CloseBodyStream()
		fasthttp.ReleaseResponse(resp)
		r.upstream.release(uc, keep)
	default:
		length = max(length, -1)
		out := &result{resp: resp, stream: stream, uc: uc, u: r.upstream, left: length}
		if length < 0 && !ctx.Request.Header.IsHTTP11() {
			untilClose(ctx, out)
			return
		}
		ctx.Response.ImmediateHeaderFlush = true
		ctx.Response.SetBodyStream(out, length)
	}
}

// untilClose answers an HTTP/1.0 client with a body of unknown length: it knows no chunks, the end of the connection
// is the end of the body (RFC 9112 section 7.1). fasthttp would send chunks, so the connection is taken from it.
func untilClose(ctx *fasthttp.RequestCtx, out *result) {
	ctx.Response.Header.SetContentLength(-2) // neither a length nor chunks; says Connection: close
	ctx.Response.Header.Del("Transfer-Encoding")
	head := append([]byte(nil), ctx.Response.Header.Header()...)
	client := ctx.Conn().(*conn)
	ctx.HijackSetNoResponse(true)
	ctx.Hijack(func(net.Conn) {
		defer out.Close()
		defer client.end()
		client.SetDeadline(time.Time{})
		if _, err := client.Write(head); err != nil {
			return
		}
		buf := make([]byte, 16<<10)
		for {
			n, err := out.Read(buf)
			client.SetWriteDeadline(time.Now().Add(bodyIdle))
			if _, werr := client.Write(buf[:n]); werr != nil {
				return
			}
			switch err {
			case nil:
			case io.EOF:
				return
			default:
				client.SetLinger(0) // a reset: what the client has is not all
				return
			}
		}
	})
}

// hopHeaders concern one connection only (RFC 9110 section 7.6.1) or are answered by inpod itself (Expect).
var hopHeaders = [...]string{"Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Upgrade", "Proxy-Authenticate", "Expect"}

// forwardHeader turns a client's header into the upstream's.
func forwardHeader(h *fasthttp.RequestHeader, ctx *fasthttp.RequestCtx) {
	for _, name := range connectionTokens(h.Peek("Connection")) {
		h.Del(name)
	}
	h.Del("Connection")
	h.ResetConnectionClose()
	for _, name := range hopHeaders {
		h.Del(name)
	}
	h.SetNoDefaultContentType(true)
	h.SetProtocol("HTTP/1.1")

	client, _, _ := net.SplitHostPort(ctx.RemoteAddr().String())
	if before := h.Peek("X-Forwarded-For"); len(before) > 0 {
		client = string(before) + ", " + client
	}
	h.Set("X-Forwarded-For", client)
	// An ingress before us knows better how the client came.
	if len(h.Peek("X-Forwarded-Proto")) == 0 {
		h.Set("X-Forwarded-Proto", "http")
	}
	if len(h.Peek("X-Forwarded-Host")) == 0 {
		h.SetBytesV("X-Forwarded-Host", h.Host())
	}
}

func stripHop(h *fasthttp.ResponseHeader) {
	for _, name := range connectionTokens(h.Peek("Connection")) {
		h.Del(name)
	}
	h.Del("Connection")
	for _, name := range hopHeaders {
		if name != "Proxy-Authenticate" {
			h.Del(name)
		}
	}
}

// connectionTokens are the headers that a Connection header names as its own. Those that carry the message are never
// among them: "Connection: host" must not take the Host header away.
func connectionTokens(v []byte) []string {
	var names []string
	for _, tok := range bytes.Split(v, []byte(",")) {
		name := string(bytes.TrimSpace(tok))
		switch strings.ToLower(name) {
		case "", "close", "keep-alive", "host", "content-length", "content-type", "transfer-encoding":
			continue
		}
		names = append(names, name)
	}
	return names
}

// body is a request's body. It gives the client bodyIdle for each read and remembers how it ended.
type body struct {
	r     io.Reader
	c     net.Conn
	ended bool
	err   error // what the client did wrong, not EOF
}

func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	b.c.SetReadDeadline(time.Now().Add(bodyIdle))
	n, err := b.r.Read(p)
	switch {
	case err == io.EOF:
		b.ended = true
	case err != nil:
		b.err = err
	}
	return n, err
}

// result is a response's body on its way to the client.
type result struct {
	resp   *fasthttp.Response
	stream io.Reader
	uc     *upConn
	u      *upstream
	left   int // bytes to come; negative when not known
	ended  bool
}

func (r *result) Read(p []byte) (int, error) {
	n, err := r.stream.Read(p)
	if r.left >= 0 {
		r.left -= n
		r.ended = r.left == 0
	}
	if err == io.EOF {
		// fasthttp takes the end of the connection for the end of a chunked body; the client must see the difference.
		if r.resp.Header.ContentLength() == -1 && r.uc.readErr == io.EOF {
			return n, io.ErrUnexpectedEOF
		}
		r.ended = r.left <= 0
	}
	return n, err
}

// Close is called by fasthttp in any case, also when the client went away in the middle.
func (r *result) Close() error {
	keep := r.ended && !r.resp.ConnectionClose()
	r.resp.CloseBodyStream()
	fasthttp.ReleaseResponse(r.resp)
	r.u.release(r.uc, keep)
	return nil
}

// fail answers with inpod's own error.
func fail(ctx *fasthttp.RequestCtx, status int, reason, text string) {
	body, err := json.Marshal(map[string]string{"error": text})
	if err != nil {
		panic("BUG: " + err.Error())
	}
	ctx.SetStatusCode(status)
	ctx.Response.Header.Set(ErrorHeader, reason)
	ctx.Response.Header.SetContentType("application/json")
	ctx.Response.SetBodyRaw(append(body, '\n'))
}
