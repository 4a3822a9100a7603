package sshd

import (
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// counts is what the server has done since its start.
type counts struct {
	connections, dropped, failed, sessions, forwards, denied atomic.Uint64

	logins, refused, started, transfers byName
}

// byName counts by a name out of a small set.
type byName struct {
	mu sync.Mutex
	n  map[string]uint64
}

func (b *byName) add(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.n == nil {
		b.n = map[string]uint64{}
	}
	const most = 16 // names come from clients too
	if _, known := b.n[name]; !known && len(b.n) >= most {
		name = "other"
	}
	b.n[name]++
}

func (b *byName) each(f func(name string, n uint64)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, n := range b.n {
		f(name, n)
	}
}

// descriptions are the metrics, in the order in which they are sent.
type descriptions struct {
	connections, dropped, failed, logins, refused, sessions, forwards, denied, transfers, open, strangers, running, forwarding *prometheus.Desc
}

func describe() descriptions {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("inpod_ssh_"+name, help, labels, nil)
	}
	return descriptions{
		connections: desc("connections_total", "Connections that came."),
		dropped:     desc("connections_refused_total", "Connections that there was no room for."),
		failed:      desc("login_failures_total", "Connections that ended without a login."),
		logins:      desc("logins_total", "Logins, by method.", "method"),
		refused:     desc("login_attempts_refused_total", "Keys and passwords that were refused, by method.", "method"),
		sessions:    desc("sessions_total", "Sessions that were started, by what they run.", "kind"),
		forwards:    desc("forwards_total", "Connections that were forwarded."),
		denied:      desc("forwards_denied_total", "Forwardings that the settings or the key do not permit."),
		transfers:   desc("transfers_total", "Files that were read or written by SFTP or scp, by direction.", "direction"),
		open:        desc("connections", "Connections that are open."),
		strangers:   desc("connections_unauthenticated", "Connections that are not logged in yet."),
		running:     desc("sessions", "Sessions that are open."),
		forwarding:  desc("forwards", "Connections that are being forwarded."),
	}
}

// Describe implements prometheus.Collector.
func (s *Server) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(s, ch) }

// Collect implements prometheus.Collector.
func (s *Server) Collect(ch chan<- prometheus.Metric) {
	d := describe()
	count := func(d *prometheus.Desc, n uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	gauge := func(d *prometheus.Desc, n int) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n))
	}
	count(d.connections, s.counts.connections.Load())
	count(d.dropped, s.counts.dropped.Load())
	count(d.failed, s.counts.failed.Load())
	count(d.forwards, s.counts.forwards.Load())
	count(d.denied, s.counts.denied.Load())
	s.counts.logins.each(func(name string, n uint64) { count(d.logins, n, name) })
	s.counts.refused.each(func(name string, n uint64) { count(d.refused, n, name) })
	s.counts.started.each(func(name string, n uint64) { count(d.sessions, n, name) })
	s.counts.transfers.each(func(name string, n uint64) { count(d.transfers, n, name) })
	strangers, in := s.door.counts()
	gauge(d.open, in)
	gauge(d.strangers, strangers)
	s.mu.Lock()
	sessions, forwards := s.sessionCount(), 0
	for _, c := range s.conns {
		forwards += int(c.forwards.Load())
	}
	s.mu.Unlock()
	gauge(d.running, sessions)
	gauge(d.forwarding, forwards)
}
