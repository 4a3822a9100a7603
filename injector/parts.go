package injector

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Where inpod's things are in the containers, and what they are called in the pod.
const (
	binDir     = "/opt/inpod"
	binary     = binDir + "/inpod"
	runDir     = "/run/inpod"
	configDir  = "/opt/inpod-config"
	keysDir    = "/opt/inpod-keys"
	keysFile   = keysDir + "/authorized_keys"
	hostKeyDir = "/opt/inpod-host-keys"

	imageBinary    = "/inpod" // in inpod's image
	redirectBinary = "/inpod-injector"

	binVolume     = "inpod-bin"
	runVolume     = "inpod-run"
	configVolume  = "inpod-config"
	keysVolume    = "inpod-keys"
	hostKeyVolume = "inpod-host-keys"

	installName  = "inpod-install"
	redirectName = "inpod-redirect"
	sidecarName  = "inpod"

	// What the API server's plugin ServiceAccount adds (k8s.io/kubernetes, plugin/pkg/admission/serviceaccount).
	tokenDir    = "/var/run/secrets/kubernetes.io/serviceaccount"
	tokenVolume = "kube-api-access-"

	nobody = 65532 // the number that images without users run as
)

// command finds out what the container starts, where it does not say so itself.
func (p *plan) command(ctx context.Context) error {
	if runsInpod(p.c.Command) || len(p.c.Command) > 0 && p.c.Command[0] == binary {
		return leftAlone(left(RunsInpod, p.c.Name))
	}
	if p.mode != Wrap || len(p.c.Command) > 0 {
		return nil
	}
	if p.set.Images == nil {
		return refuse(NoCommand, p.c.Name, clipLong(p.c.Image), "no registry may be asked")
	}
	image, err := p.set.Images.Image(ctx, p.c.Image)
	if err != nil {
		return refuse(NoCommand, p.c.Name, clipLong(p.c.Image), err)
	}
	p.image, p.st.Lookup = image, image.Digest
	args := p.c.Args
	if len(args) == 0 {
		args = literal(image.Cmd)
	}
	p.c.Command, p.c.Args = literal(image.Entrypoint), args
	switch words := slices.Concat(p.c.Command, args); {
	case len(words) == 0:
		return refuse(EmptyCommand, p.c.Name, clipLong(p.c.Image))
	case runsInpod(words):
		return leftAlone(left(RunsInpod, p.c.Name))
	}
	return nil
}

// literal protects what an image says from the kubelet, which replaces $(NAME) in a pod's command but not in an
// image's entrypoint.
func literal(words []string) []string {
	out := make([]string, 0, len(words))
	for _, w := range words {
		escaped := make([]byte, 0, len(w))
		for i := range len(w) {
			if w[i] == '$' && i+1 < len(w) && (w[i+1] == '(' || w[i+1] == '$') {
				escaped = append(escaped, '$')
			}
			escaped = append(escaped, w[i])
		}
		out = append(out, string(escaped))
	}
	return out
}

// inject adds the containers and volumes, and puts inpod in front of the container's command.
func (p *plan) inject(ctx context.Context) error {
	if err := p.freePaths(); err != nil {
		return err
	}
	p.ssh, p.guaranteed = p.wantsSSH(), guaranteed(&p.pod.Spec)
	p.volume(binVolume, corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}})
	p.volume(runVolume, corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}})
	p.initContainer(corev1.Container{
		Name: installName, Image: p.opt.text("image"), Command: []string{imageBinary, "install", binDir},
		SecurityContext: restricted(nobody),
		VolumeMounts:    []corev1.VolumeMount{{Name: binVolume, MountPath: binDir}},
	})
	mount(p.c, corev1.VolumeMount{Name: binVolume, MountPath: binDir, ReadOnly: true})
	mount(p.c, corev1.VolumeMount{Name: runVolume, MountPath: runDir})
	if p.st.Intercept == redirect {
		p.redirect()
	}
	if p.mode == Sidecar {
		p.addSidecar(ctx)
		return nil
	}
	run := []string{binary, "run"}
	if p.file != "" {
		p.configFile(p.c)
		run = append(run, "--config", configDir+"/"+inpodYAML)
	}
	p.c.Command = append(append(run, "--"), p.c.Command...)
	p.rep.did("container %s starts inpod, and inpod starts what it started before", p.c.Name)
	return nil
}

