package supervisor

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// cgroups gives memory_limit and cpu_limit to programs where the cgroup file system can be written to.
type cgroups struct {
	log  *slog.Logger
	root string // "/sys/fs/cgroup"

	once sync.Once // for the one warning
}

// cgroup is what was made for one life of a program: one directory in version 2, one for each controller in version 1.
type cgroup struct{ dirs []string }

func newCgroups(log *slog.Logger) *cgroups { return &cgroups{log: log, root: "/sys/fs/cgroup"} }

// limit puts the process into a cgroup with the program's limits. Where that cannot be, it runs without them.
func (c *cgroups) limit(p *process, pid int) *cgroup {
	if p.cfg.MemoryLimit <= 0 && p.cfg.CPULimit <= 0 {
		return nil
	}
	g, err := c.make(fmt.Sprintf("inpod-%d/%s-%s-%d", os.Getpid(), p.cfg.Group, p.cfg.Name, pid), p.cfg.MemoryLimit, p.cfg.CPULimit, pid)
	if err != nil {
		c.once.Do(func() {
			c.log.Warn("memory_limit and cpu_limit have no effect: no writable cgroup", "program", p.cfg.Name, "error", err)
		})
		g.remove()
		return nil
	}
	return g
}

// cpuPeriod is the kernel's default scheduling period, in microseconds.
const cpuPeriod = 100_000

func (c *cgroups) make(name string, memory int64, cpu float64, pid int) (*cgroup, error) {
	g := &cgroup{}
	quota := strconv.FormatInt(max(int64(cpu*cpuPeriod), 1000), 10)
	if data, err := os.ReadFile(filepath.Join(c.root, "cgroup.controllers")); err == nil {
		return g, c.makeV2(g, strings.Fields(string(data)), name, memory, cpu, quota, pid)
	}
	var errs []error
	if memory > 0 {
		errs = append(errs, g.enter(filepath.Join(c.root, "memory", name), pid, "memory.limit_in_bytes", strconv.FormatInt(memory, 10)))
	}
	if cpu > 0 {
		errs = append(errs, g.enter(filepath.Join(c.root, "cpu", name), pid, "cpu.cfs_period_us", strconv.Itoa(cpuPeriod), "cpu.cfs_quota_us", quota))
	}
	return g, errors.Join(errs...)
}

func (c *cgroups) makeV2(g *cgroup, controllers []string, name string, memory int64, cpu float64, quota string, pid int) error {
	var files []string
	enable := func(controller, file, value string) {
		files = append(files, file, value)
		for _, have := range controllers {
			if have == controller {
				// A controller has to be handed down at each level; where that is refused, writing the limit fails.
				_ = write(filepath.Join(c.root, "cgroup.subtree_control"), "+"+controller)
				_ = write(filepath.Join(c.root, filepath.Dir(name), "cgroup.subtree_control"), "+"+controller)
			}
		}
	}
	if err := os.MkdirAll(filepath.Join(c.root, filepath.Dir(name)), 0o755); err != nil {
		return err
	}
	if memory > 0 {
		enable("memory", "memory.max", strconv.FormatInt(memory, 10))
	}
	if cpu > 0 {
		enable("cpu", "cpu.max", fmt.Sprintf("%s %d", quota, cpuPeriod))
	}
	return g.enter(filepath.Join(c.root, name), pid, files...)
}

// enter makes dir, writes the limits (file, value, …) and moves the process there.
func (g *cgroup) enter(dir string, pid int, files ...string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	g.dirs = append(g.dirs, dir)
	for i := 0; i < len(files); i += 2 {
		if err := write(filepath.Join(dir, files[i]), files[i+1]); err != nil {
			return err
		}
	}
	return write(filepath.Join(dir, "cgroup.procs"), strconv.Itoa(pid))
}

// write writes to a file of the cgroup file system; it must exist.
func write(file, value string) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// remove takes the directories away. A daemon that still lives in one keeps it.
func (g *cgroup) remove() {
	if g == nil {
		return
	}
	for _, dir := range g.dirs {
		_ = os.Remove(dir)
		_ = os.Remove(filepath.Dir(dir)) // fails while another program has its limits there
	}
}
