package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/inpod/inpod/config"
	"github.com/inpod/inpod/internal/testport"
	"github.com/inpod/inpod/proxy/http1"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestRequestsArePassedOn(t *testing.T) {
	up := server(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Seen", fmt.Sprintf("%s %s host=%s len=%d for=%s proto=%s fhost=%s conn=%q secret=%q te=%q ua=%q ct=%q",
			r.Method, r.RequestURI, r.Host, r.ContentLength, r.Header.Get("X-Forwarded-For"), r.Header.Get("X-Forwarded-Proto"),
			r.Header.Get("X-Forwarded-Host"), r.Header.Get("Connection"), r.Header.Get("X-Secret"), r.Header.Get("Te"), r.UserAgent(), r.Header.Get("Content-Type")))
		w.Header().Set("Keep-Alive", "timeout=1")
		w.Header().Add("Set-Cookie", "a=1")
		w.Header().Add("Set-Cookie", "b=2")
		w.WriteHeader(http.StatusTeapot)
		w.Write(b)
	})
	_, url := start(t, config.Route{Upstream: up})
	host := strings.TrimPrefix(url, "http://")
	for _, method := range []string{"GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"} {
		body := ""
		if method == "POST" || method == "PUT" || method == "PATCH" {
			body = "some text"
		}
		req, _ := http.NewRequest(method, url+"/a%2Fb/../c?x=%20y", strings.NewReader(body))
		req.Header.Set("Connection", "X-Secret, host")
		req.Header.Set("X-Secret", "s")
		req.Header.Set("Te", "trailers")
		req.Header.Set("X-Forwarded-For", "10.1.1.1")
		req.Header.Set("User-Agent", "")
		resp, err := httpClient(t).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		want := fmt.Sprintf(`%s /a%%2Fb/../c?x=%%20y host=%s len=%d for=10.1.1.1, 127.0.0.1 proto=http fhost=%s conn="" secret="" te="" ua="" ct=""`, method, host, len(body), host)
		if diff := cmp.Diff(want, resp.Header.Get("X-Seen")); diff != "" {
			t.Errorf("%s: what the upstream saw (-want +got):\n%s", method, diff)
		}
		if string(got) != body || resp.StatusCode != http.StatusTeapot || resp.Header.Get("Keep-Alive") != "" || len(resp.Header["Set-Cookie"]) != 2 {
			t.Errorf("%s: got %d %q %v, want 418 %q, two cookies and no Keep-Alive", method, resp.StatusCode, got, resp.Header, body)
		}
	}
}

func TestLongestPathWins(t *testing.T) {
	who := func(name string) string {
		return server(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, name+r.URL.Path) })
	}
	_, url := start(t, config.Route{Path: "/", Upstream: who("root")}, config.Route{Path: "/jupyter/", Upstream: who("jupyter")}, config.Route{Path: "/jupyter/api", Upstream: who("api")})
	for path, want := range map[string]string{
		"/": "root/", "/x": "root/x", "/jupyterx": "rootx", "/jupyter": "jupyter/jupyter", "/jupyter/a": "jupyter/jupyter/a", "/jupyter/api/b": "api/jupyter/api/b",
	} {
		if path == "/jupyterx" {
			want = "root/jupyterx"
		}
		if _, got := get(t, httpClient(t), url+path); got != want {
			t.Errorf("GET %s: got %q, want %q", path, got, want)
		}
	}
}

func TestNoRouteIs404(t *testing.T) {
	_, url := start(t, config.Route{Path: "/a", Upstream: "127.0.0.1:1"})
	resp, body := get(t, httpClient(t), url+"/b")
	want := fmt.Sprintf(`{"error":"no route for %s/b","reason":"no_route","hint":"proxy.routes has the routes; inpod ctl routes lists them"}`+"\n", resp.Request.URL.Host)
	if resp.StatusCode != 404 || body != want || resp.Header.Get(ErrorHeader) != "no_route" {
		t.Errorf("got %d %q %q, want 404 no_route %q", resp.StatusCode, resp.Header.Get(ErrorHeader), body, want)
	}
}

