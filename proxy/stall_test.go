package proxy

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/inpod/inpod/config"
	"github.com/inpod/inpod/proxy/poll"
)

// A body of the upstream's that stops is given up, whatever went on before it stopped.
func TestUpstreamThatStalls(t *testing.T) {
	upstream := func(c *client) *poll.Sock {
		if c.x.up == nil || !c.x.sentAll {
			return nil
		}
		return &c.x.up.Sock
	}
	t.Run("behind an upload that ended after the response's head", func(t *testing.T) {
		u := newRawUpstream(t)
		p, url := start(t, config.Route{Upstream: u.addr()})
		c := connect(t, url)
		c.send(crlf("POST / HTTP/1.1", "Host: h", "Content-Length: 2"))
		up := u.accept()
		up.head()
		up.send(crlf("HTTP/1.1 200 OK", "Content-Length: 100"))
		c.head()
		c.send("a")
		up.read(1)
		c.send("b")
		up.read(1)
		runOut(t, p, "the upstream", upstream)
		eventually(t, "nothing in flight", func() bool { return p.InFlight() == 0 })
	})
	t.Run("behind a client that was slow", func(t *testing.T) {
		u := newRawUpstream(t)
		p, url := start(t, config.Route{Upstream: u.addr()})
		c := connect(t, url)
		c.send(ask("/"))
		up := u.accept()
		up.head()
		up.send(crlf("HTTP/1.1 200 OK", "Content-Length: 100000000"))
		c.head()
		clients(p, func(c *client) {
			c.x.up.SetDeadline(0) // as while the client was behind
			c.x.up.In = true      // as after a read that was full
			c.pumpResponse()
		})
		runOut(t, p, "the upstream", upstream)
		eventually(t, "nothing in flight", func() bool { return p.InFlight() == 0 })
	})
}

// A client that stops reading is given up where TLS or HTTP/2 stand between it and the loop, too: nothing of it is left.
func TestClientThatStopsReading(t *testing.T) {
	endless := func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, &zeros{n: 1 << 40}) }
	t.Run("HTTP/1.1 over TLS", func(t *testing.T) {
		p, url := startTLS(t, config.Route{Upstream: server(t, endless), IdleTimeout: 200 * time.Millisecond})
		c, err := tls.Dial("tcp", strings.TrimPrefix(url, "https://"), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		io.WriteString(c, ask("/"))
		eventually(t, "the request", func() bool { return !p.LastRequest().IsZero() })
		eventually(t, "no connection", func() bool { return p.Connections() == 0 && p.InFlight() == 0 })
	})
	for _, version := range []string{"HTTP/2.0", "HTTP/2.0 over TLS"} {
		t.Run(version, func(t *testing.T) {
			route := config.Route{Upstream: server(t, endless), IdleTimeout: 200 * time.Millisecond}
			var p *Proxy
			var url string
			if strings.HasSuffix(version, "TLS") {
				p, url = startTLS(t, route)
			} else {
				p, url = start(t, route)
			}
			c := tlsClient(t, true)
			c.Timeout = 0
			c.Transport.(*http.Transport).Protocols.SetUnencryptedHTTP2(version == "HTTP/2.0")
			var resp *http.Response
			inTime(t, route.IdleTimeout, func() (err error) {
				resp, err = c.Get(url)
				return err
			})
			defer resp.Body.Close()
			eventually(t, "nothing in flight", func() bool { return p.InFlight() == 0 })
		})
	}
}

// An HTTP/2 connection without requests is closed after keep_alive, as any other.
func TestIdleHTTP2ConnectionsAreClosed(t *testing.T) {
	up := server(t, func(http.ResponseWriter, *http.Request) {})
	p := startWith(t, 1, config.Proxy{KeepAlive: 100 * time.Millisecond, Routes: []config.Route{{Upstream: up}}})
	get(t, h2cClient(t), urlOf(p, "127.0.0.1:0"))
	eventually(t, "no connection", func() bool { return p.Connections() == 0 })
}

// What is no HTTP/2 by the handshake is none later: it would be served as a client that nobody knows, without TLS.
func TestHTTP2PrefaceBehindTLS(t *testing.T) {
	up := server(t, func(http.ResponseWriter, *http.Request) {})
	p, url := startTLS(t, config.Route{Upstream: up})
	c, err := tls.Dial("tcp", strings.TrimPrefix(url, "https://"), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	w := newWire(t, net.Conn(c))
	w.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	if resp, _ := w.response("GET"); resp.StatusCode != 505 && resp.StatusCode != 400 {
		t.Errorf("got %d, want a refusal", resp.StatusCode)
	}
	c.Close()
	eventually(t, "no connection", func() bool { return p.Connections() == 0 })
}

// Interim responses are not held without bounds for a client that does not read.
func TestManyInterimResponses(t *testing.T) {
	u := newRawUpstream(t)
	p, url := start(t, config.Route{Upstream: u.addr()})
	c := connect(t, url)
	c.readsLittle()
	c.send(ask("/"))
	up := u.accept()
	up.head()
	interim := strings.Repeat(crlf("HTTP/1.1 103 Early Hints", "Link: "+strings.Repeat("x", 4<<10)), 10)
	for range 200 { // 8 MB, more than the kernel holds
		up.send(interim)
	}
	up.send(crlf("HTTP/1.1 200 OK", "Content-Length: 2") + "ok")
	eventually(t, "the response", func() bool {
		answered := false
		clients(p, func(c *client) { answered = c.x.ended })
		return answered
	})
	clients(p, func(c *client) {
		if len(c.out)-c.outAt > 256<<10 {
			t.Errorf("%d bytes are held", len(c.out)-c.outAt)
		}
	})
}
