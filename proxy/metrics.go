package proxy

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// buckets are the upper bounds of the duration histogram, in seconds: from a cached answer to a long prediction.
var buckets = [...]float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}

var codeClasses = [...]string{"1xx", "2xx", "3xx", "4xx", "5xx"}

// metrics counts with atomics and makes Prometheus' values only when scraped: a request costs a few additions.
type metrics struct {
	inFlight                   func() float64
	requests, duration, flying *prometheus.Desc

	mu     sync.Mutex
	series map[string]*series
}

// series are the counts of one route.
type series struct {
	codes   [len(codeClasses)]atomic.Uint64
	buckets [len(buckets) + 1]atomic.Uint64 // not cumulative; the last is +Inf
	sum     atomic.Int64                    // nanoseconds
}

func newMetrics() *metrics {
	return &metrics{
		series:   map[string]*series{},
		requests: prometheus.NewDesc("inpod_proxy_requests_total", "Requests answered, by route and class of the status code.", []string{"route", "code"}, nil),
		duration: prometheus.NewDesc("inpod_proxy_request_duration_seconds", "Time from a request's headers to the last byte of its response, by route.", []string{"route"}, nil),
		flying:   prometheus.NewDesc("inpod_proxy_requests_in_flight", "Requests whose response has not been sent to its end.", nil, nil),
	}
}

// route finds the counts of a route; they stay when a reload removes the route, as counters must.
func (m *metrics) route(name string) *series {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.series[name]
	if s == nil {
		s = &series{}
		m.series[name] = s
	}
	return s
}

func (s *series) observe(status int, d time.Duration) {
	class := min(max(status/100-1, 0), len(codeClasses)-1)
	s.codes[class].Add(1)
	i := 0
	for i < len(buckets) && d.Seconds() > buckets[i] {
		i++
	}
	s.buckets[i].Add(1)
	s.sum.Add(int64(d))
}

// Describe implements prometheus.Collector.
func (p *Proxy) Describe(ch chan<- *prometheus.Desc) {
	ch <- p.metrics.requests
	ch <- p.metrics.duration
	ch <- p.metrics.flying
}

// Collect implements prometheus.Collector.
func (p *Proxy) Collect(ch chan<- prometheus.Metric) {
	m := p.metrics
	ch <- prometheus.MustNewConstMetric(m.flying, prometheus.GaugeValue, m.inFlight())
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, s := range m.series {
		for i, class := range codeClasses {
			if n := s.codes[i].Load(); n > 0 || class == "2xx" || class == "5xx" {
				ch <- prometheus.MustNewConstMetric(m.requests, prometheus.CounterValue, float64(n), name, class)
			}
		}
		var total uint64
		cumulative := make(map[float64]uint64, len(buckets))
		for i, le := range buckets {
			total += s.buckets[i].Load()
			cumulative[le] = total
		}
		total += s.buckets[len(buckets)].Load()
		ch <- prometheus.MustNewConstHistogram(m.duration, total, time.Duration(s.sum.Load()).Seconds(), cumulative, name)
	}
}
