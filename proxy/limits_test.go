package proxy

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/inpod/inpod/config"
)

// gate is an upstream that works on each request until the test lets it go on.
type gate struct {
	addr string
	came chan string   // the path of each request
	left chan string   // the path of each whose client has gone
	open chan struct{} // one for each request that may go on
}

func newGate(t *testing.T) *gate {
	g := &gate{came: make(chan string, 100), left: make(chan string, 100), open: make(chan struct{}, 100)}
	g.addr = server(t, func(w http.ResponseWriter, r *http.Request) {
		g.came <- r.URL.Path
		select {
		case <-g.open:
			io.WriteString(w, r.URL.Path)
		case <-r.Context().Done():
			g.left <- r.URL.Path
		}
	})
	t.Cleanup(func() { close(g.open) })
	return g
}

// next is the request that has come to the upstream.
func (g *gate) next(t *testing.T) string {
	t.Helper()
	select {
	case path := <-g.came:
		return path
	case <-time.After(patience):
		t.Fatal("no request comes to the upstream")
		return ""
	}
}

func ask(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: a\r\n\r\n" }

func TestQueueIsFirstInFirstOut(t *testing.T) {
	g := newGate(t)
	p, url := start(t, config.Route{Upstream: g.addr, Concurrency: 2, Queue: 20, QueueTimeout: time.Minute})
	var wires []*wire
	for i := range 12 {
		c := connect(t, url)
		c.send(ask(fmt.Sprint("/", i)))
		wires = append(wires, c)
		running(t, p, min(i+1, 2), max(i-1, 0))
	}
	first := map[string]bool{g.next(t): true, g.next(t): true}
	if !first["/0"] || !first["/1"] {
		t.Errorf("the first two at the upstream are %v, want /0 and /1", first)
	}
	for i := 2; i < 12; i++ {
		g.open <- struct{}{}
		if got, want := g.next(t), fmt.Sprint("/", i); got != want {
			t.Errorf("next at the upstream: got %s, want %s", got, want)
		}
		running(t, p, 2, 11-i)
	}
	g.open <- struct{}{}
	g.open <- struct{}{}
	for i, c := range wires {
		if resp, body := c.response("GET"); resp.StatusCode != 200 || body != fmt.Sprint("/", i) {
			t.Errorf("request %d: got %d %q, want 200 and its path", i, resp.StatusCode, body)
		}
	}
	running(t, p, 0, 0)
}

func TestOverload(t *testing.T) {
	for _, tt := range []struct {
		status string
		queue  int
	}{{"503", 0}, {"429", 1}} {
		t.Run(tt.status, func(t *testing.T) {
			g := newGate(t)
			p, url := start(t, config.Route{Upstream: g.addr, Concurrency: 1, Queue: tt.queue, OverloadStatus: tt.status, QueueTimeout: time.Minute})
			held := []*wire{}
			for i := range 1 + tt.queue {
				c := connect(t, url)
				c.send(ask("/"))
				held = append(held, c)
				running(t, p, 1, i)
			}
			c := connect(t, url)
			for range 3 { // the connection goes on
				c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
				resp, body := c.response("POST")
				want := fmt.Sprintf(`{"error":"the queue is full: 1 being worked on, %d waiting","reason":"overloaded","hint":"try again after Retry-After"}`+"\n", tt.queue)
				if fmt.Sprint(resp.StatusCode) != tt.status || resp.Header.Get("Retry-After") != "1" || body != want || resp.Close {
					t.Errorf("got %d %v %q, want %s, Retry-After 1, an open connection and %q", resp.StatusCode, resp.Header, body, tt.status, want)
				}
			}
			for _, h := range held {
				g.open <- struct{}{}
				h.response("GET")
			}
			g.open <- struct{}{}
			c.send(ask("/now"))
			if resp, _ := c.response("GET"); resp.StatusCode != 200 {
				t.Errorf("with a free place: got %d, want 200", resp.StatusCode)
			}
			if len(g.came) != 2+tt.queue {
				t.Errorf("the upstream saw %d requests, want %d", len(g.came), 2+tt.queue)
			}
		})
	}
}

// Many refused uploads are not counted together: each is small, and the connection stays.
func TestRefusedUploadsKeepTheConnection(t *testing.T) {
	g := newGate(t)
	p, url := start(t, config.Route{Upstream: g.addr, Concurrency: 1})
	busy := connect(t, url)
	busy.send(ask("/"))
	running(t, p, 1, 0)
	const size = 100 << 10
	upload := fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("x", size))
	inTime(t, lingerTime, func() error {
		c := connect(t, url)
		defer c.Close()
		for i := range 8 {
			if _, err := io.WriteString(c.Conn, upload); err != nil {
				return err
			}
			resp, _, err := c.readResponse("POST")
			if err != nil {
				return err
			}
			if resp.StatusCode != 503 || resp.Close {
				return fmt.Errorf("upload %d: got %d, close %v; want 503 and an open connection", i, resp.StatusCode, resp.Close)
			}
		}
		return nil
	})
}

