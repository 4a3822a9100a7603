package proxy

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/inpod/inpod/config"
	"golang.org/x/sys/unix"
)

const shortAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// parked makes a connection to the upstream that has served a request and is idle now.
func parked(t *testing.T, p *Proxy, u *rawUpstream, c *wire) *wire {
	t.Helper()
	c.send("GET /first HTTP/1.1\r\nHost: a\r\n\r\n")
	up := u.accept()
	up.head()
	up.send(shortAnswer)
	c.response("GET")
	eventually(t, "an idle connection", func() bool {
		return keepIdle(p) == 1
	})
	return up
}

// holdBack keeps the idle connection's request from being written until the upstream gives an event: what happens
// between the look at an idle connection and the write, happens then.
func holdBack(p *Proxy) {
	onLoops(p, func(w *worker) {
		for _, up := range p.routes[0].upstream.pools[w.id].idle {
			up.Out = false
		}
	})
}

// taken waits until a request has been given a connection to the upstream.
func taken(t *testing.T, p *Proxy) {
	t.Helper()
	eventually(t, "a request with a connection", func() bool {
		found := false
		clients(p, func(c *client) { found = found || c.state == exchanging && c.x.up != nil })
		return found
	})
}

// An upstream closes an idle connection at the moment a request comes: the request goes on another, once.
func TestIdleConnectionClosesUnderARequest(t *testing.T) {
	for _, tt := range []struct{ name, request, seen string }{
		{"GET", "GET /x HTTP/1.1\r\nHost: a\r\n\r\n", ""},
		{"POST", "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody", "body"},
		{"chunked POST", "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n", "4\r\nbody\r\n0\r\n\r\n"},
		{"large POST", "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 30000\r\n\r\n" + strings.Repeat("x", 30000), strings.Repeat("x", 30000)},
		{"POST of two pieces", "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 100000), strings.Repeat("x", 100000)},
		{"POST that waits for 100", "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n", "body"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u := newRawUpstream(t)
			p, url := start(t, config.Route{Upstream: u.addr(), Concurrency: 1})
			c := connect(t, url)
			old := parked(t, p, u, c)
			holdBack(p)
			c.send(tt.request)
			if strings.Contains(tt.request, "Expect") {
				if got := c.head(); got != "HTTP/1.1 100 Continue\r\n\r\n" {
					t.Errorf("got %q, want 100 Continue", got)
				}
			}
			taken(t, p)
			old.Close() // with FIN: no byte of the request has come
			up := u.accept()
			head := up.head()
			if strings.Contains(tt.request, "Expect") {
				c.send("body")
			}
			if body := up.read(len(tt.seen)); !strings.HasPrefix(head, tt.request[:strings.Index(tt.request, "\r\n")+2]) || body != tt.seen {
				t.Errorf("the upstream got %q and %.40q, want the request", head, body)
			}
			up.send(shortAnswer)
			if resp, body := c.response("POST"); resp.StatusCode != 200 || body != "ok" {
				t.Errorf("got %d %q, want 200 ok", resp.StatusCode, body)
			}
			u.noMore()
			counts(t, p, "retries", retries, 1)
			running(t, p, 0, 0)
		})
	}
}

// The new connection may die as well, or not be had: that is told, once and clearly.
func TestRetryThatFails(t *testing.T) {
	for _, tt := range []struct {
		name, reason string
		then         func(u *rawUpstream)
	}{
		{"nobody listens any more", "upstream_down", nil},
		{"it closes the new one too", "upstream_closed", func(u *rawUpstream) {
			up := u.accept()
			up.head()
			up.Close()
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u := newRawUpstreamAt(t, "127.0.0.66:0") // where others take no ports
			p, url := start(t, config.Route{Upstream: u.addr(), Concurrency: 1})
			c := connect(t, url)
			old := parked(t, p, u, c)
			holdBack(p)
			c.send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody")
			taken(t, p)
			if tt.then == nil {
				u.ln.Close()
			}
			old.Close()
			if tt.then != nil {
				tt.then(u)
			}
			if resp, _ := c.response("POST"); resp.StatusCode != 502 || resp.Header.Get(ErrorHeader) != tt.reason {
				t.Errorf("got %d %s, want 502 %s", resp.StatusCode, resp.Header.Get(ErrorHeader), tt.reason)
			}
			u.noMore()
			running(t, p, 0, 0)
		})
	}
}

