//go:build images

package images

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The ways in which platforms run containers. Every value of each is here with every other one of at least one of the
// rest; base and digits have to bear them all.
var modes = []struct {
	name  string
	user  string // "": the image's
	flags []string
}{
	{"plain", "", nil},
	{"root", "0:0", []string{"--init"}},
	{"root without capabilities", "0:0", []string{"--cap-drop", "ALL", "--read-only", "--tmpfs", "/tmp", "--tmpfs", "/run"}},
	{"root read-only on a terminal", "0:0", []string{"--read-only", "--tmpfs", "/tmp", "--tmpfs", "/run", "-it"}},
	{"any user", "4321:4321", []string{"-t"}},
	{"any user, nothing to write to", "4321:4321", []string{"--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"}},
	{"any user on a terminal", "4321:4321", []string{"-it", "--init", "--cap-drop", "ALL", "--tmpfs", "/tmp"}},
	{"limits", "", []string{"--memory", "400m", "--memory-swap", "400m", "--cpus", "1", "--pids-limit", "80", "-i"}},
	{"limits as root", "0:0", []string{"--memory", "400m", "--cpus", "1", "--pids-limit", "80", "--read-only", "--tmpfs", "/tmp", "--tmpfs", "/run", "--init"}},
	{"little memory of its own", "4321:4321", []string{"--shm-size", "1m", "--ulimit", "nofile=1024", "--cap-drop", "ALL", "--tmpfs", "/tmp:size=1m"}},
}

func TestModes(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"base", "digits"} {
		image := build(t, name)
		for _, mode := range modes {
			t.Run(name+" "+mode.name, func(t *testing.T) {
				t.Parallel()
				flags := slices.Clone(mode.flags)
				if mode.user != "" {
					flags = append(flags, "--user", mode.user)
				}
				c := start(t, image, flags...)
				c.ready()
				c.healthy(name)
				c.loggedIn(name, mode.user)
				c.limited(mode.flags)
				if name == "digits" && !(slices.Contains(flags, "--read-only") && !slices.Contains(flags, "--tmpfs")) {
					c.controlled()
				}
				c.noZombies()
				code, took := c.stop(60 * time.Second)
				if code != 0 || took > 30*time.Second {
					t.Errorf("docker stop: exit code %d after %s, want 0", code, took)
				}
			})
		}
	}
}

// healthy asks for everything that an orchestrator asks for, and for a prediction.
func (c *container) healthy(name string) {
	c.t.Helper()
	for path, want := range map[string]string{
		"/livez": "ok", "/readyz": "ok", "/startupz": "ok", "/health": `{"health": "true"}`, "/metrics": `inpod_phase{phase="ready"} 1`,
		"/load": `"draining":false`,
	} {
		if code, body := c.get(9880, path); code != 200 || !strings.Contains(body, want) {
			c.t.Errorf("GET %s: %d %.200q, want 200 with %q", path, code, body, want)
		}
	}
	if name != "digits" {
		return
	}
	if got, err := newClient(c.addr(8080)).predict(seven(c.t)); got != 7 || err != nil {
		c.t.Errorf("a seven is %d, %v", got, err)
	}
}

// loggedIn runs a command over SSH as the agent's own user, also where that one has no name and where there is no shell.
func (c *container) loggedIn(name, user string) {
	c.t.Helper()
	port, login := 2222, "digits"
	switch {
	case user == "0:0" || user == "" && name == "base":
		port, login = 22, "root"
	case user != "":
		login = "4321" // no name in /etc/passwd, or no such file at all
	}
	binary := map[string]string{"base": "/inpod", "digits": "/usr/local/bin/inpod"}[name]
	out, code := c.sshTry(port, login, binary, "version")
	if code != 0 || !strings.HasPrefix(out, "inpod ") {
		c.t.Errorf("ssh %s@… -p %d %s version: exit code %d, %q", login, port, binary, code, out)
	}
	if name != "digits" {
		return
	}
	want := "1000"
	if user != "" {
		want, _, _ = strings.Cut(user, ":")
	}
	if out, code := c.sshTry(port, login, "id", "-u"); code != 0 || out != want {
		c.t.Errorf("ssh … id -u: exit code %d, %q, want %s", code, out, want)
	}
	if out, code := c.sshTry(port, login, "exit 42"); code != 42 {
		c.t.Errorf("ssh … exit 42: exit code %d, %q", code, out)
	}
}

