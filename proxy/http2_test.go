package proxy

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/inpod/inpod/config"
	"github.com/inpod/inpod/internal/testport"
)

// h2cClient speaks HTTP/2 by prior knowledge.
func h2cClient(t *testing.T) *http.Client {
	protocols := &http.Protocols{}
	protocols.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: protocols}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience}
}

// h2cServer is an upstream that speaks HTTP/2 without TLS.
func h2cServer(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = &http.Protocols{}
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func TestHTTP2(t *testing.T) {
	up := server(t, func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		w.Header().Set("X-Seen", fmt.Sprint(r.Proto, r.Method, r.RequestURI, r.Host, len(b), err, r.ContentLength, r.Header["X-Forwarded-For"], r.Header["X-Forwarded-Proto"],
			r.Header["X-Forwarded-Host"], r.Header["Forwarded"], r.Header["Te"], r.Header["Cookie"]))
		w.Header().Add("Set-Cookie", "a")
		w.Header().Add("Set-Cookie", "b")
		w.WriteHeader(http.StatusTeapot)
		w.Write(b)
	})
	p, url := start(t, config.Route{Upstream: up, Concurrency: 3})
	c := h2cClient(t)
	for _, tt := range []struct {
		method string
		body   io.Reader
		size   int
		length int
	}{
		{"GET", nil, 0, 0},
		{"HEAD", nil, 0, 0},
		{"POST", strings.NewReader(""), 0, 0},
		{"POST", strings.NewReader("body"), 4, 4},
		{"PUT", &zeros{n: 3 << 20}, 3 << 20, -1},
	} {
		req, _ := http.NewRequest(tt.method, url+"/a%2Fb/../c?x=%20;y", tt.body)
		req.Host = "h"
		req.Header.Set("Forwarded", "for=_x")
		req.Header.Set("X-Forwarded-Proto", "https")
		req.Header.Set("X-Forwarded-Host", "public")
		req.Header.Set("Te", "trailers")
		req.Header.Set("Cookie", "a=1; b=2")
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		want := fmt.Sprint("HTTP/1.1", tt.method, "/a%2Fb/../c?x=%20;y", "h", tt.size, nil, tt.length, []string{"127.0.0.1"}, []string{"https"}, []string{"public"},
			[]string{`for=_x, for=127.0.0.1;proto=http;host="h"`}, []string{}, []string{"a=1; b=2"})
		if got := resp.Header.Get("X-Seen"); got != want {
			t.Errorf("%s: the upstream saw\n%s, want\n%s", tt.method, got, want)
		}
		if resp.ProtoMajor != 2 || resp.StatusCode != http.StatusTeapot || len(b) != tt.size || err != nil || len(resp.Header["Set-Cookie"]) != 2 {
			t.Errorf("%s: got %s %d, %d bytes, %v, %v; want HTTP/2, 418, %d bytes and two cookies", tt.method, resp.Proto, resp.StatusCode, len(b), err, resp.Header, tt.size)
		}
	}
	running(t, p, 0, 0)
	eventually(t, "one connection is told of", func() bool { return p.Connections() == 1 })
}

// Both bodies flow at the same time, and trailers follow.
func TestHTTP2Streams(t *testing.T) {
	up := server(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "Digest")
		rc := http.NewResponseController(w)
		_ = rc.EnableFullDuplex()
		buf := make([]byte, 100)
		for {
			n, err := r.Body.Read(buf)
			if n > 0 {
				w.Write(buf[:n])
				_ = rc.Flush()
			}
			if err != nil {
				break
			}
		}
		w.Header().Set("Digest", "of "+r.Trailer.Get("Sum"))
	})
	p, url := start(t, config.Route{Upstream: up})
	body, write := io.Pipe()
	req, _ := http.NewRequest("POST", url, body)
	req.Trailer = http.Header{"Sum": {"all"}}
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(write, "first")
		sent <- err
	}()
	resp, err := h2cClient(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	buf := make([]byte, 5)
	for _, word := range []string{"first", "other", "third"} {
		if word != "first" {
			go func() {
				_, err := io.WriteString(write, word)
				sent <- err
			}()
		}
		if _, err := io.ReadFull(resp.Body, buf); err != nil || string(buf) != word {
			t.Fatalf("got %q, %v; want %s as soon as it is sent", buf, err, word)
		}
		if err := <-sent; err != nil {
			t.Error(err)
		}
	}
	write.Close()
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 {
		t.Errorf("then %q, %v; want the end", rest, err)
	}
	if got := resp.Trailer.Get("Digest"); got != "of all" {
		t.Errorf("the trailer is %q, want that of the upstream, who got that of the client", got)
	}
	eventually(t, "nothing in flight", func() bool { return p.InFlight() == 0 })
}

