package metrics

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestCgroupMetrics(t *testing.T) {
	c := NewCgroup(filepath.Join("testdata", "v2-unlimited"), "/dev/null")
	err := testutil.CollectAndCompare(c, strings.NewReader(`
# HELP inpod_cgroup_cpu_limit_cores CPU cores that the container may use; +Inf when it is not limited.
# TYPE inpod_cgroup_cpu_limit_cores gauge
inpod_cgroup_cpu_limit_cores +Inf
# HELP inpod_cgroup_memory_limit_bytes Memory that the container may use; +Inf when it is not limited.
# TYPE inpod_cgroup_memory_limit_bytes gauge
inpod_cgroup_memory_limit_bytes +Inf
# HELP inpod_cgroup_memory_used_bytes Memory that the container uses, its page cache included.
# TYPE inpod_cgroup_memory_used_bytes gauge
inpod_cgroup_memory_used_bytes 5
# HELP inpod_cgroup_memory_working_set_bytes Memory that the container uses without inactive file pages; what the kubelet looks at.
# TYPE inpod_cgroup_memory_working_set_bytes gauge
inpod_cgroup_memory_working_set_bytes 5
# HELP inpod_cgroup_version Version of the cgroup hierarchy that was read; 0 when there is none.
# TYPE inpod_cgroup_version gauge
inpod_cgroup_version 2
`))
	if err != nil {
		t.Error(err)
	}
}

func TestNamesAndHelpFollowTheRules(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(NewCgroup(CgroupRoot, "/proc/self/cgroup"), NewPrograms("/proc", func() []Program {
		return []Program{{"web", "web", os.Getpid()}, {"stopped", "web", 0}, {"gone", "web", 1 << 30}}
	}))
	problems, err := testutil.GatherAndLint(reg)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	for _, name := range []string{"inpod_program_cpu_seconds_total", "inpod_program_memory_rss_bytes", "inpod_program_open_fds", "inpod_program_processes"} {
		if n, err := testutil.GatherAndCount(reg, name); n != 1 || err != nil {
			t.Errorf("%s: %d series, %v; want the one of the program that runs", name, n, err)
		}
	}
}

// A faked /proc: the program is 10, 11 and 12 are below it, 13 is somebody else's.
func TestProgramsCountWhatIsBelow(t *testing.T) {
	proc := t.TempDir()
	for pid, line := range map[string]string{
		"10": "10 (a) b) S 1 0 0 0 0 0 0 0 0 0 100 50 25 25 0 0 0 0 0 0 3",
		"11": "11 (w) S 10 0 0 0 0 0 0 0 0 0 100 0 0 0 0 0 0 0 0 0 4",
		"12": "12 (w) S 11 0 0 0 0 0 0 0 0 0 0 100 0 0 0 0 0 0 0 0 5",
		"13": "13 (x) S 1 0 0 0 0 0 0 0 0 0 900 0 0 0 0 0 0 0 0 0 9",
	} {
		if err := os.MkdirAll(filepath.Join(proc, pid, "fd", "0"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(proc, pid, "stat"), []byte(line+" 0 0\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c := NewPrograms(proc, func() []Program { return []Program{{"web", "g", 10}} })
	c.page = 1000
	err := testutil.CollectAndCompare(c, strings.NewReader(`
# HELP inpod_program_cpu_seconds_total CPU time of the program and of the processes below it, in seconds; starts again with the program.
# TYPE inpod_program_cpu_seconds_total counter
inpod_program_cpu_seconds_total{group="g",program="web"} 4
# HELP inpod_program_memory_rss_bytes Resident memory of the program and of the processes below it; shared pages count once for each.
# TYPE inpod_program_memory_rss_bytes gauge
inpod_program_memory_rss_bytes{group="g",program="web"} 12000
# HELP inpod_program_open_fds Open file descriptors of the program and of the processes below it.
# TYPE inpod_program_open_fds gauge
inpod_program_open_fds{group="g",program="web"} 3
# HELP inpod_program_processes Processes of the program: itself and those below it.
# TYPE inpod_program_processes gauge
inpod_program_processes{group="g",program="web"} 3
`))
	if err != nil {
		t.Error(err)
	}
}
