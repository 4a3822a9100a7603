//go:build kube

package kube

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"testing"
)

// Probes keep their meaning: readiness that fails takes the pod out of the Service and restarts nothing, a full queue does neither,
// liveness that fails restarts the server.
func TestProbes(t *testing.T) {
	inModes(t, func(t *testing.T, mode string, ns *namespace) {
		ns.apply(fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata:
  name: server
  labels: {app: server, inpod.dev/inject: %s}
  annotations: {inpod.dev/concurrency: "1", inpod.dev/queue: "1", inpod.dev/timeout: 5m}
spec:
  securityContext: {runAsUser: 1000}
  containers:
  - name: main
    image: inpod-test/digits:plain
    command: [python3, -c, %s]
    ports: [{containerPort: 8000}]
    startupProbe: {httpGet: {path: /live, port: 8000}, periodSeconds: 1, failureThreshold: 100}
    readinessProbe: {httpGet: {path: /ready, port: 8000}, periodSeconds: 1, timeoutSeconds: 5, failureThreshold: 1}
    livenessProbe: {httpGet: {path: /live, port: 8000}, periodSeconds: 1, timeoutSeconds: 5, failureThreshold: 2}
---
apiVersion: v1
kind: Service
metadata: {name: server}
spec:
  selector: {app: server}
  ports: [{port: 80, targetPort: 8000}]
`, mode, quote(probed)))
		ns.wait("pod/server", "condition=Ready")
		p := &probedServer{namespace: ns, pod: ns.injected("app=server", mode)}
		p.unready(t)
		p.full(t)
		p.dead(t)
	})
}

// probed answers probes as files of its container say, and counts them. /hold answers when there is the file go.
const probed = `
import http.server, os, signal, time

signal.signal(signal.SIGTERM, lambda *args: os._exit(0)) # the first process of a container ignores it else

class Handler(http.server.BaseHTTPRequestHandler):
    lives = 0

    def do_GET(self):
        there = lambda name: os.path.exists("/tmp/" + name)
        bad = there("unready") if self.path == "/ready" else there("dead") if self.path == "/live" else False
        if self.path == "/live":
            Handler.lives += 1
        while self.path == "/hold" and not there("go"):
            time.sleep(0.05)
        self.send_response(503 if bad else 200)
        self.end_headers()
        self.wfile.write(b"%d" % Handler.lives)

    def log_message(self, *args):
        pass

http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
`

type probedServer struct {
	*namespace
	pod pod
}

func (p *probedServer) touch(file string) {
	p.kubectl("exec", "server", "-c", "main", "--", "touch", "/tmp/"+file)
}

// inService tells whether the Service's endpoints have the pod as a ready one, with its address of now.
func (p *probedServer) inService() bool {
	p.t.Helper()
	return p.field("endpointslices", `.items[*].endpoints[*].conditions.ready`) == "true"
}

func (p *probedServer) restarts(container string) int {
	p.t.Helper()
	now := p.namespace.pod("server")
	for _, s := range append(now.Status.ContainerStatuses, now.Status.InitContainerStatuses...) {
		if s.Name == container {
			return s.RestartCount
		}
	}
	return -1
}

func (p *probedServer) unready(t *testing.T) {
	t.Helper()
	eventually(t, "the pod is in the Service", p.inService)
	p.touch("unready")
	p.wait("pod/server", "condition=Ready=false")
	eventually(t, "the pod is out of the Service", func() bool { return !p.inService() })
	p.kubectl("exec", "server", "-c", "main", "--", "rm", "/tmp/unready")
	p.wait("pod/server", "condition=Ready")
	eventually(t, "the pod is in the Service again", p.inService)
	if n := p.restarts("main"); n != 0 {
		t.Errorf("readiness that failed has restarted the container %d times", n)
	}
}

// full fills the queue, and lets the kubelet ask some more than would kill the pod.
func (p *probedServer) full(t *testing.T) {
	t.Helper()
	at := "http://" + net.JoinHostPort(p.pod.Status.PodIP, "8000")
	codes := make(chan int, 2)
	for range cap(codes) {
		go func() {
			code, _ := get(at + "/hold")
			codes <- code
		}()
	}
	eventually(t, "one request is answered and one waits", func() bool {
		return p.pod.sum(t, "inpod_proxy_running") == 1 && p.pod.sum(t, "inpod_proxy_queued") == 1
	})
	if code, body := get(at + "/"); code != http.StatusServiceUnavailable {
		t.Errorf("the queue is full: %d %s", code, body)
	}
	lives := func() int {
		_, body := get("http://" + net.JoinHostPort(p.pod.Status.PodIP, "15090") + "/")
		n, _ := strconv.Atoi(body)
		return n
	}
	before := lives()
	eventually(t, "liveness is asked again", func() bool { return lives() > before+4 })
	if now := p.namespace.pod("server"); !now.is("Ready") || p.restarts("main") != 0 {
		t.Errorf("the queue is full: ready %v, %d restarts", now.is("Ready"), p.restarts("main"))
	}
	p.touch("go")
	for range cap(codes) {
		if code := <-codes; code != http.StatusOK {
			t.Errorf("a request that waited: %d", code)
		}
	}
}

func (p *probedServer) dead(t *testing.T) {
	t.Helper()
	p.touch("dead")
	eventually(t, "liveness that fails restarts the container", func() bool { return p.restarts("main") > 0 })
	p.wait("pod/server", "condition=Ready")
	// The restarted server answers through inpod.
	passes(t, p.pod, func() bool {
		code, _ := get("http://" + p.clusterIP("server") + "/")
		return code == http.StatusOK
	})
	if n := p.restarts("main"); n != 1 {
		t.Errorf("the container was restarted %d times", n)
	}
	if n := p.restarts("inpod"); n > 0 {
		t.Errorf("the sidecar was restarted %d times", n)
	}
}

// quote is a text as a word of YAML.
func quote(text string) string {
	word, _ := json.Marshal(text) // a string always can be
	return string(word)
}