func (p *plan) configFile(c *corev1.Container) {
	p.volume(configVolume, corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
		LocalObjectReference: corev1.LocalObjectReference{Name: p.opt.text("config")},
		Items:                []corev1.KeyToPath{{Key: inpodYAML, Path: inpodYAML}},
	}})
	mount(c, corev1.VolumeMount{Name: configVolume, MountPath: configDir, ReadOnly: true})
}

// addSidecar adds inpod as a native sidecar: an init container that stays. It is the last one, so it starts when the
// others have ended and ends when the containers have. The kubelet runs the preStop hooks of all containers at once,
// and sends SIGTERM to sidecars last: so the drain begins in the sidecar, and the server's hook waits for its end.
func (p *plan) addSidecar(ctx context.Context) {
	always := corev1.ContainerRestartPolicyAlways
	admin := int(p.opt.port("admin-port"))
	c := corev1.Container{
		Name: sidecarName, Image: p.opt.text("image"), Command: []string{imageBinary, "run"}, RestartPolicy: &always,
		SecurityContext: restricted(p.user(ctx)),
		VolumeMounts:    []corev1.VolumeMount{{Name: runVolume, MountPath: runDir}},
		// No startup probe: the containers start only after it, and it would wait for them.
		ReadinessProbe: httpProbe("/readyz", admin, 5, 1),
		LivenessProbe:  httpProbe("/livez", admin, 10, 3),
		Lifecycle:      &corev1.Lifecycle{PreStop: execHook(imageBinary, "drain")},
	}
	if p.file != "" {
		p.configFile(&c)
		c.Command = append(c.Command, "--config", configDir+"/"+inpodYAML)
	}
	p.initContainer(c)
	p.rep.did("inpod runs as a sidecar beside container %s", p.c.Name)
	if p.c.Lifecycle != nil && p.c.Lifecycle.PreStop != nil {
		p.rep.warn("container %q has a preStop hook of its own, so it may be stopped before inpod has drained; remove the hook, or "+
			"write the label inpod.dev/inject: wrap", p.c.Name)
		return
	}
	if p.c.Lifecycle == nil {
		p.c.Lifecycle = &corev1.Lifecycle{}
	}
	// --join: the kubelet runs the hook also when it restarts this container alone, and then nothing is to be drained.
	p.c.Lifecycle.PreStop = execHook(binary, "drain", "--join", seconds(joinTime), "--timeout", seconds(p.drainTime()+hookSlack))
	p.rep.did("container %s is stopped only when inpod has drained", p.c.Name)
}

// user is whom the sidecar runs as: the server's user, since the control socket, on which the server's hook asks for
// the drain, is for one user and root.
func (p *plan) user(ctx context.Context) int64 {
	var said *int64
	if sc := p.pod.Spec.SecurityContext; sc != nil {
		said = sc.RunAsUser
	}
	if sc := p.c.SecurityContext; sc != nil && sc.RunAsUser != nil {
		said = sc.RunAsUser
	}
	unknown := ""
	if said == nil && p.set.Images != nil {
		image, err := p.set.Images.Image(ctx, p.c.Image)
		name, _, _ := strings.Cut(image.User, ":")
		n, bad := strconv.ParseInt(name, 10, 32)
		switch {
		case err != nil:
			unknown = err.Error()
		case name == "" || name == "root":
			said = new(int64)
		case bad != nil:
			unknown = fmt.Sprintf("the image names the user %q and not its number", clip(name))
		default:
			said = &n
		}
	} else if said == nil {
		unknown = "no registry may be asked"
	}
	if unknown != "" {
		p.rep.warn("which user container %q runs as is not known (%s): unless it is root, its preStop hook cannot ask inpod to drain; write "+
			"securityContext.runAsUser", p.c.Name, unknown)
	}
	if said == nil || *said == 0 {
		return nobody
	}
	return *said
}

