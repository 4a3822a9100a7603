package proxy

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/inpod/inpod/config"
	"github.com/inpod/inpod/internal/testport"
	"github.com/inpod/inpod/proxy/poll"
)

// Every answer of inpod's own: its status, its reason and what becomes of the connection.
func TestAnswers(t *testing.T) {
	g := newGate(t)
	up := newRawUpstream(t)
	p, url := start(t,
		config.Route{Path: "/down", Upstream: testport.Closed(t)},
		config.Route{Path: "/slow", Upstream: g.addr, Timeout: 20 * time.Millisecond},
		config.Route{Path: "/full", Upstream: g.addr, Concurrency: 1, QueueTimeout: 10 * time.Millisecond},
		config.Route{Path: "/small", Upstream: g.addr, MaxBody: 10},
		config.Route{Path: "/paused", Upstream: up.addr(), IdleTimeout: 20 * time.Millisecond},
	)
	busy := connect(t, url)
	busy.send(ask("/full"))
	g.next(t)
	for _, tt := range []struct {
		name, request string
		status        int
		reason        string
		retry, open   bool
	}{
		{"no route", crlf("GET /x HTTP/1.1", "Host: h"), 404, "no_route", false, true},
		{"no upstream", crlf("GET /down HTTP/1.1", "Host: h"), 502, "upstream_down", true, true},
		{"no upstream, a body", crlf("POST /down HTTP/1.1", "Host: h", "Content-Length: 4") + "body", 502, "upstream_down", true, true},
		{"a slow upstream", crlf("GET /slow HTTP/1.1", "Host: h"), 504, "upstream_timeout", false, true},
		{"overload", crlf("GET /full HTTP/1.1", "Host: h"), 503, "overloaded", true, true},
		{"overload, a body in chunks", crlf("POST /full HTTP/1.1", "Host: h", "Transfer-Encoding: chunked") + "1\r\nx\r\n0\r\n\r\n", 503, "overloaded", true, true},
		{"overload, HTTP/1.0", crlf("GET /full HTTP/1.0"), 503, "overloaded", true, false},
		{"overload, HTTP/1.0 that keeps", crlf("GET /full HTTP/1.0", "Connection: keep-alive"), 503, "overloaded", true, true},
		{"too large", crlf("POST /small HTTP/1.1", "Host: h", "Content-Length: 11") + "12345678901", 413, "body_too_large", false, true},
		{"far too large", crlf("POST /small HTTP/1.1", "Host: h", "Content-Length: 1000000000"), 413, "body_too_large", false, false},
		{"too large, not sent yet", crlf("POST /small HTTP/1.1", "Host: h", "Content-Length: 11", "Expect: 100-continue"), 413, "body_too_large", false, false},
		{"the body pauses", crlf("POST /paused HTTP/1.1", "Host: h", "Content-Length: 11") + "x", 408, "client_timeout", false, false},
		{"chunks that are none", crlf("POST /full HTTP/1.1", "Host: h", "Transfer-Encoding: chunked") + "x\r\n", 400, "chunk_size", false, false},
		{"no request", "hello\r\n\r\n", 400, "bad_request_line", false, false},
		{"no method", crlf("get / HTTP/1.1", "Host: h"), 400, "bad_method", false, false},
		{"no HTTP/1", crlf("GET / HTTP/2.0", "Host: h"), 505, "version", false, false},
		{"CONNECT", crlf("CONNECT h:1 HTTP/1.1", "Host: h:1"), 501, "connect_not_supported", false, false},
		{"another expectation", crlf("POST / HTTP/1.1", "Host: h", "Content-Length: 1", "Expect: 200-ok"), 417, "expectation", false, false},
		{"too long", "GET /" + strings.Repeat("x", 33<<10), 414, "uri_too_long", false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := connect(t, url)
			c.send(tt.request)
			resp, body := c.response("GET")
			if resp.StatusCode != tt.status || resp.Header.Get(ErrorHeader) != tt.reason {
				t.Errorf("got %d %q, want %d %q", resp.StatusCode, resp.Header.Get(ErrorHeader), tt.status, tt.reason)
			}
			if got := resp.Header.Get("Retry-After") != ""; got != tt.retry {
				t.Errorf("Retry-After: %q, want one: %v", resp.Header.Get("Retry-After"), tt.retry)
			}
			if _, err := http.ParseTime(resp.Header.Get("Date")); err != nil {
				t.Errorf("Date: %v", err)
			}
			var said struct{ Error, Reason, Hint string }
			if err := json.Unmarshal([]byte(body), &said); err != nil || said.Error == "" || said.Reason != tt.reason || resp.Header.Get("Content-Type") != "application/json" {
				t.Errorf("got %s %q, want JSON with an error and its reason", resp.Header.Get("Content-Type"), body)
			}
			checkOpen(t, c, resp, tt.open)
		})
	}
	busy.Close()
	eventually(t, "nothing in flight", func() bool { return p.InFlight() == 0 })
}

