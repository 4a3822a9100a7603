package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/inpod/inpod/config"
)

// waited is p.Wait with a bound.
func waited(t *testing.T, p *Proxy) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := p.Wait(ctx); err != nil {
		t.Error(err)
	}
}

// What is in each state when the drain begins ends as it should.
func TestDrainInEveryState(t *testing.T) {
	u := newRawUpstream(t)
	p := startWith(t, 1, config.Proxy{Routes: []config.Route{{Upstream: u.addr(), Concurrency: 2, Queue: 1, QueueTimeout: time.Minute, WebSocket: true}}})
	url := urlOf(p, "127.0.0.1:0")
	idler, half, upload, streams, waits := connect(t, url), connect(t, url), connect(t, url), connect(t, url), connect(t, url)
	eventually(t, "five connections", func() bool { return p.Connections() == 5 })
	streams.send(ask("/streams"))
	upS := u.accept()
	upS.head()
	upS.send(crlf("HTTP/1.1 200 OK", "Content-Type: text/event-stream") + "data: 1\n\n")
	streams.head()
	streams.read(len("9\r\ndata: 1\n\n\r\n"))
	upload.send(crlf("POST /upload HTTP/1.1", "Host: h", "Content-Length: 10") + "first")
	upU := u.accept()
	upU.head()
	upU.read(5)
	waits.send(ask("/waits"))
	running(t, p, 2, 1)
	half.send("GET /half HTTP/1.1\r\n")
	eventually(t, "half a head", func() bool { return states(p)[reading] == 1 })

	p.BeginDrain()
	p.StopAccepting()
	if n := p.InFlight(); n != 3 {
		t.Errorf("%d in flight, want 3", n)
	}
	upload.send("other")
	upU.read(5)
	upU.send(shortAnswer)
	if resp, body := upload.response("POST"); body != "ok" || !resp.Close {
		t.Errorf("the upload: got %q close %v, want ok, closed", body, resp.Close)
	}
	if got := upU.head(); !strings.HasPrefix(got, "GET /waits ") {
		t.Errorf("got %q, want the request that waited", got)
	}
	upU.send(shortAnswer)
	if resp, body := waits.response("GET"); body != "ok" || !resp.Close {
		t.Errorf("the queue: got %q close %v, want ok, closed", body, resp.Close)
	}
	half.send("Host: h\r\n\r\n")
	idler.send(ask("/idle"))
	for range 2 { // one after the other on the same connection
		upU.head()
		upU.send(shortAnswer)
	}
	for name, c := range map[string]*wire{"half a head": half, "idle": idler} {
		if resp, body := c.response("GET"); body != "ok" || !resp.Close {
			t.Errorf("%s: got %q close %v, want ok, closed", name, body, resp.Close)
		}
		if rest, err := c.rest(); rest != "" || err != nil {
			t.Errorf("%s: then %q, %v; want the end", name, rest, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Wait(ctx); !errors.Is(err, context.Canceled) || !strings.HasPrefix(err.Error(), "1 requests are still in flight") {
		t.Errorf("Wait: got %v, want one in flight", err)
	}
	upS.send("data: 2\n\n")
	upS.Close()
	const end = "9\r\ndata: 2\n\n\r\n0\r\n\r\n"
	if rest := streams.read(len(end)); rest != end {
		t.Errorf("the stream: got %q, want its rest and its proper end %q", rest, end)
	}
	waited(t, p)
	streams.send(ask("/last")) // nobody has told it that the connection ends
	upU = u.again(upU)
	upU.head()
	upU.send(shortAnswer)
	if resp, body := streams.response("GET"); body != "ok" || !resp.Close {
		t.Errorf("after the stream: got %q close %v, want ok, closed", body, resp.Close)
	}
	waited(t, p)
	for _, c := range []*wire{idler, half, upload, streams, waits} {
		c.Close()
	}
	eventually(t, "no connections", func() bool { return p.Connections() == 0 })
}

// Clients that send one request after the other over the whole drain get an answer to each; they make a new connection
// when they are told so, and only then find nobody. What the proxy has not accepted when it closes its listener finds nobody
// either, though the kernel has made a connection of it: so the end of a new one is no fault, unless it had been accepted.
func TestDrainUnderLoad(t *testing.T) {
	up := server(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Write(b)
	})
	var accepted, served atomic.Int64
	var closing atomic.Bool
	p := New(Options{Log: slog.New(slog.DiscardHandler), Loops: 2, Client: func() { accepted.Add(1) }})
	t.Cleanup(p.Close)
	apply(t, p, config.Proxy{Routes: []config.Route{{Upstream: up, Concurrency: 4, Queue: 100}}})
	url := urlOf(p, "127.0.0.1:0")
	var began, clients sync.WaitGroup
	for i := range 8 {
		began.Add(1)
		clients.Go(func() {
			first := sync.OnceFunc(began.Done)
			for conns := 0; ; conns++ {
				c, err := dialQuietly(url)
				if err != nil {
					return // nobody listens any more
				}
				w := newWire(t, c)
				for n := 0; ; n++ {
					want := fmt.Sprintf("%d-%d-%d", i, conns, n)
					_, err := fmt.Fprintf(w, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", len(want), want)
					var resp *http.Response
					var body []byte
					if err == nil {
						resp, err = http.ReadResponse(w.br, nil)
					}
					if err == nil {
						body, err = io.ReadAll(resp.Body)
					}
					if err != nil && n == 0 && closing.Load() {
						return
					}
					if err != nil || resp.StatusCode != 200 || string(body) != want {
						t.Errorf("request %s: got %q, %v", want, body, err)
						return
					}
					if n == 0 {
						served.Add(1)
					}
					if n == 20 {
						first()
					}
					if resp.Close {
						break
					}
				}
				c.Close()
			}
		})
	}
	began.Wait()
	p.BeginDrain()
	<-time.After(20 * time.Millisecond) // the endpoint delay
	closing.Store(true)
	p.StopAccepting()
	clients.Wait()
	waited(t, p)
	p.Close()
	if a, s := accepted.Load(), served.Load(); a != s {
		t.Errorf("%d connections were accepted, %d served", a, s)
	}
}

// A connection that the kernel has made and the loop has not seen when the listener is closed is served.
func TestConnectionThatWaitsInADrain(t *testing.T) {
	up := server(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
	p := startWith(t, 1, config.Proxy{Routes: []config.Route{{Upstream: up}}})
	url := urlOf(p, "127.0.0.1:0")
	var c *wire
	stopped := make(chan struct{})
	onLoops(p, func(*worker) { // the loop is busy
		c = connect(t, url)
		c.send(ask("/"))
		go func() {
			defer close(stopped)
			p.StopAccepting()
		}()
		if !comes(func() bool { return !p.accepting.Load() }) {
			t.Error("the drain does not begin")
		}
	})
	if resp, body := c.response("GET"); body != "ok" || !resp.Close {
		t.Errorf("got %q close %v, want ok, closed", body, resp.Close)
	}
	<-stopped
}

// Close cuts off what Wait did not wait for, so that nobody takes a part for the whole.
func TestCloseCutsOff(t *testing.T) {
	u := newRawUpstream(t)
	p, url := start(t, config.Route{Upstream: u.addr(), Concurrency: 1, Queue: 1, QueueTimeout: time.Minute})
	old, queued, idler := connect(t, url), connect(t, url), connect(t, url)
	old.send(crlf("GET / HTTP/1.0"))
	up := u.accept()
	up.head()
	up.send(crlf("HTTP/1.1 200 OK") + "part")
	old.head()
	old.read(4)
	queued.send(ask("/"))
	running(t, p, 1, 1)
	p.Close()
	if rest, err := old.rest(); err == nil {
		t.Errorf("a body that ends with the connection: got %q and a proper end, want a reset", rest)
	}
	if _, err := queued.rest(); err == nil {
		t.Error("a request in the queue: got a proper end, want a reset")
	}
	if rest, err := idler.rest(); rest != "" || err != nil {
		t.Errorf("an idle connection: got %q, %v; want its end", rest, err)
	}
	if _, err := up.rest(); err != nil && !strings.Contains(err.Error(), "reset") {
		t.Errorf("the upstream's connection: %v, want its end", err)
	}
	p.Close() // again
	counts(t, p, "as cut off", because("cut_off"), 2)
}

// A response that a slow client has not read yet is still in flight, whatever stands between it and the loop.
func TestDrainWaitsForSlowClients(t *testing.T) {
	for _, version := range []string{"HTTP/1.1", "HTTP/1.1 over TLS", "HTTP/2.0 over TLS", "HTTP/2.0"} {
		t.Run(version, func(t *testing.T) {
			size := 16 << 20
			if strings.HasPrefix(version, "HTTP/2.0") {
				size = 200 << 10 // it has a window
			}
			up := server(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", fmt.Sprint(size))
				io.CopyN(w, &zeros{n: 1 << 30}, int64(size))
			})
			p, body := slowClient(t, version, up)
			p.StopAccepting()
			closed := make(chan struct{})
			go func() {
				defer close(closed)
				waited(t, p)
				p.Close()
			}()
			n := 0
			for p.InFlight() > 0 && n < size { // the client reads only as long as the proxy says that it has to
				m, err := body.Read(make([]byte, 16<<10))
				if n += m; err != nil && err != io.EOF {
					t.Fatalf("got %d bytes of %d, then %v", n, size, err)
				}
			}
			<-closed
			m, err := io.Copy(io.Discard, body)
			if n += int(m); n != size || err != nil {
				t.Errorf("got %d bytes of %d, then %v", n, size, err)
			}
			body.Close()
		})
	}
}

// slowClient begins a response over one of the ways into the proxy.
func slowClient(t *testing.T, version, up string) (p *Proxy, body io.ReadCloser) {
	t.Helper()
	route := config.Route{Upstream: up}
	var url string
	if strings.HasSuffix(version, "TLS") {
		p, url = startTLS(t, route)
	} else {
		p, url = start(t, route)
	}
	c := tlsClient(t, strings.HasPrefix(version, "HTTP/2.0"))
	tr := c.Transport.(*http.Transport)
	tr.HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10, MaxReceiveBufferPerConnection: 64 << 10}
	tr.Protocols.SetUnencryptedHTTP2(version == "HTTP/2.0")
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	if want, _, _ := strings.Cut(version, " "); resp.Proto != want {
		t.Fatalf("got %s, want %s", resp.Proto, want)
	}
	return p, resp.Body
}

func TestApplyAfterStopAcceptingOpensNothing(t *testing.T) {
	p, _ := start(t, config.Route{Upstream: "127.0.0.1:1"})
	p.StopAccepting()
	apply(t, p, config.Proxy{Routes: []config.Route{{Listen: "127.0.0.2:0", Upstream: "127.0.0.1:1"}}})
	if p.Addr("127.0.0.2:0") != nil {
		t.Error("a new listener was opened in a drain")
	}
	p.Close()
	apply(t, p, config.Proxy{})
}
