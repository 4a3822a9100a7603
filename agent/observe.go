package agent

import (
	"bytes"
	"fmt"
	"net/http"
	"runtime"
	"sync"

	"github.com/inpod/inpod/metrics"
	"github.com/inpod/inpod/supervisor"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
)

// maxScrapes bounds the scrapes that are answered at the same time.
const maxScrapes = 4

// metricsHandler makes the registry at the first scrape: an agent that nobody scrapes does not pay for it. It answers in
// the text format alone, which every scraper takes: promhttp's negotiation would cost the binary 0.4 MB.
type metricsHandler struct {
	a      *agent
	once   sync.Once
	reg    *prometheus.Registry
	places chan struct{}
}

func newMetricsHandler(a *agent) *metricsHandler {
	return &metricsHandler{a: a, places: make(chan struct{}, maxScrapes)}
}

func (m *metricsHandler) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	select {
	case m.places <- struct{}{}:
		defer func() { <-m.places }()
	default:
		http.Error(w, fmt.Sprintf("more than %d scrapes at the same time", maxScrapes), http.StatusServiceUnavailable)
		return
	}
	m.once.Do(func() { m.reg = m.a.registry() })
	families, err := m.reg.Gather()
	var page bytes.Buffer
	for _, f := range families {
		if err != nil {
			break
		}
		_, err = expfmt.MetricFamilyToText(&page, f)
	}
	if err != nil {
		http.Error(w, "cannot collect the metrics: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", string(expfmt.NewFormat(expfmt.TypeTextPlain)))
	w.Write(page.Bytes())
}

// registry holds every collector of the agent and of its parts.
func (a *agent) registry() *prometheus.Registry {
	reg := metrics.NewRegistry(a.opts.Version, a.opts.Commit, runtime.Version())
	reg.MustRegister(newState(a), a.proxy, a.ssh, metrics.NewPrograms("/proc", func() []metrics.Program {
		var list []metrics.Program
		for _, s := range a.current.Load().sup.Stats() {
			list = append(list, metrics.Program{Name: s.Name, Group: s.Group, PID: s.PID})
		}
		return list
	}))
	reg.MustRegister(a.prep.collectors()...)
	if info := podInfo(a.opts.Env); info != nil {
		reg.MustRegister(info)
	}
	return reg
}

// state collects what the agent knows of itself and of its programs, at the moment of the scrape.
type state struct {
	a        *agent
	descs    []*prometheus.Desc
	programs []programMetric
	counts   []countMetric
	phase    *prometheus.Desc
	reloads  *prometheus.Desc
	hooks    [2]*prometheus.Desc // seconds, exit code
	failed   *prometheus.Desc    // of what is done before the programs start
}

type programMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*supervisor.ProgramStats) float64
}

type countMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func() float64
}