func TestUpstreamFailures(t *testing.T) {
	var tries atomic.Int32
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() { // reads a request and hangs up, or answers nonsense
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			req, err := http.ReadRequest(bufio.NewReader(c))
			if err == nil {
				tries.Add(1)
				if req.URL.Path == "/nonsense" {
					io.WriteString(c, "hello\r\n\r\n")
				}
			}
			c.Close()
		}
	}()
	released := make(chan struct{})
	slow := server(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-released:
		case <-r.Context().Done():
		}
	})
	defer close(released)
	down := testport.Closed(t)
	_, url := start(t,
		config.Route{Path: "/down", Upstream: down},
		config.Route{Path: "/", Upstream: ln.Addr().String()},
		config.Route{Path: "/slow", Upstream: slow, Timeout: 50 * time.Millisecond})
	for _, tt := range []struct {
		path   string
		status int
		reason string
		text   string
	}{
		{"/down", 502, "upstream_down", "cannot connect to the upstream " + down + ": connection refused"},
		{"/closed", 502, "upstream_closed", "the upstream " + ln.Addr().String() + " closed the connection without an answer"},
		{"/nonsense", 502, "upstream_bad_response", "the upstream " + ln.Addr().String() + " sent no valid HTTP response: the status line is not HTTP/1.0 or HTTP/1.1, a status and a reason"},
		{"/slow", 504, "upstream_timeout", "the upstream " + slow + " gave no answer within 50ms"},
	} {
		tries.Store(0)
		resp, body := get(t, httpClient(t), url+tt.path)
		want := fmt.Sprintf("{\"error\":%q,\"reason\":%q", tt.text, tt.reason)
		if resp.StatusCode != tt.status || resp.Header.Get(ErrorHeader) != tt.reason || !strings.HasPrefix(body, want) {
			t.Errorf("%s:\n got %d %s %s\nwant %d %s %s", tt.path, resp.StatusCode, resp.Header.Get(ErrorHeader), body, tt.status, tt.reason, want)
		}
		if n := tries.Load(); n > 1 {
			t.Errorf("%s: the upstream saw the request %d times, want once", tt.path, n)
		}
	}
}

func TestConnectionThatTheUpstreamClosedIsNotUsed(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") }))
	closed := make(chan struct{}, 100)
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateClosed {
			closed <- struct{}{}
		}
	}
	srv.Start()
	defer srv.Close()
	_, url := start(t, config.Route{Upstream: srv.Listener.Addr().String()})
	c := httpClient(t)
	for i := range 50 {
		if resp, body := get(t, c, url); resp.StatusCode != 200 || body != "ok" {
			t.Fatalf("request %d: got %d %q, want 200 ok", i, resp.StatusCode, body)
		}
		srv.CloseClientConnections()
		<-closed
	}
}

func TestResponseArrivesAsItIsWritten(t *testing.T) {
	for _, length := range []string{"", "11"} {
		next := make(chan struct{})
		up := server(t, func(w http.ResponseWriter, _ *http.Request) {
			if length != "" {
				w.Header().Set("Content-Length", length)
			}
			io.WriteString(w, "first")
			w.(http.Flusher).Flush()
			<-next
			io.WriteString(w, "second")
		})
		_, url := start(t, config.Route{Upstream: up})
		resp, err := httpClient(t).Get(url)
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 5)
		if _, err := io.ReadFull(resp.Body, buf); err != nil || string(buf) != "first" {
			t.Fatalf("got %q, %v; want first before the second part is written", buf, err)
		}
		close(next)
		rest, err := io.ReadAll(resp.Body)
		if err != nil || string(rest) != "second" {
			t.Errorf("got %q, %v; want second", rest, err)
		}
		resp.Body.Close()
	}
}