// checkOpen: the connection goes on and says so, or says that it does not and ends properly.
func checkOpen(t *testing.T, c *wire, resp *http.Response, open bool) {
	t.Helper()
	if resp.Close == open {
		t.Errorf("Connection: %q, want it open: %v", resp.Header.Get("Connection"), open)
	}
	if !open {
		if rest, err := c.rest(); rest != "" || err != nil {
			t.Errorf("then %q, %v; want the end", rest, err)
		}
		return
	}
	c.send(crlf("GET /x HTTP/1.1", "Host: h"))
	if resp, _ := c.response("GET"); resp.StatusCode != 404 {
		t.Errorf("the next request got %d, want 404", resp.StatusCode)
	}
}

func TestAnswerAsTextOrJSON(t *testing.T) {
	_, url := start(t, config.Route{Path: "/a", Upstream: "127.0.0.1:1"})
	const text = "inpod: no route for h/x\nproxy.routes has the routes; inpod ctl routes lists them\n"
	const asJSON = `{"error":"no route for h/x","reason":"no_route","hint":"proxy.routes has the routes; inpod ctl routes lists them"}` + "\n"
	for accept, want := range map[string]string{
		"": asJSON, "*/*": asJSON, "application/json": asJSON, "text/event-stream, application/json": asJSON, "text/plain": text,
		"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8": text,
	} {
		for _, method := range []string{"GET", "HEAD"} {
			c := connect(t, url)
			lines := []string{method + " /x HTTP/1.1", "Host: h"}
			if accept != "" {
				lines = append(lines, "Accept: "+accept)
			}
			c.send(crlf(lines...))
			resp, body := c.response(method)
			if length := resp.Header.Get("Content-Length"); length != strconv.Itoa(len(want)) {
				t.Errorf("%s, Accept %q: got Content-Length %s, want %d", method, accept, length, len(want))
			}
			if method == "HEAD" && body != "" || method == "GET" && body != want {
				t.Errorf("%s, Accept %q: got %q, want %q", method, accept, body, want)
			}
			checkOpen(t, c, resp, true) // nothing stands between the two answers
		}
	}
}

// What a client has sent of a large body is thrown away while it reads the answer: a reset would take that away.
func TestAnswerToALargeUploadCanBeRead(t *testing.T) {
	_, url := start(t, config.Route{Upstream: testport.Closed(t), MaxBody: 1000})
	for _, head := range []string{
		crlf("POST / HTTP/1.1", "Host: h", "Content-Length: 3000000"),
		crlf("POST / HTTP/1.1", "Host: h", "Transfer-Encoding: chunked") + "2dc6c0\r\n",
	} {
		for range 5 {
			inTime(t, lingerTime, func() error {
				c := connect(t, url)
				defer c.Close()
				if _, err := io.WriteString(c.Conn, head+strings.Repeat("x", 3_000_000)); err != nil { // before it reads anything
					return err
				}
				resp, body, err := c.readResponse("POST")
				if err != nil {
					return err
				}
				if resp.StatusCode != 413 || !resp.Close || !strings.Contains(body, "larger than 1000 bytes") {
					t.Errorf("got %d close %v %q, want 413 and closed", resp.StatusCode, resp.Close, body)
				}
				if rest, err := c.rest(); rest != "" || err != nil {
					return fmt.Errorf("then %q, %w; want the end", rest, err)
				}
				return nil
			})
		}
	}
}

// An upload without an end is not read for ever.
func TestEndlessUploadIsCutOff(t *testing.T) {
	p, url := start(t, config.Route{Upstream: testport.Closed(t), MaxBody: 1000})
	c := connect(t, url)
	c.send(crlf("POST / HTTP/1.1", "Host: h", "Content-Length: 100000000000"))
	n, err := io.Copy(c.Conn, &zeros{n: 1 << 30})
	if err == nil || n > 64<<20 {
		t.Errorf("%d bytes have been taken, %v; want the end of the connection after some", n, err)
	}
	eventually(t, "no client", func() bool { return len(states(p)) == 0 })
}

// An upstream answers before it has the whole request, and reads no more: the client gets that answer, and is told that
// the connection ends, as what it still sends is no request.
func TestEarlyAnswerOfTheUpstream(t *testing.T) {
	u := newRawUpstream(t)
	_, url := start(t, config.Route{Upstream: u.addr()})
	for _, closes := range []bool{true, false} {
		t.Run(fmt.Sprint("closes ", closes), func(t *testing.T) {
			c := connect(t, url)
			c.send(crlf("POST / HTTP/1.1", "Host: h", "Content-Length: 100000000"))
			up := u.accept()
			up.head()
			up.send(crlf("HTTP/1.1 413 Too Much", "Content-Length: 2") + "no")
			if closes {
				up.Close()
			}
			resp, body := c.response("POST")
			if resp.StatusCode != 413 || body != "no" || !resp.Close {
				t.Errorf("got %d %q close %v, want 413 no, closed", resp.StatusCode, body, resp.Close)
			}
			if rest, err := c.rest(); rest != "" || err != nil {
				t.Errorf("then %q, %v; want the end", rest, err)
			}
		})
	}
}

