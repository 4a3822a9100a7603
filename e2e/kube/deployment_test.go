//go:build kube

package kube

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// A Deployment whose image knows nothing of inpod gets the label, as the guide says, and nothing changes for who uses it.
func TestDeployment(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"wrap", "sidecar"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			ns := newNamespace(t)
			soon(ns)
			ns.apply(digits)
			ns.rollout("deployment/digits")
			service := ns.clusterIP("digits")
			if got := readSeven(t, service); got != `{"mnist_result": 7}` {
				t.Fatalf("before: %q", got)
			}
			if got := ns.field("pods", ".items[*].spec.initContainers"); got != "" {
				t.Fatalf("without the label: %s", got)
			}
			before := ns.field("service/digits", ".metadata.resourceVersion")

			// The words of docs/guide/injector.md, which has web for digits and wrap for both.
			ns.kubectl("patch", "deployment", "digits", "-p", `{"spec":{"template":{"metadata":{"labels":{"inpod.dev/inject":"`+mode+`"}}}}}`)
			ns.rollout("deployment/digits")
			pod := ns.injected("app=digits", mode)
			checkTold(t, ns, pod, mode)
			checkService(t, ns, pod)
			checkMetrics(t, pod)
			if after := ns.field("service/digits", ".metadata.resourceVersion"); after != before {
				t.Errorf("the Service was edited: %s, then %s", before, after)
			}

			if mode == "wrap" {
				ns.kubectl("rollout", "undo", "deployment/digits")
			} else {
				ns.kubectl("patch", "deployment", "digits", "-p", `{"spec":{"template":{"metadata":{"labels":{"inpod.dev/inject":null}}}}}`)
			}
			ns.rollout("deployment/digits")
			eventually(t, "no pod has inpod", func() bool {
				return ns.field("pods", ".items[*].metadata.labels.inpod\\.dev/injected") == ""
			})
			if got := ns.field("pods", ".items[*].spec.initContainers"); got != "" {
				t.Errorf("after the label was taken away: %s", got)
			}
			eventually(t, "the server answers as before", func() bool {
				got, err := postSeven(service)
				return err == nil && got == `{"mnist_result": 7}`
			})
		})
	}
}

// digits is a server as its makers would deploy it.
const digits = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: digits}
spec:
  replicas: 1
  selector: {matchLabels: {app: digits}}
  template:
    metadata: {labels: {app: digits}}
    spec:
      containers:
      - name: digits
        image: inpod-test/digits:plain
        command: [gunicorn, --config, gunicorn.conf.py, --bind, "0.0.0.0:8000", "app:app"]
        ports: [{containerPort: 8000}]
        readinessProbe: {httpGet: {path: /health, port: 8000}, periodSeconds: 2}
        livenessProbe: {httpGet: {path: /health, port: 8000}, periodSeconds: 5, failureThreshold: 10}
---
apiVersion: v1
kind: Service
metadata: {name: digits}
spec:
  selector: {app: digits}
  ports: [{port: 80, targetPort: 8000}]
