package proxy

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/inpod/inpod/config"
	"github.com/inpod/inpod/internal/testport"
)

// A name often has an address at which the server does not listen (localhost is 127.0.0.1 and ::1): the next is tried.
func TestNameWithAnAddressThatRefuses(t *testing.T) {
	up := server(t, func(http.ResponseWriter, *http.Request) {})
	_, port, err := net.SplitHostPort(up)
	if err != nil {
		t.Fatal(err)
	}
	p, url := start(t, config.Route{Upstream: net.JoinHostPort("some.name", port)})
	u := p.routes[0].upstream
	u.mu.Lock()
	u.found, u.until = []netip.AddrPort{netip.MustParseAddrPort(testport.Closed(t)), netip.MustParseAddrPort(up)}, time.Now().Add(time.Hour)
	u.mu.Unlock()
	for range 6 {
		c := connect(t, url)
		c.send(crlf("GET / HTTP/1.1", "Host: h", "Connection: close"))
		if resp, body := c.response("GET"); resp.StatusCode != 200 {
			t.Errorf("got %d %s, want 200", resp.StatusCode, body)
		}
		onLoops(p, func(w *worker) { w.closeIdle(u) })
	}
	if ok, why := p.routes[0].health.Ready(); !ok || p.routes[0].health.failed.Load() != 0 {
		t.Errorf("the upstream counts as down: %s", why)
	}
}

// As long as the resolver cannot be asked, what it said before is used; not for a name that is no more.
func TestResolverThatFails(t *testing.T) {
	var says error
	u := newUpstream("some.name:80", 1)
	u.lookup = func(context.Context, string, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, says
	}
	want := netip.MustParseAddrPort("192.0.2.1:80")
	for _, tt := range []struct {
		says error
		ok   bool
	}{{nil, true}, {&net.DNSError{IsTimeout: true}, true}, {errors.New("no resolver"), true}, {&net.DNSError{IsNotFound: true}, false}, {nil, true}} {
		says = tt.says
		got, err := u.resolve(t.Context())
		if (err == nil) != tt.ok || tt.ok && got != want {
			t.Errorf("the resolver says %v: got %v, %v", tt.says, got, err)
		}
	}
}
