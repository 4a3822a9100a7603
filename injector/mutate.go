package injector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/inpod/inpod/config"
	corev1 "k8s.io/api/core/v1"
)

// Image is what Mutate has to know of a container's image.
type Image struct {
	Digest     string
	Entrypoint []string
	Cmd        []string
	User       string
	StopSignal string
}

// Images looks images up. Any error means that it is not known what an image starts.
type Images interface {
	Image(ctx context.Context, ref string) (Image, error)
}

// ConfigMaps reads the ConfigMap that inpod.dev/config names.
type ConfigMaps interface {
	ConfigMap(ctx context.Context, namespace, name string) (map[string]string, error)
}

// Settings is what Mutate knows beside the pod.
type Settings struct {
	Image         string // inpod's image, with the binary at /inpod
	RedirectImage string // the injector's own, with the binary at /inpod-injector

	Defaults             map[string]string // of the installation, by the names of table
	Namespace            string
	NamespaceAnnotations map[string]string
	NamespaceLabels      map[string]string
	PodSecurity          string // the level that the namespace enforces; "" when none or not known
	Minor                int    // of the server's version 1.x; 0 when not known

	Images     Images     // may be nil
	ConfigMaps ConfigMaps // may be nil

	judge *judge // may be nil
}

// Report says what was done to a pod, or why nothing was.
type Report struct {
	Mode      string   // Wrap or Sidecar; "" when the pod was left alone
	Left      Reason   // why it was left alone
	LeftText  string   // the same as a sentence
	Container string   // that is wrapped, or whose port is taken
	Done      []string // sentences
	Warnings  []string // sentences that say what to write instead
}

func (r *Report) did(format string, args ...any) {
	r.Done = append(r.Done, fmt.Sprintf(format, args...))
}

func (r *Report) warn(format string, args ...any) {
	r.Warnings = append(r.Warnings, fmt.Sprintf(format, args...))
}

func left(why Reason, args ...any) Report {
	return Report{Left: why, LeftText: fmt.Sprintf(sentences[why], args...)}
}

// Status is the annotation inpod.dev/status: what was injected, so that it can be told later, and so that the same
// pod is not injected twice.
type Status struct {
	Mode           string   `json:"mode"`
	Container      string   `json:"container"`
	Image          string   `json:"image"`
	Lookup         string   `json:"lookup,omitempty"` // digest of the image whose entrypoint was looked up
	Intercept      string   `json:"intercept"`
	Ports          []Taken  `json:"ports,omitempty"`
	AdminPort      int32    `json:"adminPort"`
	SSHPort        int32    `json:"sshPort,omitempty"`
	InitContainers []string `json:"initContainers"`
	Volumes        []string `json:"volumes"`
	Done           []string `json:"done"`
	Warnings       []string `json:"warnings,omitempty"`
}

// Taken is one port that inpod stands in front of.
type Taken struct {
	Port   int32 `json:"port"`
	Proxy  int32 `json:"proxy"`
	Direct int32 `json:"direct,omitempty"`

	name   string // of the container port
	health string // of the route, where a readiness probe says it
	probe  *corev1.Probe
}

// plan is one mutation on its way. The steps fill it from top to bottom.
type plan struct {
	set    Settings
	opt    options
	file   string         // inpod.yaml of the ConfigMap
	cfg    *config.Config // the same, read; nil when there is none
	pod    *corev1.Pod
	c      *corev1.Container
	mode   string
	batch  bool
	image  Image // of the container, when it was looked up
	ports  []Taken
	routed bool // inpod.yaml has the routes
	ssh    bool
	// guaranteed is the QoS class of the pod before anything was added.
	guaranteed bool
	rep        Report
	st         Status
}

// Mutate returns pod with inpod in it. pod itself is not changed. A pod that is to be left alone comes back as it
// is, with the reason in the report; the error is a *Refusal, or that of ctx.
func Mutate(ctx context.Context, pod *corev1.Pod, set Settings) (*corev1.Pod, Report, error) {
	p := &plan{set: set, pod: pod.DeepCopy()}
	steps := []func(context.Context) error{
		p.guard, p.options, p.exceptions, p.chooseContainer, p.command, p.choosePorts, p.adopt, p.chooseIntercept, p.freePorts,
		p.inject, p.probes, p.login, p.agentEnv, p.grace, p.stopSignal, p.freeNames, p.record,
	}
	for _, step := range steps {
		err := step(ctx)
		var alone leftAlone
		switch {
		case errors.As(err, &alone):
			return pod, Report(alone), nil
		case err != nil:
			return pod, p.rep, err
		}
	}
	return p.pod, p.rep, nil
}