func newState(a *agent) *state {
	s := &state{a: a}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		d := prometheus.NewDesc("inpod_"+name, help, labels, nil)
		s.descs = append(s.descs, d)
		return d
	}
	const gauge, counter = prometheus.GaugeValue, prometheus.CounterValue
	program := func(name, help string, kind prometheus.ValueType, value func(*supervisor.ProgramStats) float64) {
		s.programs = append(s.programs, programMetric{desc("program_"+name, help, "program", "group"), kind, value})
	}
	count := func(name, help string, kind prometheus.ValueType, value func() float64) {
		s.counts = append(s.counts, countMetric{desc(name, help), kind, value})
	}
	s.phase = desc("phase", "1 for the phase that the pod is in, 0 for the others.", "phase")
	s.reloads = desc("config_reloads_total", "Times that the configuration was read again, by result.", "result")
	s.hooks[0] = desc("hook_seconds", "How long the hook took, or has taken.", "hook")
	s.hooks[1] = desc("hook_exit_code", "Exit code of the hook, 128 + the signal that ended it, or -1 when it could not be started. Absent until its end.", "hook")
	s.failed = desc("start_failed", "1 for what failed before the programs were started: a user, seed, files, a hook or a model.", "kind", "name")
	program("state", "State of the program as Supervisor numbers it: 0 stopped, 10 starting, 20 running, 30 backoff, 40 stopping, 100 exited, 200 fatal.",
		gauge, func(p *supervisor.ProgramStats) float64 { return float64(p.State) })
	program("up", "1 while the program is RUNNING.", gauge, func(p *supervisor.ProgramStats) float64 { return truth(p.State == supervisor.Running) })
	program("ready", "1 while the program is ready: its readiness check passes, or it runs and has none.", gauge, func(p *supervisor.ProgramStats) float64 { return truth(p.Ready) })
	program("restarts_total", "Starts of the program that nobody asked for.", counter, func(p *supervisor.ProgramStats) float64 { return float64(p.Restarts) })
	program("liveness_restarts_total", "Restarts of the program that its liveness check caused.", counter, func(p *supervisor.ProgramStats) float64 { return float64(p.LivenessRestarts) })
	program("start_time_seconds", "When the program was started last, in Unix time; 0 when it never was.", gauge, func(p *supervisor.ProgramStats) float64 {
		if p.Started.IsZero() {
			return 0
		}
		return float64(p.Started.UnixMilli()) / 1000
	})
	program("exit_status", "Exit status of the program's last end; -1 when a signal ended it.", gauge, func(p *supervisor.ProgramStats) float64 { return float64(p.ExitStatus) })

	count("processes_started_total", "Processes that the agent started.", counter, func() float64 { return float64(a.reaper.Stats().Spawned) })
	count("process_start_failures_total", "Processes that could not be started.", counter, func() float64 { return float64(a.reaper.Stats().SpawnFailures) })
	count("processes_reaped_total", "Ends of processes that the agent had started.", counter, func() float64 { return float64(a.reaper.Stats().Reaped) })
	count("orphans_reaped_total", "Ends of processes that had lost their parent.", counter, func() float64 { return float64(a.reaper.Stats().Orphans) })
	count("output_read_bytes_total", "Bytes of output taken from programs.", counter, func() float64 { return float64(a.hub.Stats().BytesRead) })
	count("output_lost_bytes_total", "Bytes of output that a target did not take.", counter, func() float64 { return float64(a.hub.Stats().BytesLost) })
	count("output_write_errors_total", "Writes of output that failed.", counter, func() float64 { return float64(a.hub.Stats().WriteErrors) })
	count("output_syslog_dropped_total", "Lines that syslog did not take.", counter, func() float64 { return float64(a.hub.Stats().SyslogDropped) })
	count("config_last_reload_successful", "1 unless the last reload of the configuration failed.", gauge, func() float64 {
		_, err := a.reload.last()
		return truth(err == nil)
	})
	count("uptime_seconds", "Time since the agent was started.", gauge, func() float64 { return a.uptime().Seconds() })
	return s
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Describe implements prometheus.Collector.
func (s *state) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range s.descs {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (s *state) Collect(ch chan<- prometheus.Metric) {
	now := s.a.phase.get()
	for i, name := range phaseNames {
		ch <- prometheus.MustNewConstMetric(s.phase, prometheus.GaugeValue, truth(Phase(i) == now), name)
	}
	ch <- prometheus.MustNewConstMetric(s.reloads, prometheus.CounterValue, float64(s.a.reload.good.Load()), "ok")
	ch <- prometheus.MustNewConstMetric(s.reloads, prometheus.CounterValue, float64(s.a.reload.bad.Load()), "failed")
	for _, m := range s.counts {
		ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value())
	}
	items := s.a.prep.items()
	failed := map[[2]string]bool{} // several texts may go to one place
	for _, item := range items {
		key := [2]string{item.Kind, item.Name}
		failed[key] = failed[key] || item.State == itemFailed
	}
	for key, is := range failed {
		ch <- prometheus.MustNewConstMetric(s.failed, prometheus.GaugeValue, truth(is), key[0], key[1])
	}
	for _, item := range items {
		if item.Kind == "hook" && item.State != itemWaiting && item.State != itemSkipped {
			ch <- prometheus.MustNewConstMetric(s.hooks[0], prometheus.GaugeValue, item.Seconds, item.Name)
		}
		if item.Kind == "hook" && item.ExitCode != nil {
			ch <- prometheus.MustNewConstMetric(s.hooks[1], prometheus.GaugeValue, float64(*item.ExitCode), item.Name)
		}
	}
	stats := s.a.current.Load().sup.Stats()
	for i := range stats {
		for _, m := range s.programs {
			ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(&stats[i]), stats[i].Name, stats[i].Group)
		}
	}
}
