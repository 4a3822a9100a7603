package injector

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/inpod/inpod/config"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const (
	startupPeriod = 2 // seconds
	livePeriod    = 10
	readyPeriod   = 5
)

// probes keeps what probes and hooks mean that are aimed at a port which inpod takes, and adds those that are
// missing.
//
// Liveness and startup ask the server itself, past the proxy: a queue that is full must not kill the pod. Readiness
// asks inpod, which checks the server as the probe did and also knows of warm-up and drain.
func (p *plan) probes(context.Context) error {
	if p.opt.is("probes", keep) {
		p.movePorts()
		return nil
	}
	for i := range p.pod.Spec.InitContainers { // sidecars have probes too
		if err := p.probesOf(&p.pod.Spec.InitContainers[i]); err != nil {
			return err
		}
	}
	for i := range p.pod.Spec.Containers {
		if err := p.probesOf(&p.pod.Spec.Containers[i]); err != nil {
			return err
		}
	}
	if p.mode == Wrap && !p.batch {
		p.addProbes()
	}
	p.movePorts()
	return nil
}

const keep = "keep"

func (p *plan) probesOf(c *corev1.Container) error {
	for _, probe := range []*corev1.Probe{c.ReadinessProbe, c.LivenessProbe, c.StartupProbe} {
		if t := p.aimedAt(c, probe); t != nil && probe.HTTPGet != nil && probe.HTTPGet.Scheme == corev1.URISchemeHTTPS {
			return refuse(TLSServer, t.Port, c.Name)
		}
	}
	if t := p.aimedAt(c, c.ReadinessProbe); c == p.c && t != nil && !p.routed && p.simple(c.ReadinessProbe) {
		t.health, t.probe = healthOf(c.ReadinessProbe), c.ReadinessProbe
		if p.mode == Wrap {
			p.askInpod(c)
		}
	}
	for _, probe := range []*corev1.Probe{c.ReadinessProbe, c.LivenessProbe, c.StartupProbe} {
		t := p.aimedAt(c, probe)
		switch {
		case t == nil:
		case probe.GRPC != nil:
			port := intstr.FromInt32(probe.GRPC.Port)
			p.pointAtServer(&port, c.Name, t)
			probe.GRPC.Port = port.IntVal
		default:
			p.pointAtServer(handlerPort(&probe.ProbeHandler), c.Name, t)
		}
	}
	if c.Lifecycle == nil {
		return nil
	}
	for _, hook := range []*corev1.LifecycleHandler{c.Lifecycle.PostStart, c.Lifecycle.PreStop} {
		if hook == nil || hook.HTTPGet == nil || hook.HTTPGet.Host != "" {
			continue
		}
		if t := p.taken(c, hook.HTTPGet.Port); t != nil {
			p.pointAtServer(&hook.HTTPGet.Port, c.Name, t)
		}
	}
	return nil
}

// pointAtServer makes a handler reach the server where it would reach inpod.
func (p *plan) pointAtServer(port *intstr.IntOrString, container string, t *Taken) {
	was := *port
	switch p.st.Intercept {
	case redirect:
		*port = intstr.FromInt32(t.Direct)
	case named:
		*port = intstr.FromInt32(t.Port)
	default:
		return
	}
	if was != *port {
		p.rep.did("a probe or hook of container %s asks port %s instead of %s, which is the server's, past inpod", container, port.String(), was.String())
	}
}

// askInpod turns the readiness probe of the wrapped container to inpod, which goes on asking the server.
func (p *plan) askInpod(c *corev1.Container) {
	probe := c.ReadinessProbe.DeepCopy()
	probe.ProbeHandler = corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
		Path: "/readyz", Port: intstr.FromInt32(p.opt.port("admin-port")), Scheme: corev1.URISchemeHTTP,
	}}
	probe.FailureThreshold = 1 // inpod has counted already
	c.ReadinessProbe = probe
	p.rep.did("the readiness probe of container %s asks inpod, which asks the server as the probe did", c.Name)
}

