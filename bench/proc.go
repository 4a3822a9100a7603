package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/inpod/inpod/e2e/lab"
	"golang.org/x/sys/unix"
)

// monotonic is the kernel's clock: processes can compare what they read from it.
func monotonic() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // cannot fail with a good address
	return time.Duration(ts.Nano())
}

// memory is what a process holds, in bytes.
type memory struct {
	rss, peak, private float64
	pss                float64 // what is shared counts as its share
}

func memoryOf(pid int) (memory, error) {
	var m memory
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return m, err
	}
	rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return m, err
	}
	m.rss, m.peak = kilobytes(status, "VmRSS:"), kilobytes(status, "VmHWM:")
	m.pss = kilobytes(rollup, "Pss:")
	m.private = kilobytes(rollup, "Private_Clean:") + kilobytes(rollup, "Private_Dirty:")
	return m, nil
}

// kilobytes finds a "Name:  123 kB" line and returns bytes.
func kilobytes(data []byte, name string) float64 {
	for l := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(l, name); ok {
			n, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return n * 1024
		}
	}
	return 0
}

// switches counts the context switches of all threads so far.
func switches(pid int) float64 {
	n := 0.0
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			continue // the thread has ended
		}
		for l := range strings.Lines(string(data)) {
			if k, v, ok := strings.Cut(l, ":"); ok && strings.HasSuffix(k, "ctxt_switches") {
				x, _ := strconv.ParseFloat(strings.TrimSpace(v), 64)
				n += x
			}
		}
	}
	return n
}

// startTime is when a process was forked, in ticks of 10 ms since boot, and its name, which an exec sets.
func startTime(pid int) (time.Duration, string) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, ""
	}
	from, to := bytes.IndexByte(data, '('), bytes.LastIndexByte(data, ')')
	n, _ := strconv.ParseInt(strings.Fields(string(data[to+1:]))[19], 10, 64)
	return time.Duration(n) * 10 * time.Millisecond, string(data[from+1 : to])
}

// machineTime is what all processors have done since boot, and how long they have been there.
func machineTime() (busy, whole time.Duration) {
	data, _ := os.ReadFile("/proc/stat") // absent: nothing is known of others
	first, _, _ := strings.Cut(string(data), "\n")
	for i, field := range strings.Fields(first) {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil || i > 8 { // the name; guests are part of the user's time
			continue
		}
		d := time.Duration(n) * 10 * time.Millisecond
		whole += d
		if i != 4 && i != 5 { // idle, waiting for a disk
			busy += d
		}
	}
	return busy, whole
}

// programs returns the started programs below d, by the name their exec gave them, and the last one's start.
func programs(d *lab.Daemon, name string) (n int, last time.Duration) {
	for _, pid := range d.Leftovers() {
		if at, comm := startTime(pid); comm == name {
			n, last = n+1, max(last, at)
		}
	}
	return n, last
}

// samples are repeats of one figure by peer.
type samples map[string][]float64

func (s samples) add(name string, v float64) { s[name] = append(s[name], v) }

// at returns the quantile of every peer: 0.5 is the median.
func (s samples) at(q float64) map[string]float64 {
	out := map[string]float64{}
	for name, all := range s {
		sorted := slices.Sorted(slices.Values(all))
		out[name] = sorted[int(q*float64(len(sorted)-1)+0.5)]
	}
	return out
}

func (s samples) median() map[string]float64 { return s.at(0.5) }
