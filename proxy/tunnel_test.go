package proxy

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/inpod/inpod/config"
)

const wsKey = "Sec-WebSocket-Key: k"

// upgraded makes a tunnel and returns its two ends.
func upgraded(t *testing.T, url string, u *rawUpstream, protocol string) (c, up *wire) {
	t.Helper()
	c = connect(t, url)
	c.send(crlf("GET /ws HTTP/1.1", "Host: h", "Connection: Upgrade", "Upgrade: "+protocol, wsKey))
	up = u.accept()
	if got := up.head(); !strings.Contains(got, "Connection: Upgrade\r\nUpgrade: "+protocol+"\r\n") {
		t.Errorf("the upstream got %q, want the upgrade", got)
	}
	up.send(crlf("HTTP/1.1 101 Switching", "Upgrade: "+protocol, "Connection: upgrade", "Sec-WebSocket-Accept: x"))
	want := crlf("HTTP/1.1 101 Switching", "Sec-WebSocket-Accept: x", "Connection: Upgrade", "Upgrade: "+protocol)
	if diff := cmp.Diff(want, c.head()); diff != "" {
		t.Errorf("what the client got (-want +got):\n%s", diff)
	}
	return c, up
}

func (w *wire) closeWrite() { _ = w.Conn.(*net.TCPConn).CloseWrite() }

// says tells w's peer something and looks whether it arrives.
func says(from, to *wire, text string) {
	from.t.Helper()
	from.send(text)
	if got := to.read(len(text)); got != text {
		from.t.Errorf("got %q, want %q", got, text)
	}
}

func TestTunnel(t *testing.T) {
	for _, protocol := range []string{"websocket", "kernel"} {
		t.Run(protocol, func(t *testing.T) {
			u := newRawUpstream(t)
			p, url := start(t, config.Route{Upstream: u.addr(), WebSocket: true, Concurrency: 1})
			c, up := upgraded(t, url, u, protocol)
			for range 3 {
				says(c, up, "\x81\x02hi")
				says(up, c, "\x81\x02ho")
			}
			clients(p, func(c *client) {
				if at, up := c.Deadline(), c.x.up.Deadline(); at != 0 || up != 0 {
					t.Errorf("there are deadlines, %d and %d, want that no timeout is for a tunnel", at, up)
				}
			})
			says(c, up, "\x81\x02hi")
			running(t, p, 1, 0)
			c.closeWrite()
			if rest, err := up.rest(); rest != "" || err != nil {
				t.Errorf("the upstream got %q, %v; want the end of that direction", rest, err)
			}
			says(up, c, "\x81\x04last")
			up.Close()
			if rest, err := c.rest(); rest != "" || err != nil {
				t.Errorf("the client got %q, %v; want the end", rest, err)
			}
			running(t, p, 0, 0)
			eventually(t, "no client", func() bool { return len(states(p)) == 0 })

			c, up = upgraded(t, url, u, protocol)
			up.closeWrite()
			if rest, err := c.rest(); rest != "" || err != nil {
				t.Errorf("the client got %q, %v; want the end of that direction", rest, err)
			}
			says(c, up, "\x81\x04last")
			c.Close()
			if rest, err := up.rest(); rest != "" || err != nil {
				t.Errorf("the upstream got %q, %v; want the end", rest, err)
			}
			running(t, p, 0, 0)
			counts(t, p, "upgrades", func(s *series) uint64 { return s.tunnels.Load() }, 2)
		})
	}
}

// Either side breaks off: the other hears of it.
func TestTunnelBreaks(t *testing.T) {
	u := newRawUpstream(t)
	p, url := start(t, config.Route{Upstream: u.addr(), WebSocket: true})
	for _, clientFirst := range []bool{true, false} {
		c, up := upgraded(t, url, u, "kernel")
		first, second := up, c
		if clientFirst {
			first, second = c, up
		}
		first.reset()
		_, _ = second.rest() // its end, in whatever way
		running(t, p, 0, 0)
		eventually(t, "no client", func() bool { return len(states(p)) == 0 })
	}
}

