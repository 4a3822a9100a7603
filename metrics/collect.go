package metrics

import (
	"math"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// NewRegistry makes a registry with the agent's own process, the Go runtime, build info and the container's cgroup.
func NewRegistry(version, commit, goVersion string) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewGoCollector(collectors.WithGoCollectorMemStatsMetricsDisabled()),
		NewCgroup(CgroupRoot, "/proc/self/cgroup"),
	)
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "inpod_build_info",
		Help:        "Always 1; the labels say which build this is.",
		ConstLabels: prometheus.Labels{"version": version, "commit": commit, "go_version": goVersion},
	})
	info.Set(1)
	r.MustRegister(info)
	return r
}

// cgroupMetric is one value of Usage as Prometheus sees it.
type cgroupMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*Usage) float64
}

type cgroupCollector struct {
	root, proc string
	metrics    []cgroupMetric
}

// NewCgroup collects the cgroup below root; proc is the path of /proc/self/cgroup.
func NewCgroup(root, proc string) prometheus.Collector {
	const gauge, counter = prometheus.GaugeValue, prometheus.CounterValue
	c := &cgroupCollector{root: root, proc: proc}
	add := func(name, help string, kind prometheus.ValueType, value func(*Usage) float64) {
		c.metrics = append(c.metrics, cgroupMetric{prometheus.NewDesc("inpod_cgroup_"+name, help, nil, nil), kind, value})
	}
	add("version", "Version of the cgroup hierarchy that was read; 0 when there is none.", gauge, func(u *Usage) float64 { return float64(u.Version) })
	add("memory_limit_bytes", "Memory that the container may use; +Inf when it is not limited.", gauge, func(u *Usage) float64 { return u.MemoryLimit })
	add("memory_used_bytes", "Memory that the container uses, its page cache included.", gauge, func(u *Usage) float64 { return u.MemoryUsed })
	add("memory_working_set_bytes", "Memory that the container uses without inactive file pages; what the kubelet looks at.", gauge, func(u *Usage) float64 { return u.MemoryWorkingSet })
	add("cpu_limit_cores", "CPU cores that the container may use; +Inf when it is not limited.", gauge, func(u *Usage) float64 { return u.CPULimit })
	add("cpu_seconds_total", "CPU time that the container has used, in seconds.", counter, func(u *Usage) float64 { return u.CPUSeconds })
	add("cpu_periods_total", "Scheduling periods in which the container wanted to run under its CPU limit.", counter, func(u *Usage) float64 { return u.Periods })
	add("cpu_throttled_periods_total", "Scheduling periods in which the CPU limit stopped the container.", counter, func(u *Usage) float64 { return u.Throttled })
	add("cpu_throttled_seconds_total", "Time for which the CPU limit stopped the container's threads, in seconds.", counter, func(u *Usage) float64 { return u.ThrottledSeconds })
	add("oom_kills_total", "Processes of the container that the kernel killed because its memory limit was reached.", counter, func(u *Usage) float64 { return u.OOMKills })
	add("pids_limit", "Processes and threads that the container may have; +Inf when it is not limited.", gauge, func(u *Usage) float64 { return u.PidsLimit })
	add("pids", "Processes and threads that the container has.", gauge, func(u *Usage) float64 { return u.Pids })
	return c
}

func (c *cgroupCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range c.metrics {
		ch <- m.desc
	}
}

func (c *cgroupCollector) Collect(ch chan<- prometheus.Metric) {
	proc, _ := os.ReadFile(c.proc) // absent: the root is read
	u := ReadCgroup(c.root, string(proc))
	for _, m := range c.metrics {
		if v := m.value(&u); !math.IsNaN(v) {
			ch <- prometheus.MustNewConstMetric(m.desc, m.kind, v)
		}
	}
}
