package injector

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/inpod/inpod/config"
	corev1 "k8s.io/api/core/v1"
)

// choosePorts decides which ports inpod stands in front of.
func (p *plan) choosePorts(context.Context) error {
	numbers, err := p.serverPorts()
	if err != nil {
		return err
	}
	if len(numbers) == 0 && p.mode == Sidecar {
		return refuse(SidecarNoPort)
	}
	if p.cfg, err = p.agentFile(); err != nil {
		return err
	}
	p.routed = p.fileSets("proxy.routes")
	for i, n := range numbers {
		t := Taken{Port: n, Proxy: p.opt.port("proxy-port") + int32(i), name: portName(p.c, n)}
		if p.routed {
			if t.Proxy = listens(p.cfg, n); t.Proxy == 0 {
				return refuse(NoRouteForPort, p.opt.text("config"), n)
			}
		}
		p.ports = append(p.ports, t)
	}
	return nil
}

// agentFile reads the agent's own file, where the ConfigMap has one, in the agent's own words.
func (p *plan) agentFile() (*config.Config, error) {
	if p.file == "" {
		return nil, nil
	}
	cfg, err := p.set.judge.read(p.file)
	if err != nil {
		return nil, refuse(BadAgentConfig, err)
	}
	return cfg, nil
}

// listens finds the port of the route that leads to a port of this pod.
func listens(cfg *config.Config, upstream int32) int32 {
	for _, r := range cfg.Proxy.Routes {
		_, to, _ := net.SplitHostPort(r.Upstream)
		_, at, _ := net.SplitHostPort(r.Listen)
		if n, ok := portNumber(at); ok && to == strconv.Itoa(int(upstream)) {
			return n
		}
	}
	return 0
}

// serverPorts reads the setting port.
func (p *plan) serverPorts() ([]int32, error) {
	value := p.opt.text("port")
	switch {
	case value == none, value == auto && p.batch:
		return nil, nil
	case value == auto:
		return p.obviousPort()
	}
	var numbers []int32
	for word := range strings.SplitSeq(value, ",") {
		word = strings.TrimSpace(word)
		n, ok := portNumber(word)
		for _, cp := range p.c.Ports {
			if cp.Name == word && isTCP(cp) {
				n, ok = cp.ContainerPort, true
			}
		}
		if !ok {
			return nil, refuse(UnknownPort, p.opt.from["port"], word, p.c.Name, portList(p.c))
		}
		if !slices.Contains(numbers, n) {
			numbers = append(numbers, n)
		}
	}
	return numbers, nil
}

// obviousPort is the container's only TCP port, or the one whose name says that it speaks HTTP.
func (p *plan) obviousPort() ([]int32, error) {
	var all, http []int32
	for _, cp := range p.c.Ports {
		if !isTCP(cp) {
			continue
		}
		if !slices.Contains(all, cp.ContainerPort) { // one port may have several names
			all = append(all, cp.ContainerPort)
		}
		if slices.Contains(http, cp.ContainerPort) {
			continue
		}
		if cp.Name == "http" || strings.HasPrefix(cp.Name, "http-") {
			http = append(http, cp.ContainerPort)
		}
	}
	switch {
	case len(all) == 0:
		return nil, nil
	case len(all) == 1:
		return all, nil
	case len(http) == 1:
		return http, nil
	}
	return nil, refuse(ManyPorts, p.c.Name, portList(p.c))
}

// isTCP tells whether a port is one that inpod can stand in front of.
func isTCP(cp corev1.ContainerPort) bool {
	return cp.Protocol == "" || cp.Protocol == corev1.ProtocolTCP
}

func portList(c *corev1.Container) string {
	var words []string
	for _, cp := range c.Ports {
		word := strconv.Itoa(int(cp.ContainerPort))
		if !isTCP(cp) {
			word += "/" + string(cp.Protocol)
		}
		if cp.Name != "" {
			word = cp.Name + " (" + word + ")"
		}
		words = append(words, word)
	}
	if len(words) == 0 {
		return "none, as it lists no ports"
	}
	return strings.Join(words, ", ")
}

func portName(c *corev1.Container, n int32) string {
	for _, cp := range c.Ports {
		if cp.ContainerPort == n && cp.Name != "" && isTCP(cp) {
			return cp.Name
		}
	}
	return ""
}