// The same when the proxy learns of it by a write that fails: what the upstream said is passed on, not a 502.
func TestEarlyAnswerOfAnUpstreamThatIsGone(t *testing.T) {
	u := newRawUpstream(t)
	p := startWith(t, 1, config.Proxy{Routes: []config.Route{{Upstream: u.addr()}}})
	c := connect(t, urlOf(p, "127.0.0.1:0"))
	c.send(crlf("POST / HTTP/1.1", "Host: h", "Content-Length: 100000") + "begin")
	up := u.accept()
	up.head()
	up.read(len("begin"))
	onLoops(p, func(*worker) { // the loop is busy, and hears of the client first
		c.send("more")
		up.send(crlf("HTTP/1.1 413 Too Much", "Content-Length: 2") + "no")
		up.reset()
	})
	resp, body := c.response("POST")
	if resp.StatusCode != 413 || body != "no" || !resp.Close {
		t.Errorf("got %d %q close %v, want 413 no, closed", resp.StatusCode, body, resp.Close)
	}
}

// A response that is held for a slow client outlives its upload: more of the body is no matter any more.
func TestUploadGoesOnAfterTheResponse(t *testing.T) {
	u := newRawUpstream(t)
	p, url := start(t, config.Route{Upstream: u.addr(), Buffer: 64 << 20})
	c := connect(t, url)
	c.readsLittle()
	c.send(crlf("POST / HTTP/1.1", "Host: h", "Content-Length: 100000000") + "x")
	up := u.accept()
	up.head()
	const size = 8 << 20 // more than the kernel holds
	up.send(crlf("HTTP/1.1 200 OK", "Content-Length: "+strconv.Itoa(size)))
	up.send(strings.Repeat("y", size))
	eventually(t, "the whole response in the proxy", func() bool {
		ended := false
		clients(p, func(c *client) { ended = c.x.ended && len(c.out) > 0 })
		return ended
	})
	c.send("more of the body")
	resp, body := c.response("POST")
	if resp.StatusCode != 200 || len(body) != size {
		t.Errorf("got %d and %d bytes, want 200 and %d", resp.StatusCode, len(body), size)
	}
}

// A client that takes nothing of a response is given up, also when its upload ends meanwhile.
func TestClientThatReadsNothing(t *testing.T) {
	u := newRawUpstream(t)
	p, url := start(t, config.Route{Upstream: u.addr()})
	c := connect(t, url)
	c.send(crlf("POST / HTTP/1.1", "Host: h", "Content-Length: 10") + "x")
	up := u.accept()
	up.head()
	up.send(crlf("HTTP/1.1 200 OK", "Content-Length: 100000000"))
	go func() { _, _ = io.Copy(up.Conn, &zeros{n: 100_000_000}) }()
	eventually(t, "bytes that are held", func() bool {
		n := 0
		clients(p, func(c *client) { n += len(c.out) })
		return n > 0
	})
	c.send("123456789")
	eventually(t, "the end of the upload", func() bool {
		ended := false
		clients(p, func(c *client) { ended = c.x.taken == 10 })
		return ended
	})
	runOut(t, p, "the client", func(c *client) *poll.Sock { return &c.Sock })
	eventually(t, "the client is given up", func() bool { return p.InFlight() == 0 && len(states(p)) == 0 })
}

// A connection that is closed after an answer, with the next request on its way already, delivers the answer whole: bytes that
// nobody reads would make the kernel send a reset, which takes with it what the client has not read yet.
func TestCloseBehindALargeAnswer(t *testing.T) {
	const size = 256 << 10 // the kernel holds it for a client that does not read
	body := strings.Repeat("x", size)
	up := server(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(size))
		io.WriteString(w, body)
	})
	p, url := start(t, config.Route{Upstream: up, Buffer: 8 << 20})
	p.BeginDrain() // each answer is the last of its connection
	for range 20 {
		inTime(t, lingerTime, func() error {
			c := connect(t, url)
			defer c.Close()
			c.send(ask("/first"))
			c.head()
			eventually(t, "all of the answer is with the kernel", func() bool { return p.InFlight() == 0 })
			if _, err := io.WriteString(c.Conn, ask("/next")); err != nil { // before it has seen that there is no next
				return err
			}
			if rest, err := c.rest(); len(rest) != size || err != nil {
				return fmt.Errorf("got %d bytes, %w; want %d", len(rest), err, size)
			}
			return nil
		})
	}
}