func TestBrokenResponseIsAnError(t *testing.T) {
	for _, length := range []string{"", "1000"} {
		up := server(t, func(w http.ResponseWriter, _ *http.Request) {
			if length != "" {
				w.Header().Set("Content-Length", length)
			}
			io.WriteString(w, "part")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		})
		_, url := start(t, config.Route{Upstream: up})
		resp, err := httpClient(t).Get(url)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err == nil {
			t.Errorf("length %q: read %q without an error; want one", length, got)
		}
	}
}

// zeros gives n bytes, as an upload of unknown or known length.
type zeros struct{ n int64 }

func (z *zeros) Read(p []byte) (int, error) {
	if z.n == 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), z.n)
	z.n -= n
	return int(n), nil
}

func TestUploadIsStreamed(t *testing.T) {
	up := server(t, func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%d %v %d", n, err, r.ContentLength)
	})
	_, url := start(t, config.Route{Upstream: up})
	const size = 64 << 20
	for _, length := range []int64{-1, size} {
		req, _ := http.NewRequest("POST", url, &zeros{n: size})
		req.ContentLength = length
		req.Header.Set("Content-Type", "multipart/form-data; boundary=x") // must not be parsed here
		resp, err := httpClient(t).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if want := fmt.Sprintf("%d <nil> %d", size, length); string(got) != want {
			t.Errorf("length %d: got %q, want %q", length, got, want)
		}
	}
}

func TestEarlyAnswerToAnUpload(t *testing.T) {
	up := server(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		http.Error(w, "too much", http.StatusRequestEntityTooLarge)
	})
	_, url := start(t, config.Route{Upstream: up})
	c := httpClient(t)
	for range 3 { // what is left of the body must not be taken for the next request
		resp, err := c.Post(url, "text/plain", &zeros{n: 8 << 20})
		if err != nil {
			continue // the client may see the reset before the answer, as with any HTTP/1.1 server
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusRequestEntityTooLarge && resp.StatusCode != http.StatusBadGateway {
			t.Errorf("got %d, want 413 or 502", resp.StatusCode)
		}
	}
}

func TestBusyPortNamesTheKey(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	p := newProxy()
	defer p.Close()
	err = p.Apply(config.Proxy{Routes: []config.Route{
		withDefaults(config.Route{Upstream: "127.0.0.1:1"}),
		withDefaults(config.Route{Listen: ln.Addr().String(), Upstream: "127.0.0.1:1"}),
	}})
	want := fmt.Sprintf("cannot listen on %q (proxy.routes[1].listen): listen tcp %s: bind: address already in use", ln.Addr(), ln.Addr())
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
	if p.Addr("127.0.0.1:0") != nil {
		t.Error("the other route listens; want that nothing changes")
	}
}

// A route may go from one address to all of the same port while requests run.
func TestAnotherAddressOfThePort(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	up := server(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(begun)
			<-release
		}
		_, _ = io.WriteString(w, "here")
	})
	p, url := start(t, config.Route{Upstream: up})
	port := url[strings.LastIndexByte(url, ':')+1:]
	got := make(chan string)
	go func() {
		body := "no answer"
		if resp, err := httpClient(t).Get(url + "/slow"); err == nil {
			b, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			body = string(b)
		}
		got <- body
	}()
	<-begun
	for _, listen := range []string{":" + port, "127.0.0.1:" + port, "0.0.0.0:" + port} {
		if err := p.Apply(config.Proxy{Routes: []config.Route{withDefaults(config.Route{Listen: listen, Upstream: up})}}); err != nil {
			t.Fatal(err)
		}
		resp, err := httpClient(t).Get("http://127.0.0.1:" + port)
		if err != nil {
			t.Fatalf("after the change to %s: %v", listen, err)
		}
		resp.Body.Close()
	}
	close(release)
	if body := <-got; body != "here" {
		t.Errorf("the request in flight: got %q", body)
	}
}

