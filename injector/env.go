package injector

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/inpod/inpod/config"
	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
)

const (
	// mainStop is how long inpod lets the wrapped command end after SIGTERM, and what Kubernetes gives by default.
	mainStop = 30 * time.Second
	// hookSlack is for what no clock of ours counts: the kubelet's own time between signal and kill.
	hookSlack = 5 * time.Second
	// joinTime is how much later than the server's hook the kubelet may run the sidecar's, which begins the drain.
	joinTime = 5 * time.Second
	// defaultGrace is what the API server writes where a pod does not say it.
	defaultGrace = 30
)

func (p *plan) wantsSSH() bool {
	switch p.opt.text("ssh") {
	case on:
		return true
	case off:
		return false
	}
	return p.opt.text("ssh-keys") != "" || p.opt.text("ssh-users") != ""
}

// login mounts what SSH needs.
func (p *plan) login(context.Context) error {
	if !p.ssh {
		return nil
	}
	if p.mode == Sidecar {
		return refuse(SidecarSSH)
	}
	if p.opt.is("profile", "airlock") && !p.opt.set("ssh-users") && p.opt.text("ssh-keys") == "" && !p.fileSets("ssh.users") {
		return refuse(SSHWithoutLogin)
	}
	mode := int32(0o444) // whoever the container runs as reads them; sshd refuses keys that others may write
	secret := func(volume, name, dir string) {
		p.volume(volume, corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: name, DefaultMode: &mode}})
		mount(p.c, corev1.VolumeMount{Name: volume, MountPath: dir, ReadOnly: true})
	}
	if name := p.opt.text("ssh-keys"); name != "" {
		secret(keysVolume, name, keysDir)
	}
	if name := p.opt.text("ssh-host-keys"); name != "" {
		secret(hostKeyVolume, name, hostKeyDir)
	}
	p.st.SSHPort = p.opt.port("ssh-port")
	p.rep.did("SSH leads into container %s at port %d", p.c.Name, p.st.SSHPort)
	return nil
}

// variable is one of the agent's settings, and those of ours that it is made of.
type variable struct{ name, value, settings string }

// agentEnv tells the agent its settings, after the agent's own code has judged them. What the container sets itself
// stays.
func (p *plan) agentEnv(context.Context) error {
	p.st.AdminPort = p.opt.port("admin-port")
	vars := []variable{
		{"INPOD_ADMIN_LISTEN", fmt.Sprintf(":%d", p.st.AdminPort), "admin-port"},
		{"INPOD_LOG_LEVEL", p.opt.text("log-level"), "log-level"},
	}
	if p.drainTime() > 0 {
		vars = append(vars, variable{"INPOD_DRAIN_DELAY", p.drainDelay().String(), "drain-delay"},
			variable{"INPOD_DRAIN_DEADLINE", p.drainTime().String(), "drain-deadline"})
	}
	if len(p.ports) > 0 && !p.routed {
		vars = append(vars, variable{routesVariable, p.routes(), ""})
	}
	vars = append(vars, p.sshEnv()...)
	c := p.c
	if p.mode == Sidecar {
		c = &p.pod.Spec.InitContainers[slices.IndexFunc(p.pod.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == sidecarName })]
	}
	var env []string
	for _, v := range vars {
		if p.inFile(v) {
			continue
		}
		i := slices.IndexFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == v.name })
		if i >= 0 {
			p.rep.warn("container %q sets %s itself, and that counts; remove it, so that the annotations do", c.Name, v.name)
			if c.Env[i].ValueFrom == nil {
				env = append(env, v.name+"="+c.Env[i].Value)
			}
			continue
		}
		c.Env = append(c.Env, corev1.EnvVar{Name: v.name, Value: literal([]string{v.value})[0]})
		env = append(env, v.name+"="+v.value)
	}
	if err := p.set.judge.check(p.file, env); err != nil {
		return refuse(BadAgentConfig, p.typed(err, vars))
	}
	return nil
}

// typed is what the agent says of its settings, with the name that somebody wrote in the place of the variable which we made
// of it, where only one can be meant.
func (p *plan) typed(err error, vars []variable) string {
	text := err.Error()
	for _, v := range vars {
		var wrong []string
		for name := range strings.FieldsSeq(v.settings) {
			wrong = append(wrong, name)
		}
		if v.name == routesVariable {
			wrong = p.wrongInRoutes()
		}
		wrong = slices.DeleteFunc(wrong, func(name string) bool { return !p.opt.set(name) })
		if len(wrong) == 1 {
			text = strings.ReplaceAll(text, "environment "+v.name, p.opt.from[wrong[0]])
		}
	}
	return text
}

// wrongInRoutes are the settings that no route can have.
func (p *plan) wrongInRoutes() (wrong []string) {
	route := map[string]any{
		"timeout": p.opt.text("timeout"), "concurrency": p.opt.number("concurrency"), "queue": p.opt.number("queue"),
		"health": p.opt.text("health"), "warmup": []map[string]string{{"path": p.opt.text("warmup")}},
	}
	for name, value := range route {
		alone := []map[string]any{{"listen": config.Off, "upstream": "127.0.0.1:80", name: value}}
		if p.opt.text(name) != "" && p.set.judge.check("", []string{routesVariable + "=" + jsonText(alone)}) != nil {
			wrong = append(wrong, name)
		}
	}
	return wrong
}

const routesVariable = "INPOD_PROXY_ROUTES"

