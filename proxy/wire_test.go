package proxy

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/inpod/inpod/config"
	"github.com/inpod/inpod/proxy/poll"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// wire is a connection in the test's hands, byte by byte.
type wire struct {
	net.Conn
	t  *testing.T
	br *bufio.Reader
}

// dialQuietly is a connection to a proxy that may be gone.
func dialQuietly(url string) (net.Conn, error) {
	return net.Dial("tcp", strings.TrimPrefix(url, "http://"))
}

func newWire(t *testing.T, c net.Conn) *wire {
	t.Helper()
	t.Cleanup(func() { c.Close() })
	w := &wire{c, t, bufio.NewReader(c)}
	w.wait()
	return w
}

// wait bounds what is done next.
func (w *wire) wait() { _ = w.SetDeadline(time.Now().Add(patience)) }

// connect is a client's connection to a proxy with this URL.
func connect(t *testing.T, url string) *wire {
	t.Helper()
	c, err := dialQuietly(url)
	if err != nil {
		t.Fatal(err)
	}
	return newWire(t, c)
}

func (w *wire) send(text string) {
	w.t.Helper()
	w.wait()
	if _, err := io.WriteString(w.Conn, text); err != nil {
		w.t.Fatalf("cannot send %.60q: %v", text, err)
	}
}

// head reads up to an empty line.
func (w *wire) head() string {
	w.t.Helper()
	head, err := w.readHead()
	if err != nil {
		w.t.Fatalf("cannot read a head after %q: %v", head, err)
	}
	return head
}

func (w *wire) readHead() (string, error) {
	w.wait()
	head := ""
	for !strings.HasSuffix(head, "\r\n\r\n") {
		line, err := w.br.ReadString('\n')
		if head += line; err != nil {
			return head, err
		}
	}
	return head, nil
}

func (w *wire) read(n int) string {
	w.t.Helper()
	w.wait()
	b := make([]byte, n)
	if n, err := io.ReadFull(w.br, b); err != nil {
		w.t.Fatalf("cannot read %d bytes, only %q: %v", len(b), b[:n], err)
	}
	return string(b)
}

// rest reads up to the end of the connection.
func (w *wire) rest() (string, error) {
	w.wait()
	b, err := io.ReadAll(w.br)
	return string(b), err
}

// response reads a response to a request with this method.
func (w *wire) response(method string) (*http.Response, string) {
	w.t.Helper()
	resp, body, err := w.readResponse(method)
	if err != nil {
		w.t.Fatalf("cannot read a response: %v, its body: %.60q", err, body)
	}
	return resp, body
}

func (w *wire) readResponse(method string) (*http.Response, string, error) {
	w.wait()
	resp, err := http.ReadResponse(w.br, &http.Request{Method: method})
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp, string(b), err
}

// readsLittle has the kernel hold little that is not read. It is called before anything comes.
func (w *wire) readsLittle() {
	w.t.Helper()
	if err := w.Conn.(*net.TCPConn).SetReadBuffer(32 << 10); err != nil {
		w.t.Fatal(err)
	}
}

// reset closes the connection so that the peer gets a reset.
func (w *wire) reset() {
	_ = w.Conn.(*net.TCPConn).SetLinger(0)
	w.Close()
}

// rawUpstream is a server in the test's hands.
type rawUpstream struct {
	t     *testing.T
	ln    net.Listener
	conns chan net.Conn
}

func newRawUpstream(t *testing.T) *rawUpstream {
	t.Helper()
	return newRawUpstreamAt(t, "127.0.0.1:0")
}

func newRawUpstreamAt(t *testing.T, addr string) *rawUpstream {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	u := &rawUpstream{t, ln, make(chan net.Conn, 1000)}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			u.conns <- c
		}
	}()
	return u
}

func (u *rawUpstream) addr() string { return u.ln.Addr().String() }

// accept is the next connection of the proxy.
func (u *rawUpstream) accept() *wire {
	u.t.Helper()
	select {
	case c := <-u.conns:
		return newWire(u.t, c)
	case <-time.After(patience):
		u.t.Fatal("the proxy makes no connection")
		return nil
	}
}

// again is where the next request comes: on up, which is idle, or on a new connection where up has been idle for too long.
func (u *rawUpstream) again(up *wire) *wire {
	u.t.Helper()
	up.wait()
	if _, err := up.br.Peek(1); err != nil {
		return u.accept()
	}
	return up
}

