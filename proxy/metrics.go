package proxy

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	// durationBuckets are upper bounds in seconds: from a cached answer to a long prediction.
	durationBuckets = [...]float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}
	codeClasses     = [...]string{"1xx", "2xx", "3xx", "4xx", "5xx"}
)

// histogram is counted by one worker and read by a scrape.
type histogram struct {
	buckets [len(durationBuckets) + 1]atomic.Uint64 // not cumulative; the last is +Inf
	sum     atomic.Int64                            // nanoseconds
}

// bucketEnds are durationBuckets in nanoseconds.
var bucketEnds = func() (ends [len(durationBuckets)]int64) {
	for i, s := range durationBuckets {
		ends[i] = int64(s * 1e9)
	}
	return ends
}()

func (h *histogram) observe(ns int64) {
	i := 0
	for i < len(bucketEnds) && ns > bucketEnds[i] {
		i++
	}
	h.buckets[i].Add(1)
	h.sum.Add(ns)
}

func (h *histogram) count() (n uint64) {
	for i := range h.buckets {
		n += h.buckets[i].Load()
	}
	return n
}

// series are the counts of one route in one worker: nobody else writes them, so no cache line is fought for.
type series struct {
	codes                        [len(codeClasses)]atomic.Uint64
	duration, queueTime, toFirst histogram
	received, sent               atomic.Int64 // bytes of bodies from clients, of everything to clients
	cancelled, retries, dials    atomic.Uint64
	tunnels                      atomic.Uint64

	mu      sync.Mutex
	reasons map[string]uint64 // of the answers that inpod gave itself, and of what broke off
}

// observe counts an exchange that is over.
func (s *series) observe(x *exchange, took int64) {
	if x.reason == reasonClientGone {
		s.cancelled.Add(1)
	} else {
		s.codes[min(max(x.status/100-1, 0), len(codeClasses)-1)].Add(1)
		s.duration.observe(took)
	}
	if x.ttfb > 0 {
		s.toFirst.observe(x.ttfb)
	}
	s.received.Add(x.taken)
	s.sent.Add(x.sent)
	if x.reason != "" {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.reasons == nil {
			s.reasons = map[string]uint64{}
		}
		s.reasons[x.reason]++
	}
}

// metrics holds what is counted, and makes Prometheus' values only when scraped: a request costs a few additions.
type metrics struct {
	turnedAway atomic.Uint64

	mu     sync.Mutex
	series map[string][]*series // by route, then by worker; they stay when a reload removes the route, as counters must
}

func newMetrics() *metrics { return &metrics{series: map[string][]*series{}} }

// of finds or makes the counts of a route.
func (m *metrics) of(route string, workers int) []*series {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := m.series[route]
	for len(list) < workers {
		list = append(list, &series{})
	}
	m.series[route] = list
	return list
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("inpod_proxy_"+name, help, labels, nil)
}

var (
	descRequests  = desc("requests_total", "Requests answered, by route and class of the status code. The route none stands for those that no route is for or that could not be read.", "route", "code")
	descDuration  = desc("request_duration_seconds", "Time from a request's head to the last byte of its response, by route.", "route")
	descFirst     = desc("time_to_first_byte_seconds", "Time from a request's head to the head of its response, by route.", "route")
	descQueueTime = desc("queue_duration_seconds", "Time that requests waited for a place, by route.", "route")
	descErrors    = desc("errors_total", "Requests that inpod answered itself or that broke off, by route and reason.", "route", "reason")
	descCancelled = desc("cancellations_total", "Requests whose client went away before it had its answer; the upstream was told.", "route")
	descRetries   = desc("retries_total", "Requests sent again, not a byte of which had reached the upstream.", "route")
	descDials     = desc("upstream_connects_total", "Connections to the upstream that were begun.", "route")
	descReceived  = desc("received_bytes_total", "Bytes of request bodies.", "route")
	descSent      = desc("sent_bytes_total", "Bytes of responses, their heads included.", "route")
	descUpgrades  = desc("upgrades_total", "Connections that became another protocol's, such as WebSocket.", "route")
	descRunning   = desc("running", "Requests that hold a place at the upstream.", "route")
	descQueued    = desc("queued", "Requests that wait for a place.", "route")
	descLimit     = desc("concurrency_limit", "Places of the route; 0 is no limit.", "route")
	descReady     = desc("route_ready", "1 while the route is ready: its upstream passes its health check and is warmed up.", "route")
	descFlying    = desc("requests_in_flight", "Requests whose response has not been sent to its end.")
	descConns     = desc("connections", "Connections of clients that are open.")
	descAway      = desc("connections_refused_total", "Connections that were one too many.")
)