func TestHTTP2Cancellation(t *testing.T) {
	began, ended := make(chan string, 1), make(chan string, 1)
	up := server(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/streams" {
			io.WriteString(w, "first")
			w.(http.Flusher).Flush()
		}
		began <- r.URL.Path
		<-r.Context().Done()
		ended <- r.URL.Path
	})
	p, url := start(t, config.Route{Upstream: up, Concurrency: 1})
	for _, path := range []string{"/waits", "/streams"} {
		ctx, cancel := context.WithCancel(t.Context())
		req, _ := http.NewRequestWithContext(ctx, "GET", url+path, http.NoBody)
		go func() {
			if resp, err := h2cClient(t).Do(req); err == nil {
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		}()
		<-began
		cancel()
		select {
		case <-ended:
		case <-time.After(patience):
			t.Fatalf("%s: the upstream still works for a client that is gone", path)
		}
		running(t, p, 0, 0)
		eventually(t, "nothing in flight", func() bool { return p.InFlight() == 0 })
	}
	counts(t, p, "cancellations", cancellations, 2)
}

func TestHTTP2Errors(t *testing.T) {
	u := newRawUpstream(t)
	g := newGate(t)
	p, url := start(t, config.Route{Path: "/full", Upstream: g.addr, Concurrency: 1}, config.Route{Path: "/down", Upstream: testport.Closed(t)},
		config.Route{Path: "/raw", Upstream: u.addr()}, config.Route{Path: "/small", Upstream: g.addr, MaxBody: 10})
	c := h2cClient(t)
	full := make(chan error, 1)
	go func() {
		resp, err := c.Get(url + "/full")
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		full <- err
	}()
	g.next(t)
	for _, tt := range []struct {
		path, reason string
		status       int
		body         io.Reader
	}{
		{"/none", "no_route", 404, nil},
		{"/full", "overloaded", 503, nil},
		{"/down", "upstream_down", 502, nil},
		{"/small", "body_too_large", 413, strings.NewReader("12345678901")},
		{"/small", "body_too_large", 413, &zeros{n: 3 << 20}},
	} {
		req, _ := http.NewRequest("POST", url+tt.path, tt.body)
		resp, err := c.Do(req)
		if err != nil {
			t.Errorf("%s: %v", tt.path, err)
			continue
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != tt.status || resp.Header.Get(ErrorHeader) != tt.reason || !strings.Contains(string(b), tt.reason) || err != nil {
			t.Errorf("%s: got %d %q %q, %v; want %d %s", tt.path, resp.StatusCode, resp.Header.Get(ErrorHeader), b, err, tt.status, tt.reason)
		}
	}
	broken := make(chan error, 1)
	go func() {
		resp, err := c.Get(url + "/raw")
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		broken <- err
	}()
	up := u.accept()
	up.head()
	up.send(crlf("HTTP/1.1 200 OK", "Transfer-Encoding: chunked") + "4\r\npart\r\n")
	up.Close()
	if err := <-broken; err == nil {
		t.Error("a body that broke off ended without an error")
	}
	g.open <- struct{}{}
	if err := <-full; err != nil {
		t.Error(err)
	}
	eventually(t, "nothing in flight", func() bool { return p.InFlight() == 0 })
}

// call makes what looks like a gRPC call.
func call(t *testing.T, c *http.Client, ctx context.Context, url string) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, "POST", url, strings.NewReader("\x00\x00\x00\x00\x02hi"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/grpc+proto")
	req.Header.Set("Te", "trailers")
	return c.Do(req)
}

func TestGRPC(t *testing.T) {
	working, release := make(chan struct{}, 1), make(chan struct{})
	up := h2cServer(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		if r.Header.Get("X-Wait") != "" || strings.HasSuffix(r.URL.Path, "/Wait") {
			working <- struct{}{}
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
		w.Header().Set("Content-Type", "application/grpc+proto")
		w.Header().Set("X-Seen", fmt.Sprint(r.Proto, r.Method, r.URL.Path, r.Header["Te"], r.Header["X-Forwarded-For"], r.Header["X-Forwarded-Proto"], len(b)))
		w.Header().Set("Trailer", "Grpc-Status, Grpc-Message")
		w.Write(b)
		w.Header().Set("Grpc-Status", "5")
		w.Header().Set("Grpc-Message", "not there")
	})
	p, url := start(t, config.Route{Upstream: up, Concurrency: 1, Queue: 1, QueueTimeout: 20 * time.Millisecond},
		config.Route{Path: "/down.S", Upstream: testport.Closed(t)}, config.Route{Host: "other", Path: "/pre", Upstream: up, StripPrefix: true})
	c := h2cClient(t)
	resp, err := call(t, c, t.Context(), url+"/pkg.S/Do")
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if want := "HTTP/2.0POST/pkg.S/Do[trailers] [127.0.0.1] [http] 7"; resp.Header.Get("X-Seen") != want || string(b) != "\x00\x00\x00\x00\x02hi" || err != nil {
		t.Errorf("got %q, %v; the upstream saw %s, want %s", b, err, resp.Header.Get("X-Seen"), want)
	}
	if resp.Trailer.Get("Grpc-Status") != "5" || resp.Trailer.Get("Grpc-Message") != "not there" {
		t.Errorf("got the trailer %v, want the upstream's", resp.Trailer)
	}

	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() {
		_, err := call(t, c, ctx, url+"/pkg.S/Wait")
		gone <- err
	}()
	<-working
	for _, tt := range []struct{ path, status, reason string }{
		{"/pkg.S/Do", "8", "overloaded"}, {"/down.S/Do", "14", "upstream_down"},
	} {
		resp, err := call(t, c, t.Context(), url+tt.path)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 200 || resp.Header.Get("Grpc-Status") != tt.status || resp.Header.Get(ErrorHeader) != tt.reason || len(b) > 0 || resp.Header.Get("Content-Type") != "application/grpc" {
			t.Errorf("%s: got %d %v %q, want grpc-status %s, reason %s and no body", tt.path, resp.StatusCode, resp.Header, b, tt.status, tt.reason)
		}
	}
	running(t, p, 1, 0)
	cancel()
	if err := <-gone; err == nil {
		t.Error("a call that was cancelled has an answer")
	}
	running(t, p, 0, 0)
	close(release)
	resp, err = call(t, c, t.Context(), url+"/pkg.S/Do")
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	eventually(t, "nothing in flight", func() bool { return p.InFlight() == 0 })
	for _, reason := range []string{"overloaded", reasonClientGone} {
		counts(t, p, "as "+reason, because(reason), 1)
	}
}

// A drain sends GOAWAY: a stream that runs ends well, new connections are still served and told, and Wait waits for all.
func TestHTTP2Drain(t *testing.T) {
	began, release := make(chan struct{}), make(chan struct{})
	up := server(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			io.WriteString(w, "begin ")
			w.(http.Flusher).Flush()
			close(began)
			<-release
		}
		io.WriteString(w, "end")
	})
	p, url := start(t, config.Route{Upstream: up})
	c := h2cClient(t)
	resp, err := c.Get(url + "/slow")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	<-began
	p.BeginDrain()
	dials := func() uint64 { return uint64(p.front.open.Load()) }
	for range 3 { // on connections of their own: each is told to be the last
		if resp, body := get(t, h2cClient(t), url); body != "end" || resp.ProtoMajor != 2 {
			t.Errorf("a new connection: got %s %q, want HTTP/2 end", resp.Proto, body)
		}
	}
	eventually(t, "the connections that were told are gone", func() bool { return dials() == 1 })
	if _, body := get(t, c, url); body != "end" { // the client has had GOAWAY and makes another
		t.Errorf("the same client: got %q, want end", body)
	}
	p.StopAccepting()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := p.Wait(ctx); err == nil || !strings.HasPrefix(err.Error(), "1 requests are still in flight") {
		t.Errorf("Wait: got %v, want one in flight", err)
	}
	close(release)
	if b, err := io.ReadAll(resp.Body); string(b) != "begin end" || err != nil {
		t.Errorf("the stream: got %q, %v; want begin end", b, err)
	}
	waited(t, p)
	p.Close()
}

