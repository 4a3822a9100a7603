package injector

import (
	"fmt"
	"slices"
	"strings"
)

// Reason is why a pod is refused or left alone, as metrics and Events name it.
type Reason string

// Why a pod is refused.
const (
	BadSetting      Reason = "BadSetting"
	BadInjectLabel  Reason = "BadInjectLabel"
	NoConfigMap     Reason = "NoConfigMap"
	BadAgentConfig  Reason = "BadAgentConfig"
	StaticPod       Reason = "StaticPod"
	WindowsPod      Reason = "WindowsPod"
	HostNetwork     Reason = "HostNetwork"
	NoContainer     Reason = "NoContainer"
	NoCommand       Reason = "NoCommand"
	EmptyCommand    Reason = "EmptyCommand"
	NoImage         Reason = "NoImage"
	ManyPorts       Reason = "ManyPorts"
	UnknownPort     Reason = "UnknownPort"
	PortTaken       Reason = "PortTaken"
	PortUnnamed     Reason = "PortUnnamed"
	PodSecurity     Reason = "PodSecurity"
	TLSServer       Reason = "TLSServer"
	GraceTooShort   Reason = "GraceTooShort"
	OldKubernetes   Reason = "OldKubernetes"
	SidecarNoPort   Reason = "SidecarNoPort"
	SidecarSSH      Reason = "SidecarSSH"
	NameTaken       Reason = "NameTaken"
	PathTaken       Reason = "PathTaken"
	PartlyInjected  Reason = "PartlyInjected"
	NoRouteForPort  Reason = "NoRouteForPort"
	SSHWithoutLogin Reason = "SSHWithoutLogin"
	AdminHidden     Reason = "AdminHidden"
)

// Why a pod is left alone.
const (
	NotAsked        Reason = "NotAsked"
	AlreadyInjected Reason = "AlreadyInjected"
	RunsInpod       Reason = "RunsInpod"
	ArgoWorkflow    Reason = "ArgoWorkflow"
	Kaniko          Reason = "Kaniko"
)

// sentences say what is wrong and what to write instead, each in the words of a pod's manifest.
var sentences = map[Reason]string{
	BadSetting:      "%s",
	BadInjectLabel:  "the label inpod.dev/inject is %q; write wrap, sidecar, \"true\" or \"false\"",
	NoConfigMap:     "%s names the ConfigMap %q, which cannot be read: %s; create it in this namespace or remove the annotation",
	BadAgentConfig:  "inpod would not start with these settings: %s; correct the annotation, or the ConfigMap that inpod.dev/config names",
	StaticPod:       "static pods come from a file on the node and cannot be changed by the API server; run inpod-injector inject -f FILE and give the kubelet what it prints, or remove the label inpod.dev/inject and put inpod into the image",
	WindowsPod:      "inpod runs on Linux only; remove the label inpod.dev/inject from this Windows pod",
	HostNetwork:     "with hostNetwork: true inpod's ports and its redirect would be the node's; remove hostNetwork, or the label inpod.dev/inject",
	NoContainer:     "%s names the container %q, which the pod does not have; write one of %s",
	NoCommand:       "container %q has no command, and what its image %q starts cannot be looked up: %s; write command: and args: in the container, as \"docker inspect -f '{{json .Config.Entrypoint}} {{json .Config.Cmd}}' IMAGE\" shows them",
	EmptyCommand:    "container %q has no command and its image %q starts nothing by itself; write command: in the container",
	NoImage:         "nobody said which image holds inpod; write inpod.dev/image, or give the injector --image",
	ManyPorts:       "container %q has the ports %s and none is called http; write inpod.dev/port with those that inpod shall stand in front of, or none",
	UnknownPort:     "%s is %q, but container %q has no TCP port of that name; write a number, or one of %s",
	PortTaken:       "port %d is wanted for %s, but %s has it; write another one in inpod.dev/%s",
	PortUnnamed:     "inpod.dev/intercept is named, but port %d of container %q has no name; give it a name that the Service uses as targetPort, or write inpod.dev/intercept: redirect",
	PodSecurity:     "inpod.dev/intercept is redirect, which needs an init container with NET_ADMIN, and the Pod Security level %s of this namespace forbids that; write inpod.dev/intercept: named, or none",
	TLSServer:       "port %d of container %q speaks TLS, as its probe with scheme HTTPS says, and inpod has to read requests; let the server speak HTTP, or write inpod.dev/port: none",
	GraceTooShort:   "terminationGracePeriodSeconds is %d, but the drain takes up to %d seconds; write terminationGracePeriodSeconds: %d, or a shorter inpod.dev/drain-deadline, or inpod.dev/grace: raise",
	OldKubernetes:   "native sidecars need Kubernetes 1.29 and this is %s; write the label inpod.dev/inject: wrap",
	SidecarNoPort:   "a sidecar without a port has nothing to do; write inpod.dev/port: NUMBER, or the label inpod.dev/inject: wrap",
	SidecarSSH:      "SSH leads into the container that inpod runs in, which is not the user's in sidecar mode; write the label inpod.dev/inject: wrap, or inpod.dev/ssh: off",
	NameTaken:       "the pod has a %s called %q already, which is a name of inpod's; rename it",
	PathTaken:       "container %q mounts something at %s, where inpod's files go; mount it elsewhere",
	PartlyInjected:  "inpod.dev/status says that inpod was injected, but %s is not as it was left; remove that annotation and everything whose name begins with inpod, or bring the whole pod",
	NoRouteForPort:  "inpod.yaml of ConfigMap %q has routes, but none with upstream port %d that listens; add one, write inpod.dev/port: none, or leave proxy.routes out",
	SSHWithoutLogin: "inpod.dev/ssh-users is not set and inpod.dev/ssh-keys neither, so the profile airlock lets nobody in; write inpod.dev/ssh-keys with the name of a Secret that has the key authorized_keys",
	AdminHidden:     "inpod.yaml of ConfigMap %q sets admin.listen to %q, which probes cannot reach; write a port alone there, such as :9880, leave it out, or write inpod.dev/admin-port",

	NotAsked:        "the pod has no label inpod.dev/inject with wrap, sidecar or true",
	AlreadyInjected: "inpod was injected before",
	RunsInpod:       "container %q starts inpod by itself",
	ArgoWorkflow:    "Argo Workflow wraps the commands of its pods itself; inpod.dev/inject-anyway: \"true\" injects all the same",
	Kaniko:          "Kaniko replaces the file system that it runs in; inpod.dev/inject-anyway: \"true\" injects all the same",
}

// Refusal is the error of Mutate for a pod that cannot be injected as its owner wants. Its text says what to write.
type Refusal struct {
	Reason Reason
	Text   string
}

func (r *Refusal) Error() string { return r.Text }

func refuse(why Reason, args ...any) *Refusal {
	return &Refusal{Reason: why, Text: fmt.Sprintf(sentences[why], args...)}
}

// refuseSettings is the refusal for everything that is wrong with what was written.
func refuseSettings(problems []string) *Refusal {
	return refuse(BadSetting, strings.Join(slices.Compact(problems), "; "))
}