// routes is that variable.
func (p *plan) routes() string {
	type route struct {
		Listen         string              `json:"listen"`
		Upstream       string              `json:"upstream"`
		Timeout        string              `json:"timeout,omitempty"`
		Concurrency    int                 `json:"concurrency,omitempty"`
		Queue          int                 `json:"queue"`
		Health         string              `json:"health,omitempty"`
		HealthPeriod   string              `json:"health_period,omitempty"`
		HealthTimeout  string              `json:"health_timeout,omitempty"`
		HealthFailures json.Number         `json:"health_failures,omitempty"`
		Warmup         []map[string]string `json:"warmup,omitempty"`
	}
	var list []route
	for _, t := range p.ports {
		r := route{
			Listen:   fmt.Sprintf(":%d", t.Proxy),
			Upstream: net.JoinHostPort("127.0.0.1", strconv.Itoa(int(t.Port))),
			Timeout:  p.opt.text("timeout"), Concurrency: p.opt.number("concurrency"), Queue: p.opt.number("queue"),
			Health: t.health,
		}
		if t.probe != nil {
			keys := healthKeys(t.probe)
			r.HealthPeriod, r.HealthTimeout, r.HealthFailures = keys["health_period"], keys["health_timeout"], json.Number(keys["health_failures"])
		}
		if h := p.opt.text("health"); h != "" {
			r.Health = h
		}
		if w := p.opt.text("warmup"); w != "" && len(list) == 0 {
			r.Warmup = []map[string]string{{"path": w}}
		}
		list = append(list, r)
	}
	return jsonText(list)
}

func (p *plan) sshEnv() []variable {
	if !p.ssh {
		return []variable{{"INPOD_SSH_LISTEN", config.Off, "ssh"}}
	}
	vars := []variable{{"INPOD_SSH_LISTEN", fmt.Sprintf(":%d", p.opt.port("ssh-port")), "ssh ssh-port"}}
	dir := runDir + "/ssh"
	if p.opt.text("ssh-host-keys") != "" {
		dir = hostKeyDir
	}
	vars = append(vars, variable{"INPOD_SSH_HOST_KEY_DIR", dir, "ssh-host-keys"})
	if p.opt.text("ssh-keys") != "" {
		vars = append(vars, variable{"INPOD_SSH_AUTHORIZED_KEYS", jsonText([]string{keysFile, "%h/.ssh/authorized_keys"}), "ssh-keys"})
	}
	if users := p.opt.text("ssh-users"); users != "" {
		var list any
		if yaml.Unmarshal([]byte(users), &list) == nil { // checked by newOptions
			users = jsonText(list)
		}
		vars = append(vars, variable{"INPOD_SSH_USERS", users, "ssh-users"})
	}
	if p.opt.is("ssh-forward", off) {
		for _, v := range [][2]string{{"PERMIT_LOCAL_FORWARD", "[]"}, {"PERMIT_REMOTE_FORWARD", "[]"}, {"AGENT_FORWARD", "false"}, {"X11_FORWARD", "false"}} {
			vars = append(vars, variable{"INPOD_SSH_" + v[0], v[1], "ssh-forward"})
		}
	}
	return vars
}

// stopSignal begins the drain in a hook where the container is stopped by another signal than SIGTERM: to inpod SIGINT
// means without delay and SIGQUIT at once, and the rest mean nothing. The image's words for it are Docker's: a name or a number.
func (p *plan) stopSignal(context.Context) error {
	signal, hooks := p.image.StopSignal, p.c.Lifecycle
	if hooks != nil && hooks.StopSignal != nil {
		signal = string(*hooks.StopSignal)
	}
	if name := strings.TrimPrefix(strings.ToUpper(signal), "SIG"); p.mode != Wrap || name == "" || name == "TERM" || name == "15" ||
		hooks != nil && hooks.PreStop != nil { // which grace has warned of
		return nil
	}
	if hooks == nil {
		p.c.Lifecycle = &corev1.Lifecycle{}
	}
	p.c.Lifecycle.PreStop = execHook(binary, "drain", "--wait", "--timeout", seconds(p.drainTime()+hookSlack))
	p.rep.did("container %s has a preStop hook that drains, since it is stopped by %s and not by SIGTERM", p.c.Name, clip(signal))
	return nil
}

// drains tells whether a hook is one that begins inpod's drain itself.
func drains(hook *corev1.ExecAction) bool {
	return hook != nil && len(hook.Command) > 1 && runsInpod(hook.Command) && hook.Command[1] == "drain"
}

// grace makes room for the drain: what Kubernetes kills in the middle of it was not drained.
func (p *plan) grace(context.Context) error {
	if p.drainTime() == 0 {
		return nil // nothing is drained, and the command gets its SIGTERM as before
	}
	took := p.drainTime() + mainStop + hookSlack
	if hook := p.c.Lifecycle; p.mode == Wrap && hook != nil && hook.PreStop != nil && !drains(hook.PreStop.Exec) {
		p.rep.warn("container %q has a preStop hook, and inpod begins to drain only after it; remove the hook, since inpod goes on serving for "+
			"inpod.dev/drain-delay by itself", p.c.Name)
		if hook.PreStop.Sleep != nil {
			took += time.Duration(hook.PreStop.Sleep.Seconds) * time.Second
		}
	}
	need := int64((took + time.Second - 1) / time.Second)
	has := p.pod.Spec.TerminationGracePeriodSeconds
	switch {
	case has != nil && *has >= need:
		return nil
	case p.opt.is("grace", keep):
		n := int64(defaultGrace)
		if has != nil {
			n = *has
		}
		p.rep.warn("terminationGracePeriodSeconds is %d and stays so, but the drain takes up to %d seconds and is cut off; write %d", n, need, need)
		return nil
	case has != nil && *has != defaultGrace && !p.opt.is("grace", "raise"):
		return refuse(GraceTooShort, *has, need, need)
	}
	p.pod.Spec.TerminationGracePeriodSeconds = &need
	p.rep.did("terminationGracePeriodSeconds is %d, which the drain may take", need)
	return nil
}
