//go:build images

package images

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// What docs/guide/images.md says under "When things go wrong" is tested here, in its order.

// programs is an ini file for a container; start takes what it returns.
func programs(t *testing.T, text string) (flag string) {
	t.Helper()
	file := filepath.Join(lab.dir, strings.ReplaceAll(t.Name(), "/", "-")+".ini")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return "--volume=" + file + ":/etc/inpod/programs/odd.ini:ro"
}

// count is a metric's value as a number, 0 where it is not there.
func (c *container) count(name string) float64 {
	c.t.Helper()
	n, _ := strconv.ParseFloat(c.metric(name), 64)
	return n
}

// status is a program's line of inpod ctl status.
func (c *container) status(program string) string {
	c.t.Helper()
	for line := range strings.Lines(c.ctl("status")) {
		if strings.HasPrefix(line, program+" ") {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

func (c *container) logged(want string) {
	c.t.Helper()
	re := regexp.MustCompile(want)
	await(c.t, "in the log: "+want, func() bool { return re.MatchString(c.logs()) })
}

var pidOf = regexp.MustCompile(`pid ([0-9]+)`)

// kill -9 of every program in turn, the agent's and those below: each comes back, and the pod lives.
func TestOddKilled(t *testing.T) {
	t.Parallel()
	c := start(t, build(t, "digits"), programs(t, "[program:other]\ncommand=/bin/sh -c \"exec sleep infinity\"\n"))
	c.ready()
	for round, program := range []string{"digits", "other", "digits"} {
		await(t, program+" RUNNING", func() bool { return strings.Contains(c.status(program), "RUNNING") })
		before := c.count(`inpod_program_restarts_total{group="` + program + `",program="` + program + `"}`)
		pid := pidOf.FindStringSubmatch(c.status(program))
		if pid == nil {
			t.Fatalf("round %d: %q", round, c.status(program))
		}
		c.exec("sh", "-c", "kill -9 "+pid[1])
		if code, _ := c.get(9880, "/livez"); code != http.StatusOK {
			t.Errorf("round %d: GET /livez: %d; a dead program must not kill the pod", round, code)
		}
		await(t, program+" is back", func() bool {
			line := c.status(program)
			return strings.Contains(line, "RUNNING") && !strings.Contains(line, "pid "+pid[1]+",")
		})
		c.ready()
		if after := c.count(`inpod_program_restarts_total{group="` + program + `",program="` + program + `"}`); after != before+1 {
			t.Errorf("round %d: inpod_program_restarts_total went from %v to %v, want one more", round, before, after)
		}
		c.logged(`"msg":"exited".*"program":"` + program + `","detail":"terminated by SIGKILL; not expected"`)
	}
	// A worker below the server is the server's to start again; nothing is left over of the dead ones.
	pid := pidOf.FindStringSubmatch(c.status("digits"))[1]
	await(t, "a worker to kill", func() bool { // the one that answered may have been of the server before
		_, code := c.try("sh", "-c", "kill -9 $(cut -d' ' -f1 /proc/"+pid+"/task/"+pid+"/children)")
		return code == 0
	})
	await(t, "a prediction", func() bool {
		digit, err := newClient(c.addr(8080)).predict(seven(t))
		return digit == 7 && err == nil
	})
	c.noZombies()
}

// The kernel kills what took too much; the agent and the other programs go on.
func TestOddOutOfMemory(t *testing.T) {
	t.Parallel()
	hog := `[program:hog]
command=/usr/bin/python3 -c "x = bytearray(900000000)"
autostart=false
autorestart=false
startsecs=0
`
	c := start(t, build(t, "digits"), programs(t, hog), "--memory", "250m", "--memory-swap", "250m")
	c.ready()
	c.ctl("start", "hog")
	await(t, "the end of the hog", func() bool { return strings.Contains(c.status("hog"), "EXITED") })
	c.logged(`"msg":"exited".*"program":"hog","detail":"terminated by SIGKILL; not expected"`)
	if n := c.count("inpod_cgroup_oom_kills_total"); n != 1 {
		t.Errorf("inpod_cgroup_oom_kills_total is %v, want 1", n)
	}
	await(t, "a line that says why", func() bool {
		return strings.Contains(c.logs(), `"msg":"out of memory: the kernel killed processes of this container"`)
	})
	if got := c.metric(`inpod_program_exit_status{group="hog",program="hog"}`); got != "-1" {
		t.Errorf("inpod_program_exit_status is %q, want -1", got)
	}
	c.ready()
	if digit, err := newClient(c.addr(8080)).predict(seven(t)); digit != 7 || err != nil {
		t.Errorf("a seven is %d, %v", digit, err)
	}
}

// A program's log file is on a disk that is full: the program goes on, its output is read on and counted as lost, and
// the file is written again as soon as there is room.
func TestOddFullDisk(t *testing.T) {
	t.Parallel()
	filler := `[program:filler]
command=/bin/sh -c "while :; do echo what fills the disk, line by line, until there is no room for another one; sleep 0.001; done"
stdout_logfile=/data/filler.log
stdout_logfile_maxbytes=0
`
	c := start(t, build(t, "digits"), programs(t, filler), "--tmpfs", "/data:size=64k,mode=1777")
	c.ready()
	await(t, "lost output", func() bool { return c.count("inpod_output_lost_bytes_total") > 0 })
	c.logged(`"msg":"program output cannot be written","program":"filler".*no space left on device`)
	await(t, "RUNNING", func() bool { return strings.Contains(c.status("filler"), "RUNNING") })
	if n := c.count("inpod_output_write_errors_total"); n == 0 {
		t.Error("inpod_output_write_errors_total is 0")
	}
	if n := strings.Count(c.logs(), "program output cannot be written"); n > 20 {
		t.Errorf("%d lines of the log about the same disk", n)
	}
	c.ready()
	c.ctl("clear", "filler")
	await(t, "new lines", func() bool {
		out, _ := c.try("sh", "-c", "wc -c </data/filler.log")
		n, _ := strconv.Atoi(out)
		return n > 0
	})
	if code, took := c.stop(60 * time.Second); code != 0 {
		t.Errorf("docker stop: exit code %d after %s", code, took)
	}
}

// A volume that should be there is not: what needs it says so, everything else works.
func TestOddMissingVolume(t *testing.T) {
	t.Parallel()
	image := build(t, "digits")
	t.Run("a program's directory", func(t *testing.T) {
		t.Parallel()
		lost := "[program:lost]\ncommand=/bin/sleep infinity\ndirectory=/missing/volume\nstartretries=1\n"
		c := start(t, image, programs(t, lost))
		await(t, "FATAL", func() bool { return strings.Contains(c.status("lost"), "FATAL") })
		c.logged(`"program":"lost".*couldn't chdir to /missing/volume: ENOENT`)
		if got := c.metric(`inpod_program_state{group="lost",program="lost"}`); got != "200" {
			t.Errorf("inpod_program_state is %q, want 200 (FATAL)", got)
		}
		if n := c.count("inpod_process_start_failures_total"); n == 0 {
			t.Error("inpod_process_start_failures_total is 0")
		}
		c.ready() // the model server does not need it
	})
	t.Run("the place of host keys", func(t *testing.T) {
		t.Parallel()
		c := start(t, image, "--read-only", "--tmpfs", "/tmp", "--tmpfs", "/run")
		c.ready()
		c.logged(`"level":"WARN","msg":"cannot keep a host key`)
		if out, code := c.sshTry(2222, "digits", "echo in"); code != 0 || out != "in" {
			t.Errorf("ssh: exit code %d, %q", code, out)
		}
	})
	t.Run("the settings", func(t *testing.T) {
		t.Parallel()
		c := start(t, image, "-e", "INPOD_CONFIG=/mnt/config/inpod.yaml")
		if code := c.wait(); code != 2 {
			t.Errorf("exit code %d, want 2", code)
		}
		c.logged(`/mnt/config/inpod.yaml.*no such file`)
	})
	t.Run("one of somebody else", func(t *testing.T) {
		t.Parallel()
		// Readable by root only, as a volume of another user is.
		c := start(t, image, "--tmpfs", "/etc/inpod/ssh:mode=0700,uid=0", "--tmpfs", "/run")
		c.ready()
		c.logged(`"msg":"cannot use a host key; one is made that lasts until the agent ends".*permission denied`)
	})
}
