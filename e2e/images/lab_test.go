//go:build images

package images

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// patience is how long a test waits for what must come. A busy machine may need long; only a failure takes all of it.
const patience = 3 * time.Minute

// docker runs the client and returns its standard output without the last newline; an error holds what it said.
func docker(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	var out, said bytes.Buffer
	cmd := exec.CommandContext(ctx, lab.docker, args...)
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(said.String()))
	}
	return strings.TrimSuffix(out.String(), "\n"), nil
}

// must is docker for what has to work.
func must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := docker(args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// container is one that start made. It is removed when its test ends.
type container struct {
	t  *testing.T
	id string
	ip string // its own, on the bridge: no port is published
}

// start runs the image in the background: flags of docker run, then, after "--", the command. The key of the lab may
// log in by SSH as the agent's own user; flags come later than that and win.
func start(t *testing.T, image string, flags ...string) *container {
	t.Helper()
	c := create(t, image, flags...)
	must(t, "start", c.id)
	c.findIP()
	return c
}

// create is start without the start.
func create(t *testing.T, image string, flags ...string) *container {
	t.Helper()
	public, err := os.ReadFile(lab.key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	var command []string
	if i := slices.Index(flags, "--"); i >= 0 {
		flags, command = flags[:i], flags[i+1:]
	}
	args := []string{"create", "--label", mark(), "-e", "INPOD_AUTHORIZED_KEYS=" + strings.TrimSpace(string(public))}
	args = slices.Concat(args, flags, []string{image}, command)
	c := &container{t: t, id: must(t, args...)}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s: the end of the log of a container of %s:\n%s", t.Name(), image, tail(c.logs(), 60))
		}
		if _, err := docker("rm", "-f", "-v", c.id); err != nil {
			t.Errorf("cannot clean up: %v", err)
		}
	})
	return c
}

func (c *container) findIP() {
	c.t.Helper()
	c.ip = must(c.t, "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", c.id)
}

// restart starts a container again that has ended.
func (c *container) restart() {
	c.t.Helper()
	must(c.t, "start", c.id)
	c.findIP()
}

// addr is the address of a port of the container.
func (c *container) addr(port int) string { return net.JoinHostPort(c.ip, strconv.Itoa(port)) }

// url is http:// and the address, and the path.
func (c *container) url(port int, path string) string { return "http://" + c.addr(port) + path }

// inspect is a field by Go template.
func (c *container) inspect(format string) string {
	c.t.Helper()
	return must(c.t, "inspect", "-f", format, c.id)
}

func (c *container) running() bool { return c.inspect("{{.State.Running}}") == "true" }

// exec runs a command in the container as its user; it has to succeed.
func (c *container) exec(args ...string) string {
	c.t.Helper()
	out, code := c.try(args...)
	if code != 0 {
		c.t.Fatalf("%q in the container: exit code %d\n%s", args, code, out)
	}
	return out
}

// try is exec of what may fail: both outputs and the exit code. The first arguments may be flags of docker exec.
func (c *container) try(args ...string) (string, int) {
	c.t.Helper()
	split := 0
	for split < len(args) && strings.HasPrefix(args[split], "-") { // flags as --user=0, without a space
		split++
	}
	line := slices.Concat([]string{"exec"}, args[:split], []string{c.id}, args[split:])
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, lab.docker, line...).CombinedOutput()
	return strings.TrimSuffix(string(out), "\n"), exitCode(c.t, err)
}

func exitCode(t *testing.T, err error) int {
	t.Helper()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() >= 0 {
		return exit.ExitCode()
	}
	if err != nil {
		t.Fatal(err)
	}
	return 0
}

// ctl is inpod ctl; its exit code tells of stopped programs, as supervisorctl's does.
func (c *container) ctl(args ...string) string {
	c.t.Helper()
	out, _ := c.try(append([]string{"inpod", "ctl"}, args...)...)
	return out
}

// copyIn is docker cp.
func (c *container) copyIn(from, to string) { c.t.Helper(); must(c.t, "cp", from, c.id+":"+to) }

// logs are both outputs of the container so far.
func (c *container) logs() string {
	out, err := exec.Command(lab.docker, "logs", c.id).CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%s(cannot read the log: %v)", out, err)
	}
	return string(out)
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// stop is docker stop with so much time; it returns the exit code of PID 1 and how long it took.
func (c *container) stop(limit time.Duration) (code int, took time.Duration) {
	c.t.Helper()
	began := time.Now()
	must(c.t, "stop", "-t", strconv.Itoa(int(limit.Seconds())), c.id)
	took = time.Since(began)
	return c.code(), took
}