// redirect adds the init container that leads arriving connections to inpod.
func (p *plan) redirect() {
	command := []string{redirectBinary, "redirect"}
	for _, t := range p.ports {
		command = append(command, "--to-proxy", pair(t.Port, t.Proxy), "--to-server", pair(t.Direct, t.Port))
	}
	sc := restricted(0)
	sc.RunAsNonRoot = new(bool) // false: nothing but root gets a capability that is added
	sc.Capabilities.Add = []corev1.Capability{"NET_ADMIN"}
	p.initContainer(corev1.Container{Name: redirectName, Image: p.set.RedirectImage, Command: command, SecurityContext: sc})
}

func pair(from, to int32) string { return strconv.Itoa(int(from)) + ":" + strconv.Itoa(int(to)) }

func (p *plan) initContainer(c corev1.Container) {
	c.ImagePullPolicy = corev1.PullPolicy(p.opt.text("image-pull-policy"))
	c.Resources = p.resources(&c)
	if token := p.token(); token != nil {
		mount(&c, *token)
	}
	p.pod.Spec.InitContainers = append(p.pod.Spec.InitContainers, c)
	p.st.InitContainers = append(p.st.InitContainers, c.Name)
}

// token is the mount of the service account's token as the API server adds it to every container, before webhooks and then to what
// webhooks have added: nil where there is none, or where the pod has its own. With it nothing is left to add, and so the API
// server does not ask the webhook a second time (reinvocationPolicy: IfNeeded).
func (p *plan) token() *corev1.VolumeMount {
	for i := range p.pod.Spec.Containers {
		for _, m := range p.pod.Spec.Containers[i].VolumeMounts {
			if m.MountPath == tokenDir && strings.HasPrefix(m.Name, tokenVolume) {
				return &m
			}
		}
	}
	return nil
}

func (p *plan) volume(name string, source corev1.VolumeSource) {
	p.pod.Spec.Volumes = append(p.pod.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: source})
	p.st.Volumes = append(p.st.Volumes, name)
}

func mount(c *corev1.Container, m corev1.VolumeMount) { c.VolumeMounts = append(c.VolumeMounts, m) }

// restricted is what the Pod Security level of that name asks for.
func restricted(user int64) *corev1.SecurityContext {
	yes, no := true, false
	return &corev1.SecurityContext{
		RunAsUser: &user, RunAsNonRoot: &yes, AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes,
		Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
}

// freePaths refuses a container which mounts something where inpod's files go. Below them nothing can be mounted either,
// since they are read-only, but for the directory of the socket; and in what is itself read-only, they cannot be.
func (p *plan) freePaths() error {
	for _, m := range p.c.VolumeMounts {
		at := path.Clean(m.MountPath)
		for _, dir := range []string{binDir, runDir, configDir, keysDir, hostKeyDir} {
			if at == dir || dir != runDir && under(at, dir) || under(dir, at) && p.readOnly(m) {
				return refuse(PathTaken, p.c.Name, m.MountPath)
			}
		}
	}
	return nil
}

func under(file, dir string) bool { return strings.HasPrefix(file, strings.TrimSuffix(dir, "/")+"/") }

func (p *plan) readOnly(m corev1.VolumeMount) bool {
	i := slices.IndexFunc(p.pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name })
	if m.ReadOnly || i < 0 {
		return m.ReadOnly
	}
	v := p.pod.Spec.Volumes[i]
	return v.ConfigMap != nil || v.Secret != nil || v.Projected != nil || v.DownwardAPI != nil
}

// freeNames refuses a pod in which something has one of our names; it looks last, when all of ours are there.
func (p *plan) freeNames(context.Context) error {
	seen := map[string]bool{}
	for _, list := range [][]corev1.Container{p.pod.Spec.InitContainers, p.pod.Spec.Containers} {
		for _, c := range list {
			if seen[c.Name] && slices.Contains(p.st.InitContainers, c.Name) {
				return refuse(NameTaken, "container", c.Name)
			}
			seen[c.Name] = true
		}
	}
	seen = map[string]bool{}
	for _, v := range p.pod.Spec.Volumes {
		if seen[v.Name] && slices.Contains(p.st.Volumes, v.Name) {
			return refuse(NameTaken, "volume", v.Name)
		}
		seen[v.Name] = true
	}
	return nil
}