// limited compares what the agent sees with what docker was told.
func (c *container) limited(flags []string) {
	c.t.Helper()
	for flag, metric := range map[string]string{
		"--memory": "inpod_cgroup_memory_limit_bytes", "--cpus": "inpod_cgroup_cpu_limit_cores", "--pids-limit": "inpod_cgroup_pids_limit",
	} {
		i := slices.Index(flags, flag)
		if i < 0 {
			continue
		}
		want := flags[i+1]
		if number, ok := strings.CutSuffix(want, "m"); ok {
			n, _ := strconv.Atoi(number)
			want = strconv.Itoa(n << 20)
		}
		wanted, _ := strconv.ParseFloat(want, 64)
		if got, err := strconv.ParseFloat(c.metric(metric), 64); err != nil || got != wanted {
			c.t.Errorf("%s is %q, want %s", metric, c.metric(metric), want)
		}
	}
}

// controlled uses the control client over the socket, where there is a place for one.
func (c *container) controlled() {
	c.t.Helper()
	// It may be ready before it is RUNNING, which it is after startsecs.
	await(c.t, "RUNNING", func() bool { return strings.Contains(c.status("digits"), "RUNNING") })
	if out := c.ctl("restart", "digits"); !strings.Contains(out, "digits: started") {
		c.t.Errorf("inpod ctl restart digits: %q", out)
	}
	c.ready()
}

// noZombies leaves orphans behind and looks for what nobody reaped.
func (c *container) noZombies() {
	c.t.Helper()
	if out, code := c.try("sh", "-c", "for i in 1 2 3 4 5; do (sleep 0.05 &); done"); code != 0 && !strings.Contains(out, "executable file not found") {
		c.t.Errorf("orphans: exit code %d, %q", code, out)
	}
	last := ""
	await(c.t, "no zombie", func() bool {
		last = must(c.t, "top", c.id, "-eo", "stat,pid,args")
		for line := range strings.Lines(last) {
			if strings.HasPrefix(line, "Z") || strings.Contains(line, "sleep 0.05") {
				return false
			}
		}
		return true
	})
}

// A person runs a container in the foreground and presses Ctrl-C.
func TestTerminal(t *testing.T) {
	t.Parallel()
	image := build(t, "digits")
	name := fmt.Sprintf("inpod-e2e-tty-%d", time.Now().UnixNano())
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	// script(1) gives docker a terminal; the byte 3 is what the key sends.
	line := fmt.Sprintf("%s run --rm -it --label %s --name %s %s", lab.docker, mark(), name, image)
	cmd := exec.CommandContext(ctx, "script", "-qefc", line, filepath.Join(t.TempDir(), "typescript"))
	keys, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	screen, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var seen strings.Builder
	buf, pressed := make([]byte, 4096), false
	for {
		n, err := screen.Read(buf)
		seen.Write(buf[:n])
		if !pressed && strings.Contains(seen.String(), `"to":"ready"`) {
			pressed = true
			if _, err := keys.Write([]byte{3}); err != nil {
				t.Error(err)
			}
		}
		if err != nil {
			break
		}
	}
	if err := cmd.Wait(); err != nil || !pressed {
		t.Errorf("Ctrl-C pressed: %v; docker run: %v, want exit code 0\n%s", pressed, err, tail(seen.String(), 30))
	}
	if !strings.Contains(seen.String(), `"msg":"ended","code":0`) {
		t.Errorf("the agent did not end by itself:\n%s", tail(seen.String(), 30))
	}
}
