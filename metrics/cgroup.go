// Package metrics holds the collectors that belong to no part: the container's cgroup (v1 and v2), the processes of
// each program, the agent itself. All of them read when they are scraped and keep nothing in between.
//
// Enter at NewRegistry, ReadCgroup and NewPrograms. Metrics of programs' states, of routes and of reloads are made
// by the parts that know them.
package metrics

import (
	"bufio"
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// CgroupRoot is where the cgroup file systems are mounted.
const CgroupRoot = "/sys/fs/cgroup"

// unlimitedV1 is the least value that the v1 memory controller means as "no limit": it rounds the largest int64
// down to a page, whose size differs between machines.
const unlimitedV1 = math.MaxInt64 &^ (1<<20 - 1)

// Usage is what the container may use and uses. A value that cannot be read is NaN; a limit that is not there is +Inf.
type Usage struct {
	Version int // 1 or 2; 0 when there is no cgroup to see

	MemoryLimit, MemoryUsed, MemoryWorkingSet float64 // bytes; the working set is without file pages that can go at once
	CPULimit                                  float64 // cores
	CPUSeconds                                float64
	Periods, Throttled, ThrottledSeconds      float64
	PidsLimit, Pids                           float64
	OOMKills                                  float64 // processes that the kernel killed for want of memory
}

// ReadCgroup reads the cgroup of this container below root, which is CgroupRoot but in tests. It knows v2 by the
// file cgroup.controllers, so a hybrid hierarchy is v1. procCgroup is the text of /proc/self/cgroup: where a path in
// it can be seen below root that is the place, otherwise (inside a container the host's path is not there) the root.
func ReadCgroup(root, procCgroup string) Usage {
	nan := math.NaN()
	u := Usage{
		MemoryLimit: nan, MemoryUsed: nan, MemoryWorkingSet: nan, CPULimit: nan, CPUSeconds: nan,
		Periods: nan, Throttled: nan, ThrottledSeconds: nan, PidsLimit: nan, Pids: nan, OOMKills: nan,
	}
	paths := cgroupPaths(procCgroup)
	if _, err := os.Stat(filepath.Join(root, "cgroup.controllers")); err == nil {
		u.Version = 2
		u.readV2(place(root, paths[""]))
		return u
	}
	for _, controller := range []string{"memory", "cpu", "cpuacct", "pids"} {
		for _, dir := range mounts(controller) {
			if base := filepath.Join(root, dir); isDir(base) {
				u.Version = 1
				u.readV1(controller, place(base, paths[controller]))
				break
			}
		}
	}
	return u
}

// OOMKills is Usage.OOMKills alone, for who asks often.
func OOMKills(root, procCgroup string) float64 {
	paths := cgroupPaths(procCgroup)
	if _, err := os.Stat(filepath.Join(root, "cgroup.controllers")); err == nil {
		return oomKillsV2(place(root, paths[""]))
	}
	return oomKillsV1(place(filepath.Join(root, "memory"), paths["memory"]))
}

func oomKillsV2(dir string) float64 { return get(keyed(dir, "memory.events"), "oom_kill") }

func oomKillsV1(dir string) float64 { return get(keyed(dir, "memory.oom_control"), "oom_kill") } // since Linux 4.13

// mounts are the folders in which distributions mount a v1 controller.
func mounts(controller string) []string {
	switch controller {
	case "cpu", "cpuacct":
		return []string{controller, "cpu,cpuacct", "cpuacct,cpu"}
	}
	return []string{controller}
}

func (u *Usage) readV2(dir string) {
	u.MemoryLimit = number(dir, "memory.max")
	u.MemoryUsed = number(dir, "memory.current")
	u.MemoryWorkingSet = u.MemoryUsed - orZero(keyed(dir, "memory.stat")["inactive_file"])
	if quota, period, ok := strings.Cut(text(dir, "cpu.max"), " "); ok {
		u.CPULimit = parse(quota) / parse(period)
	}
	cpu := keyed(dir, "cpu.stat")
	u.CPUSeconds = get(cpu, "usage_usec") / 1e6
	u.Periods, u.Throttled, u.ThrottledSeconds = get(cpu, "nr_periods"), get(cpu, "nr_throttled"), get(cpu, "throttled_usec")/1e6
	u.PidsLimit, u.Pids = number(dir, "pids.max"), number(dir, "pids.current")
	u.OOMKills = oomKillsV2(dir)
}

func (u *Usage) readV1(controller, dir string) {
	switch controller {
	case "memory":
		u.MemoryLimit = number(dir, "memory.limit_in_bytes")
		if u.MemoryLimit >= unlimitedV1 {
			u.MemoryLimit = math.Inf(1)
		}
		u.MemoryUsed = number(dir, "memory.usage_in_bytes")
		u.MemoryWorkingSet = u.MemoryUsed - orZero(keyed(dir, "memory.stat")["total_inactive_file"])
		u.OOMKills = oomKillsV1(dir)
	case "cpu":
		quota := number(dir, "cpu.cfs_quota_us")
		if quota < 0 {
			u.CPULimit = math.Inf(1)
		} else {
			u.CPULimit = quota / number(dir, "cpu.cfs_period_us")
		}
		stat := keyed(dir, "cpu.stat")
		u.Periods, u.Throttled, u.ThrottledSeconds = get(stat, "nr_periods"), get(stat, "nr_throttled"), get(stat, "throttled_time")/1e9
	case "cpuacct":
		u.CPUSeconds = number(dir, "cpuacct.usage") / 1e9
	case "pids":
		u.PidsLimit, u.Pids = number(dir, "pids.max"), number(dir, "pids.current")
	}
}

// cgroupPaths reads /proc/self/cgroup (cgroups(7)): hierarchy:controllers:path. The controller of v2 is "".
func cgroupPaths(s string) map[string]string {
	paths := map[string]string{}
	for line := range strings.Lines(s) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		for _, c := range strings.Split(f[1], ",") {
			paths[c] = f[2]
		}
	}
	return paths
}

func place(base, path string) string {
	if dir := filepath.Join(base, path); path != "" && !strings.Contains(path, "..") && isDir(dir) {
		return dir
	}
	return base
}

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}

func text(dir, name string) string {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func number(dir, name string) float64 { return parse(text(dir, name)) }

// parse reads a number or "max"; anything else is NaN.
func parse(s string) float64 {
	if s == "max" {
		return math.Inf(1)
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return math.NaN()
	}
	return float64(n)
}

// keyed reads a file of "key value" lines.
func keyed(dir, name string) map[string]float64 {
	m := map[string]float64{}
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return m
	}
	sc := bufio.NewScanner(bytes.NewReader(b))
	for sc.Scan() {
		if k, v, ok := strings.Cut(sc.Text(), " "); ok {
			m[k] = parse(v)
		}
	}
	return m
}

func get(m map[string]float64, key string) float64 {
	if v, ok := m[key]; ok {
		return v
	}
	return math.NaN()
}

func orZero(v float64) float64 {
	if math.IsNaN(v) {
		return 0
	}
	return v
}
