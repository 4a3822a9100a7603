package injector

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// guaranteed tells whether a pod is of the QoS class Guaranteed: every container has limits for CPU and memory, and
// requests just that (kubernetes.io/docs/concepts/workloads/pods/pod-qos). Such a pod may have cores of its own, and
// is the last to be evicted; one container that differs takes that from all.
func guaranteed(spec *corev1.PodSpec) bool {
	if spec.Resources != nil && len(spec.Resources.Requests)+len(spec.Resources.Limits) > 0 {
		return false // or it is, whatever the containers have
	}
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for _, c := range list {
			for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
				limit, limited := c.Resources.Limits[name]
				request, requested := c.Resources.Requests[name]
				if !limited || limit.IsZero() || requested && request.Cmp(limit) != 0 {
					return false
				}
			}
		}
	}
	return true
}

// resources are those of a container that is added.
func (p *plan) resources(c *corev1.Container) corev1.ResourceRequirements {
	r := corev1.ResourceRequirements{
		Requests: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse(p.opt.text("cpu-request")), corev1.ResourceMemory: resource.MustParse(p.opt.text("memory-request")),
		},
		Limits: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse(p.opt.text("cpu-limit")), corev1.ResourceMemory: resource.MustParse(p.opt.text("memory-limit")),
		},
	}
	stays := c.RestartPolicy != nil
	if !p.guaranteed {
		p.withinPod(&r, stays)
		return r
	}
	for name, limit := range r.Limits {
		// What ends before the containers start has their resources until then, so up to these it costs nothing.
		var sum resource.Quantity
		for _, own := range p.pod.Spec.Containers {
			sum.Add(own.Resources.Limits[name])
		}
		if least := r.Requests[name]; !stays && limit.Cmp(sum) > 0 {
			limit = sum
			if limit.Cmp(least) < 0 {
				limit = least
			}
		}
		r.Limits[name], r.Requests[name] = limit, limit.DeepCopy()
	}
	if stays {
		p.rep.warn("the pod is of the QoS class Guaranteed, and to keep that, the sidecar requests what its limits are: %s of CPU and %s of memory; "+
			"write inpod.dev/cpu-limit and inpod.dev/memory-limit for others", r.Limits.Cpu(), r.Limits.Memory())
	}
	return r
}

// withinPod keeps a container that is added inside of the resources of the whole pod (spec.resources, Kubernetes 1.34): the
// API server refuses containers which request more together, and gives pods that name only limits requests which their
// own containers use up.
func (p *plan) withinPod(r *corev1.ResourceRequirements, stays bool) {
	whole := p.pod.Spec.Resources
	if whole == nil {
		return
	}
	for name, request := range r.Requests {
		if most, ok := whole.Limits[name]; ok && most.Cmp(r.Limits[name]) < 0 {
			r.Limits[name] = most.DeepCopy()
		}
		least := r.Limits[name]
		if left, ok := whole.Requests[name]; ok {
			left = left.DeepCopy()
			left.Sub(p.requested(name, stays))
			if left.Cmp(least) < 0 {
				least = left
			}
		}
		if least.Sign() < 0 {
			least = resource.Quantity{}
		}
		if request.Cmp(least) > 0 {
			r.Requests[name] = least.DeepCopy()
		}
	}
}

// requested is what runs at the same time as a container that is added requests: sidecars and, beside one that stays, the
// containers.
func (p *plan) requested(name corev1.ResourceName, stays bool) (sum resource.Quantity) {
	add := func(c *corev1.Container) {
		if request, ok := c.Resources.Requests[name]; ok {
			sum.Add(request)
		} else {
			sum.Add(c.Resources.Limits[name]) // which is the default
		}
	}
	for i := range p.pod.Spec.InitContainers {
		if c := &p.pod.Spec.InitContainers[i]; c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			add(c)
		}
	}
	for i := range p.pod.Spec.Containers {
		if stays {
			add(&p.pod.Spec.Containers[i])
		}
	}
	return sum
}
