package proxy

import (
	"crypto/tls"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/inpod/inpod/config"
	"github.com/inpod/inpod/internal/testport"
	"golang.org/x/sys/unix"
)

// Where there are too many connections, an idle one makes room; where none is idle, the new one is told so.
func TestMaxConnections(t *testing.T) {
	for _, loops := range []int{1, 2, 3} {
		g := newGate(t)
		p := startWith(t, loops, config.Proxy{MaxConnections: 4, Routes: []config.Route{{Upstream: g.addr}}})
		url := urlOf(p, "127.0.0.1:0")
		idlers := make([]*wire, 4)
		for i := range idlers {
			idlers[i] = connect(t, url)
			g.open <- struct{}{}
			idlers[i].send(ask("/"))
			idlers[i].response("GET")
			g.next(t)
		}
		eventually(t, "idle connections", func() bool { return states(p)[idle] == 4 })
		var busy []*wire
		for i := range 4 {
			c := connect(t, url)
			c.send(ask("/"))
			g.next(t)
			busy = append(busy, c)
			if n := p.Connections(); n > 4 {
				t.Errorf("%d loops: %d connections after %d new ones, want 4 at most", loops, n, i+1)
			}
		}
		for i, c := range idlers {
			if rest, err := c.rest(); rest != "" || err != nil {
				t.Errorf("%d loops: idle connection %d: got %q, %v; want its end", loops, i, rest, err)
			}
		}
		for range 3 {
			c := connect(t, url)
			c.send(ask("/"))
			resp, body := c.response("GET")
			if resp.StatusCode != 503 || resp.Header.Get(ErrorHeader) != "too_many_connections" || resp.Header.Get("Retry-After") == "" || !strings.Contains(body, "too many connections") || !resp.Close {
				t.Errorf("%d loops: got %d %v %q, want 503, why and when to try again", loops, resp.StatusCode, resp.Header, body)
			}
		}
		for range busy {
			g.open <- struct{}{} // whichever goes on first
		}
		for _, c := range busy {
			if resp, _ := c.response("GET"); resp.StatusCode != 200 {
				t.Errorf("%d loops: a request in flight got %d, want 200", loops, resp.StatusCode)
			}
		}
		if n := p.metrics.turnedAway.Load(); n != 3 {
			t.Errorf("%d loops: counted %d that were turned away, want 3", loops, n)
		}
	}
}

// The limit also holds while a loop is busy and takes over none of the connections that were handed to it.
func TestMaxConnectionsBesideABusyLoop(t *testing.T) {
	g := newGate(t)
	p := startWith(t, 2, config.Proxy{MaxConnections: 4, Routes: []config.Route{{Upstream: g.addr}}})
	l := p.listeners["127.0.0.1:0"]
	busy := make(chan struct{})
	release := sync.OnceFunc(func() { close(busy) })
	t.Cleanup(release)
	for _, w := range p.crew() {
		if w != l.home {
			w.loop.Post(func() { <-busy })
		}
	}
	for range 12 {
		connect(t, urlOf(p, "127.0.0.1:0"))
	}
	l.stopAccepting() // they have all been accepted then
	release()
	if n := len(states(p)); n != 1 { // and taken over
		t.Errorf("the connections are in %d states, want all of them idle", n)
	}
	if n := p.Connections(); n != 4 {
		t.Errorf("%d connections, want 4", n)
	}
}

// A connection between two requests holds no buffer and no exchange.
func TestIdleConnectionsHoldNothing(t *testing.T) {
	up := server(t, func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, 150_000)) })
	p, url := start(t, config.Route{Upstream: up, Concurrency: 5, Queue: 300}, config.Route{Path: "/down", Upstream: testport.Closed(t)})
	const most = 80
	wires := make([]*wire, most)
	for i := range wires {
		wires[i] = connect(t, url)
		c := wires[i]
		switch 3 - i*4/most {
		case 0: // has said nothing yet; these come last, as their time is short
		case 1:
			c.send(ask("/"))
			c.response("GET")
		case 2:
			c.send(crlf("POST / HTTP/1.1", "Host: h", "Transfer-Encoding: chunked") + "4\r\nbody\r\n")
			c.send("0\r\nA: b\r\n\r\n")
			c.response("POST")
		case 3:
			c.send(ask("/down") + ask("/"))
			c.response("GET")
			c.response("GET")
		}
	}
	eventually(t, "idle connections", func() bool { return states(p)[idle] == most })
	clients(p, func(c *client) {
		if c.in != nil || c.out != nil || c.x != &c.w.none {
			t.Errorf("a connection holds %d and %d bytes, an exchange %v; want nothing", cap(c.in), cap(c.out), c.x != &c.w.none)
		}
	})
	onLoops(p, func(w *worker) {
		if x := &w.none; x.active || x.out != nil || x.up != nil || x.route != nil || x.line.buf != nil || x.tunnel != nil {
			t.Errorf("what stands for no exchange has become one: %+v", x)
		}
		for _, up := range w.p.routes[0].upstream.pools[w.id].idle {
			if up.in != nil || up.c != nil {
				t.Errorf("an idle connection to the upstream holds %d bytes, a client %v", cap(up.in), up.c != nil)
			}
		}
	})
}

