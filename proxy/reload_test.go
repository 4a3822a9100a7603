package proxy

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/inpod/inpod/config"
)

// Settings change under a request in flight, a request in the queue, idle connections and an upload: none of them
// notices, and the counts stay right.
func TestReloadUnderTraffic(t *testing.T) {
	u := newRawUpstream(t)
	const listen = "127.0.0.1:0"
	first := config.Route{Upstream: u.addr(), Concurrency: 1, Queue: 5}
	p := startWith(t, 1, config.Proxy{Routes: []config.Route{first}})
	url := urlOf(p, listen)
	idler, streams, waits := connect(t, url), connect(t, url), connect(t, url)

	idler.send(ask("/"))
	up := u.accept()
	up.head()
	up.send(shortAnswer)
	idler.response("GET")

	streams.send(ask("/streams"))
	up = u.again(up)
	up.head()
	up.send(crlf("HTTP/1.1 200 OK", "Content-Length: 10") + "first")
	streams.head()
	streams.read(5)
	waits.send(ask("/waits"))
	running(t, p, 1, 1)

	change := func(r config.Route) {
		t.Helper()
		apply(t, p, config.Proxy{Routes: []config.Route{r}})
	}
	slower := first
	slower.Timeout, slower.Buffer = 2*longest, 128<<10
	change(slower)
	running(t, p, 1, 1)
	wider := slower
	wider.Concurrency = 2
	change(wider)
	running(t, p, 2, 0)
	second := u.accept()
	if got := second.head(); !strings.HasPrefix(got, "GET /waits ") {
		t.Errorf("got %q, want the request that waited", got)
	}
	narrower := slower
	change(narrower)
	idler.send(ask("/third"))
	running(t, p, 2, 1)

	other := newRawUpstream(t)
	moved := slower
	moved.Upstream = other.addr()
	change(moved)
	running(t, p, 2, 1)
	up.send("other")
	if got := streams.read(5); got != "other" {
		t.Errorf("got %q, want the rest of the stream", got)
	}
	running(t, p, 1, 1) // two ran where one may: the first place that becomes free is none
	second.send(shortAnswer)
	waits.response("GET")
	second = u.again(second)
	second.head() // the third came before the upstream had changed
	second.send(shortAnswer)
	idler.response("GET")
	running(t, p, 0, 0)
	for name, c := range map[string]*wire{"idle": idler, "streaming": streams, "waiting": waits} {
		c.send(ask("/" + name))
		up := other.accept()
		if got := up.head(); !strings.HasPrefix(got, "GET /"+name+" ") {
			t.Errorf("got %q, want that of the %s connection", got, name)
		}
		up.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
		up.Close()
		c.response("GET")
	}
	if n := p.Connections(); n != 3 {
		t.Errorf("%d connections, want the same 3", n)
	}
}

// The idle connections to an upstream that no route names any more are closed, those of others are not.
func TestReloadClosesConnectionsToTheOldUpstream(t *testing.T) {
	a, b := newRawUpstream(t), newRawUpstream(t)
	routes := []config.Route{{Path: "/a", Upstream: a.addr()}, {Path: "/b", Upstream: b.addr()}}
	p := startWith(t, 1, config.Proxy{Routes: routes})
	c := connect(t, urlOf(p, "127.0.0.1:0"))
	use := func(path string, up *wire) {
		c.send(ask(path))
		up.head()
		up.send(shortAnswer)
		c.response("GET")
		keepIdle(p)
	}
	c.send(ask("/a"))
	upA := a.accept()
	upA.head()
	upA.send(shortAnswer)
	c.response("GET")
	keepIdle(p)
	c.send(ask("/b"))
	upB := b.accept()
	upB.head()
	upB.send(shortAnswer)
	c.response("GET")
	keepIdle(p)

	routes[1].Timeout = 2 * longest
	apply(t, p, config.Proxy{Routes: routes})
	use("/a", upA)
	use("/b", upB)
	apply(t, p, config.Proxy{Routes: routes[:1]})
	if rest, err := upB.rest(); rest != "" || err != nil {
		t.Errorf("the connection to the old upstream: got %q, %v; want its end", rest, err)
	}
	use("/a", upA)
}