// The routes of a listener are gone: its HTTP/2 connections are told, and end.
func TestHTTP2OfARemovedListener(t *testing.T) {
	release := make(chan struct{})
	up := server(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "begin ")
		w.(http.Flusher).Flush()
		<-release
		io.WriteString(w, "end")
	})
	p, url := start(t, config.Route{Upstream: up})
	c := h2cClient(t)
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	apply(t, p, config.Proxy{})
	close(release)
	if b, err := io.ReadAll(resp.Body); string(b) != "begin end" || err != nil {
		t.Errorf("the stream: got %q, %v; want begin end", b, err)
	}
	eventually(t, "the connection ends", func() bool { return p.Connections() == 0 })
	if resp, err := c.Get(url); err == nil {
		t.Errorf("got %d from a listener that is gone", resp.StatusCode)
	}
}

// An answer that comes before the upload has ended is whole at once: a client may send no more until it has it.
func TestHTTP2EarlyAnswerIsNotLate(t *testing.T) {
	g := newGate(t)
	_, url := start(t, config.Route{Upstream: g.addr, MaxBody: 10})
	c := h2cClient(t)
	for range 3 {
		const atOnce = time.Second
		inTime(t, atOnce, func() error {
			began := time.Now()
			resp, err := c.Post(url, "text/plain", &zeros{n: 3 << 20})
			if err != nil {
				return err
			}
			b, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if took := time.Since(began); resp.StatusCode != 413 || len(b) == 0 || err != nil || took > atOnce {
				return fmt.Errorf("got %d %q, %v after %s; want 413 at once", resp.StatusCode, b, err, took)
			}
			return nil
		})
	}
}