// noMore fails the test when the proxy has made another connection.
func (u *rawUpstream) noMore() {
	u.t.Helper()
	select {
	case c := <-u.conns:
		c.Close()
		u.t.Error("the proxy made another connection, want none")
	default:
	}
}

// startWith runs a proxy with settings other than those of start.
func startWith(t *testing.T, loops int, cfg config.Proxy) *Proxy {
	t.Helper()
	p := New(Options{Log: slog.New(slog.DiscardHandler), Loops: loops})
	t.Cleanup(p.Close)
	apply(t, p, cfg)
	return p
}

// apply puts settings in force, with the defaults that config would fill in.
func apply(t *testing.T, p *Proxy, cfg config.Proxy) {
	t.Helper()
	if err := p.Apply(filled(cfg)); err != nil {
		t.Fatal(err)
	}
}

func filled(cfg config.Proxy) config.Proxy {
	if cfg.KeepAlive == 0 {
		cfg.KeepAlive = keepAlive
	}
	routes := make([]config.Route, len(cfg.Routes))
	for i, r := range cfg.Routes {
		routes[i] = withDefaults(r)
	}
	cfg.Routes = routes
	return cfg
}

func urlOf(p *Proxy, listen string) string { return "http://" + p.Addr(listen).String() }

// eventually waits until a condition holds that nothing announces.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	if !comes(holds) {
		t.Fatalf("not within %s: %s", patience, what)
	}
}

// comes is eventually for goroutines that may not end the test.
func comes(holds func() bool) bool {
	for end := time.Now().Add(patience); !holds(); <-time.After(time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// inTime runs what is right only within the time that the proxy gives. An attempt that fails and has taken longer, as where
// the machine stood still, is no verdict: there is another one.
func inTime(t *testing.T, given time.Duration, attempt func() error) {
	t.Helper()
	for tries := 1; ; tries++ {
		began := time.Now()
		err := attempt()
		if err == nil {
			return
		}
		if took := time.Since(began); took < given || tries == 10 {
			t.Fatalf("after %s: %v", took, err)
		}
	}
}

// keepIdle takes the limit from the connections to upstreams that are idle now: they stay until they are used. It returns
// their number.
func keepIdle(p *Proxy) (n int) {
	onLoops(p, func(w *worker) {
		for _, r := range p.routes {
			for _, up := range r.upstream.pools[w.id].idle {
				up.SetDeadline(0)
				n++
			}
		}
	})
	return n
}

// runOut waits for a deadline at the socket that of gives, nil for none yet, and lets it pass.
func runOut(t *testing.T, p *Proxy, what string, of func(c *client) *poll.Sock) {
	t.Helper()
	eventually(t, "a deadline for "+what, func() (found bool) {
		clients(p, func(c *client) {
			if s := of(c); s != nil && s.Deadline() != 0 {
				s.SetDeadline(c.w.loop.Now() + 1)
				found = true
			}
		})
		return found
	})
}

// onLoops runs f on the goroutine of each loop in turn.
func onLoops(p *Proxy, f func(w *worker)) {
	for _, w := range p.crew() {
		w.do(func() { f(w) })
	}
}

// clients calls f, on their loops, for every client's connection.
func clients(p *Proxy, f func(c *client)) {
	onLoops(p, func(w *worker) { w.each(f) })
}

// states counts the clients by what they do.
func states(p *Proxy) map[clientState]int {
	n := map[clientState]int{}
	clients(p, func(c *client) { n[c.state]++ })
	return n
}

// running waits until a route has so many requests at the upstream and in the queue.
func running(t *testing.T, p *Proxy, running, queued int) {
	t.Helper()
	var s RouteState
	eventually(t, fmt.Sprintf("%d running and %d queued", running, queued), func() bool {
		s = p.Routes()[0]
		return s.InFlight == running && s.Queued == queued
	})
}

// counted adds up a count of the first route.
func counted(p *Proxy, of func(s *series) uint64) uint64 {
	return uint64(total(p.routes[0].stat, of))
}

// counts waits until a count of the first route is what it should be: a request is counted when its end has been seen already.
func counts(t *testing.T, p *Proxy, what string, of func(s *series) uint64, want uint64) {
	t.Helper()
	if !comes(func() bool { return counted(p, of) == want }) {
		t.Errorf("counted %d %s, want %d", counted(p, of), what, want)
	}
}

// because counts answers and ends for a reason.
func because(reason string) func(s *series) uint64 {
	return func(s *series) uint64 {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.reasons[reason]
	}
}

func cancellations(s *series) uint64 { return s.cancelled.Load() }

func retries(s *series) uint64 { return s.retries.Load() }
