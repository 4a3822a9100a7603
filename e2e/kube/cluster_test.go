//go:build kube

package kube

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// namespace is a namespace of one test.
type namespace struct {
	t    *testing.T
	name string
}

var namespaces atomic.Int64

// newNamespace makes a namespace, which is gone when the test has ended. Labels are written KEY=VALUE.
func newNamespace(t *testing.T, labels ...string) *namespace {
	t.Helper()
	ns := &namespace{t: t, name: fmt.Sprintf("e2e-%d-%d", time.Now().Unix(), namespaces.Add(1))}
	kubectl(t, "create", "namespace", ns.name)
	t.Cleanup(func() {
		if t.Failed() {
			ns.tell()
		}
		kubectl(t, "delete", "namespace", ns.name, "--wait=false")
	})
	if len(labels) > 0 {
		kubectl(t, append([]string{"label", "namespace", ns.name}, labels...)...)
	}
	return ns
}

// tell logs what there is in the namespace, for a test that failed.
func (ns *namespace) tell() {
	for _, args := range [][]string{
		{"get", "all,events", "-o", "wide"},
		{"describe", "pods"},
	} {
		out, err := ns.try("", args...)
		ns.t.Logf("kubectl %s\n%s%v", strings.Join(args, " "), out, err)
	}
	pods, _ := ns.try("", "get", "pods", "-o", "name")
	for pod := range strings.FieldsSeq(pods) {
		out, err := ns.try("", "logs", pod, "--all-containers", "--prefix", "--tail", "60", "--ignore-errors")
		ns.t.Logf("kubectl logs %s\n%s%v", pod, out, err)
	}
}

// try runs kubectl in the namespace.
func (ns *namespace) try(stdin string, args ...string) (string, error) {
	return run(stdin, "kubectl", append([]string{"--namespace", ns.name}, args...)...)
}

// kubectl runs kubectl in the namespace; the test ends where it fails.
func (ns *namespace) kubectl(args ...string) string {
	ns.t.Helper()
	out, err := ns.try("", args...)
	if err != nil {
		ns.t.Fatal(err)
	}
	return out
}

// apply applies a manifest to the namespace, and returns the warnings that kubectl wrote.
func (ns *namespace) apply(manifest string) string {
	ns.t.Helper()
	cmd := exec.Command("kubectl", "--namespace", ns.name, "apply", "-f", "-")
	cmd.Stdin = strings.NewReader(manifest)
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		ns.t.Fatalf("kubectl apply: %v: %s", err, said.String())
	}
	return said.String()
}

// refuse applies a manifest that must be refused, and returns the message.
func (ns *namespace) refuse(manifest string) string {
	ns.t.Helper()
	out, err := ns.try(manifest, "apply", "-f", "-")
	if err == nil {
		ns.t.Fatalf("it was admitted: %s", out)
	}
	return err.Error()
}

// wait waits until a condition holds: wait("pod/a", "condition=Ready").
func (ns *namespace) wait(what, until string) {
	ns.t.Helper()
	ns.kubectl("wait", what, "--for="+until, "--timeout=120s")
}

// rollout waits until a Deployment has all its pods.
func (ns *namespace) rollout(what string) {
	ns.t.Helper()
	ns.kubectl("rollout", "status", what, "--timeout=180s")
}

// get decodes an object.
func (ns *namespace) get(into any, args ...string) {
	ns.t.Helper()
	out := ns.kubectl(append(append([]string{"get"}, args...), "-o", "json")...)
	if err := json.Unmarshal([]byte(out), into); err != nil {
		ns.t.Fatal(err)
	}
}

// field is one field of an object, as kubectl's jsonpath writes it: field("service/digits", ".spec.clusterIP").
func (ns *namespace) field(what, path string) string {
	ns.t.Helper()
	return ns.kubectl("get", what, "-o", "jsonpath={"+path+"}")
}

// forward runs kubectl port-forward until the test has ended, and returns the local port.
func (ns *namespace) forward(what string, port int) string {
	ns.t.Helper()
	cmd := exec.Command("kubectl", "--namespace", ns.name, "port-forward", what, fmt.Sprintf(":%d", port))
	out, err := cmd.StdoutPipe()
	if err != nil {
		ns.t.Fatal(err)
	}
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		ns.t.Fatal(err)
	}
	ended := make(chan struct{})
	ns.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	line, _ := bufio.NewReader(out).ReadString('\n')
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	// Forwarding from 127.0.0.1:40123 -> 2222
	_, rest, ok := strings.Cut(line, "127.0.0.1:")
	if !ok {
		_ = cmd.Process.Kill()
		<-ended
		ns.t.Fatalf("kubectl port-forward %s %d: %q %s", what, port, line, said.String())
	}
	local, _, _ := strings.Cut(rest, " ")
	return local
}

// kubectl runs kubectl for the whole cluster; the test ends where it fails.
func kubectl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := run("", "kubectl", args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// eventually waits until something is so, for what cannot be awaited.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	limit := time.NewTimer(120 * time.Second)
	defer limit.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatalf("not within two minutes: %s", what)
		}
	}
}
