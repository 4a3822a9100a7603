package injector

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
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// TestInjectedPod does by hand what a kubelet would do with an injected pod: the volumes, the init containers, the
// container with its command and environment, as a user without any capability. The server is a real one that knows
// nothing of inpod, and what asks it is outside.
func TestInjectedPod(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("network and mount namespaces need root")
	}
	pod := testPod()
	pod.Annotations = map[string]string{Domain + "drain-delay": "10m", Domain + "drain-deadline": "20m"}
	c := &pod.Spec.Containers[0]
	c.Command = []string{"/usr/bin/python3", "-m", "http.server", "8000", "--directory", "/usr"}
	get := corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/", Port: intstr.FromInt32(8000)}}
	c.ReadinessProbe, c.LivenessProbe = &corev1.Probe{ProbeHandler: get}, &corev1.Probe{ProbeHandler: *get.DeepCopy()}
	injected, _, err := Mutate(t.Context(), pod, Settings{Image: "inpod", RedirectImage: "injector"})
	if err != nil {
		t.Fatal(err)
	}
	in, node := podAndNode(t)
	c = &injected.Spec.Containers[0]
	agent := startContainer(t, in, injected)
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(_ context.Context, network, address string) (conn net.Conn, err error) {
			err = node.in(func() error { conn, err = net.Dial(network, address); return err })
			return conn, err
		},
	}}
	ask := func(port intstr.IntOrString, path string) (int, string) {
		resp, err := client.Get(fmt.Sprintf("http://10.99.0.1:%s%s", port.String(), path))
		if err != nil {
			return 0, err.Error()
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body)
	}
	ready, live := c.ReadinessProbe.HTTPGet, c.LivenessProbe.HTTPGet
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-tick.C {
		code, text := ask(ready.Port, ready.Path)
		if code == http.StatusOK {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the pod does not get ready: %d %s\n%s", code, text, agent.log)
		}
	}
	for range 3 {
		if code, text := ask(intstr.FromInt32(8000), "/"); code != http.StatusOK {
			t.Errorf("the Service's port: %d %s", code, text)
		}
	}
	if code, text := ask(live.Port, live.Path); code != http.StatusOK {
		t.Errorf("the liveness probe: %d %s", code, text)
	}
	// Three requests went through inpod; the liveness probe did not. A request is counted a moment after its answer.
	const want = `inpod_proxy_requests_total{code="2xx",route=":15080/"} 3`
	for deadline := time.Now().Add(time.Minute); ; <-tick.C {
		_, text := ask(intstr.FromInt32(9880), "/metrics")
		if strings.Contains(text, want) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no %s in the metrics:\n%s", want, text)
		}
	}
	if err := unix.Kill(agent.pid, unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for code, text := 0, ""; code != http.StatusServiceUnavailable; <-tick.C {
		if code, text = ask(ready.Port, ready.Path); code == 0 {
			t.Fatalf("readiness during the drain: %s", text)
		}
	}
	if code, text := ask(intstr.FromInt32(8000), "/"); code != http.StatusOK {
		t.Errorf("the Service's port during the drain: %d %s", code, text)
	}
	if err := unix.Kill(agent.pid, unix.SIGTERM); err != nil { // the second one ends the delay
		t.Fatal(err)
	}
	err = agent.cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 128+int(syscall.SIGTERM) {
		t.Errorf("the container ended with %v; want the server's 143\n%s", err, agent.log)
	}
}

type container struct {
	cmd *exec.Cmd
	pid int // of what the container starts
	log *bytes.Buffer
}

// startContainer is the kubelet's part.
func startContainer(t *testing.T, in *netns, pod *corev1.Pod) container {
	t.Helper()
	for _, init := range pod.Spec.InitContainers {
		if init.Name != redirectName {
			continue
		}
		var rules []Rule
		for _, word := range init.Command {
			if r, err := ParseRule(word); err == nil {
				rules = append(rules, r)
			}
		}
		if err := Redirect(rules, in.fd); err != nil {
			t.Fatal(err)
		}
	}
	const script = `set -e
mount -t tmpfs -o mode=755 opt /opt
mkdir -m 777 "$BIN_DIR"
mkdir -p "$RUN_DIR"
mount -t tmpfs -o mode=777 run "$RUN_DIR"
setpriv --reuid 65532 --regid 65532 --clear-groups --inh-caps=-all --bounding-set=-all "$INPOD" install "$BIN_DIR"
mount -o remount,ro opt /opt
exec setpriv --reuid 1000 --regid 1000 --clear-groups --inh-caps=-all --bounding-set=-all "$@"`
	c := pod.Spec.Containers[0]
	args := slices.Concat([]string{"netns", "exec", in.name, "unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", script, "sh"}, c.Command, c.Args)
	got := container{cmd: exec.Command("ip", args...), log: &bytes.Buffer{}}
	got.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "INPOD=" + inpodBinary(t), "BIN_DIR=" + binDir, "RUN_DIR=" + runDir, "KUBERNETES_SERVICE_HOST=10.0.0.1"}
	for _, e := range c.Env {
		got.cmd.Env = append(got.cmd.Env, e.Name+"="+e.Value)
	}
	got.cmd.Stdout, got.cmd.Stderr = got.log, got.log
	if err := got.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if got.cmd.ProcessState == nil {
			_ = got.cmd.Process.Kill()
			_ = got.cmd.Wait()
		}
	})
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-tick.C {
		p := strconv.Itoa(got.cmd.Process.Pid)
		children, err := os.ReadFile(filepath.Join("/proc", p, "task", p, "children"))
		if err == nil {
			got.pid, _ = strconv.Atoi(strings.TrimSpace(string(children)))
		}
		if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", got.pid)); err == nil && exe == binary {
			return got
		}
		if time.Now().After(deadline) {
			t.Fatalf("the container does not start inpod:\n%s", got.log)
		}
	}
}

// inpodBinary is the agent, from where the tests' own run put it or built for this test.
func inpodBinary(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("TEST_BIN_DIR"); dir != "" {
		return filepath.Join(dir, "inpod")
	}
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} { // readable by the container's user too
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "inpod")
	build := exec.Command("go", "build", "-o", file, "github.com/inpod/inpod/cmd/inpod")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("cannot build inpod: %v\n%s", err, out)
	}
	return file
}
