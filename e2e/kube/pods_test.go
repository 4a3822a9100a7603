//go:build kube

package kube

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var modes = []string{"wrap", "sidecar"}

// inModes runs a test once for each mode, side by side with all others, in a namespace whose pods end soon.
func inModes(t *testing.T, test func(t *testing.T, mode string, ns *namespace)) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			ns := newNamespace(t)
			soon(ns)
			test(t, mode, ns)
		})
	}
}

// kubectl's own tools see the container as they did without inpod: its output, its files, its standard input.
func TestKubectl(t *testing.T) {
	inModes(t, func(t *testing.T, mode string, ns *namespace) {
		ns.apply(fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: tools, labels: {app: tools, inpod.dev/inject: %s}, annotations: {inpod.dev/port: "8000", inpod.dev/health: "off"}}
spec:
  securityContext: {runAsUser: 1000}
  containers:
  - name: main
    image: inpod-test/digits:plain
    stdin: true
    command: [bash, -c, 'echo the output; echo the errors >&2; while read -r line; do echo "heard $line"; done']
    ports: [{containerPort: 8000}]
`, mode))
		ns.wait("pod/tools", "condition=Ready")
		if got := ns.kubectl("logs", "tools"); !strings.Contains(got, "the output\n") || !strings.Contains(got, "the errors\n") {
			t.Errorf("kubectl logs:\n%s", got)
		}
		if got := ns.kubectl("exec", "tools", "--", "id", "-u"); got != "1000\n" {
			t.Errorf("kubectl exec: %q", got)
		}
		_, err := ns.try("", "exec", "tools", "--", "bash", "-c", "exit 7")
		if err == nil || !strings.Contains(err.Error(), "exit code 7") {
			t.Errorf("kubectl exec of what exits with 7: %v", err)
		}

		dir := t.TempDir()
		sent, back := filepath.Join(dir, "sent"), filepath.Join(dir, "back")
		if err := os.WriteFile(sent, []byte(strings.Repeat("a file\n", 100_000)), 0o600); err != nil {
			t.Fatal(err)
		}
		ns.kubectl("cp", sent, "tools:/tmp/there")
		ns.kubectl("cp", "tools:/tmp/there", back)
		if got, err := os.ReadFile(back); err != nil || string(got) != strings.Repeat("a file\n", 100_000) {
			t.Errorf("kubectl cp: %d bytes came back, %v", len(got), err)
		}

		attach := exec.Command("kubectl", "--namespace", ns.name, "attach", "tools", "-i", "-c", "main")
		in, err := attach.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := attach.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() {
			_ = attach.Process.Kill()
			_ = attach.Wait()
		}()
		_, _ = fmt.Fprintln(in, "who is there")
		eventually(t, "what is written to kubectl attach arrives", func() bool {
			return strings.Contains(ns.kubectl("logs", "tools"), "heard who is there\n")
		})

		// An ephemeral container is put into the pod by an update, which the webhook must not be asked about.
		ns.kubectl("debug", "tools", "--image", "inpod-test/digits:plain", "--target", "main", "--container", "debug",
			"--", "bash", "-c", "cat /proc/1/cmdline | tr '\\0' ' '; echo; sleep 600")
		eventually(t, "kubectl debug sees the container's processes", func() bool {
			got, err := ns.try("", "logs", "tools", "-c", "debug")
			want := map[string]string{"wrap": "/opt/inpod/inpod run -- bash -c", "sidecar": "bash -c echo the output"}[mode]
			return err == nil && strings.Contains(got, want)
		})
	})
}

// What the user has in the pod beside the container: init containers and sidecars run before, in their order, and not through inpod;
// other containers are as they were.
func TestNeighbours(t *testing.T) {
	inModes(t, func(t *testing.T, mode string, ns *namespace) {
		ns.apply(fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata:
  name: many
  labels: {app: many, inpod.dev/inject: %s}
  annotations: {inpod.dev/container: server}
spec:
  securityContext: {runAsUser: 1000, fsGroup: 1000}
  volumes: [{name: shared, emptyDir: {}}]
  initContainers:
  - &at
    name: first
    image: inpod-test/digits:plain
    volumeMounts: [{name: shared, mountPath: /shared}]
    command: [bash, -c, 'echo first >>/shared/order']
  - <<: *at
    name: helper
    restartPolicy: Always
    command: [bash, -c, 'echo helper >>/shared/order; exec python3 -m http.server 9000 --directory /shared']
    startupProbe: {httpGet: {path: /order, port: 9000}, periodSeconds: 1, failureThreshold: 100}
  - <<: *at
    name: last
    command: [python3, -c, 'import urllib.request; seen = urllib.request.urlopen("http://127.0.0.1:9000/order").read(); open("/shared/order", "ab").write(b"last saw " + seen.replace(b"\n", b" ") + b"\n")']
  containers:
  - <<: *at
    name: other
    command: [python3, -m, http.server, "7000", --directory, /shared]
    ports: [{containerPort: 7000}]
  - <<: *at
    name: server
    command: [bash, -c, 'echo server >>/shared/order; exec python3 -m http.server 8000 --directory /shared']
    ports: [{containerPort: 8000}]
`, mode))
		ns.wait("pod/many", "condition=Ready")
		p := ns.injected("app=many", mode)
		want := "first helper last inpod-install inpod-redirect"
		if mode == "sidecar" {
			want += " inpod"
		}
		if got := strings.Join(p.initNames(), " "); got != want {
			t.Errorf("init containers: got %s, want %s", got, want)
		}
		for _, c := range p.Spec.Containers {
			if wrapped := c.Command[0] == "/opt/inpod/inpod"; wrapped != (c.Name == "server" && mode == "wrap") {
				t.Errorf("container %s starts %q", c.Name, c.Command)
			}
		}
		before := requests(t, p)
		ask := func(port string) (int, string) {
			return get("http://" + net.JoinHostPort(p.Status.PodIP, port) + "/order")
		}
		code, order := ask("8000")
		if want := "first\nhelper\nlast saw first helper \nserver\n"; code != http.StatusOK || order != want {
			t.Errorf("the order: %d %q, want %q", code, order, want)
		}
		for _, port := range []string{"7000", "9000", "8000"} {
			if code, _ := ask(port); code != http.StatusOK {
				t.Errorf("port %s: %d", port, code)
			}
		}
		eventually(t, "the requests to port 8000 are counted", func() bool { return requests(t, p) >= before+2 })
		if got := requests(t, p); got != before+2 {
			t.Errorf("requests through inpod: %v, then %v; ports 7000 and 9000 are none of its", before, got)
		}
	})
}