// A preface that turns out to be none at its last byte is answered, however its bytes were cut.
func TestHTTP2PrefaceThatGoesWrong(t *testing.T) {
	p, url := start(t, config.Route{Upstream: server(t, func(http.ResponseWriter, *http.Request) {})})
	kept := func() (n int) {
		for _, w := range p.workers {
			done := make(chan struct{})
			w.loop.Post(func() {
				for c := w.clients.next; c != &w.clients; c = c.next {
					n += len(c.in)
				}
				close(done)
			})
			<-done
		}
		return n
	}
	for _, wrong := range []string{"PRI * HTTP/2.0\r\n\r\nSM\r\n\rx", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r", "PRI * HTTP/2.0\r\n\r\nSx"} {
		c := connect(t, url)
		ahead := wrong[:len(wrong)-1]
		c.send(ahead)
		eventually(t, "the beginning is read", func() bool { return kept() == len(ahead) })
		c.send(wrong[len(ahead):])
		if head := c.head(); !strings.HasPrefix(head, "HTTP/1.1 400 ") {
			t.Errorf("%q: got %q, want 400", wrong, head)
		}
		c.Close()
		eventually(t, "the connection ends", func() bool { return p.Connections() == 0 })
	}
}

// An answer that comes while the request is still being sent on: two read the rest of it then, one after the other.
func TestHTTP2EarlyAnswerDuringAnUpload(t *testing.T) {
	up := server(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusRequestEntityTooLarge) })
	p, url := start(t, config.Route{Upstream: up})
	c := h2cClient(t)
	for range 100 {
		resp, err := c.Post(url, "text/plain", &zeros{n: 150_000})
		if err != nil {
			continue // the rest of it could not be sent any more
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("got %d, want 413", resp.StatusCode)
		}
	}
	eventually(t, "nothing in flight", func() bool { return p.InFlight() == 0 })
}