func TestDrainLosesNothing(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	up := server(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			io.WriteString(w, "begin ")
			w.(http.Flusher).Flush()
			close(begun)
			<-release
		}
		io.WriteString(w, "end")
	})
	p, url := start(t, config.Route{Upstream: up})
	c := httpClient(t)
	if resp, _ := get(t, c, url); resp.Close {
		t.Error("Connection: close before the drain")
	}
	slow := make(chan string, 1)
	go func() {
		resp, err := http.Get(url + "/slow")
		if err != nil {
			slow <- err.Error()
			return
		}
		b, err := io.ReadAll(resp.Body)
		slow <- fmt.Sprint(string(b), err)
	}()
	<-begun

	p.BeginDrain()
	if resp, body := get(t, httpClient(t), url); !resp.Close || body != "end" {
		t.Errorf("while draining: close %v, body %q; want true, end", resp.Close, body)
	}
	p.StopAccepting()
	// The connection of c is idle and still answered, once.
	if resp, body := get(t, c, url); !resp.Close || body != "end" {
		t.Errorf("idle connection: close %v, body %q; want true, end", resp.Close, body)
	}
	if _, err := c.Get(url); err == nil {
		t.Error("a new connection is accepted after StopAccepting")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := p.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Wait with a request in flight: got %v, want a deadline error", err)
	}
	eventually(t, "one request in flight", func() bool { return p.InFlight() == 1 })
	close(release)
	if err := p.Wait(t.Context()); err != nil {
		t.Errorf("Wait: %v", err)
	}
	p.Close()
	if got, want := <-slow, "begin end<nil>"; got != want {
		t.Errorf("the request in flight: got %q, want %q", got, want)
	}
}

func TestApplyChangesRoutesByDifference(t *testing.T) {
	a := server(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "a") })
	b := server(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "b") })
	p, url := start(t, config.Route{Upstream: a})
	c := httpClient(t)
	if _, got := get(t, c, url); got != "a" {
		t.Errorf("before: got %q, want a", got)
	}
	route := withDefaults(config.Route{Upstream: b})
	if err := p.Apply(config.Proxy{KeepAlive: time.Minute, Routes: []config.Route{route}}); err != nil {
		t.Fatal(err)
	}
	if _, got := get(t, c, url); got != "b" {
		t.Errorf("after: got %q, want b on the same listener", got)
	}
	if err := p.Apply(config.Proxy{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(url); err == nil {
		t.Error("the listener of a removed route still accepts")
	}
}

func TestMetrics(t *testing.T) {
	up := server(t, func(http.ResponseWriter, *http.Request) {})
	p, url := start(t, config.Route{Upstream: up})
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(p)
	c := httpClient(t)
	for range 3 {
		get(t, c, url)
	}
	if err := p.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP inpod_proxy_requests_in_flight Requests whose response has not been sent to its end.
# TYPE inpod_proxy_requests_in_flight gauge
inpod_proxy_requests_in_flight 0
# HELP inpod_proxy_requests_total Requests answered, by route and class of the status code. The route none stands for those that no route is for or that could not be read.
# TYPE inpod_proxy_requests_total counter
inpod_proxy_requests_total{code="2xx",route="127.0.0.1:0/"} 3
inpod_proxy_requests_total{code="5xx",route="127.0.0.1:0/"} 0
inpod_proxy_requests_total{code="2xx",route="none"} 0
inpod_proxy_requests_total{code="5xx",route="none"} 0
`), "inpod_proxy_requests_in_flight", "inpod_proxy_requests_total")
	if err != nil {
		t.Error(err)
	}
}

func TestBadRequests(t *testing.T) {
	_, url := start(t, config.Route{Upstream: "127.0.0.1:1"})
	for _, tt := range []struct{ name, raw, want string }{
		{"nonsense", "hello\r\n\r\n", "400"},
		{"both lengths", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
		{"huge header", "GET / HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("a", http1.MaxHead) + "\r\n\r\n", "431"},
	} {
		c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, tt.raw)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if !strings.HasPrefix(resp.Status, tt.want) || !resp.Close || resp.Header.Get(ErrorHeader) == "" {
			t.Errorf("%s: got %s close %v reason %q, want %s, closed, with a reason", tt.name, resp.Status, resp.Close, resp.Header.Get(ErrorHeader), tt.want)
		}
		c.Close()
	}
}