`

// checkTold looks at what the guide says is told about an injection: the Event and the record in the pod.
func checkTold(t *testing.T, ns *namespace, pod pod, mode string) {
	t.Helper()
	var status struct {
		Mode, Container, Intercept string
		InitContainers             []string
		Ports                      []struct{ Port, Proxy, Direct int }
	}
	if err := json.Unmarshal([]byte(pod.Metadata.Annotations["inpod.dev/status"]), &status); err != nil {
		t.Fatalf("inpod.dev/status is no JSON: %v", err)
	}
	want := []string{"inpod-install", "inpod-redirect"}
	if mode == "sidecar" {
		want = append(want, "inpod")
	}
	if got := fmt.Sprint(status.InitContainers); got != fmt.Sprint(want) || got != fmt.Sprint(pod.initNames()) {
		t.Errorf("init containers: got %v, the record says %v, want %v", pod.initNames(), got, want)
	}
	if status.Mode != mode || status.Container != "digits" || status.Intercept != "redirect" || len(status.Ports) != 1 || status.Ports[0].Port != 8000 {
		t.Errorf("inpod.dev/status: %+v", status)
	}
	eventually(t, "the Event Injected about the ReplicaSet", func() bool {
		got := ns.kubectl("get", "events", "--field-selector", "reason=Injected")
		return strings.Contains(got, "replicaset/"+pod.Metadata.OwnerReferences[0].Name) && strings.Contains(got, "inpod was injected ("+mode+", container digits)")
	})
}

// checkService asks through the Service, and looks whether the request passed inpod.
func checkService(t *testing.T, ns *namespace, pod pod) {
	t.Helper()
	if got := ns.field("service/digits", ".spec.ports[0].targetPort"); got != "8000" {
		t.Fatalf("targetPort: %s", got)
	}
	service := ns.clusterIP("digits")
	passes(t, pod, func() bool {
		got, err := postSeven(service)
		return err == nil && got == `{"mnist_result": 7}`
	})
}

// checkMetrics scrapes as the chart's PodMonitor does.
func checkMetrics(t *testing.T, pod pod) {
	t.Helper()
	monitor, err := run("", "helm", "template", "inpod", "../../charts/inpod", "--kube-version", "1.34.3", "--set", "monitoring.podMonitor.enabled=true", "--show-only", "templates/monitoring.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(monitor, "{key: inpod.dev/injected, operator: Exists}") || !strings.Contains(monitor, "{port: inpod-admin, path: /metrics,") {
		t.Fatalf("the PodMonitor:\n%s", monitor)
	}
	if pod.Metadata.Labels["inpod.dev/injected"] == "" {
		t.Errorf("the PodMonitor does not select the labels %v", pod.Metadata.Labels)
	}
	port := pod.port("inpod-admin")
	if got := pod.Metadata.Annotations["prometheus.io/port"]; port == 0 || got != fmt.Sprint(port) {
		t.Errorf("inpod-admin is %d, prometheus.io/port %q", port, got)
	}
	text := pod.metrics(t)
	for _, name := range []string{"inpod_proxy_requests_total{", "inpod_build_info{", "inpod_proxy_requests_in_flight", "process_resident_memory_bytes"} {
		if !strings.Contains(text, "\n"+name) {
			t.Errorf("/metrics has no %s:\n%s", name, text)
		}
	}
}

// The other two ways that requests may get to inpod.
func TestIntercept(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ mode, intercept, target string }{
		{"wrap", "named", "http"},
		{"sidecar", "named", "http"},
		{"wrap", "none", "inpod"},
		{"sidecar", "none", "inpod"},
	} {
		t.Run(c.mode+"/"+c.intercept, func(t *testing.T) {
			t.Parallel()
			ns := newNamespace(t)
			soon(ns)
			ns.apply(fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: server, labels: {app: server, inpod.dev/inject: %s}, annotations: {inpod.dev/intercept: %s}}
spec:
  containers:
  - name: main
    image: inpod-test/digits:plain
    command: [python3, -m, http.server, "8000", --directory, /srv/digits]
    ports: [{name: http, containerPort: 8000}]
    readinessProbe: {httpGet: {path: /app.py, port: http}, periodSeconds: 1}
    livenessProbe: {tcpSocket: {port: http}}
---
apiVersion: v1
kind: Service
metadata: {name: server}
spec:
  selector: {app: server}
  ports: [{name: in, port: 80, targetPort: %s}, {name: past, port: 81, targetPort: 8000}]
`, c.mode, c.intercept, c.target))
			ns.wait("pod/server", "condition=Ready")
			pod := ns.injected("app=server", c.mode)
			if names := fmt.Sprint(pod.initNames()); strings.Contains(names, "inpod-redirect") {
				t.Errorf("init containers: %s", names)
			}
			ip := ns.clusterIP("server")
			served := func(port string) bool {
				code, body := get("http://" + net.JoinHostPort(ip, port) + "/app.py")
				return code == http.StatusOK && strings.Contains(body, "mnist_result")
			}
			passes(t, pod, func() bool { return served("80") })
			// The number is still the server's.
			before := requests(t, pod)
			eventually(t, "targetPort 8000 answers", func() bool { return served("81") })
			if !served("80") {
				t.Error("no answer any more")
			}
			eventually(t, "the last request is counted", func() bool { return requests(t, pod) > before })
			if got := requests(t, pod); got != before+1 {
				t.Errorf("targetPort 8000: requests to it pass inpod: %v, then %v", before, got)
			}
		})
	}
}

// of is the same namespace for a subtest.
func (ns *namespace) of(t *testing.T) *namespace { return &namespace{t: t, name: ns.name} }

// soon makes the namespace's pods end at once when they are told to, by the defaults that a namespace can set.
func soon(ns *namespace) {
	ns.t.Helper()
	kubectl(ns.t, "annotate", "namespace", ns.name, "inpod.dev/drain-delay=1s", "inpod.dev/drain-deadline=5s")
}

// pod is what the tests read of a pod.
type pod struct {
	Metadata struct {
		Name                string
		UID                 string
		Labels, Annotations map[string]string
		OwnerReferences     []struct{ Kind, Name string }
		DeletionTimestamp   string
	}
	Spec struct {
		InitContainers, Containers    []container
		TerminationGracePeriodSeconds int
	}
	Status struct {
		PodIP                                    string
		Phase, Reason, QosClass                  string
		Conditions                               []struct{ Type, Status string }
		InitContainerStatuses, ContainerStatuses []containerStatus
	}
}