func TestQueueTimeout(t *testing.T) {
	g := newGate(t)
	p, url := start(t, config.Route{Upstream: g.addr, Concurrency: 1, Queue: 5, QueueTimeout: 30 * time.Millisecond})
	busy := connect(t, url)
	busy.send(ask("/busy"))
	g.next(t)
	c := connect(t, url)
	began := time.Now()
	c.send(ask("/waits"))
	resp, body := c.response("GET")
	if took := time.Since(began); took < 30*time.Millisecond {
		t.Errorf("answered after %s, want 30ms at the earliest", took)
	}
	if resp.StatusCode != 503 || !strings.HasPrefix(body, `{"error":"no place became free within 30ms: 1 being worked on, 0 waiting"`) {
		t.Errorf("got %d %q, want 503 for the queue timeout", resp.StatusCode, body)
	}
	running(t, p, 1, 0)
	g.open <- struct{}{}
	busy.response("GET")
	g.open <- struct{}{}
	c.send(ask("/later"))
	if resp, _ := c.response("GET"); resp.StatusCode != 200 {
		t.Errorf("later: got %d, want 200", resp.StatusCode)
	}
	if got := g.next(t); got != "/later" {
		t.Errorf("the upstream got %s, want never /waits", got)
	}
}

// A client that leaves gives up its place: in the queue, at the upstream, and while the upstream is being connected to.
func TestClientThatLeavesGivesItsPlaceUp(t *testing.T) {
	g := newGate(t)
	p, url := start(t, config.Route{Upstream: g.addr, Concurrency: 1, Queue: 5, QueueTimeout: time.Minute})
	wires := map[string]*wire{}
	for i, path := range []string{"/0", "/1", "/2", "/3"} {
		wires[path] = connect(t, url)
		wires[path].send(ask(path))
		running(t, p, 1, i)
	}
	wires["/2"].Close() // waits in the middle
	running(t, p, 1, 2)
	wires["/3"].reset() // at the end
	running(t, p, 1, 1)
	if got := g.next(t); got != "/0" {
		t.Errorf("got %s, want /0", got)
	}
	wires["/0"].Close() // runs
	if got := g.next(t); got != "/1" {
		t.Errorf("got %s, want /1 as its turn has come", got)
	}
	running(t, p, 1, 0)
	if got := <-g.left; got != "/0" { // or it would take the place of /1 at the gate
		t.Errorf("%s has left the upstream, want /0", got)
	}
	g.open <- struct{}{}
	if resp, body := wires["/1"].response("GET"); resp.StatusCode != 200 || body != "/1" {
		t.Errorf("got %d %q, want 200 /1", resp.StatusCode, body)
	}
	running(t, p, 0, 0)
	counts(t, p, "cancellations", cancellations, 3)
}

