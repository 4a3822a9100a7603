package injector

import (
	"context"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// guard leaves alone what was not asked for or has been done, and refuses what cannot be.
func (p *plan) guard(context.Context) error {
	p.mode = p.pod.Labels[InjectLabel]
	switch p.mode {
	case "", no, "disabled":
		return leftAlone(left(NotAsked))
	case Wrap, Sidecar, yes:
	default:
		return refuse(BadInjectLabel, clip(p.mode))
	}
	spec := &p.pod.Spec
	switch {
	case windows(spec):
		return refuse(WindowsPod)
	case spec.HostNetwork:
		return refuse(HostNetwork)
	}
	if err := p.earlier(); err != nil {
		return err // also for a static pod whose file has inpod in it, as the refusal of others says
	}
	for _, name := range []string{"kubernetes.io/config.mirror", "kubernetes.io/config.source"} {
		if _, static := p.pod.Annotations[name]; static && p.pod.Annotations[name] != "api" {
			return refuse(StaticPod)
		}
	}
	return nil
}

// windows tells whether a pod says that it is for Windows, or can run nowhere else.
func windows(spec *corev1.PodSpec) bool {
	if spec.OS != nil && spec.OS.Name == corev1.Windows || spec.NodeSelector[corev1.LabelOSStable] == "windows" {
		return true
	}
	if spec.Affinity == nil || spec.Affinity.NodeAffinity == nil || spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return false
	}
	terms := spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	elsewhere := func(term corev1.NodeSelectorTerm) bool { // of the terms any is enough, of a term all
		return !slices.ContainsFunc(term.MatchExpressions, func(r corev1.NodeSelectorRequirement) bool {
			return r.Key == corev1.LabelOSStable && r.Operator == corev1.NodeSelectorOpIn && slices.Equal(r.Values, []string{"windows"})
		})
	}
	return len(terms) > 0 && !slices.ContainsFunc(terms, elsewhere)
}

// earlier looks for the traces of an injection before this one: by this webhook's reinvocation, by another replica of
// it, or by whoever applied what was read from a cluster. When all of them are there nothing is left to do. When none
// is, the annotation was merely copied, and it goes.
func (p *plan) earlier() error {
	st := readStatus(p.pod)
	if st == nil {
		delete(p.pod.Annotations, StatusAnnotation)
		return nil
	}
	missing, found := st.traces(p.pod)
	switch {
	case len(missing) == 0:
		return leftAlone(left(AlreadyInjected))
	case found:
		return refuse(PartlyInjected, missing[0])
	}
	delete(p.pod.Annotations, StatusAnnotation)
	delete(p.pod.Labels, InjectedLabel)
	return nil
}

// traces says what of a recorded injection is not in the pod, and whether anything is.
func (st *Status) traces(pod *corev1.Pod) (missing []string, found bool) {
	note := func(what string, there bool) {
		found = found || there
		if !there {
			missing = append(missing, what)
		}
	}
	for _, name := range st.InitContainers {
		note("the init container "+name, slices.ContainsFunc(pod.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == name }))
	}
	for _, name := range st.Volumes {
		note("the volume "+name, slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == name }))
	}
	for i := range pod.Spec.Containers {
		if c := &pod.Spec.Containers[i]; c.Name == st.Container && st.Mode == Wrap {
			// Anywhere: another webhook, such as one that fetches secrets, may have put its own program in front.
			note("the command of container "+c.Name, slices.Contains(c.Command, binary) || slices.Contains(c.Args, binary))
		}
	}
	return missing, found
}

// exceptions leaves pods alone which inpod would break, unless somebody asks for it.
func (p *plan) exceptions(context.Context) error {
	if p.opt.is("inject-anyway", yes) {
		return nil
	}
	for name := range p.pod.Labels {
		if name == "workflows.argoproj.io/workflow" {
			return leftAlone(left(ArgoWorkflow))
		}
	}
	for _, c := range p.pod.Spec.Containers {
		if len(c.Command) > 0 && path.Base(c.Command[0]) == "argoexec" {
			return leftAlone(left(ArgoWorkflow))
		}
		if kaniko(c) {
			return leftAlone(left(Kaniko))
		}
	}
	return nil
}

func kaniko(c corev1.Container) bool {
	image, _, _ := strings.Cut(c.Image, "@")
	return strings.Contains(image, "kaniko") || len(c.Command) > 0 && strings.HasPrefix(c.Command[0], "/kaniko/")
}

// chooseContainer finds the container that all of this is about.
func (p *plan) chooseContainer(context.Context) error {
	containers := p.pod.Spec.Containers
	if len(containers) == 0 {
		return refuse(BadSetting, "the pod has no containers; write spec.containers")
	}
	name, from := p.opt.text("container"), p.opt.from["container"]
	if name == "" {
		name, from = p.pod.Annotations["kubectl.kubernetes.io/default-container"], "annotation kubectl.kubernetes.io/default-container"
	}
	if name == "" {
		name = containers[0].Name
	}
	for i := range containers {
		if containers[i].Name == name {
			p.c = &containers[i]
			p.rep.Container, p.st.Container = name, name
			return nil
		}
	}
	var names []string
	for _, c := range containers {
		names = append(names, c.Name)
	}
	return refuse(NoContainer, from, name, strings.Join(names, ", "))
}

// runsInpod tells whether a command starts inpod already.
func runsInpod(command []string) bool {
	return len(command) > 0 && slices.Contains([]string{"inpod", "inpod-injector"}, path.Base(command[0]))
}