type container struct {
	Name    string
	Command []string
	Ports   []struct {
		Name          string
		ContainerPort int
	}
}

type containerStatus struct {
	Name         string
	Ready        bool
	RestartCount int
	State        struct {
		Running    *struct{}
		Terminated *termination
	}
}

type termination struct {
	ExitCode              int
	Reason, Message       string
	StartedAt, FinishedAt time.Time
}

// pods returns the pods that a selector finds and that nobody deletes.
func (ns *namespace) pods(selector string) []pod {
	ns.t.Helper()
	var list struct{ Items []pod }
	ns.get(&list, "pods", "--selector", selector)
	var there []pod
	for _, p := range list.Items {
		if p.Metadata.DeletionTimestamp == "" {
			there = append(there, p)
		}
	}
	return there
}

// pod returns one pod.
func (ns *namespace) pod(name string) pod {
	ns.t.Helper()
	var p pod
	ns.get(&p, "pod", name)
	return p
}

// injected returns the pod that a selector finds; it has to be one, and injected in a mode.
func (ns *namespace) injected(selector, mode string) pod {
	ns.t.Helper()
	pods := ns.pods(selector)
	if len(pods) != 1 {
		ns.t.Fatalf("%d pods, want 1", len(pods))
	}
	if got := pods[0].Metadata.Labels["inpod.dev/injected"]; got != mode {
		ns.t.Fatalf("inpod.dev/injected: got %q, want %q", got, mode)
	}
	return pods[0]
}

func (p *pod) initNames() []string {
	var names []string
	for _, c := range p.Spec.InitContainers {
		names = append(names, c.Name)
	}
	return names
}

// port is the number of a named port, as a PodMonitor or Service finds it; 0 when there is none.
func (p *pod) port(name string) int {
	for _, c := range append(p.Spec.Containers, p.Spec.InitContainers...) {
		for _, cp := range c.Ports {
			if cp.Name == name {
				return cp.ContainerPort
			}
		}
	}
	return 0
}

func (p *pod) is(condition string) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == condition {
			return c.Status == "True"
		}
	}
	return false
}

func (p *pod) metrics(t *testing.T) string {
	t.Helper()
	code, text := get("http://" + net.JoinHostPort(p.Status.PodIP, fmt.Sprint(p.port("inpod-admin"))) + "/metrics")
	if code != http.StatusOK {
		t.Fatalf("GET /metrics: %d %s", code, text)
	}
	return text
}

// requests is how many requests passed inpod in a pod.
func requests(t *testing.T, p pod) float64 {
	t.Helper()
	return p.sum(t, "inpod_proxy_requests_total")
}

// passes waits until a request is answered, and this pod's inpod has counted it: that is a moment later. Until kube-proxy has heard of
// the pod, another one may be asked, so every now and then there is another request.
func passes(t *testing.T, p pod, ask func() bool) {
	t.Helper()
	var before float64
	polls := 0
	eventually(t, "a request passes inpod", func() bool {
		if polls%10 == 0 {
			before = requests(t, p)
			if !ask() {
				return false
			}
		}
		polls++
		return requests(t, p) == before+1
	})
}

// sum adds all series of a metric.
func (p *pod) sum(t *testing.T, name string) float64 {
	t.Helper()
	var sum float64
	for line := range strings.Lines(p.metrics(t)) {
		if series, value, _ := strings.Cut(line, "} "); strings.HasPrefix(series, name+"{") {
			var n float64
			if _, err := fmt.Sscan(value, &n); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			sum += n
		}
	}
	return sum
}

func (ns *namespace) clusterIP(service string) string {
	ns.t.Helper()
	return ns.field("service/"+service, ".spec.clusterIP")
}

// client makes a new connection for each request, as clients of a Service do who come from everywhere.
func client() *http.Client {
	return &http.Client{Timeout: 3 * time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
}

// get returns status and body; where there is no answer, 0 and why.
func get(url string) (int, string) {
	resp, err := client().Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(body)
}

// postSeven asks the digits server which digit is on examples/digits/seven.jpg.
func postSeven(host string) (string, error) {
	picture, err := os.ReadFile("../../examples/digits/seven.jpg")
	if err != nil {
		return "", err
	}
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, _ := form.CreateFormFile("images", "seven.jpg") // a bytes.Buffer takes everything
	_, _ = part.Write(picture)
	_ = form.Close()
	resp, err := client().Post("http://"+host+"/", form.FormDataContentType(), &body)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", resp.Status, text)
	}
	return strings.TrimSpace(string(text)), err
}

// readSeven is postSeven once kube-proxy knows the Service's pods.
func readSeven(t *testing.T, host string) string {
	t.Helper()
	var got string
	eventually(t, "the Service answers", func() bool {
		var err error
		got, err = postSeven(host)
		return err == nil
	})
	return got
}
