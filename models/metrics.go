package models

import "github.com/prometheus/client_golang/prometheus"

type descriptions struct{ bytes, size, seconds, ready *prometheus.Desc }

func describe() descriptions {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("inpod_model_"+name, help, []string{"model"}, nil)
	}
	return descriptions{
		bytes:   desc("bytes_total", "Bytes of the model that came from its source."),
		size:    desc("size_bytes", "Bytes of the files that the model is fetched from; 0 while that is not known."),
		seconds: desc("fetch_seconds", "Time that the last fetch of the model took, its unpacking included; 0 where it was there."),
		ready:   desc("ready", "1 when the model is in its place."),
	}
}

// Describe implements prometheus.Collector.
func (f *Fetcher) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{f.descs.bytes, f.descs.size, f.descs.seconds, f.descs.ready} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (f *Fetcher) Collect(ch chan<- prometheus.Metric) {
	for _, s := range f.States() {
		ready := 0.0
		if s.State == stateReady {
			ready = 1
		}
		ch <- prometheus.MustNewConstMetric(f.descs.bytes, prometheus.CounterValue, float64(s.Received), s.Name)
		ch <- prometheus.MustNewConstMetric(f.descs.size, prometheus.GaugeValue, float64(s.Total), s.Name)
		ch <- prometheus.MustNewConstMetric(f.descs.seconds, prometheus.GaugeValue, s.Fetched.Seconds(), s.Name)
		ch <- prometheus.MustNewConstMetric(f.descs.ready, prometheus.GaugeValue, ready, s.Name)
	}
}
