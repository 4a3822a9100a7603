package injector

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the injector's own.
type Metrics struct {
	reviews  *prometheus.CounterVec
	bad      prometheus.Counter
	took     *prometheus.HistogramVec
	lookups  *prometheus.CounterVec
	lookup   prometheus.Histogram
	events   *prometheus.CounterVec
	expires  prometheus.Gauge
	rotation *prometheus.CounterVec
}

// NewMetrics registers them.
func NewMetrics(to prometheus.Registerer) *Metrics {
	m := &Metrics{
		reviews: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "inpod_injector_reviews_total",
			Help: "Admission reviews by result (injected, left, refused, error), mode and reason.",
		}, []string{"result", "mode", "reason"}),
		bad: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "inpod_injector_bad_reviews_total", Help: "Requests that were no admission review.",
		}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "inpod_injector_review_seconds", Help: "How long reviews took.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}, []string{"result"}),
		lookups: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "inpod_injector_image_lookups_total", Help: "Images whose entrypoint was looked up, from the cache or a registry.",
		}, []string{"result"}),
		lookup: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "inpod_injector_image_lookup_seconds", Help: "How long the lookups took.",
			Buckets: []float64{.0001, .001, .01, .05, .1, .25, .5, 1, 2, 4},
		}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "inpod_injector_events_total", Help: "Events by result (sent, dropped, failed).",
		}, []string{"result"}),
		expires: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "inpod_injector_certificate_expiry_timestamp_seconds", Help: "When the serving certificate ends.",
		}),
		rotation: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "inpod_injector_certificate_rounds_total", Help: "Looks at the certificate by result (ok, changed, error).",
		}, []string{"result"}),
	}
	to.MustRegister(m.reviews, m.bad, m.took, m.lookups, m.lookup, m.events, m.expires, m.rotation)
	return m
}

func (m *Metrics) reviewed(o outcome, took time.Duration) {
	m.reviews.WithLabelValues(o.result, o.mode, string(o.reason)).Inc()
	m.took.WithLabelValues(o.result).Observe(took.Seconds())
}

func (m *Metrics) lookedUp(err error, took time.Duration) {
	result := "found"
	if err != nil {
		result = "failed"
	}
	m.lookups.WithLabelValues(result).Inc()
	m.lookup.Observe(took.Seconds())
}