// After Close nothing of a proxy is left.
func TestCloseLeavesNothing(t *testing.T) {
	up := server(t, func(http.ResponseWriter, *http.Request) {})
	before := runtime.NumGoroutine()
	p := startWith(t, 2, config.Proxy{Routes: []config.Route{{Upstream: up}}})
	url := urlOf(p, "127.0.0.1:0")
	for range 5 {
		c := connect(t, url)
		c.send(ask("/"))
		c.response("GET")
	}
	c := h2cClient(t)
	get(t, c, url)
	p.Close()
	c.CloseIdleConnections()
	eventually(t, "no goroutine more than before", func() bool { return runtime.NumGoroutine() <= before+3 }) // those of the upstream's idle connections end late
	if p.Connections() != 0 || p.InFlight() != 0 {
		t.Errorf("%d connections and %d requests are left", p.Connections(), p.InFlight())
	}
}

// Many connections that are busy do not hide an idle one that can make room.
func TestIdleConnectionBehindManyBusyOnes(t *testing.T) {
	const busy = 90
	g := newGate(t)
	p := startWith(t, 1, config.Proxy{MaxConnections: busy + 1, Routes: []config.Route{{Upstream: g.addr}}})
	url := urlOf(p, "127.0.0.1:0")
	for range busy {
		c := connect(t, url)
		c.send(ask("/"))
		g.next(t)
	}
	idler := connect(t, url)
	eventually(t, "an idle connection", func() bool { return states(p)[idle] == 1 })
	c := connect(t, url)
	c.send(ask("/"))
	eventually(t, "an answer or a request", func() bool { return len(g.came) > 0 || p.metrics.turnedAway.Load() > 0 })
	if p.metrics.turnedAway.Load() > 0 {
		t.Fatal("a connection was turned away though one was idle")
	}
	if rest, err := idler.rest(); rest != "" || err != nil {
		t.Errorf("the idle connection: got %q, %v; want its end", rest, err)
	}
}

// A client that is turned away can read why, also when its request was here before it was accepted.
func TestTurnedAwayCanBeRead(t *testing.T) {
	g := newGate(t)
	p := startWith(t, 1, config.Proxy{MaxConnections: 1, Routes: []config.Route{{Upstream: g.addr}}})
	url := urlOf(p, "127.0.0.1:0")
	busy := connect(t, url)
	busy.send(ask("/"))
	g.next(t)
	for i := range 5 {
		var c *wire
		onLoops(p, func(*worker) {
			c = connect(t, url)
			c.send(ask("/"))
		})
		eventually(t, "it is turned away", func() bool { return p.metrics.turnedAway.Load() == uint64(i+1) })
		resp, _ := c.response("GET")
		if resp.StatusCode != 503 {
			t.Errorf("got %d, want 503", resp.StatusCode)
		}
		if rest, err := c.rest(); rest != "" || err != nil {
			t.Errorf("then %q, %v; want the end", rest, err)
		}
	}
}

// A request that is here when its connection's time is over, or when room is needed, is served.
func TestRequestInTheLastMoment(t *testing.T) {
	up := server(t, func(http.ResponseWriter, *http.Request) {})
	p := startWith(t, 1, config.Proxy{MaxConnections: 1, Routes: []config.Route{{Upstream: up}}})
	c := connect(t, urlOf(p, "127.0.0.1:0"))
	c.send(ask("/"))
	c.response("GET")
	eventually(t, "an idle connection", func() bool { return states(p)[idle] == 1 })
	for what, end := range map[string]func(w *worker){
		"its time is over": func(w *worker) { w.clients.next.Timeout() },
		"room is needed":   func(w *worker) { w.evict() },
	} {
		onLoops(p, func(w *worker) {
			c.send(ask("/"))
			if !comes(func() bool { return !w.clients.next.Quiet() }) {
				t.Error("the request does not come")
			}
			end(w)
		})
		resp, err := http.ReadResponse(c.br, &http.Request{Method: "GET"})
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("%s: got %v, %v; want 200", what, resp, err)
		}
		eventually(t, "an idle connection", func() bool { return states(p)[idle] == 1 })
	}
}

// A connection of HTTP/1.1 behind TLS takes as many descriptors as two, and counts so where they are bounded.
func TestTLSConnectionsCountTwice(t *testing.T) {
	g := newGate(t)
	cert, key := certificate(t, "any")
	p := startWith(t, 2, config.Proxy{MaxConnections: 4, Routes: []config.Route{{Upstream: g.addr, TLSCert: cert, TLSKey: key}}})
	addr := p.Addr("127.0.0.1:0").String()
	for range 2 {
		c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		newWire(t, c).send(ask("/"))
		g.next(t)
	}
	if c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true}); err == nil {
		c.Close()
		t.Error("there is a third connection, want none")
	}
	if n := p.metrics.turnedAway.Load(); n != 1 || p.Connections() != 2 {
		t.Errorf("%d were turned away, %d connections are open; want 1 and 2", n, p.Connections())
	}
}

// A client that vanished is asked for after a while.
func TestKeepAliveOfConnections(t *testing.T) {
	p, url := start(t, config.Route{Upstream: testport.Closed(t)})
	connect(t, url)
	eventually(t, "a client", func() bool { return states(p)[idle] == 1 })
	clients(p, func(c *client) {
		for opt, want := range map[int]int{unix.TCP_KEEPIDLE: 30, unix.TCP_KEEPINTVL: 10, unix.TCP_KEEPCNT: 6} {
			if n, err := unix.GetsockoptInt(c.FD(), unix.IPPROTO_TCP, opt); n != want || err != nil {
				t.Errorf("option %d: got %d, %v; want %d", opt, n, err, want)
			}
		}
	})
}