func TestRemovedListener(t *testing.T) {
	u := newRawUpstream(t)
	stays := config.Route{Listen: "127.0.0.1:0", Upstream: u.addr()}
	goes := config.Route{Listen: "127.0.0.2:0", Upstream: u.addr()}
	p := startWith(t, 2, config.Proxy{Routes: []config.Route{stays, goes}})
	old := urlOf(p, goes.Listen)
	idler, streams, waits := connect(t, old), connect(t, old), connect(t, old)
	eventually(t, "three connections", func() bool { return p.Connections() == 3 })
	streams.send(ask("/streams"))
	upS := u.accept()
	upS.head()
	upS.send(crlf("HTTP/1.1 200 OK", "Content-Length: 10") + "first")
	streams.head()
	waits.send(ask("/waits"))
	upW := u.accept()
	upW.head()

	apply(t, p, config.Proxy{Routes: []config.Route{stays}})
	if p.Addr(goes.Listen) != nil {
		t.Error("the listener is still told of")
	}
	if rest, err := idler.rest(); rest != "" || err != nil {
		t.Errorf("the idle connection: got %q, %v; want its end", rest, err)
	}
	if n := p.InFlight(); n != 2 {
		t.Errorf("%d in flight, want 2", n)
	}
	upS.send("other")
	upW.send(shortAnswer)
	if got, err := streams.rest(); got != "firstother" || err != nil {
		t.Errorf("the stream: got %q, %v; want its rest and then the end", got, err)
	}
	if resp, body := waits.response("GET"); body != "ok" || !resp.Close {
		t.Errorf("the request in flight: got %q close %v, want ok, closed", body, resp.Close)
	}
	if rest, err := waits.rest(); rest != "" || err != nil {
		t.Errorf("then %q, %v; want the end", rest, err)
	}
	if n := p.InFlight(); n != 0 {
		t.Errorf("%d requests are left", n)
	}
	streams.Close()
	waits.Close()
	eventually(t, "no connection is left", func() bool { return p.Connections() == 0 })
	if _, err := http.Get(old); err == nil {
		t.Error("it still accepts")
	}
	// The same address again.
	goes.Listen = strings.TrimPrefix(old, "http://")
	apply(t, p, config.Proxy{Routes: []config.Route{stays, goes}})
	c := connect(t, old)
	c.send(ask("/again"))
	up := u.accept()
	up.head()
	up.send(shortAnswer)
	c.response("GET")
}

// A reload that fails changes nothing: not the routes, not the listeners.
func TestReloadThatFails(t *testing.T) {
	up := server(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
	p, url := start(t, config.Route{Upstream: up})
	taken := newRawUpstream(t)
	for _, bad := range []config.Route{
		{Listen: taken.addr(), Upstream: up},
		{Listen: "127.0.0.2:0", Upstream: up, TLSCert: "/nowhere.pem", TLSKey: "/nowhere.key"},
	} {
		err := p.Apply(filled(config.Proxy{Routes: []config.Route{{Upstream: "127.0.0.1:1"}, {Listen: "127.0.0.3:0", Upstream: up}, bad}}))
		if err == nil || !strings.Contains(err.Error(), "proxy.routes[2].") {
			t.Errorf("got %v, want an error that names proxy.routes[2]", err)
		}
		if _, body := get(t, httpClient(t), url); body != "ok" {
			t.Errorf("got %q, want the old route", body)
		}
		if p.Addr("127.0.0.3:0") != nil || len(p.Routes()) != 1 {
			t.Errorf("routes %v, want the old one alone", p.Routes())
		}
	}
}

// A listener turns from clear to TLS and back: who is connected goes on as he is.
func TestListenerTurnsToTLS(t *testing.T) {
	up := server(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Header.Get("X-Forwarded-Proto")) })
	clear := config.Route{Upstream: up}
	p := startWith(t, 2, config.Proxy{Routes: []config.Route{clear}})
	url := urlOf(p, "127.0.0.1:0")
	secure := clear
	secure.TLSCert, secure.TLSKey = certificate(t, "127.0.0.1")
	say := func(c *wire, want string) {
		t.Helper()
		c.send(ask("/"))
		if _, body := c.response("GET"); body != want {
			t.Errorf("got %q, want %q", body, want)
		}
	}
	overTLS := func() *wire {
		t.Helper()
		c := connect(t, url)
		return newWire(t, tls.Client(c.Conn, &tls.Config{InsecureSkipVerify: true}))
	}
	before := connect(t, url)
	say(before, "http")
	apply(t, p, config.Proxy{Routes: []config.Route{secure}})
	say(before, "http")
	then := overTLS()
	say(then, "https")
	apply(t, p, config.Proxy{Routes: []config.Route{clear}})
	say(then, "https")
	say(before, "http")
	say(connect(t, url), "http")
}

// Settings change without a pause while clients come and go: no request fails.
func TestReloadsLoseNothing(t *testing.T) {
	up := server(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Write(b)
	})
	p, url := start(t, config.Route{Upstream: up, Concurrency: 2, Queue: 100})
	failed := make(chan error)
	for i := range 4 {
		go func() {
			c := &http.Client{Transport: &http.Transport{}, Timeout: patience}
			defer c.CloseIdleConnections()
			for j := range 100 {
				want := fmt.Sprint(i, j)
				resp, err := c.Post(url, "text/plain", strings.NewReader(want))
				if err != nil {
					failed <- err
					return
				}
				b, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || resp.StatusCode != 200 || string(b) != want {
					failed <- fmt.Errorf("got %d %q, %v; want 200 %q", resp.StatusCode, b, err, want)
					return
				}
			}
			failed <- nil
		}()
	}
	for n, left := 1, 4; left > 0; n++ {
		apply(t, p, config.Proxy{Routes: []config.Route{{Upstream: up, Concurrency: n % 4, Queue: 100 + n%3, Timeout: longest + time.Duration(n%2)}}})
		select {
		case err := <-failed:
			if left--; err != nil {
				t.Error(err)
			}
		case <-time.After(time.Millisecond):
		}
	}
	running(t, p, 0, 0)
}
