package injector

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestGuaranteed(t *testing.T) {
	list := func(cpu, memory string) corev1.ResourceList {
		l := corev1.ResourceList{}
		if cpu != "" {
			l[corev1.ResourceCPU] = resource.MustParse(cpu)
		}
		if memory != "" {
			l[corev1.ResourceMemory] = resource.MustParse(memory)
		}
		return l
	}
	for _, tt := range []struct {
		name             string
		requests, limits corev1.ResourceList
		want             bool
	}{
		{"nothing", nil, nil, false},
		{"the same", list("1", "1Gi"), list("1000m", "1024Mi"), true},
		{"limits only", nil, list("1", "1Gi"), true},
		{"no limit of memory", list("1", "1Gi"), list("1", ""), false},
		{"a smaller request", list("100m", "1Gi"), list("1", "1Gi"), false},
		{"zero", list("0", "0"), list("0", "0"), false},
	} {
		c := corev1.Container{Resources: corev1.ResourceRequirements{Requests: tt.requests, Limits: tt.limits}}
		good := corev1.Container{Resources: corev1.ResourceRequirements{Limits: list("1", "1Gi")}}
		for _, spec := range []corev1.PodSpec{
			{Containers: []corev1.Container{good, c}}, {InitContainers: []corev1.Container{c}, Containers: []corev1.Container{good}},
		} {
			if got := guaranteed(&spec); got != tt.want {
				t.Errorf("%s: got %v", tt.name, got)
			}
		}
	}
}

// TestGuaranteedStays: what a Guaranteed pod becomes is one too.
func TestGuaranteedStays(t *testing.T) {
	for _, file := range []string{"testdata/guaranteed-wrap.in.yaml", "testdata/guaranteed-sidecar.in.yaml"} {
		set, pod := readCase(t, file)
		got, _, err := Mutate(t.Context(), pod, set)
		if err != nil || !guaranteed(&pod.Spec) || !guaranteed(&got.Spec) {
			t.Errorf("%s: %v, the class is lost", file, err)
		}
	}
}