// Describe implements prometheus.Collector.
func (p *Proxy) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descRequests, descDuration, descFirst, descQueueTime, descErrors, descCancelled, descRetries, descDials, descReceived,
		descSent, descUpgrades, descRunning, descQueued, descLimit, descReady, descFlying, descConns, descAway,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (p *Proxy) Collect(ch chan<- prometheus.Metric) {
	send := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
	const gauge, counter = prometheus.GaugeValue, prometheus.CounterValue
	send(descFlying, gauge, float64(p.InFlight()))
	send(descConns, gauge, float64(p.Connections()))
	send(descAway, counter, float64(p.metrics.turnedAway.Load()))
	for _, s := range p.Routes() {
		send(descRunning, gauge, float64(s.InFlight), s.Name)
		send(descQueued, gauge, float64(s.Queued), s.Name)
		send(descLimit, gauge, float64(s.Limit), s.Name)
		ready := 0.0
		if s.Ready {
			ready = 1
		}
		send(descReady, gauge, ready, s.Name)
	}
	m := p.metrics
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, list := range m.series {
		collect(send, name, list)
		ch <- together(descDuration, name, list, func(s *series) *histogram { return &s.duration })
		ch <- together(descFirst, name, list, func(s *series) *histogram { return &s.toFirst })
		ch <- together(descQueueTime, name, list, func(s *series) *histogram { return &s.queueTime })
	}
}

// collect adds up the workers' counts of one route.
func collect(send func(*prometheus.Desc, prometheus.ValueType, float64, ...string), name string, list []*series) {
	const counter = prometheus.CounterValue
	for i, class := range codeClasses {
		n := total(list, func(s *series) uint64 { return s.codes[i].Load() })
		if n > 0 || class == "2xx" || class == "5xx" {
			send(descRequests, counter, n, name, class)
		}
	}
	send(descCancelled, counter, total(list, func(s *series) uint64 { return s.cancelled.Load() }), name)
	send(descRetries, counter, total(list, func(s *series) uint64 { return s.retries.Load() }), name)
	send(descDials, counter, total(list, func(s *series) uint64 { return s.dials.Load() }), name)
	send(descUpgrades, counter, total(list, func(s *series) uint64 { return s.tunnels.Load() }), name)
	send(descReceived, counter, total(list, func(s *series) uint64 { return uint64(s.received.Load()) }), name)
	send(descSent, counter, total(list, func(s *series) uint64 { return uint64(s.sent.Load()) }), name)
	reasons := map[string]uint64{}
	for _, s := range list {
		s.mu.Lock()
		for reason, n := range s.reasons {
			reasons[reason] += n
		}
		s.mu.Unlock()
	}
	for reason, n := range reasons {
		send(descErrors, counter, float64(n), name, reason)
	}
}

func total(list []*series, of func(*series) uint64) (sum float64) {
	for _, s := range list {
		sum += float64(of(s))
	}
	return sum
}

// together is one histogram of all workers.
func together(d *prometheus.Desc, route string, list []*series, of func(*series) *histogram) prometheus.Metric {
	var count uint64
	var sum time.Duration
	cumulative := make(map[float64]uint64, len(durationBuckets))
	for i, le := range durationBuckets {
		for _, s := range list {
			count += of(s).buckets[i].Load()
		}
		cumulative[le] = count
	}
	for _, s := range list {
		count += of(s).buckets[len(durationBuckets)].Load()
		sum += time.Duration(of(s).sum.Load())
	}
	return prometheus.MustNewConstHistogram(d, count, sum.Seconds(), cumulative, route)
}
