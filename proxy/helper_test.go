package proxy

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/inpod/inpod/config"
)

// Long enough to be no matter, however slow the machine is. A test of one of them sets its own.
const (
	keepAlive = 10 * time.Minute
	longest   = 5 * time.Minute // of a request, of a pause in it, in the queue
)

// start runs a proxy in front of upstream and returns it with its URL.
func start(t *testing.T, routes ...config.Route) (*Proxy, string) {
	t.Helper()
	p := newProxy()
	t.Cleanup(p.Close)
	for i := range routes {
		routes[i] = withDefaults(routes[i])
	}
	if err := p.Apply(config.Proxy{KeepAlive: keepAlive, Routes: routes}); err != nil {
		t.Fatal(err)
	}
	return p, "http://" + p.Addr("127.0.0.1:0").String()
}

func newProxy() *Proxy { return New(Options{Log: slog.New(slog.DiscardHandler), Loops: 2}) }

// withDefaults fills in what config would.
func withDefaults(r config.Route) config.Route {
	or := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	if r.Listen == "" {
		r.Listen = "127.0.0.1:0"
	}
	if r.Path == "" {
		r.Path = "/"
	}
	if r.OverloadStatus == "" {
		r.OverloadStatus = "503"
	}
	if r.Health == "" {
		r.Health = config.Off
	}
	if r.Buffer == 0 {
		r.Buffer = 64 << 10
	}
	or(&r.Timeout, longest)
	or(&r.IdleTimeout, longest)
	or(&r.QueueTimeout, longest)
	return r
}

func server(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func httpClient(t *testing.T) *http.Client {
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 2 * patience}
}

func get(t *testing.T, c *http.Client, url string) (*http.Response, string) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}
