package metrics

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// Program is one supervised program as the collector needs it.
type Program struct {
	Name, Group string
	PID         int // 0 when it does not run
}

// clockTick is USER_HZ, which is 100 on every architecture that Go runs on under Linux (proc(5)).
const clockTick = 100

// Programs collects CPU time, memory and open files of each program and of the processes below it.
type Programs struct {
	list             func() []Program
	proc             string
	page             float64
	cpu, rss, fds, n *prometheus.Desc
}

// NewPrograms collects for what list returns; proc is /proc but in tests.
func NewPrograms(proc string, list func() []Program) *Programs {
	labels := []string{"program", "group"}
	desc := func(name, help string) *prometheus.Desc { return prometheus.NewDesc(name, help, labels, nil) }
	return &Programs{
		list: list, proc: proc, page: float64(os.Getpagesize()),
		cpu: desc("inpod_program_cpu_seconds_total", "CPU time of the program and of the processes below it, in seconds; starts again with the program."),
		rss: desc("inpod_program_memory_rss_bytes", "Resident memory of the program and of the processes below it; shared pages count once for each."),
		fds: desc("inpod_program_open_fds", "Open file descriptors of the program and of the processes below it."),
		n:   desc("inpod_program_processes", "Processes of the program: itself and those below it."),
	}
}

// Describe implements prometheus.Collector.
func (c *Programs) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.cpu
	ch <- c.rss
	ch <- c.fds
	ch <- c.n
}

// stat is what is needed of /proc/PID/stat.
type stat struct {
	ppid  int
	ticks uint64 // of the process and of its children that it has waited for
	pages int64
}

// Collect implements prometheus.Collector. It reads /proc once for all programs.
func (c *Programs) Collect(ch chan<- prometheus.Metric) {
	programs := c.list()
	stats := c.readAll()
	children := make(map[int][]int, len(stats))
	for pid, s := range stats {
		children[s.ppid] = append(children[s.ppid], pid)
	}
	for _, p := range programs {
		if _, ok := stats[p.PID]; p.PID == 0 || !ok {
			continue
		}
		var ticks uint64
		var pages int64
		fds, processes := 0, 0
		fdsSeen := true
		for todo := []int{p.PID}; len(todo) > 0; {
			pid := todo[len(todo)-1]
			todo = append(todo[:len(todo)-1], children[pid]...)
			ticks += stats[pid].ticks
			pages += stats[pid].pages
			processes++
			if n, ok := c.countFDs(pid); ok {
				fds += n
			} else {
				fdsSeen = false
			}
		}
		ch <- prometheus.MustNewConstMetric(c.cpu, prometheus.CounterValue, float64(ticks)/clockTick, p.Name, p.Group)
		ch <- prometheus.MustNewConstMetric(c.rss, prometheus.GaugeValue, float64(pages)*c.page, p.Name, p.Group)
		ch <- prometheus.MustNewConstMetric(c.n, prometheus.GaugeValue, float64(processes), p.Name, p.Group)
		if fdsSeen { // another user's files cannot be counted without CAP_SYS_PTRACE
			ch <- prometheus.MustNewConstMetric(c.fds, prometheus.GaugeValue, float64(fds), p.Name, p.Group)
		}
	}
}

func (c *Programs) readAll() map[int]stat {
	stats := map[int]stat{}
	for _, name := range names(c.proc) {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		b, err := os.ReadFile(filepath.Join(c.proc, name, "stat"))
		if err != nil {
			continue // it has ended meanwhile
		}
		if s, ok := parseStat(b); ok {
			stats[pid] = s
		}
	}
	return stats
}

// parseStat reads /proc/PID/stat (proc(5)). The name, in parentheses, may hold spaces and parentheses.
func parseStat(b []byte) (stat, bool) {
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return stat{}, false
	}
	f := bytes.Fields(b[i+1:]) // f[0] is field 3, the state
	if len(f) < 22 {
		return stat{}, false
	}
	num := func(field int) int64 {
		n, _ := strconv.ParseInt(string(f[field-3]), 10, 64) // the kernel writes numbers
		return n
	}
	return stat{
		ppid:  int(num(4)),
		ticks: uint64(num(14) + num(15) + num(16) + num(17)),
		pages: num(24),
	}, true
}

func (c *Programs) countFDs(pid int) (int, bool) {
	d, err := os.Open(filepath.Join(c.proc, strconv.Itoa(pid), "fd"))
	if err != nil {
		return 0, os.IsNotExist(err)
	}
	defer d.Close()
	list, err := d.Readdirnames(-1)
	return len(list), err == nil
}

func names(dir string) []string {
	d, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer d.Close()
	list, _ := d.Readdirnames(-1) // what was read so far is still right
	return list
}
