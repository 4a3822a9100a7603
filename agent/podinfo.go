package agent

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// podVariables are what platforms tell a container of itself, and the label that each becomes. The first that is set
// counts. The names are those of cube-studio and of the usual downward API.
var podVariables = []struct{ label, names string }{
	{"namespace", "K8S_POD_NAMESPACE POD_NAMESPACE"},
	{"pod", "K8S_POD_NAME POD_NAME"},
	{"node", "K8S_NODE_NAME NODE_NAME"},
	{"env", "KUBEFLOW_ENV"},
	{"area", "KUBEFLOW_AREA"},
	{"model", "KUBEFLOW_MODEL_NAME"},
	{"version", "KUBEFLOW_MODEL_VERSION"},
	{"cpu", "RESOURCE_CPU"},
	{"memory", "RESOURCE_MEMORY"},
	{"gpu", "RESOURCE_GPU"},
}

// maxLabel bounds a value: a label is no place for text.
const maxLabel = 128

// podInfo is a metric that is always 1, whose labels say what the pod serves and where it runs: others join with it. It is
// nil where nothing is known.
func podInfo(env []string) prometheus.Collector {
	values := map[string]string{}
	for _, kv := range env {
		if k, v, ok := strings.Cut(kv, "="); ok && v != "" {
			values[k] = strings.ToValidUTF8(v[:min(len(v), maxLabel)], "")
		}
	}
	labels, known := prometheus.Labels{}, false
	for _, v := range podVariables {
		labels[v.label] = ""
		for name := range strings.FieldsSeq(v.names) {
			if labels[v.label] == "" && values[name] != "" {
				labels[v.label], known = values[name], true
			}
		}
	}
	if !known {
		return nil
	}
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "inpod_pod_info", Help: "1, with what the environment says of the pod and its model as labels.", ConstLabels: labels,
	})
	g.Set(1)
	return g
}