// What may have reached the upstream is not sent again, whatever the upstream does with it.
func TestRequestThatReachedTheUpstreamIsNotSentAgain(t *testing.T) {
	const request = "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"
	for _, tt := range []struct {
		name, reason string
		do           func(up *wire)
	}{
		{"closes after the request", "upstream_closed", func(up *wire) { up.head(); up.read(4); up.Close() }},
		{"resets after the request", "upstream_closed", func(up *wire) { up.head(); up.read(4); up.reset() }},
		{"resets after the head", "upstream_closed", func(up *wire) { up.head(); up.reset() }},
		{"closes after one byte", "upstream_closed", func(up *wire) { up.read(1); up.Close() }},
		{"closes what it has not read", "upstream_closed", func(up *wire) { arrived(up); up.Close() }},
		{"resets what it has not read", "upstream_closed", func(up *wire) { arrived(up); up.reset() }},
		{"closes after half a head", "upstream_closed", func(up *wire) { up.head(); up.read(4); up.send("HTTP/1.1 200 OK\r\n"); up.Close() }},
		{"closes after 103", "upstream_closed", func(up *wire) { up.head(); up.send("HTTP/1.1 103 Early Hints\r\n\r\n"); up.Close() }},
		{"answers nonsense", "upstream_bad_response", func(up *wire) { up.head(); up.read(4); up.send("220 mail\r\n"); up.Close() }},
	} {
		for _, reused := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/reused %v", tt.name, reused), func(t *testing.T) {
				u := newRawUpstream(t)
				p, url := start(t, config.Route{Upstream: u.addr(), Concurrency: 1})
				c := connect(t, url)
				var up *wire
				if reused {
					up = parked(t, p, u, c)
				}
				c.send(request)
				if !reused {
					up = u.accept()
				}
				tt.do(up)
				resp, _ := c.response("POST")
				if resp.StatusCode == 103 {
					resp, _ = c.response("POST")
				}
				if resp.StatusCode != 502 || resp.Header.Get(ErrorHeader) != tt.reason {
					t.Errorf("got %d %s, want 502 %s", resp.StatusCode, resp.Header.Get(ErrorHeader), tt.reason)
				}
				u.noMore()
				if n := counted(p, retries); n != 0 {
					t.Errorf("counted %d retries, want none", n)
				}
				running(t, p, 0, 0)
				c.send("GET /again HTTP/1.1\r\nHost: a\r\n\r\n") // the client's connection goes on
				up = u.accept()
				up.head()
				up.send(shortAnswer)
				c.response("GET")
			})
		}
	}
}

// The upstream's end comes first, and only then its kernel says whether it got the request: that is waited for, a moment.
func TestRetryWaitsForTheVerdict(t *testing.T) {
	for _, resets := range []bool{true, false} {
		t.Run(fmt.Sprint("resets ", resets), func(t *testing.T) {
			inTime(t, doubtTime, func() error { return verdict(t, resets) })
		})
	}
}

// verdict has an upstream end a connection with a request on it, and reset it then or not.
func verdict(t *testing.T, resets bool) error {
	u := newRawUpstream(t)
	p, url := start(t, config.Route{Upstream: u.addr(), Concurrency: 1})
	c := connect(t, url)
	old := parked(t, p, u, c)
	onLoops(p, func(w *worker) { // as if the kernel had acknowledged nothing of what follows
		for _, up := range p.routes[0].upstream.pools[w.id].idle {
			up.written += 1 << 20
		}
	})
	c.send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody")
	arrived(old)
	old.closeWrite()
	doubt := false
	eventually(t, "doubt", func() bool {
		clients(p, func(c *client) {
			if doubt = c.x.up != nil && c.x.up.doubt; doubt && resets {
				c.x.up.SetDeadline(0) // until the reset
			}
		})
		return doubt || p.InFlight() == 0
	})
	if resets && !doubt {
		return errors.New("no reset is waited for")
	}
	want := 502
	if resets {
		want = 200
		old.Close() // what it has not read makes a reset of it
		up := u.accept()
		up.head()
		up.send(shortAnswer)
	}
	if resp, _ := c.response("POST"); resp.StatusCode != want {
		t.Errorf("got %d, want %d", resp.StatusCode, want)
	}
	u.noMore()
	running(t, p, 0, 0)
	return nil
}

// arrived waits until there is something to read, and leaves it there.
func arrived(up *wire) {
	raw, err := up.Conn.(*net.TCPConn).SyscallConn()
	if err == nil {
		err = raw.Read(func(fd uintptr) bool {
			_, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK)
			return err != unix.EAGAIN
		})
	}
	if err != nil {
		up.t.Error(err)
	}
}

// Idle connections that the upstream has closed, or that say what nobody asked for, are passed over.
func TestStaleConnectionsArePassedOver(t *testing.T) {
	for name, spoil := range map[string]func(up *wire){
		"closed":   func(up *wire) { up.Close() },
		"reset":    func(up *wire) { up.reset() },
		"speaking": func(up *wire) { up.send("HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n") },
	} {
		t.Run(name, func(t *testing.T) {
			u := newRawUpstream(t)
			p := startWith(t, 1, config.Proxy{Routes: []config.Route{{Upstream: u.addr()}}})
			c := connect(t, urlOf(p, "127.0.0.1:0"))
			old := parked(t, p, u, c)
			onLoops(p, func(w *worker) { // the loop is busy, and hears of the request first
				c.send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody")
				spoil(old)
				idle := p.routes[0].upstream.pools[w.id].idle[0]
				if !comes(func() bool { return !idle.Quiet() && !w.clients.next.Quiet() }) {
					t.Error("neither comes")
				}
			})
			up := u.accept()
			up.head()
			up.send(shortAnswer)
			if resp, body := c.response("POST"); resp.StatusCode != 200 || body != "ok" {
				t.Errorf("got %d %q, want 200 ok", resp.StatusCode, body)
			}
			if n := counted(p, retries); n != 0 {
				t.Errorf("counted %d retries, want none: it was never used", n)
			}
		})
	}
}