// Clients leave at the very moment when their turn comes: no place is lost and none is given twice.
func TestLeavingWhenTheTurnComes(t *testing.T) {
	up := server(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
	p, url := start(t, config.Route{Upstream: up, Concurrency: 2, Queue: 1000, QueueTimeout: 3 * time.Millisecond})
	done := make(chan int)
	for i := range 8 {
		go func() {
			served := 0
			for j := range 60 {
				c := connect(t, url)
				c.send(ask("/"))
				if (i+j)%3 == 0 {
					c.Close()
					continue
				}
				if resp, err := http.ReadResponse(c.br, nil); err == nil && (resp.StatusCode == 200 || resp.StatusCode == 503) {
					served++
				}
				c.Close()
			}
			done <- served
		}()
	}
	served := 0
	for range 8 {
		served += <-done
	}
	if served != 8*40 {
		t.Errorf("%d clients that waited have been answered, want %d", served, 8*40)
	}
	running(t, p, 0, 0)
	eventually(t, "no client is left", func() bool { return len(states(p)) == 0 })
}

// A client that sends a request and leaves before the loop has looked is gone all the same.
func TestClientThatIsGoneBeforeItsRequestIsRead(t *testing.T) {
	g := newGate(t)
	p := startWith(t, 1, config.Proxy{Routes: []config.Route{{Upstream: g.addr, Concurrency: 1, Timeout: time.Minute}}})
	c := connect(t, urlOf(p, "127.0.0.1:0"))
	eventually(t, "the connection", func() bool { return states(p)[idle] == 1 })
	onLoops(p, func(*worker) { // the loop is busy, and sees both at once
		c.send(ask("/"))
		c.Close()
	})
	eventually(t, "the end of the connection", func() bool { return len(states(p)) == 0 })
	running(t, p, 0, 0)
}

// The place is held until the response has ended.
func TestPlaceIsHeldUntilTheBodyEnds(t *testing.T) {
	for _, framing := range []string{"Content-Length: 10", "Transfer-Encoding: chunked", "X: until the end"} {
		t.Run(framing, func(t *testing.T) {
			u := newRawUpstream(t)
			p := startWith(t, 1, config.Proxy{Routes: []config.Route{{Upstream: u.addr(), Concurrency: 1, Queue: 1, QueueTimeout: time.Minute}}})
			url := urlOf(p, "127.0.0.1:0")
			c, second := connect(t, url), connect(t, url)
			c.send(ask("/1"))
			up := u.accept()
			up.head()
			running(t, p, 1, 0)
			second.send(ask("/2"))
			running(t, p, 1, 1)
			up.send("HTTP/1.1 200 OK\r\n" + framing + "\r\n\r\n")
			first, last := "first", "other"
			if framing[0] == 'T' {
				first, last = "5\r\nfirst\r\n", "5\r\nother\r\n0\r\n\r\n"
			}
			up.send(first)
			c.head()
			if framing[0] == 'C' {
				c.read(5)
			} else {
				c.read(len("5\r\nfirst\r\n"))
			}
			running(t, p, 1, 1)
			up.send(last)
			if framing[0] == 'X' {
				running(t, p, 1, 1)
				up.Close()
			}
			if framing[0] != 'C' && framing[0] != 'T' {
				up = u.accept()
			}
			if got := up.head(); !strings.HasPrefix(got, "GET /2 ") {
				t.Errorf("got %q, want the second request", got)
			}
			running(t, p, 1, 0)
			up.send(shortAnswer)
			second.response("GET")
			running(t, p, 0, 0)
		})
	}
}

func TestMaxBody(t *testing.T) {
	const limit = 1000
	chunked := func(n int) string {
		return fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", n, strings.Repeat("x", n))
	}
	length := func(n int) string {
		return fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", n, strings.Repeat("x", n))
	}
	up := server(t, func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%d %v", n, err)
	})
	p, url := start(t, config.Route{Upstream: up, MaxBody: limit, Concurrency: 3})
	refusals := because("body_too_large")
	for _, tt := range []struct {
		name, request, body string
		status              int
	}{
		{"length, as much as may be", length(limit), "1000 <nil>", 200},
		{"length, one too many", length(limit + 1), "", 413},
		{"length, huge", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 900000000000000000\r\n\r\n", "", 413},
		{"length, huge, with Expect", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\nExpect: 100-continue\r\n\r\n", "", 413},
		{"chunked, as much as may be", chunked(limit) + "0\r\n\r\n", "1000 <nil>", 200},
		{"chunked, one too many", chunked(limit+1) + "0\r\n\r\n", "", 413},
		{"chunked, in two pieces", chunked(limit) + "1\r\nx\r\n0\r\n\r\n", "", 413},
		{"chunked, without an end", chunked(limit + 1), "", 413},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, split := range []bool{false, true} {
				before := counted(p, refusals)
				c := connect(t, url)
				if request := tt.request; split { // the last byte comes when the rest has been read
					c.send(request[:len(request)-1])
					eventually(t, "the request at the proxy", func() bool {
						n := states(p)
						return n[reading]+n[exchanging]+n[answering]+n[lingering] > 0 || counted(p, refusals) > before
					})
					_, _ = io.WriteString(c.Conn, request[len(request)-1:])
				} else {
					c.send(request)
				}
				resp, body := c.response("POST")
				if resp.StatusCode != tt.status {
					t.Fatalf("split %v: got %d %q, want %d", split, resp.StatusCode, body, tt.status)
				}
				if tt.status == 200 && body != tt.body {
					t.Errorf("split %v: got %q, want %q", split, body, tt.body)
				}
				if tt.status == 413 && !strings.HasPrefix(body, `{"error":"the request's body is larger than 1000 bytes","reason":"body_too_large"`) {
					t.Errorf("split %v: got %q, want what happened", split, body)
				}
				c.Close()
				eventually(t, "no client", func() bool { return len(states(p)) == 0 })
			}
			running(t, p, 0, 0)
		})
	}
}