// What both sides send with the heads, and before the answer, is the tunnel's.
func TestTunnelDataBesideTheHeads(t *testing.T) {
	u := newRawUpstream(t)
	_, url := start(t, config.Route{Upstream: u.addr(), WebSocket: true})
	c := connect(t, url)
	c.send(crlf("GET /ws HTTP/1.1", "Host: h", "Connection: Upgrade", "Upgrade: kernel") + "with the head,")
	up := u.accept()
	up.head()
	c.send(" before the answer,")
	up.send(crlf("HTTP/1.1 101 Switching", "Upgrade: kernel") + "at once,")
	c.head()
	if got := c.read(len("at once,")); got != "at once," {
		t.Errorf("the client got %q", got)
	}
	c.send(" after it")
	const want = "with the head, before the answer, after it"
	if got := up.read(len(want)); got != want {
		t.Errorf("the upstream got %q, want %q", got, want)
	}
}

// A 101 that nobody has asked for is an error; a refusal is passed on and the connection goes on.
func TestTunnelThatIsNone(t *testing.T) {
	u := newRawUpstream(t)
	p, url := start(t, config.Route{Upstream: u.addr(), WebSocket: true}, config.Route{Path: "/off", Upstream: u.addr()})
	for _, tt := range []struct{ name, request, response, reason string }{
		{"not asked", ask("/"), crlf("HTTP/1.1 101 Switching", "Upgrade: websocket"), "upstream_bad_response"},
		{"not wanted", crlf("GET /off HTTP/1.1", "Host: h", "Connection: Upgrade", "Upgrade: websocket"), crlf("HTTP/1.1 101 Switching", "Upgrade: websocket"), "upstream_bad_response"},
		{"of no protocol", crlf("GET / HTTP/1.1", "Host: h", "Connection: Upgrade", "Upgrade: websocket"), crlf("HTTP/1.1 101 Switching"), "upstream_bad_response"},
		{"refused", crlf("GET / HTTP/1.1", "Host: h", "Connection: Upgrade", "Upgrade: websocket"), crlf("HTTP/1.1 400 No", "Content-Length: 0"), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := connect(t, url)
			c.send(tt.request)
			up := u.accept()
			if got := up.head(); strings.HasPrefix(got, "GET /off") && strings.Contains(got, "Upgrade") {
				t.Errorf("the upstream got %q, want no upgrade", got)
			}
			up.send(tt.response)
			resp, _ := c.response("GET")
			if want := map[bool]int{true: 400, false: 502}[tt.reason == ""]; resp.StatusCode != want || resp.Header.Get(ErrorHeader) != tt.reason {
				t.Errorf("got %d %q, want %d %q", resp.StatusCode, resp.Header.Get(ErrorHeader), want, tt.reason)
			}
			up.Close()
			c.send(ask("/"))
			up = u.accept()
			up.head()
			up.send(shortAnswer)
			c.response("GET")
			up.Close()
			running(t, p, 0, 0)
		})
	}
}

// Much goes both ways at the same time; each side reads slowly, in its turn. Nothing is lost, and little is held.
func TestTunnelHoldsLittle(t *testing.T) {
	u := newRawUpstream(t)
	p, url := start(t, config.Route{Upstream: u.addr(), WebSocket: true})
	c, up := upgraded(t, url, u, "kernel")
	const size = 24 << 20
	for _, w := range []*wire{c, up} {
		_ = w.SetDeadline(time.Now().Add(longest))
	}
	type sum struct {
		side string
		n    int64
		hash string
	}
	sums := make(chan sum, 4)
	push := func(side string, w *wire, seed byte) {
		h := sha256.New()
		n, err := io.CopyN(io.MultiWriter(w.Conn, h), rand.NewChaCha8([32]byte{seed}), size)
		w.closeWrite()
		if err != nil {
			t.Error(err)
		}
		sums <- sum{side, n, fmt.Sprintf("%x", h.Sum(nil))}
	}
	pull := func(side string, w *wire, begin <-chan struct{}) {
		<-begin
		h := sha256.New()
		n, err := io.Copy(h, w.br)
		if err != nil {
			t.Error(err)
		}
		sums <- sum{side, n, fmt.Sprintf("%x", h.Sum(nil))}
	}
	begin := make(chan struct{})
	go push("up", c, 1)
	go push("down", up, 2)
	go pull("up", up, begin)
	go pull("down", c, begin)
	const most = 2*tunnelHeld + scratch
	held := func() (in, out int) {
		clients(p, func(c *client) {
			if c.state == tunnelling {
				in, out = cap(c.out), cap(c.x.out)
			}
		})
		return in, out
	}
	eventually(t, "both directions are full", func() bool { in, out := held(); return in >= tunnelHeld/2 && out >= tunnelHeld/2 })
	if in, out := held(); in > 2*most || out > 2*most {
		t.Errorf("%d and %d bytes are held, want at most %d", in, out, 2*most)
	}
	close(begin)
	got := map[string][]sum{}
	for range 4 {
		s := <-sums
		got[s.side] = append(got[s.side], s)
	}
	for side, s := range got {
		if s[0] != s[1] || s[0].n != size {
			t.Errorf("%s: %v and %v, want the same %d bytes", side, s[0], s[1], size)
		}
	}
	running(t, p, 0, 0)
}

