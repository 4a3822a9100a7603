package proxy

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/inpod/inpod/proxy/poll"
)

// The status codes of gRPC that inpod answers with (grpc.io/docs/guides/status-codes).
const (
	grpcExhausted     = 8
	grpcUnimplemented = 12
	grpcUnavailable   = 14
)

func isGRPC(r *http.Request) bool {
	return strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") && r.Header.Get("Te") == "trailers"
}

// serveGRPC passes a gRPC call on as HTTP/2. Its time is bounded by the call's own deadline (grpc-timeout), which the
// upstream sees, and not by the route's timeout: a stream may stay silent until something happens.
func (f *front) serveGRPC(rw http.ResponseWriter, r *http.Request, conn *http2Conn) {
	route := conn.l.match([]byte(r.Host), []byte(r.URL.EscapedPath()))
	if route == nil {
		x := exchange{start: poll.Now()}
		defer f.account(&x, f.p.metrics.of(nowhere, f.p.loops)[0], rw, r)
		fail := errNoRoute([]byte(r.Host), []byte(r.URL.Path))
		x.reason = fail.reason
		answerGRPC(rw, grpcUnimplemented, fail)
		return
	}
	x := exchange{route: route, start: poll.Now()}
	stat := route.stat[0]
	defer f.account(&x, stat, rw, r)
	if fail := admitCall(r.Context(), route, stat); fail != nil {
		x.reason = fail.reason
		answerGRPC(rw, grpcExhausted, fail)
		return
	}
	defer route.limiter.release()
	proxy := httputil.ReverseProxy{
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.SetURL(&url.URL{Scheme: "http", Host: route.Upstream})
			pr.Out.Host = pr.In.Host
			if route.StripPrefix {
				pr.Out.URL.Path = string(appendStripped(nil, []byte(pr.In.URL.Path), route.prefix))
				pr.Out.URL.RawPath = ""
			}
			pr.Out.Trailer = pr.In.Trailer // see rewrite
			pr.Out.Header["Te"] = []string{"trailers"}
			forward(pr.Out, pr.In, conn)
		},
		Transport:     conn.l.back.http2(route.Upstream),
		FlushInterval: -1,
		ErrorHandler: func(rw http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() != nil {
				x.reason = reasonClientGone
				panic(http.ErrAbortHandler)
			}
			fail := errClosed(route)
			if dial := (*net.OpError)(nil); errors.As(err, &dial) && dial.Op == "dial" {
				route.health.failedToConnect()
				fail = errUpstreamDown(route, err)
			}
			x.reason = fail.reason
			answerGRPC(rw, grpcUnavailable, fail)
		},
		ModifyResponse: func(resp *http.Response) error {
			route.health.connected()
			return conn.l.back.modify(resp)
		},
		ErrorLog: conn.l.back.proxy.ErrorLog,
	}
	proxy.ServeHTTP(rw, r)
}

// account counts a call that is over, and logs it as any request.
func (f *front) account(x *exchange, stat *series, rw http.ResponseWriter, r *http.Request) {
	if x.reason == "" && r.Context().Err() != nil {
		x.reason = reasonClientGone
	}
	x.status = httpStatusOf(rw.Header())
	took := poll.Now() - x.start
	stat.observe(x, took)
	if policy := f.p.logs.Load(); policy.wanted && policy.picks(x, time.Duration(took)) {
		client, _, _ := net.SplitHostPort(r.RemoteAddr)
		f.p.writeRecord(x, time.Duration(took), client, r.Method, r.URL.Path, r.Host, r.UserAgent())
	}
}

// httpStatusOf is what a gRPC status is counted as: the HTTP status that a gateway would map it to
// (google/rpc/code.proto). A call without one was cut off.
func httpStatusOf(h http.Header) int {
	status := h.Get("Grpc-Status")
	if status == "" {
		status = h.Get(http.TrailerPrefix + "Grpc-Status")
	}
	switch status {
	case "0":
		return http.StatusOK
	case "1", "3", "9", "11":
		return http.StatusBadRequest
	case "4":
		return http.StatusGatewayTimeout
	case "5":
		return http.StatusNotFound
	case "6", "10":
		return http.StatusConflict
	case "7":
		return http.StatusForbidden
	case "8":
		return http.StatusTooManyRequests
	case "12":
		return http.StatusNotImplemented
	case "14":
		return http.StatusServiceUnavailable
	case "16":
		return http.StatusUnauthorized
	}
	return http.StatusInternalServerError
}

// admitCall waits for a place; nil: it has been given one.
func admitCall(ctx context.Context, route *route, stat *series) *failure {
	began := poll.Now()
	ready := make(chan struct{})
	w := &waiter{ready: func() { close(ready) }}
	switch route.limiter.enter(w) {
	case refused:
		return errOverload(route, "the queue is full")
	case waits:
		timer := time.NewTimer(route.QueueTimeout)
		defer timer.Stop()
		why := &failure{reason: reasonClientGone}
		select {
		case <-ready:
		case <-timer.C:
			why = errOverload(route, "no place became free within "+route.QueueTimeout.String())
			if route.limiter.leave(w) {
				return why
			}
		case <-ctx.Done():
			if route.limiter.leave(w) {
				return why
			}
			<-ready // its turn has come at the same moment: the next one gets it
			route.limiter.release()
			return why
		}
		<-ready
	}
	stat.queueTime.observe(poll.Now() - began)
	return nil
}

// answerGRPC answers with trailers only, as gRPC over HTTP/2 has it for a call that fails at once.
func answerGRPC(rw http.ResponseWriter, code int, f *failure) {
	h := rw.Header()
	h.Set("Content-Type", "application/grpc")
	h.Set(ErrorHeader, f.reason)
	h.Set("Grpc-Status", strconv.Itoa(code))
	h.Set("Grpc-Message", "inpod: "+url.PathEscape(f.text))
	rw.WriteHeader(http.StatusOK)
}

// http2 is the transport to an upstream that speaks HTTP/2 without TLS.
func (b *reentry) http2(upstream string) *http.Transport {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.h2[upstream]
	if t == nil {
		protocols := &http.Protocols{}
		protocols.SetUnencryptedHTTP2(true)
		t = &http.Transport{
			Protocols: protocols, DisableCompression: true,
			DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext,
		}
		b.h2[upstream] = t
	}
	return t
}