// wait is for a container that ends by itself.
func (c *container) wait() int {
	c.t.Helper()
	await(c.t, "the end of the container", func() bool { return !c.running() })
	return c.code()
}

func (c *container) code() int {
	c.t.Helper()
	code, err := strconv.Atoi(c.inspect("{{.State.ExitCode}}"))
	if err != nil {
		c.t.Fatal(err)
	}
	return code
}

// await calls ok until it returns true, and fails the test when that takes too long.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("%s: did not come within %s", what, patience)
		}
		<-tick.C
	}
}

// ready waits until /readyz says 200. It fails at once when the container ends.
func (c *container) ready() {
	c.t.Helper()
	last := ""
	for end := time.Now().Add(patience); ; {
		code, body := c.ask(http.MethodGet, c.url(9880, "/readyz?verbose"), nil, "")
		if code == http.StatusOK {
			return
		}
		last = body
		if !c.running() {
			c.t.Fatalf("the container ended with %d before it was ready", c.code())
		}
		if time.Now().After(end) {
			c.t.Fatalf("not ready after %s: %s", patience, last)
		}
		<-time.After(50 * time.Millisecond)
	}
}

// get asks a port of the container; code 0 means that there was no answer, and the body is then the error.
func (c *container) get(port int, path string) (code int, body string) {
	return c.ask(http.MethodGet, c.url(port, path), nil, "")
}

func (c *container) ask(method, url string, body io.Reader, contentType string) (int, string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return 0, err.Error()
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(data)
}

// metric is the value of a line of /metrics that begins with name and its labels as written there; "" when absent.
func (c *container) metric(name string) string {
	c.t.Helper()
	_, body := c.get(9880, "/metrics")
	for line := range strings.Lines(body) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

// sshArgs are the arguments of ssh, scp (with -P) and sftp that log in to the container with the lab's key.
func (c *container) sshArgs() []string {
	return []string{
		"-F", "/dev/null", "-i", lab.key, "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
		"-o", "LogLevel=ERROR", "-o", "BatchMode=yes", "-o", "ConnectTimeout=20",
	}
}

// sshTry runs a command over SSH on a port: what it printed, and the exit code.
func (c *container) sshTry(port int, user string, command ...string) (string, int) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	args := slices.Concat(c.sshArgs(), []string{"-p", strconv.Itoa(port), user + "@" + c.ip}, command)
	out, err := exec.CommandContext(ctx, "ssh", args...).CombinedOutput()
	return strings.TrimSuffix(string(out), "\n"), exitCode(c.t, err)
}

// ssh is sshTry on port 22 of what has to succeed.
func (c *container) ssh(user string, command ...string) string {
	c.t.Helper()
	out, code := c.sshTry(22, user, command...)
	if code != 0 {
		c.t.Fatalf("ssh %s %q: exit code %d\n%s", user, command, code, out)
	}
	return out
}

// volume makes one that is removed with the test.
func volume(t *testing.T) string {
	t.Helper()
	name := must(t, "volume", "create", "--label", mark())
	// Cleanups run last in, first out: the containers that use it come later and are gone by then.
	t.Cleanup(func() {
		if _, err := docker("volume", "rm", "-f", name); err != nil {
			t.Errorf("cannot clean up: %v", err)
		}
	})
	return name
}

// network makes an internal one, for containers that must reach each other and nothing else; start takes it with
// --network.
func network(t *testing.T) string {
	t.Helper()
	name := "inpod-e2e-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	must(t, "network", "create", "--internal", "--label", mark(), name)
	t.Cleanup(func() {
		if _, err := docker("network", "rm", name); err != nil {
			t.Errorf("cannot clean up: %v", err)
		}
	})
	return name
}

// verify runs images/NAME/test, the image's verification document, and shows what it says.
func verify(t *testing.T, name, image string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, lab.root+"/images/"+name+"/test", image)
	cmd.Env = append(os.Environ(), "DOCKER="+lab.docker, "LABEL="+mark())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("images/%s/test: %v\n%s", name, err, out)
	}
	t.Logf("images/%s/test:\n%s", name, out)
}
