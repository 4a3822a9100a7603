package supervisor

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/inpod/inpod/supervisor/ini"
)

// What a program leaves behind keeps its cgroup as long as it lives, and no longer.
func TestCgroupOfAStoppedProgramIsGone(t *testing.T) {
	root := ""
	for _, dir := range []string{"/sys/fs/cgroup/memory", "/sys/fs/cgroup"} {
		probe := filepath.Join(dir, "inpod-probe-"+itoa(os.Getpid()))
		if os.Mkdir(probe, 0o755) == nil {
			_ = os.Remove(probe)
			root = dir
			break
		}
	}
	if root == "" {
		t.Skip("no cgroup file system that can be written to")
	}
	b := start(t, `
[program:p]
command=/bin/sh -c 'setsid sh -c "trap \"sleep 0.3; exit\" TERM; echo up; while :; do sleep 0.05; done" & wait'
stdout_logfile=DIR/p.log
memory_limit=1GB
startsecs=0
stopwaitsecs=600
`)
	b.eventually("it has a child", func() bool { return b.read("p.log") == "up\n" })
	dir := filepath.Join(root, "inpod-"+itoa(os.Getpid()))
	if list, err := os.ReadDir(dir); err != nil || len(list) == 0 {
		t.Skipf("no memory controller that can be given to a cgroup: %v", err)
	}
	if err := b.StopProcess(b.ctx(), "p", true); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		list, _ := filepath.Glob(dir + "/p-*")
		t.Errorf("after the stop there are %q", list)
	}
}

// fakeCgroup makes what the kernel would: the files of a cgroup. The kernel fills directories as they are made, so
// the program's own has to be there before.
func fakeCgroup(t *testing.T, dir string, files ...string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(dir, f), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCgroupLimits(t *testing.T) {
	program := &process{cfg: &ini.Program{Name: "p", Group: "g", MemoryLimit: 64 << 20, CPULimit: 1.5}}
	name := "inpod-" + itoa(os.Getpid()) + "/g-p-42"
	tests := []struct {
		name string
		make func(t *testing.T, root string)
		want map[string]string
	}{
		{"version 2", func(t *testing.T, root string) {
			fakeCgroup(t, root, "cgroup.subtree_control")
			if err := os.WriteFile(filepath.Join(root, "cgroup.controllers"), []byte("cpuset cpu memory\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			fakeCgroup(t, filepath.Join(root, name), "memory.max", "cpu.max", "cgroup.procs")
		}, map[string]string{name + "/memory.max": "67108864", name + "/cpu.max": "150000 100000", name + "/cgroup.procs": "42"}},
		{"version 1", func(t *testing.T, root string) {
			fakeCgroup(t, filepath.Join(root, "memory", name), "memory.limit_in_bytes", "cgroup.procs")
			fakeCgroup(t, filepath.Join(root, "cpu", name), "cpu.cfs_period_us", "cpu.cfs_quota_us", "cgroup.procs")
		}, map[string]string{
			"memory/" + name + "/memory.limit_in_bytes": "67108864", "memory/" + name + "/cgroup.procs": "42",
			"cpu/" + name + "/cpu.cfs_quota_us": "150000", "cpu/" + name + "/cgroup.procs": "42",
		}},
		{"read-only", func(*testing.T, string) {}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var log bytes.Buffer
			c := newCgroups(slog.New(slog.NewTextHandler(&log, nil)))
			c.root = t.TempDir()
			test.make(t, c.root)
			for range 2 {
				g := c.limit(program, 42)
				if (g != nil) != (test.want != nil) {
					t.Fatalf("got cgroup %v, want one: %v; log: %s", g, test.want != nil, &log)
				}
			}
			for file, want := range test.want {
				if got, err := os.ReadFile(filepath.Join(c.root, file)); err != nil || string(got) != want {
					t.Errorf("%s holds %q (%v), want %q", file, got, err, want)
				}
			}
			warnings := strings.Count(log.String(), "have no effect")
			if want := map[bool]int{true: 1, false: 0}[test.want == nil]; warnings != want {
				t.Errorf("%d warnings, want %d: %s", warnings, want, &log)
			}
		})
	}
}