// A pod that is locked down runs as before: a user of its own, nothing writable but its volumes, in the QoS class Guaranteed.
func TestLockedDown(t *testing.T) {
	inModes(t, func(t *testing.T, mode string, ns *namespace) {
		ns.apply(fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata:
  name: locked
  labels: {app: locked, inpod.dev/inject: %s}
  annotations: {inpod.dev/cpu-limit: 50m, inpod.dev/memory-limit: 64Mi}
spec:
  securityContext: {runAsNonRoot: true, runAsUser: 4321, runAsGroup: 4322, fsGroup: 4323}
  volumes: [{name: data, emptyDir: {}}]
  containers:
  - name: main
    image: inpod-test/digits:plain
    command: [python3, -m, http.server, "8000", --directory, /data]
    ports: [{containerPort: 8000}]
    readinessProbe: {tcpSocket: {port: 8000}, periodSeconds: 1}
    securityContext: {readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
    volumeMounts: [{name: data, mountPath: /data}]
    resources: {limits: {cpu: 200m, memory: 200Mi}}
`, mode))
		ns.wait("pod/locked", "condition=Ready")
		p := ns.injected("app=locked", mode)
		if p.Status.QosClass != "Guaranteed" {
			t.Errorf("QoS class %s", p.Status.QosClass)
		}
		const look = `id -u; id -g; touch /data/mine; stat -c '%u %g' /data/mine; touch /tmp/not 2>/dev/null || echo read-only`
		if got, want := ns.kubectl("exec", "locked", "-c", "main", "--", "bash", "-c", look), "4321\n4322\n4321 4323\nread-only\n"; got != want {
			t.Errorf("in the container: got %q, want %q", got, want)
		}
		passes(t, p, func() bool {
			code, body := get("http://" + net.JoinHostPort(p.Status.PodIP, "8000") + "/")
			return code == http.StatusOK && strings.Contains(body, "mine")
		})
	})
}

// Namespaces that enforce a Pod Security level admit what is injected, unless it is the redirect.
func TestPodSecurity(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ level, mode string }{{"restricted", "wrap"}, {"restricted", "sidecar"}, {"baseline", "wrap"}} {
		t.Run(c.level+"/"+c.mode, func(t *testing.T) {
			t.Parallel()
			ns := newNamespace(t, "pod-security.kubernetes.io/enforce="+c.level, "pod-security.kubernetes.io/warn="+c.level)
			soon(ns)
			manifest := func(annotations string) string {
				return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: server, labels: {app: server, inpod.dev/inject: %s}, annotations: {%s}}
spec:
  securityContext: {runAsNonRoot: true, runAsUser: 1000, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: main
    image: inpod-test/digits:plain
    command: [python3, -m, http.server, "8000", --directory, /srv/digits]
    ports: [{name: http, containerPort: 8000}]
    readinessProbe: {httpGet: {path: /app.py, port: http}, periodSeconds: 1}
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
---
apiVersion: v1
kind: Service
metadata: {name: server}
spec:
  selector: {app: server}
  ports: [{port: 80, targetPort: http}]
`, c.mode, annotations)
			}
			said := ns.refuse(manifest("inpod.dev/intercept: redirect"))
			if want := "the Pod Security level " + c.level + " of this namespace forbids that; write inpod.dev/intercept: named, or none"; !strings.Contains(said, want) {
				t.Errorf("a redirect: got %q, want %q", said, want)
			}
			// Without a word about it, the name of the port moves, and a warning says so.
			said = ns.apply(manifest(""))
			if !strings.Contains(said, "does not allow a redirect: the name http moves to port 15080") || strings.Contains(said, "PodSecurity") {
				t.Errorf("the warnings: %s", said)
			}
			ns.wait("pod/server", "condition=Ready")
			p := ns.injected("app=server", c.mode)
			if ns.field("service/server", ".spec.ports[0].targetPort") != "http" {
				t.Error("targetPort is not http")
			}
			ip := ns.clusterIP("server")
			passes(t, p, func() bool {
				code, _ := get("http://" + ip + "/app.py")
				return code == http.StatusOK
			})
		})
	}
}

