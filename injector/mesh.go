package injector

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// mesh names the service mesh whose proxy is in the pod, or comes into it by another webhook, before or after this one;
// "" where there is none. Such a proxy redirects what arrives in the same place as we would: of two redirects only the one
// that was set later counts, and what is encrypted for the proxy is nothing that inpod could read.
func (p *plan) mesh() string {
	for _, list := range [][]corev1.Container{p.pod.Spec.InitContainers, p.pod.Spec.Containers} {
		for _, c := range list {
			switch c.Name {
			case "istio-proxy":
				return "Istio"
			case "linkerd-proxy":
				return "Linkerd"
			case "kuma-sidecar":
				return "Kuma"
			}
		}
	}
	// The first of these that is set anywhere decides, the pod's own before the namespace's.
	written := func(key string) string {
		for _, m := range []map[string]string{p.pod.Labels, p.pod.Annotations, p.set.NamespaceLabels, p.set.NamespaceAnnotations} {
			if m[key] != "" {
				return m[key]
			}
		}
		return ""
	}
	switch asked := written("sidecar.istio.io/inject"); {
	case written("istio.io/dataplane-mode") == "ambient":
		return "Istio"
	case asked == no:
	case asked == yes, written("istio-injection") == "enabled", written("istio.io/rev") != "":
		return "Istio"
	}
	switch {
	case slices.Contains([]string{"enabled", "ingress"}, written("linkerd.io/inject")):
		return "Linkerd"
	case slices.Contains([]string{"enabled", yes}, written("kuma.io/sidecar-injection")):
		return "Kuma"
	}
	return ""
}
