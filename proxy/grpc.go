package proxy

import (
	"context"
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
		f.p.metrics.unrouted.Add(1)
		answerGRPC(rw, grpcUnimplemented, errNoRoute([]byte(r.Host), []byte(r.URL.Path)))
		return
	}
	x := exchange{route: route, status: http.StatusOK, start: poll.Now()}
	stat := route.stat[0]
	defer func() { stat.observe(&x, poll.Now()-x.start) }()
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
			route.health.failedToConnect()
			fail := errUpstreamDown(route, err)
			x.reason = fail.reason
			answerGRPC(rw, grpcUnavailable, fail)
		},
		ModifyResponse: conn.l.back.modify,
		ErrorLog:       conn.l.back.proxy.ErrorLog,
	}
	proxy.ServeHTTP(rw, r)
	if r.Context().Err() != nil {
		x.reason = reasonClientGone
	}
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
