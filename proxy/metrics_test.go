package proxy

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/inpod/inpod/config"
	"github.com/inpod/inpod/internal/testport"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func registry(p *Proxy) *prometheus.Registry {
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(p)
	return reg
}

// values are the series that a scrape gives: the name, then the labels.
func values(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			line := f.GetName()
			for _, l := range m.GetLabel() {
				line += " " + l.GetName() + "=" + l.GetValue()
			}
			all[line] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return all
}

// labels are the series alone.
func labels(t *testing.T, reg *prometheus.Registry) []string {
	t.Helper()
	return slices.Sorted(maps.Keys(values(t, reg)))
}

// Nothing that a client chooses becomes a label.
func TestMetricsDoNotGrowWithTheRequests(t *testing.T) {
	up := newGateless(t)
	p, url := start(t, config.Route{Path: "/", Upstream: up}, config.Route{Path: "/a", Host: "x.org", Upstream: testport.Closed(t)})
	reg := registry(p)
	c := connect(t, url)
	const batch = 20 // as many at once
	ask := func(from int) {
		all := ""
		for i := from; i < from+batch; i++ {
			all += fmt.Sprintf("%s /%d?%d HTTP/1.1\r\nHost: h%d.org\r\nUser-Agent: %d\r\nAccept: %d\r\n\r\n", "M"+strings.Repeat("X", i%50), i, i, i, i, i)
		}
		c.send(all)
		for range batch {
			if resp, _ := c.response("GET"); resp.StatusCode < 200 {
				t.Errorf("got %d", resp.StatusCode)
			}
		}
	}
	for i := 0; i < 600; i += batch {
		ask(i)
	}
	before := labels(t, reg)
	for i := 600; i < 10_000; i += batch {
		ask(i)
	}
	if after := labels(t, reg); !slices.Equal(before, after) {
		t.Errorf("%d series after 600 requests, %d after 10,000", len(before), len(after))
	}
	for _, line := range before {
		for _, part := range strings.Fields(line)[1:] {
			name, value, _ := strings.Cut(part, "=")
			ok := name == "route" && (value == "127.0.0.1:0/" || value == "127.0.0.1:0x.org/a" || value == "none") || name == "code" && len(value) == 3 && strings.HasSuffix(value, "xx") || name == "reason"
			if !ok {
				t.Errorf("%s: the label %s is not one of the settings", line, part)
			}
		}
	}
}

// newGateless is an upstream that answers each request with another status.
func newGateless(t *testing.T) string {
	n := 0
	return server(t, func(w http.ResponseWriter, _ *http.Request) {
		n++
		w.WriteHeader(200 + n%400)
	})
}

func TestMetricsAreWellNamed(t *testing.T) {
	g := newGate(t)
	p, url := start(t, config.Route{Upstream: g.addr, Concurrency: 1})
	g.open <- struct{}{}
	get(t, httpClient(t), url)
	problems, err := testutil.GatherAndLint(registry(p))
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Errorf("%s: %s", problem.Metric, problem.Text)
	}
}

