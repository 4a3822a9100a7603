//go:build kube

package kube

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/inpod/inpod/e2e/kube/admissions"
)

// TestAdmissions creates 2,000 pods with the label, 50 a second, and beside them pods without. Figures are told and not
// judged, for they are the machine's; but each pod is injected, and the injector does not grow.
func TestAdmissions(t *testing.T) {
	ns := newNamespace(t)
	server, config := apiServer(t)
	load := func(pod string, want outcome, rate float64, count int) admissions.Result {
		got, err := admissions.Load{
			URL: server + "/api/v1/namespaces/" + ns.name + "/pods?dryRun=All", TLS: config, Pod: pod, Rate: rate, Count: count, Connections: 16,
			Check: func(pod []byte) error {
				if got, said := judge(pod); got != want {
					return fmt.Errorf("it is %s, want %s: %s", got, want, said)
				}
				return nil
			},
		}.Run(t.Context())
		if err != nil || got.Failed > 0 {
			t.Errorf("%d pods of %d failed: %v %v", got.Failed, count, err, got.Errors)
		}
		return got
	}
	load(labelledPod, injected, 50, 50) // what a first pod finds cold
	start := measure(t)
	half := start
	var labelled, others admissions.Result
	var wg sync.WaitGroup
	wg.Go(func() { others = load(otherPod, unchanged, 10, 400) })
	for i := range 2 {
		got := load(labelledPod, injected, 50, 1000)
		labelled.Took = append(labelled.Took, got.Took...)
		labelled.Failed, labelled.Late = labelled.Failed+got.Failed, max(labelled.Late, got.Late)
		if i == 0 {
			half = measure(t)
		}
	}
	wg.Wait()
	slices.Sort(labelled.Took)
	end := measure(t)
	var told strings.Builder
	defer func() { report(t, told.String()) }()
	fmt.Fprintf(&told, "client, pods with the label: %s\n", labelled)
	fmt.Fprintf(&told, "client, pods without:        %s\n", others)
	fmt.Fprintf(&told, "API server, the webhook:     %s\n", seconds(end.api.Since(start.api)))
	fmt.Fprintf(&told, "injector, reviews:           %s\n", seconds(end.reviews.Since(start.reviews)))
	if n := end.api.Since(start.api).Count(); n != 2000 {
		t.Errorf("2,000 pods were reviewed %.0f times", n)
	}
	for ip, after := range end.process {
		before, middle := start.process[ip], half.process[ip]
		fmt.Fprintf(&told, "replica %s: %.1f, %.1f, %.1f MB; %.0f, %.0f, %.0f goroutines; %.1f s of CPU; before, after 1,000, after 2,000\n", ip,
			before.resident/1e6, middle.resident/1e6, after.resident/1e6, before.goroutines, middle.goroutines, after.goroutines, after.cpu-before.cpu)
		if middle.resident == 0 || after.resident > middle.resident+32e6 || after.goroutines > middle.goroutines+50 {
			t.Errorf("replica %s grows", ip)
		}
	}
	if len(end.process) != 2 {
		t.Errorf("%d replicas", len(end.process))
	}
}

// measured is what the API server and the injector count.
type measured struct {
	api, reviews admissions.Histogram
	process      map[string]process // of each replica, by its address
}

type process struct{ resident, goroutines, cpu float64 }

func measure(t *testing.T) measured {
	t.Helper()
	read := func(text, name string, labels map[string]string) admissions.Histogram {
		t.Helper()
		h, err := admissions.ReadHistogram(strings.NewReader(text), name, labels)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	m := measured{process: map[string]process{}}
	m.api = read(kubectl(t, "get", "--raw", "/metrics"), "apiserver_admission_webhook_admission_duration_seconds", map[string]string{"name": "pods.inpod.dev"})
	for _, pod := range replicas(t) {
		code, text := get("http://" + pod.ip + ":9881/metrics")
		if code != http.StatusOK {
			t.Fatalf("the metrics of %s: %d %s", pod.name, code, text)
		}
		m.reviews = m.reviews.And(read(text, "inpod_injector_review_seconds", map[string]string{"result": "injected"}))
		m.process[pod.ip] = process{gauge(text, "process_resident_memory_bytes"), gauge(text, "go_goroutines"), gauge(text, "process_cpu_seconds_total")}
	}
	return m
}

// gauge is the value of a metric without labels.
func gauge(text, name string) (value float64) {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			_, _ = fmt.Sscan(rest, &value)
		}
	}
	return value
}

// seconds says in one line what a histogram tells.
func seconds(h admissions.Histogram) string {
	return fmt.Sprintf("%.0f counted: p50 within %g, p99 within %g ms; %.2f %% within 50 ms",
		h.Count(), 1000*h.Within(.5), 1000*h.Within(.99), 100*h.Below(.05))
}