// leftAlone ends a mutation without a change.
type leftAlone Report

func (l leftAlone) Error() string { return l.LeftText }

// options reads all that was written for this pod, and decides the mode.
func (p *plan) options(ctx context.Context) error {
	layers := []layer{
		{"the injector's setting", "", p.set.Defaults},
		{"annotation of the namespace", Domain, own(p.set.NamespaceAnnotations)},
	}
	annotations := layer{"annotation", Domain, own(p.pod.Annotations)}
	// The ConfigMap's name is itself a setting, of any layer but its own.
	first, problems := newOptions(append(layers, annotations))
	if len(problems) > 0 {
		return refuseSettings(problems)
	}
	if name := first.text("config"); name != "" {
		data, err := p.readConfigMap(ctx, name)
		if err != nil {
			return refuse(NoConfigMap, first.from["config"], name, err)
		}
		l := layer{place: "ConfigMap " + name + ", key", values: map[string]string{}}
		for key, value := range data {
			if key == inpodYAML {
				p.file = value
			} else {
				l.values[key] = value
			}
		}
		layers = append(layers, l)
	}
	p.opt, problems = newOptions(append(layers, annotations))
	if len(problems) == 0 {
		problems = p.opt.resources()
	}
	if len(problems) > 0 {
		return refuseSettings(problems)
	}
	if p.mode == yes {
		p.mode = p.opt.text("mode")
	}
	if p.mode == Sidecar && p.set.Minor != 0 && p.set.Minor < 29 {
		return refuse(OldKubernetes, fmt.Sprintf("1.%d", p.set.Minor))
	}
	if p.opt.text("image") == "" {
		p.opt.values["image"] = p.set.Image
	}
	if p.opt.text("image") == "" {
		return refuse(NoImage)
	}
	p.batch = p.pod.Spec.RestartPolicy == corev1.RestartPolicyNever || p.pod.Spec.RestartPolicy == corev1.RestartPolicyOnFailure
	p.rep.Mode, p.st.Mode, p.st.Image = p.mode, p.mode, p.opt.text("image")
	return nil
}

func (p *plan) readConfigMap(ctx context.Context, name string) (map[string]string, error) {
	if p.set.ConfigMaps == nil {
		return nil, errors.New("there is no cluster to read it from")
	}
	return p.set.ConfigMaps.ConfigMap(ctx, p.set.Namespace, name)
}

// drainTime is how long the agent may go on after it was told to stop, before it stops programs.
func (p *plan) drainTime() time.Duration {
	if len(p.ports) == 0 && !p.routed && !p.ssh {
		return 0
	}
	if p.batch && !p.opt.known("drain-deadline") {
		return p.drainDelay() + 30*time.Second
	}
	return max(p.drainDelay(), p.opt.duration("drain-deadline"))
}

func (p *plan) drainDelay() time.Duration {
	delay := p.opt.duration("drain-delay")
	switch {
	case p.opt.known("drain-delay"):
	case p.batch || len(p.ports) == 0 && !p.routed:
		return 0
	case p.opt.known("drain-deadline"): // which may be shorter; the agent's own default is the same
		return min(delay, p.opt.duration("drain-deadline"))
	}
	return delay
}

// record writes down what was done.
func (p *plan) record(context.Context) error {
	p.st.Ports, p.st.Done, p.st.Warnings = p.ports, p.rep.Done, p.rep.Warnings
	if p.pod.Annotations == nil {
		p.pod.Annotations = map[string]string{}
	}
	if p.pod.Labels == nil {
		p.pod.Labels = map[string]string{}
	}
	p.pod.Labels[InjectedLabel] = p.mode
	if p.opt.is("scrape", on) && !scraped(p.pod.Annotations) {
		p.pod.Annotations["prometheus.io/scrape"] = yes
		p.pod.Annotations["prometheus.io/port"] = fmt.Sprint(p.opt.port("admin-port"))
		p.pod.Annotations["prometheus.io/path"] = "/metrics"
	}
	p.pod.Annotations[StatusAnnotation] = jsonText(p.st)
	return nil
}

func scraped(annotations map[string]string) bool {
	for name := range annotations {
		if strings.HasPrefix(name, "prometheus.io/") {
			return true
		}
	}
	return false
}

// readStatus returns the record of an earlier injection, nil when there is none that can be read.
func readStatus(pod *corev1.Pod) *Status {
	text, ok := pod.Annotations[StatusAnnotation]
	if !ok {
		return nil
	}
	var st Status
	if json.Unmarshal([]byte(text), &st) != nil || st.Mode == "" {
		return nil
	}
	return &st
}
