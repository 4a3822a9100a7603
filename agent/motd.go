package agent

import (
	"bufio"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/inpod/inpod/metrics"
	"golang.org/x/sys/unix"
)

// motd returns what makes the text that a terminal shows after login: what this container may use, and not what the
// machine has.
func motd() func() string {
	look := withinTime(func() []disk {
		mounts, _ := os.ReadFile("/proc/self/mounts")
		return disks(string(mounts))
	}, diskTime)
	return func() string {
		self, _ := os.ReadFile("/proc/self/cgroup") // absent: the root is read
		u := metrics.ReadCgroup(metrics.CgroupRoot, string(self))
		gpus, _ := filepath.Glob("/proc/driver/nvidia/gpus/*/information") // the pattern is good
		return motdText(u, hostMemory(), gpuNames(gpus), look())
	}
}

// diskTime is how long a login waits for the disks. A file system whose server is gone (NFS, FUSE) does not answer, and whoever
// logs in may want to see to that.
const diskTime = time.Second

// withinTime returns f with a limit: nothing is what a caller gets who has waited so long, or who comes while a call that
// took longer is not over.
func withinTime[T any](f func() []T, limit time.Duration) func() []T {
	free := make(chan struct{}, 1)
	free <- struct{}{}
	return func() []T {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		select {
		case <-free:
		case <-timer.C:
			return nil
		}
		done := make(chan []T, 1)
		go func() {
			list := f()
			free <- struct{}{}
			done <- list
		}()
		select {
		case list := <-done:
			return list
		case <-timer.C:
		}
		select {
		case list := <-done: // both at once, on a busy machine
			return list
		default:
			return nil
		}
	}
}

// disk is a mounted file system with room for files.
type disk struct {
	path        string
	size, avail uint64 // bytes
}

func motdText(u metrics.Usage, machine float64, gpus []string, disks []disk) string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-7s %s\n", name, fmt.Sprintf(format, args...))
	}
	b.WriteString("\n")
	if limited(u.CPULimit) {
		line("CPU", "%s cores", number(u.CPULimit))
	} else {
		line("CPU", "%d cores, not limited", cores())
	}
	switch {
	case limited(u.MemoryLimit) && !math.IsNaN(u.MemoryWorkingSet):
		line("Memory", "%s, %s in use", size(u.MemoryLimit), size(u.MemoryWorkingSet))
	case limited(u.MemoryLimit):
		line("Memory", "%s", size(u.MemoryLimit))
	default:
		line("Memory", "%s, not limited", size(machine))
	}
	for _, name := range slices.Compact(slices.Sorted(slices.Values(gpus))) {
		n := 0
		for _, g := range gpus {
			if g == name {
				n++
			}
		}
		line("GPU", "%s × %d", name, n)
	}
	for i, d := range disks {
		name := ""
		if i == 0 {
			name = "Disks"
		}
		used := 0.0
		if d.size > 0 {
			used = 100 * float64(d.size-d.avail) / float64(d.size)
		}
		line(name, "%-24s %s, %.0f %% in use", d.path, size(float64(d.size)), used)
	}
	b.WriteString("\n")
	return b.String()
}

func limited(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) && v > 0 }

// cores is how many processors this process may run on.
func cores() int {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return 1
	}
	return set.Count()
}

func hostMemory() float64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return math.NaN()
	}
	return float64(info.Totalram) * float64(info.Unit)
}

func number(v float64) string {
	return strings.TrimSuffix(strings.TrimSuffix(fmt.Sprintf("%.1f", v), "0"), ".")
}

// size writes bytes as Kubernetes does.
func size(v float64) string {
	if math.IsNaN(v) {
		return "unknown"
	}
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	i := 0
	for v >= 1024 && i < len(units)-1 {
		v /= 1024
		i++
	}
	return number(v) + " " + units[i]
}

// gpuNames reads the models of NVIDIA's GPUs as the driver shows them to this container; nvidia-smi would take a second.
func gpuNames(files []string) []string {
	var names []string
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			continue
		}
		for sc := bufio.NewScanner(f); sc.Scan(); {
			if v, ok := strings.CutPrefix(sc.Text(), "Model:"); ok {
				names = append(names, strings.TrimSpace(v))
			}
		}
		_ = f.Close()
	}
	if len(names) == 0 {
		// No /proc of the driver: the devices tell how many.
		devices, _ := filepath.Glob("/dev/nvidia[0-9]*") // the pattern is good
		for range devices {
			names = append(names, "NVIDIA")
		}
	}
	return names
}

const (
	mostDisks = 10
	leastDisk = 1 << 20
)

// disks are the file systems of /proc/self/mounts that hold a user's files: the root and what is mounted into the
// container. Files that Kubernetes and Docker mount one by one are not.
func disks(mounts string) []disk {
	var list []disk
	for line := range strings.Lines(mounts) {
		f := strings.Fields(line)
		if len(f) < 3 || !holdsFiles(f[1], f[2]) || len(list) == mostDisks {
			continue
		}
		path := unescapeMount(f[1])
		var st unix.Statfs_t
		var dir unix.Stat_t
		if unix.Stat(path, &dir) != nil || dir.Mode&unix.S_IFMT != unix.S_IFDIR || unix.Statfs(path, &st) != nil || st.Blocks == 0 {
			continue
		}
		d := disk{path, st.Blocks * uint64(st.Bsize), st.Bavail * uint64(st.Bsize)}
		if d.size < leastDisk || slices.ContainsFunc(list, func(o disk) bool { return o.path == path }) {
			continue // too small for files, or mounted over
		}
		list = append(list, d)
	}
	return list
}

func holdsFiles(path, kind string) bool {
	if path == "/dev/shm" {
		return true
	}
	for _, below := range []string{"/proc", "/sys", "/dev", "/run", "/etc"} {
		if path == below || strings.HasPrefix(path, below+"/") {
			return false
		}
	}
	switch kind {
	case "proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue", "tracefs", "debugfs", "securityfs", "bpf", "pstore", "nsfs", "binfmt_misc", "autofs", "squashfs":
		return false
	}
	return true
}

// unescapeMount undoes getmntent(3)'s octal escapes.
func unescapeMount(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