// addProbes adds inpod's probes to a container that has none of the kind.
func (p *plan) addProbes() {
	admin := int(p.opt.port("admin-port"))
	switch r := p.c.ReadinessProbe; {
	case r == nil:
		p.c.ReadinessProbe = httpProbe("/readyz", admin, readyPeriod, 1)
		p.rep.did("container %s has a readiness probe", p.c.Name)
	case len(p.ports) == 0:
	case r.HTTPGet == nil || r.HTTPGet.Path != "/readyz" || r.HTTPGet.Port.IntValue() != admin:
		p.rep.warn("the readiness probe of container %q stays as it is, so the pod counts as ready while inpod warms up or drains; "+
			"write inpod.dev/health instead and remove the probe", p.c.Name)
	}
	if p.c.LivenessProbe != nil || p.c.StartupProbe != nil {
		return
	}
	times := int32(max(1, (p.opt.duration("startup-timeout")+startupPeriod*time.Second-1)/(startupPeriod*time.Second)))
	p.c.StartupProbe = httpProbe("/startupz", admin, startupPeriod, times)
	p.c.LivenessProbe = httpProbe("/livez", admin, livePeriod, 3)
	p.rep.did("container %s has a startup and a liveness probe", p.c.Name)
}

// aimedAt returns the port of ours that a probe asks, nil when it asks another or none.
func (p *plan) aimedAt(c *corev1.Container, probe *corev1.Probe) *Taken {
	if probe == nil {
		return nil
	}
	port := handlerPort(&probe.ProbeHandler)
	if port == nil {
		if probe.GRPC == nil {
			return nil
		}
		return p.taken(c, intstr.FromInt32(probe.GRPC.Port))
	}
	return p.taken(c, *port)
}

// taken resolves a port as the kubelet does: a name is one of the same container's.
func (p *plan) taken(c *corev1.Container, port intstr.IntOrString) *Taken {
	n := port.IntVal
	if port.Type == intstr.String {
		for _, cp := range c.Ports {
			if cp.Name == port.StrVal {
				n = cp.ContainerPort
			}
		}
	}
	i := slices.IndexFunc(p.ports, func(t Taken) bool { return t.Port == n })
	if i < 0 {
		return nil
	}
	return &p.ports[i]
}

func handlerPort(h *corev1.ProbeHandler) *intstr.IntOrString {
	switch {
	case h.HTTPGet != nil && h.HTTPGet.Host == "":
		return &h.HTTPGet.Port
	case h.TCPSocket != nil && h.TCPSocket.Host == "":
		return &h.TCPSocket.Port
	}
	return nil
}

// simple tells whether inpod's health check can ask what the probe asks: the agent's own code says it.
func (p *plan) simple(probe *corev1.Probe) bool {
	if probe.HTTPGet != nil && len(probe.HTTPGet.HTTPHeaders) > 0 {
		return false
	}
	route := []map[string]string{{"listen": config.Off, "upstream": "127.0.0.1:80", "health": healthOf(probe)}}
	return p.set.judge.check("", []string{routesVariable + "=" + jsonText(route)}) == nil
}

func healthOf(probe *corev1.Probe) string {
	switch {
	case probe.HTTPGet != nil:
		return requestURI(probe.HTTPGet.Path)
	case probe.GRPC != nil && probe.GRPC.Service != nil && *probe.GRPC.Service != "":
		return "grpc:" + *probe.GRPC.Service
	case probe.GRPC != nil:
		return "grpc"
	}
	return "tcp"
}

// requestURI is what the kubelet asks for a path that somebody wrote: it takes it for a URL of that server
// (k8s.io/kubernetes, pkg/probe/http/request.go), which ends at # and has other characters escaped.
func requestURI(path string) string {
	u, err := url.Parse(path)
	if err != nil {
		u = &url.URL{Path: path}
	}
	u.Scheme, u.Host = "http", "127.0.0.1"
	if u, err = url.Parse(u.String()); err != nil {
		return path
	}
	return u.RequestURI()
}

func httpProbe(path string, port int, period, failures int32) *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
			Path: path, Port: intstr.FromInt(port), Scheme: corev1.URISchemeHTTP,
		}},
		PeriodSeconds: period, TimeoutSeconds: 2, SuccessThreshold: 1, FailureThreshold: failures,
	}
}

func execHook(command ...string) *corev1.LifecycleHandler {
	return &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: command}}
}

func seconds(d time.Duration) string { return strconv.Itoa(int((d+time.Second-1)/time.Second)) + "s" }

// healthKeys are the route's keys for a probe's numbers; those that it does not set have Kubernetes' defaults.
func healthKeys(probe *corev1.Probe) map[string]string {
	or := func(n, def int32) int32 {
		if n > 0 {
			return n
		}
		return def
	}
	return map[string]string{
		"health_period":   fmt.Sprintf("%ds", or(probe.PeriodSeconds, 10)),
		"health_timeout":  fmt.Sprintf("%ds", or(probe.TimeoutSeconds, 1)),
		"health_failures": strconv.Itoa(int(or(probe.FailureThreshold, 3))),
	}
}
