//go:build kube

package kube

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/inpod/inpod/e2e/kube/load"
)

// rollingReplicas are over both nodes.
const rollingReplicas = 4

// drainDelay is how long a pod of the judged Deployments goes on serving after it was told to stop. The default is 60 s, which is
// for load balancers outside the cluster as well. Here only kube-proxy has to forget the pod, which takes a second or two, and
// three and more were seen on cores that had fifty other things to do: the report says for how long clients were sent to pods that
// were gone in the half without inpod.
const drainDelay = "10s"

// Pods are replaced by a rolling update, and a node is drained, while clients of three kinds go on: with inpod nothing fails.
// Without it the same traffic shows that it would have been seen.
func TestRolling(t *testing.T) {
	halves := []*rolling{
		{name: "with inpod, wrap", mode: "wrap", requests: 50_000},
		{name: "without inpod", requests: 50_000},
		{name: "with inpod, sidecar", mode: "sidecar", requests: 10_000},
	}
	for _, h := range halves {
		t.Run(strings.NewReplacer(" ", "-", ",", "").Replace(h.name), func(t *testing.T) {
			h.run(t)
			switch failed := h.report.Failed(); {
			case h.mode == "" && failed == 0:
				t.Error("nothing failed without inpod: this traffic shows nothing")
			case h.mode != "" && failed > 0:
				t.Errorf("%d requests failed: %s", failed, strings.Join(h.report.Told(), "\n"))
			}
			if n := h.report.Total(); n < h.requests {
				t.Errorf("%d requests, want %d", n, h.requests)
			}
		})
	}
	report(t, "\n"+table(halves))
}

// rolling is a Deployment under load, with inpod or without.
type rolling struct {
	name     string
	mode     string // of the label; "" is none
	requests int    // at least

	ns       *namespace
	report   *load.Report
	took     time.Duration
	rollouts []time.Duration
	drained  time.Duration
	evicted  int
}

func (h *rolling) run(t *testing.T) {
	ns := newNamespace(t)
	h.ns = ns
	ns.apply(h.manifest())
	ns.rollout("deployment/plain")
	addr := net.JoinHostPort(ns.field("service/plain", ".spec.clusterIP"), "80")
	eventually(t, "the Service is reached at "+addr, func() bool {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			return false
		}
		return c.Close() == nil
	})

	// 1,000 requests a second at most, so that the two cores of a small machine have time for Kubernetes.
	began := time.Now()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	h.report = (&load.Load{Addr: addr, Kept: 100, Fresh: 30, Streams: 20, Pause: 120 * time.Millisecond}).Run(ctx)
	h.roll()
	h.drain()
	for h.report.Total() < h.requests {
		h.roll()
	}
	eventually(t, "the last pod that was replaced is gone", func() bool { return h.pods("") == rollingReplicas })
	cancel()
	<-h.report.Ended()
	h.took = time.Since(began)
}

// roll restarts the Deployment, as kubectl set image would, and waits for the new pods.
func (h *rolling) roll() {
	h.ns.t.Helper()
	began := time.Now()
	h.ns.kubectl("rollout", "restart", "deployment/plain")
	h.ns.rollout("deployment/plain")
	h.rollouts = append(h.rollouts, time.Since(began))
}

// drain takes every pod off a node, as before its reboot, and gives it back.
func (h *rolling) drain() {
	t := h.ns.t
	t.Helper()
	if h.evicted = h.pods("node2"); h.evicted == 0 {
		t.Error("no pod is on node2, so draining it shows nothing")
	}
	t.Cleanup(func() { kubectl(t, "uncordon", "node2") })
	began := time.Now()
	kubectl(t, "drain", "node2", "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=180s")
	h.drained = time.Since(began)
	h.ns.rollout("deployment/plain")
	if n := h.pods("node2"); n > 0 {
		t.Errorf("%d pods are still on node2", n)
	}
	kubectl(t, "uncordon", "node2")
}

// pods is how many there are on a node, or at all, those that are ending too.
func (h *rolling) pods(node string) int {
	args := []string{"get", "pods", "-o", "name"}
	if node != "" {
		args = append(args, "--field-selector", "spec.nodeName="+node)
	}
	return len(strings.Fields(h.ns.kubectl(args...)))
}

// manifest is a server as its makers deploy it: nothing in it is there for inpod but one label and one annotation.
func (h *rolling) manifest() string {
	labels := "app: plain"
	if h.mode != "" {
		labels += ", inpod.dev/inject: " + h.mode
	}
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: plain}
spec:
  replicas: %d
  selector: {matchLabels: {app: plain}}
  strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
  template:
    metadata:
      labels: {%s}
      annotations: {inpod.dev/drain-delay: %s}
    spec:
      topologySpreadConstraints:
      - maxSkew: 1
        topologyKey: kubernetes.io/hostname
        whenUnsatisfiable: ScheduleAnyway
        labelSelector: {matchLabels: {app: plain}}
        matchLabelKeys: [pod-template-hash]
      containers:
      - name: server
        image: inpod-test/testprog:1
        command: [/testprog, upstream, ":8000"]
        ports: [{containerPort: 8000}]
        readinessProbe: {httpGet: {path: /health, port: 8000}, periodSeconds: 1}
        resources: {requests: {cpu: 10m, memory: 16Mi}}
---
apiVersion: v1
kind: Service
metadata: {name: plain}
spec:
  selector: {app: plain}
  ports: [{port: 80, targetPort: 8000}]
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: plain}
spec:
  maxUnavailable: 1
  selector: {matchLabels: {app: plain}}
`, rollingReplicas, labels, drainDelay)
}

// table is what came of all of them.
func table(halves []*rolling) string {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "Deployment\tclients\trequests\tfailed\thow")
	for _, h := range halves {
		if h.report == nil {
			continue
		}
		for _, row := range h.report.Lines() {
			fmt.Fprintln(w, h.name+"\t"+strings.Join(row, "\t"))
		}
		fmt.Fprintf(w, "%s\tall\t%d\t%d\t\n", h.name, h.report.Total(), h.report.Failed())
	}
	w.Flush()
	for _, h := range halves {
		if h.report == nil {
			continue
		}
		var rolls []string
		for _, d := range h.rollouts {
			rolls = append(rolls, fmt.Sprintf("%.0f s", d.Seconds()))
		}
		fmt.Fprintf(&out, "%s: %.0f s of traffic (%.0f requests a second); roll-outs of %d pods: %s; drain of a node with %d of them: %.0f s; "+
			"kept connections that were closed unannounced while idle: %d; clients were sent to a pod that was gone for up to %.1f s\n",
			h.name, h.took.Seconds(), float64(h.report.Total())/h.took.Seconds(), rollingReplicas, strings.Join(rolls, ", "),
			h.evicted, h.drained.Seconds(), h.report.Closed(), h.report.Gone().Seconds())
	}
	return out.String()
}
