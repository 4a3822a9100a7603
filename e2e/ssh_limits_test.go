package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/inpod/inpod/e2e/lab"
)

// What a login shows of the container's limits, by what is mounted at /sys/fs/cgroup.
func TestSSHLimits(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		files       map[string]string // below /sys/fs/cgroup
		cpu, memory string
	}{
		"v2": {map[string]string{
			"cgroup.controllers": "cpu memory", "cpu.max": "150000 100000", "memory.max": "2147483648",
			"memory.current": "1073741824", "memory.stat": "anon 1\ninactive_file 536870912",
		}, `1\.5 cores`, `2 GiB, 512 MiB in use`},
		"v2 without limits": {map[string]string{
			"cgroup.controllers": "cpu memory", "cpu.max": "max 100000", "memory.max": "max", "memory.current": "1", "memory.stat": "",
		}, `\d+ cores, not limited`, `\S+ [GT]iB, not limited`},
		"v1": {map[string]string{
			"cpu,cpuacct/cpu.cfs_quota_us": "50000", "cpu,cpuacct/cpu.cfs_period_us": "100000", "memory/memory.limit_in_bytes": "3221225472",
			"memory/memory.usage_in_bytes": "1073741824", "memory/memory.stat": "total_inactive_file 0",
		}, `0\.5 cores`, `3 GiB, 1 GiB in use`},
		"v1 without limits": {map[string]string{
			"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000", "memory/memory.limit_in_bytes": "9223372036854771712",
			"memory/memory.usage_in_bytes": "1",
		}, `\d+ cores, not limited`, `\S+ [GT]iB, not limited`},
		"no cgroup": {map[string]string{"nothing": ""}, `\d+ cores, not limited`, `\S+ [GT]iB, not limited`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files := map[string]string{}
			for file, text := range tt.files {
				files["cgroup/"+file] = text + "\n"
			}
			s := startSSHAs(t, "", setup{files: files, static: true}, "mount --bind DIR/cgroup /sys/fs/cgroup && ")
			wantMOTD(t, s, tt.cpu, tt.memory)
		})
	}
	t.Run("this machine's", func(t *testing.T) { t.Parallel(); realLimits(t) })
}

// wantMOTD logs in with a terminal.
func wantMOTD(t *testing.T, s *sshSide, cpu, memory string) {
	t.Helper()
	want := regexp.MustCompile(`\r\n  CPU     ` + cpu + `\r\n  Memory  ` + memory + `\r\n(  GPU .*\r\n)*  Disks   /\S* +\S+ [A-Z]iB, \d+ % in use\r\n`)
	login := func() string {
		t.Helper()
		term := openTerminal(t, s.client, s.clientEnv("TERM=xterm"), 24, 80, s.ssh("box")...)
		term.press("echo d''one; exit\r")
		term.untilSeen("done\r\n")
		<-term.done
		return term.screen.String()
	}
	screen := login()
	// A login waits a second for the disks, which may take longer on a busy machine.
	for try := 0; try < 4 && !strings.Contains(screen, "\n  Disks   "); try++ {
		screen = login()
	}
	if !want.MatchString(screen) {
		t.Errorf("got %q, want %s", screen, want)
	}
	s.write("home/.hushlogin", "")
	if screen := login(); strings.Contains(screen, "  Memory  ") {
		t.Errorf("in spite of ~/.hushlogin: %q", screen)
	}
	if out := s.must(t, "", s.ssh("-tt", "box", "echo command")...); out != "command\r\n" {
		t.Errorf("a command gets %q", out)
	}
}

// realLimits puts the agent into a control group that has limits.
func realLimits(t *testing.T) {
	const root = "/sys/fs/cgroup"
	s := prepareSSH(t, "")
	s.write("keys", s.read(t, s.key+".pub"))
	group := filepath.Base(s.dir)
	limits := map[string]string{"cpu/" + group + "/cpu.cfs_quota_us": "80000", "memory/" + group + "/memory.limit_in_bytes": "268435456"}
	if _, err := os.Stat(root + "/cgroup.controllers"); err == nil {
		limits = map[string]string{group + "/cpu.max": "80000 100000", group + "/memory.max": "268435456"}
	}
	enter := ""
	for file, limit := range limits {
		dir := filepath.Join(root, filepath.Dir(file))
		if err := os.Mkdir(dir, 0o755); err != nil && !os.IsExist(err) {
			t.Skipf("no control group can be made here: %v", err)
		}
		t.Cleanup(func() {
			if !lab.Until(patience, func() bool { err := syscall.Rmdir(dir); return err == nil || err == syscall.ENOENT }) {
				t.Errorf("%s stays", dir)
			}
		})
		if err := os.WriteFile(filepath.Join(root, file), []byte(limit), 0); err != nil {
			t.Skipf("no control group with limits can be made here: %v", err)
		}
		if procs := "echo $$ > " + dir + "/cgroup.procs && "; !strings.Contains(enter, procs) {
			enter += procs
		}
	}
	s.beginWith(t, setup{wrap: ownFiles(t, s.dir, enter)})
	if !s.says(`"ssh is on"`) || !s.says(`"made a host key"`, "ed25519") {
		t.Fatal("the agent does not serve ssh")
	}
	wantMOTD(t, s, `0\.8 cores`, `256 MiB, \S+ MiB in use`)
}
