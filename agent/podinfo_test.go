package agent

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestPodInfo(t *testing.T) {
	if podInfo([]string{"PATH=/bin", "KUBEFLOW_ENV=", "K8S_NODE_NAME"}) != nil {
		t.Error("a metric, though nothing is known")
	}
	c := podInfo([]string{"KUBEFLOW_ENV=prod", "K8S_POD_NAME=p1", "POD_NAME=p2", "NODE_NAME=n", "RESOURCE_GPU=0.2(T4)", "KUBEFLOW_MODEL_NAME=" + strings.Repeat("é", 100)})
	reg := prometheus.NewRegistry()
	reg.MustRegister(c)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, l := range families[0].GetMetric()[0].GetLabel() {
		got[l.GetName()] = l.GetValue()
	}
	for label, want := range map[string]string{"env": "prod", "pod": "p1", "node": "n", "gpu": "0.2(T4)", "version": "", "model": strings.Repeat("é", 64)} {
		if v, ok := got[label]; !ok || v != want {
			t.Errorf("%s: got %q, want %q", label, v, want)
		}
	}
}