// The agent's own file comes from a ConfigMap; when that is changed, so are the routes of the running pod.
func TestConfigMap(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	serving := func(size string) string {
		return fmt.Sprintf(`
apiVersion: v1
kind: ConfigMap
metadata: {name: serving}
data:
  drain-delay: 1s
  drain-deadline: 5s
  inpod.yaml: |
    proxy: {routes: [{listen: ":15080", upstream: "127.0.0.1:8000", max_body: %s}]}
`, size)
	}
	ns.apply(serving("1KB") + `
---
apiVersion: v1
kind: Pod
metadata: {name: server, labels: {app: server, inpod.dev/inject: wrap}, annotations: {inpod.dev/config: serving}}
spec:
  containers:
  - name: main
    image: inpod-test/digits:plain
    command: [gunicorn, --config, gunicorn.conf.py, --bind, "0.0.0.0:8000", --workers, "1", "app:app"]
    ports: [{containerPort: 8000}]
    readinessProbe: {httpGet: {path: /health, port: 8000}, periodSeconds: 1}
`)
	ns.wait("pod/server", "condition=Ready")
	p := ns.injected("app=server", "wrap")
	if p.Spec.TerminationGracePeriodSeconds != 40 {
		t.Errorf("terminationGracePeriodSeconds: got %d, want the 5 s of drain-deadline and 35", p.Spec.TerminationGracePeriodSeconds)
	}
	at := net.JoinHostPort(p.Status.PodIP, "8000")
	if _, err := postSeven(at); err == nil || !strings.HasPrefix(err.Error(), "413 ") {
		t.Errorf("a picture, where a body may have 1KB: %v, want 413", err)
	}
	ns.apply(serving("1MB"))
	// The kubelet looks for new ConfigMaps when it looks at the pod.
	ns.kubectl("annotate", "pod", "server", "look=again")
	eventually(t, "the new limit counts", func() bool {
		got, err := postSeven(at)
		return err == nil && got == `{"mnist_result": 7}`
	})
	if now := ns.pod("server"); now.Status.ContainerStatuses[0].RestartCount != 0 || now.Metadata.UID != p.Metadata.UID {
		t.Error("the pod was restarted for that")
	}
}

// StatefulSets and DaemonSets are injected like Deployments.
func TestSets(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	soon(ns)
	for _, c := range []struct{ kind, mode, more string }{
		{"StatefulSet", "wrap", "serviceName: one, replicas: 1,"}, {"DaemonSet", "sidecar", ""},
	} {
		ns.apply(fmt.Sprintf(`
apiVersion: apps/v1
kind: %[1]s
metadata: {name: one}
spec: {%[3]s
  selector: {matchLabels: {of: %[1]s}},
  template: {
    metadata: {labels: {of: %[1]s, inpod.dev/inject: %[2]s}},
    spec: {
      securityContext: {runAsUser: 1000},
      containers: [{name: main, image: inpod-test/testprog:1, command: [/testprog, gate, ":8000", /nothing], ports: [{containerPort: 8000}]}]
    }
  }
}
`, c.kind, c.mode, c.more))
	}
	ns.rollout("statefulset/one")
	ns.rollout("daemonset/one")
	statefulSet, daemonSet := ns.pods("of=StatefulSet"), ns.pods("of=DaemonSet")
	if len(statefulSet) != 1 || len(daemonSet) != 2 || statefulSet[0].Metadata.Name != "one-0" {
		t.Fatalf("%d pods of the StatefulSet, %d of the DaemonSet; want 1 and, on two nodes, 2", len(statefulSet), len(daemonSet))
	}
	for _, p := range append(statefulSet, daemonSet...) {
		passes(t, p, func() bool {
			code, body := get("http://" + net.JoinHostPort(p.Status.PodIP, "8000") + "/")
			return code == http.StatusOK && strings.HasPrefix(body, "hello from")
		})
	}
}