// The upstream's last words reach a slow client that has closed its own side long ago.
func TestTunnelEndWaitsForASlowClient(t *testing.T) {
	u := newRawUpstream(t)
	p, url := start(t, config.Route{Upstream: u.addr(), WebSocket: true})
	c, up := upgraded(t, url, u, "kernel")
	c.closeWrite()
	up.rest()
	size := 0
	heldBack := func() (n int) {
		clients(p, func(c *client) { n = len(c.out) })
		return n
	}
	for piece := strings.Repeat("x", 16<<10); heldBack() == 0; size += len(piece) {
		up.send(piece)
	}
	up.Close()
	eventually(t, "the upstream's end", func() (ended bool) {
		clients(p, func(c *client) { ended = c.x.tunnel.upstreamEnded })
		return ended || len(states(p)) == 0
	})
	if rest, err := c.rest(); len(rest) != size || err != nil {
		t.Errorf("got %d bytes of %d, then %v", len(rest), size, err)
	}
}

// frame is a WebSocket frame without a mask.
func frame(op byte, payload string) string {
	b := []byte{0x80 | op}
	switch n := len(payload); {
	case n < 126:
		b = append(b, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
	}
	return string(b) + payload
}

func TestDrainTellsWebSockets(t *testing.T) {
	const closeOf1001 = "\x88\x02\x03\xe9"
	u := newRawUpstream(t)
	p, url := start(t, config.Route{Upstream: u.addr(), WebSocket: true})
	quiet, upQuiet := upgraded(t, url, u, "websocket")
	says(upQuiet, quiet, frame(1, "hello"))
	busy, upBusy := upgraded(t, url, u, "websocket")
	long := frame(2, strings.Repeat("x", 100_000))
	says(upBusy, busy, long[:50_000]) // in the middle of a frame
	ending, upEnding := upgraded(t, url, u, "websocket")
	says(upEnding, ending, frame(8, "\x03\xe8")) // it has said its own Close
	other, upOther := upgraded(t, url, u, "kernel")
	says(upOther, other, "x")
	cutHead, upCutHead := upgraded(t, url, u, "websocket")
	says(upCutHead, cutHead, long[:5]) // in the middle of a frame's head
	p.StopAccepting()
	noGrace := func() { // whoever has been told may take his time
		clients(p, func(c *client) {
			if c.state == tunnelling && c.x.tunnel.closed {
				c.SetDeadline(0)
			}
		})
	}

	if got := quiet.read(4); got != closeOf1001 {
		t.Errorf("between frames: got %q, want Close 1001", got)
	}
	upBusy.send(long[50_000:] + frame(1, "too late"))
	noGrace()
	if got, want := busy.read(50_000+len(long)-100_000+4), long[50_000:]+closeOf1001; got != want {
		t.Errorf("in a frame: got %d bytes that end with %q, want the rest of the frame and Close 1001", len(got), got[len(got)-10:])
	}
	upCutHead.send(long[5:])
	noGrace()
	if got, want := cutHead.read(len(long)-5+4), long[5:]+closeOf1001; got != want {
		t.Errorf("in a frame's head: got %d bytes that end with %q, want the rest of the frame and Close 1001", len(got), got[len(got)-10:])
	}
	noGrace()
	says(upOther, other, "another protocol goes on")
	upQuiet.send(frame(1, "too late"))
	for name, ends := range map[string][2]*wire{"quiet": {quiet, upQuiet}, "busy": {busy, upBusy}, "ending": {ending, upEnding}, "cut head": {cutHead, upCutHead}} {
		c, up := ends[0], ends[1]
		says(c, up, "\x88\x82\x00\x00\x00\x00\x03\xe9") // the client's answer goes to the upstream
		up.send(frame(8, "\x03\xe9"))
		up.Close()
		if rest, err := c.rest(); rest != "" || err != nil {
			t.Errorf("%s: then %q, %v; want the end and nothing behind the Close", name, rest, err)
		}
		c.Close()
	}
	eventually(t, "only the one of another protocol in flight", func() bool { return p.InFlight() == 1 })
	other.Close()
	if rest, err := upOther.rest(); rest != "" || err != nil {
		t.Errorf("the upstream of another protocol got %q, %v; want the end", rest, err)
	}
	upOther.Close()
	waited(t, p)
}

// A client that does not answer the Close is given up; so is one that is upgraded after the listeners were closed.
func TestWebSocketThatDoesNotAnswerTheClose(t *testing.T) {
	u := newRawUpstream(t)
	p, url := start(t, config.Route{Upstream: u.addr(), WebSocket: true})
	late := connect(t, url)
	late.send(crlf("GET /ws HTTP/1.1", "Host: h", "Connection: Upgrade", "Upgrade: websocket", wsKey))
	upLate := u.accept()
	upLate.head()
	c, _ := upgraded(t, url, u, "websocket")
	p.StopAccepting()
	c.read(4)
	upLate.send(crlf("HTTP/1.1 101 Switching", "Upgrade: websocket") + frame(1, "x"))
	late.head()
	if got := late.read(7); got != frame(1, "x")+"\x88\x02\x03\xe9" {
		t.Errorf("upgraded late: got %q, want the frame and Close 1001", got)
	}
	clients(p, func(c *client) {
		if left := time.Duration(c.Deadline() - c.w.loop.Now()); c.Deadline() == 0 || left > closeGrace {
			t.Errorf("the deadline is in %s, want %s at most", left, closeGrace)
		}
		c.SetDeadline(c.w.loop.Now() + 1)
	})
	waited(t, p)
	if rest, err := c.rest(); rest != "" {
		t.Errorf("got %q, %v; want the end", rest, err)
	}
}

// A tunnel behind TLS whose upstream does not mind that its client has gone does not hold Close up.
func TestCloseWithATunnelBehindTLS(t *testing.T) {
	u := newRawUpstream(t)
	p, url := startTLS(t, config.Route{Upstream: u.addr(), WebSocket: true})
	tc, err := tls.Dial("tcp", strings.TrimPrefix(url, "https://"), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	c := newWire(t, tc)
	c.send(crlf("GET / HTTP/1.1", "Host: h", "Connection: Upgrade", "Upgrade: other"))
	up := u.accept()
	up.head()
	up.send(crlf("HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", "Upgrade: other"))
	c.head()
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		p.Close()
	}()
	select {
	case <-closed:
	case <-time.After(patience):
		t.Fatal("Close does not return")
	}
}

// A tunnel of which one side has ended goes on as long as the other says something.
func TestTunnelThatIsHalfOver(t *testing.T) {
	u := newRawUpstream(t)
	p, url := start(t, config.Route{Upstream: u.addr(), WebSocket: true})
	c, up := upgraded(t, url, u, "other")
	c.closeWrite()
	if rest, err := up.rest(); rest != "" || err != nil {
		t.Fatalf("the upstream got %q, %v; want the end", rest, err)
	}
	var before, after int64
	deadline := func(at *int64) {
		onLoops(p, func(w *worker) {
			w.each(func(c *client) {
				if *at = c.Deadline(); at == &before {
					c.SetDeadline(c.Deadline() - int64(tunnelRest/2)) // half of it is over
				}
			})
		})
	}
	deadline(&before)
	says(up, c, "still here")
	deadline(&after)
	if before == 0 || after < before {
		t.Errorf("the end is due %s later, want no earlier than before", time.Duration(after-before))
	}
}

// An upgrade that is answered when its listener is gone already is told at once.
func TestUpgradeOnARemovedListener(t *testing.T) {
	u := newRawUpstream(t)
	p, url := start(t, config.Route{Upstream: u.addr(), WebSocket: true})
	c := connect(t, url)
	c.send(crlf("GET /ws HTTP/1.1", "Host: h", "Connection: Upgrade", "Upgrade: websocket", wsKey))
	up := u.accept()
	up.head()
	apply(t, p, config.Proxy{Routes: []config.Route{{Listen: "127.0.0.2:0", Upstream: u.addr()}}})
	up.send(crlf("HTTP/1.1 101 Switching", "Upgrade: websocket", "Connection: upgrade", "Sec-WebSocket-Accept: x"))
	c.head()
	if got := c.read(4); got != string(closeGoingAway) {
		t.Errorf("got %q, want Close 1001", got)
	}
}