// chooseIntercept decides how requests get to inpod.
func (p *plan) chooseIntercept(context.Context) error {
	p.st.Intercept = p.opt.text("intercept")
	privileged := p.set.PodSecurity == "" || p.set.PodSecurity == "privileged"
	why := fmt.Sprintf("the Pod Security level %s of this namespace does not allow a redirect", p.set.PodSecurity)
	mesh := p.mesh()
	if mesh != "" && privileged {
		why = "the proxy of " + mesh + " redirects what arrives, so inpod does not"
	}
	unnamed := slices.IndexFunc(p.ports, func(t Taken) bool { return t.name == "" })
	switch {
	case len(p.ports) == 0:
		p.st.Intercept = none
	case p.st.Intercept == redirect && !privileged:
		return refuse(PodSecurity, p.set.PodSecurity)
	case p.st.Intercept == redirect && mesh != "":
		p.rep.warn("inpod.dev/intercept is redirect, and the proxy of %s redirects too, so only one of them gets what arrives; write "+
			"inpod.dev/intercept: named, unless the port is left out there", mesh)
	case p.st.Intercept == named && unnamed >= 0:
		return refuse(PortUnnamed, p.ports[unnamed].Port, p.c.Name)
	case p.st.Intercept == auto && privileged && mesh == "":
		p.st.Intercept = redirect
	case p.st.Intercept == auto && unnamed < 0:
		p.st.Intercept = named
		p.rep.warn("%s: the name %s moves to port %d; Services that name the number %d go past inpod, so write targetPort: %s there",
			why, p.ports[0].name, p.ports[0].Proxy, p.ports[0].Port, p.ports[0].name)
	case p.st.Intercept == auto:
		p.st.Intercept = none
		p.rep.warn("%s and port %d has no name: write targetPort: %d in the Service, or give the port a name", why, p.ports[0].Port, p.ports[0].Proxy)
	}
	if p.st.Intercept != redirect {
		return nil
	}
	for i := range p.ports {
		p.ports[i].Direct = p.opt.port("direct-port") + int32(i)
	}
	return nil
}

// freePorts refuses ports that somebody has.
func (p *plan) freePorts(context.Context) error {
	taken := map[int32]string{}
	for _, list := range [][]corev1.Container{p.pod.Spec.InitContainers, p.pod.Spec.Containers} {
		for _, c := range list {
			for _, cp := range c.Ports {
				if isTCP(cp) {
					taken[cp.ContainerPort] = fmt.Sprintf("container %q", c.Name)
				}
			}
		}
	}
	for _, t := range p.ports {
		taken[t.Port] = "the server"
	}
	take := func(n int32, setting, what string) error {
		if n > maxPort {
			return refuse(BadSetting, fmt.Sprintf("%s%s is %s, which leaves none for %s; write a lower one", Domain, setting, p.opt.text(setting), what))
		}
		if owner := taken[n]; owner != "" {
			return refuse(PortTaken, n, what, owner, setting)
		}
		taken[n] = "inpod, for " + what
		return nil
	}
	for _, t := range p.ports {
		if err := take(t.Proxy, "proxy-port", fmt.Sprintf("requests to port %d", t.Port)); err != nil {
			return err
		}
		if t.Direct == 0 {
			continue
		}
		if err := take(t.Direct, "direct-port", fmt.Sprintf("probes of port %d", t.Port)); err != nil {
			return err
		}
	}
	if err := take(p.opt.port("admin-port"), "admin-port", "health and metrics"); err != nil {
		return err
	}
	if p.wantsSSH() {
		return take(p.opt.port("ssh-port"), "ssh-port", "SSH")
	}
	return nil
}

// movePorts changes what the container lists: with named the names go to inpod's ports, and inpod's other ports are
// listed too, so that Services and monitors can name them. All ports of a pod are in one network, so it does not
// matter which container lists them.
func (p *plan) movePorts() {
	add := func(name string, n int32) {
		for _, c := range p.pod.Spec.Containers {
			if slices.ContainsFunc(c.Ports, func(cp corev1.ContainerPort) bool { return cp.Name == name }) {
				name = ""
			}
		}
		p.c.Ports = append(p.c.Ports, corev1.ContainerPort{Name: name, ContainerPort: n, Protocol: corev1.ProtocolTCP})
	}
	for _, t := range p.ports {
		if p.st.Intercept != named {
			continue
		}
		for i := range p.c.Ports { // all of its names: whichever a Service uses leads to inpod
			if cp := &p.c.Ports[i]; cp.ContainerPort == t.Port && cp.Name != "" && isTCP(*cp) {
				cp.ContainerPort = t.Proxy
				p.rep.did("the port name %s leads to inpod at %d; the server keeps port %d", cp.Name, t.Proxy, t.Port)
			}
		}
		add("", t.Port)
	}
	for i, t := range p.ports {
		switch p.st.Intercept {
		case redirect:
			p.rep.did("what arrives at port %d goes to inpod at %d, and from there to the server", t.Port, t.Proxy)
		case none:
			name := "inpod"
			if i > 0 {
				name += "-" + strconv.Itoa(i)
			}
			add(name, t.Proxy)
			p.rep.did("inpod listens at port %d in front of port %d; clients have to use it", t.Proxy, t.Port)
		}
	}
	add("inpod-admin", p.opt.port("admin-port"))
	if p.ssh {
		add("inpod-ssh", p.opt.port("ssh-port"))
	}
}