// What is counted, and what is not.
func TestMetricsCount(t *testing.T) {
	g := newGate(t)
	u := newRawUpstream(t)
	p := startWith(t, 1, config.Proxy{Routes: []config.Route{
		{Path: "/", Upstream: u.addr(), WebSocket: true},
		{Path: "/full", Upstream: g.addr, Concurrency: 2, Queue: 1},
		{Host: "only.org", Path: "/down", Upstream: testport.Closed(t)},
		{Path: "/slow", Upstream: u.addr(), Timeout: 20 * time.Millisecond},
	}})
	url := urlOf(p, "127.0.0.1:0")
	reg := registry(p)
	c := connect(t, url)
	old := parked(t, p, u, c) // 2xx
	holdBack(p)
	c.send(crlf("POST / HTTP/1.1", "Host: a", "Content-Length: 4") + "body")
	taken(t, p)
	old.Close()
	up := u.accept() // a retry, and 5xx of the upstream's own
	up.head()
	up.send(crlf("HTTP/1.1 500 Oh", "Content-Length: 0"))
	c.response("POST")
	c.send(ask("/slow")) // 504
	u.accept().head()
	c.response("GET")
	c.send("nonsense\r\n\r\n") // of no route
	c.rest()
	c = connect(t, url)
	c.send(ask("/gone"))
	u.again(up).head()
	c.Close()
	eventually(t, "nothing in flight", func() bool { return p.InFlight() == 0 })
	c, up = upgraded(t, url, u, "websocket")
	up.Close()
	c.rest()
	c.Close()
	c = connect(t, url)
	c.send(crlf("GET /down HTTP/1.1", "Host: only.org"))
	c.response("GET")
	busy := []*wire{connect(t, url), connect(t, url), connect(t, url)}
	for _, b := range busy {
		b.send(ask("/full"))
	}
	eventually(t, "a full queue", func() bool { s := p.Routes()[1]; return s.InFlight == 2 && s.Queued == 1 })
	c.send(ask("/full"))
	c.response("GET")

	eventually(t, "three in flight", func() bool { return p.InFlight() == 3 })
	got := values(t, reg)
	for name, want := range map[string]float64{
		`requests_total code=1xx route=127.0.0.1:0/`: 1, `requests_total code=2xx route=127.0.0.1:0/`: 1, `requests_total code=5xx route=127.0.0.1:0/`: 1,
		`requests_total code=5xx route=127.0.0.1:0/slow`: 1,
		`requests_total code=5xx route=127.0.0.1:0/full`: 1, `requests_total code=5xx route=127.0.0.1:0only.org/down`: 1, `requests_total code=4xx route=none`: 1,
		`errors_total reason=client_gone route=127.0.0.1:0/`: 1, `errors_total reason=overloaded route=127.0.0.1:0/full`: 1,
		`errors_total reason=upstream_down route=127.0.0.1:0only.org/down`: 1, `errors_total reason=upstream_timeout route=127.0.0.1:0/slow`: 1,
		`errors_total reason=bad_request_line route=none`: 1,
		`cancellations_total route=127.0.0.1:0/`:          1, `cancellations_total route=127.0.0.1:0/full`: 0, `retries_total route=127.0.0.1:0/`: 1, `upgrades_total route=127.0.0.1:0/`: 1,
		`requests_in_flight`: 3, `running route=127.0.0.1:0/`: 0, `running route=127.0.0.1:0/full`: 2, `queued route=127.0.0.1:0/full`: 1,
		`concurrency_limit route=127.0.0.1:0/`: 0, `concurrency_limit route=127.0.0.1:0/full`: 2, `route_ready route=127.0.0.1:0/full`: 1,
		`connections_refused_total`: 0,
	} {
		if n, ok := got["inpod_proxy_"+name]; n != want || !ok {
			t.Errorf("%s: got %v (%v), want %v", name, n, ok, want)
		}
	}
	for name := range got {
		if strings.HasPrefix(name, "inpod_proxy_errors_total") && got[name] != 1 {
			t.Errorf("%s: got %v, want no more than the errors above", name, got[name])
		}
	}
}

// Bytes and times of one request whose sizes are known.
func TestMetricsOfOneRequest(t *testing.T) {
	const pause = 30 * time.Millisecond
	up := server(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		<-time.After(pause)
		w.Header()["Date"] = nil
		w.Header().Set("Content-Length", "10")
		w.Write([]byte("first"))
		w.(http.Flusher).Flush()
		<-time.After(pause)
		w.Write([]byte("other"))
	})
	p, url := start(t, config.Route{Upstream: up})
	c := connect(t, url)
	c.send(crlf("POST / HTTP/1.1", "Host: h", "Transfer-Encoding: chunked") + "3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n")
	head := c.head()
	c.read(10)
	eventually(t, "nothing in flight", func() bool { return p.InFlight() == 0 })
	s := &series{}
	for _, w := range p.routes[0].stat {
		s.received.Add(w.received.Load())
		s.sent.Add(w.sent.Load())
		s.duration.sum.Add(w.duration.sum.Load())
		s.toFirst.sum.Add(w.toFirst.sum.Load())
		s.dials.Add(w.dials.Load())
	}
	if got, want := s.received.Load(), int64(7); got != want {
		t.Errorf("%d bytes received, want %d", got, want)
	}
	if got, want := s.sent.Load(), int64(len(head)+10); got != want {
		t.Errorf("%d bytes sent, want %d", got, want)
	}
	first, whole := time.Duration(s.toFirst.sum.Load()), time.Duration(s.duration.sum.Load())
	if first < pause || whole < 2*pause || whole < first || whole > patience {
		t.Errorf("first byte after %s, whole after %s; want at least %s and %s", first, whole, pause, 2*pause)
	}
	if s.dials.Load() != 1 {
		t.Errorf("%d connections to the upstream, want 1", s.dials.Load())
	}
}
