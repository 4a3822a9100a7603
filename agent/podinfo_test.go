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
	got := families[0].String()
	for _, want := range []string{"inpod_pod_info", `"env" value:"prod"`, `"pod" value:"p1"`, `"node" value:"n"`, `"gpu" value:"0.2(T4)"`, `"version" value:""`, `value:"` + strings.Repeat("é", 64) + `"`} {
		if !strings.Contains(strings.ReplaceAll(got, `name:`, ``), want) {
			t.Errorf("no %s in %s", want, got)
		}
	}
}
