//go:build kube

package kube

import "strings"

// web is a pod that is injected. It is never scheduled, so nothing of it is pulled or started.
const web = `
apiVersion: v1
kind: Pod
metadata: {name: NAME, namespace: NAMESPACE, labels: {inpod.dev/inject: wrap}, annotations: {}}
spec:
  schedulingGates: [{name: e2e.inpod.dev/never}]
  containers:
  - {name: web, image: "registry.test/web:1", command: [web], ports: [{name: http, containerPort: 8000}]}
`

// with is web with some texts replaced by others.
func with(edits ...string) string {
	text := web
	for i := 0; i < len(edits); i += 2 {
		if !strings.Contains(text, edits[i]) {
			panic("BUG: the pod does not have " + edits[i])
		}
		text = strings.Replace(text, edits[i], edits[i+1], 1)
	}
	return text
}

func annotated(annotations string) string {
	return with("annotations: {}", "annotations: {"+annotations+"}")
}

// settings is a pod that reads a ConfigMap, and the ConfigMap.
func settings(annotations, data string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: NAME-settings, namespace: NAMESPACE}\ndata:\n  " + data + "\n---" +
		annotated("inpod.dev/config: NAME-settings"+annotations)
}

// unlabelled takes the label away.
var unlabelled = []string{"labels: {inpod.dev/inject: wrap}", "labels: {}"}

func refusals() []refusal {
	return append(append(refusedSettings(), refusedPods()...), refusedPorts()...)
}

func refusedSettings() []refusal {
	return []refusal{{
		name: "value", manifest: annotated("inpod.dev/timeout: fast"),
		says:   `annotation inpod.dev/timeout is "fast"; want a duration such as 90s or 5m`,
		advice: []advice{{"90s", []string{"fast", "90s"}}, {"5m", []string{"fast", "5m"}}},
	}, {
		name: "misspelt", manifest: annotated(`inpod.dev/intercpt: redirect, inpod.dev/queue: "-1"`),
		says: `annotation inpod.dev/intercpt is none that inpod knows; did you mean inpod.dev/intercept?; ` +
			`annotation inpod.dev/queue is "-1"; want a whole number, 0 or more`,
		advice: []advice{{"inpod.dev/intercept?", []string{"intercpt", "intercept", `"-1"`, `"0"`}}},
	}, {
		name: "label-as-annotation", manifest: annotated("inpod.dev/inject: wrap"),
		says:   "annotation inpod.dev/inject is none that inpod knows; inpod.dev/inject is a label of the pod",
		advice: []advice{{"is a label of the pod", []string{"annotations: {inpod.dev/inject: wrap}", "annotations: {}"}}},
	}, {
		name: "profile", manifest: annotated("inpod.dev/profile: inferrence"),
		says:   `annotation inpod.dev/profile is "inferrence"; want inference, notebook or airlock`,
		advice: []advice{{"inference,", []string{"inferrence", "inference"}}, {"notebook", []string{"inferrence", "notebook"}}},
	}, {
		name: "label", manifest: with("inject: wrap", `inject: "yes"`),
		says: `the label inpod.dev/inject is "yes"; write wrap, sidecar, "true" or "false"`,
		advice: []advice{
			{"wrap", []string{`"yes"`, "wrap"}},
			{"sidecar", []string{`"yes"`, "sidecar", "  containers:", "  securityContext: {runAsUser: 1000}\n  containers:"}},
			{`"true"`, []string{`"yes"`, `"true"`}},
			{`"false"`, []string{`"yes"`, `"false"`}},
		},
	}, {
		name: "no-configmap", manifest: annotated("inpod.dev/config: NAME-settings"),
		says: `annotation inpod.dev/config names the ConfigMap "NAME-settings", which cannot be read: ` +
			`configmaps "NAME-settings" not found; create it in this namespace or remove the annotation`,
		offline: `annotation inpod.dev/config names the ConfigMap "NAME-settings", which cannot be read: ` +
			`it is not in the file; create it in this namespace or remove the annotation`,
		advice: []advice{
			{"create it in this namespace", []string{
				"\napiVersion: v1\nkind: Pod\n",
				"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: NAME-settings, namespace: NAMESPACE}\n---\napiVersion: v1\nkind: Pod\n",
			}},
			{"remove the annotation", []string{"inpod.dev/config: NAME-settings", ""}},
		},
	}, {
		name: "agent-file", manifest: settings("", `inpod.yaml: "proxy: {rutes: []}"`),
		says: `inpod would not start with these settings: inpod.yaml:1: proxy.rutes: is not a setting; did you mean proxy.routes?; ` +
			`correct the annotation, or the ConfigMap that inpod.dev/config names`,
		advice: []advice{{"proxy.routes?", []string{"rutes: []", "access_log: {slow: 2s}"}}},
	}, {
		name: "agent-annotation", manifest: annotated(`inpod.dev/health: 'exec:"x'`),
		says: `inpod would not start with these settings: annotation inpod.dev/health: proxy.routes[0].health: "exec:\"x" has a quote that is not closed; ` +
			`correct the annotation, or the ConfigMap that inpod.dev/config names`,
		advice: []advice{{"correct the annotation", []string{`'exec:"x'`, `'exec:"x"'`}}},
	}, {
		name: "admin-hidden", manifest: settings("", `inpod.yaml: "admin: {listen: '127.0.0.1:9880'}"`),
		says: `inpod.yaml of ConfigMap "NAME-settings" sets admin.listen to "127.0.0.1:9880", which probes cannot reach; ` +
			`write a port alone there, such as :9880, leave it out, or write inpod.dev/admin-port`,
		advice: []advice{
			{":9880", []string{"127.0.0.1:9880", ":9880"}},
			{"leave it out", []string{"admin: {listen: '127.0.0.1:9880'}", "{}"}},
			{"write inpod.dev/admin-port", []string{"config: NAME-settings", `config: NAME-settings, inpod.dev/admin-port: "9880"`}},
		},
	}, {
		name: "no-route", manifest: settings("", `inpod.yaml: "proxy: {routes: [{listen: ':9000', upstream: '127.0.0.1:8001'}]}"`),
		says: `inpod.yaml of ConfigMap "NAME-settings" has routes, but none with upstream port 8000 that listens; ` +
			`add one, write inpod.dev/port: none, or leave proxy.routes out`,
		advice: []advice{
			{"add one", []string{"routes: [", "routes: [{listen: ':9001', upstream: '127.0.0.1:8000'}, "}},
			{"inpod.dev/port: none", []string{"config: NAME-settings", "config: NAME-settings, inpod.dev/port: none"}},
			{"leave proxy.routes out", []string{"routes: [{listen: ':9000', upstream: '127.0.0.1:8001'}]", ""}},
		},
	}, {
		name: "airlock", manifest: annotated("inpod.dev/profile: airlock"),
		says: `inpod.dev/ssh-users is not set and inpod.dev/ssh-keys neither, so the profile airlock lets nobody in; ` +
			`write inpod.dev/ssh-keys with the name of a Secret that has the key authorized_keys`,
		advice: []advice{{"write inpod.dev/ssh-keys", []string{"profile: airlock", "profile: airlock, inpod.dev/ssh-keys: alice-keys"}}},
	}}
}

func refusedPods() []refusal {
	return []refusal{{
		name: "no-container", manifest: annotated("inpod.dev/container: modle"),
		says:   `annotation inpod.dev/container names the container "modle", which the pod does not have; write one of web`,
		advice: []advice{{"write one of web", []string{"modle", "web"}}},
	}, {
		name: "no-command", manifest: with("registry.test", "10.98.0.1:1", "command: [web], ", ""),
		says: `container "web" has no command, and what its image "10.98.0.1:1/web:1" starts cannot be looked up: the registry 10.98.0.1:1: ` +
			`Get "https://10.98.0.1:1/v2/": dial tcp 10.98.0.1:1: connect: connection refused; ` +
			`Get "http://10.98.0.1:1/v2/": dial tcp 10.98.0.1:1: connect: connection refused; write command: and args: in the container, as ` +
			`"docker inspect -f '{{json .Config.Entrypoint}} {{json .Config.Cmd}}' IMAGE" shows them`,
		offline: `container "web" has no command, and what its image "10.98.0.1:1/web:1" starts cannot be looked up: `,
		advice:  []advice{{"write command: and args:", []string{"ports: [", "command: [web], args: [--port, \"8000\"], ports: ["}}},
	}, {
		name: "grace", manifest: with("spec:", "spec:\n  terminationGracePeriodSeconds: 45"),
		says: `terminationGracePeriodSeconds is 45, but the drain takes up to 125 seconds; write terminationGracePeriodSeconds: 125, ` +
			`or a shorter inpod.dev/drain-deadline, or inpod.dev/grace: raise`,
		advice: []advice{
			{"write terminationGracePeriodSeconds: 125", []string{"Seconds: 45", "Seconds: 125"}},
			{"a shorter inpod.dev/drain-deadline", []string{"annotations: {}", "annotations: {inpod.dev/drain-deadline: 10s}"}},
			{"inpod.dev/grace: raise", []string{"annotations: {}", "annotations: {inpod.dev/grace: raise}"}},
		},
	}, {
		name: "host-network", manifest: with("spec:", "spec:\n  hostNetwork: true"),
		says: `with hostNetwork: true inpod's ports and its redirect would be the node's; remove hostNetwork, or the label inpod.dev/inject`,
		advice: []advice{
			{"remove hostNetwork", []string{"\n  hostNetwork: true", ""}}, {"or the label inpod.dev/inject", unlabelled},
		},
	}, {
		name: "windows", manifest: with("spec:", "spec:\n  os: {name: windows}"),
		says:   `inpod runs on Linux only; remove the label inpod.dev/inject from this Windows pod`,
		advice: []advice{{"remove the label inpod.dev/inject", unlabelled}},
	}, {
		name: "windows-selector", manifest: with("spec:", "spec:\n  nodeSelector: {kubernetes.io/os: windows}"),
		says:   `inpod runs on Linux only; remove the label inpod.dev/inject from this Windows pod`,
		advice: []advice{{"remove the label inpod.dev/inject", unlabelled}},
	}, {
		// As a kubelet shows it, which names itself and waits for no scheduler.
		name: "static", manifest: with("annotations: {}", "annotations: {kubernetes.io/config.mirror: abc}", "schedulingGates: [{name: e2e.inpod.dev/never}]", "nodeName: node1"),
		says: `static pods come from a file on the node and cannot be changed by the API server; run inpod-injector inject -f FILE and give ` +
			`the kubelet what it prints, or remove the label inpod.dev/inject and put inpod into the image`,
		advice: []advice{{"remove the label", unlabelled}},
	}, {
		name: "volume-name", manifest: with("spec:", "spec:\n  volumes: [{name: inpod-bin, emptyDir: {}}]"),
		says:   `the pod has a volume called "inpod-bin" already, which is a name of inpod's; rename it`,
		advice: []advice{{"rename it", []string{"inpod-bin", "bin"}}},
	}, {
		name: "container-name", manifest: with("spec:", "spec:\n  initContainers: [{name: inpod-install, image: x}]"),
		says:   `the pod has a container called "inpod-install" already, which is a name of inpod's; rename it`,
		advice: []advice{{"rename it", []string{"inpod-install", "install"}}},
	}, {
		name: "path", manifest: with("spec:", "spec:\n  volumes: [{name: run, emptyDir: {}}]", "command: [web]",
			"command: [web], volumeMounts: [{name: run, mountPath: /run/inpod}]"),
		says:   `container "web" mounts something at /run/inpod, where inpod's files go; mount it elsewhere`,
		advice: []advice{{"mount it elsewhere", []string{"/run/inpod", "/run/web"}}},
	}, {
		name: "partly", manifest: with("annotations: {}", `annotations: {inpod.dev/status: '{"mode":"wrap","container":"web","image":"x",`+
			`"intercept":"redirect","adminPort":9880,"initContainers":["inpod-install"],"volumes":["inpod-bin"],"done":[]}'}`,
			"spec:", "spec:\n  volumes: [{name: inpod-bin, emptyDir: {}}]"),
		says: `inpod.dev/status says that inpod was injected, but the init container inpod-install is not as it was left; ` +
			`remove that annotation and everything whose name begins with inpod, or bring the whole pod`,
		advice: []advice{{"remove that annotation and everything", []string{
			`inpod.dev/status: '{"mode":"wrap","container":"web","image":"x",` +
				`"intercept":"redirect","adminPort":9880,"initContainers":["inpod-install"],"volumes":["inpod-bin"],"done":[]}'`, "",
			"{name: inpod-bin, emptyDir: {}}", "",
		}}},
	}, {
		name: "sidecar-ssh", manifest: with("inject: wrap", "inject: sidecar", "annotations: {}", "annotations: {inpod.dev/ssh-keys: alice-keys}",
			"spec:", "spec:\n  securityContext: {runAsUser: 1000}"),
		says: `SSH leads into the container that inpod runs in, which is not the user's in sidecar mode; ` +
			`write the label inpod.dev/inject: wrap, or inpod.dev/ssh: off`,
		advice: []advice{
			{"inpod.dev/inject: wrap", []string{"inject: sidecar", "inject: wrap"}},
			{"inpod.dev/ssh: off", []string{"annotations: {", `annotations: {inpod.dev/ssh: "off", `}},
		},
	}}
}

func refusedPorts() []refusal {
	const ports = "ports: [{name: http, containerPort: 8000}]"
	return []refusal{{
		name: "many-ports", manifest: with(ports, "ports: [{containerPort: 8000}, {name: grpc, containerPort: 8001}]"),
		says: `container "web" has the ports 8000, grpc (8001) and none is called http; ` +
			`write inpod.dev/port with those that inpod shall stand in front of, or none`,
		advice: []advice{
			{"write inpod.dev/port", []string{"annotations: {}", `annotations: {inpod.dev/port: "8000"}`}},
			{"grpc", []string{"annotations: {}", "annotations: {inpod.dev/port: grpc}"}},
			{"or none", []string{"annotations: {}", "annotations: {inpod.dev/port: none}"}},
			{"is called http", []string{"name: grpc", "name: http"}},
		},
	}, {
		name: "unknown-port", manifest: annotated("inpod.dev/port: web"),
		says:   `annotation inpod.dev/port is "web", but container "web" has no TCP port of that name; write a number, or one of http (8000)`,
		advice: []advice{{"a number", []string{"port: web", `port: "8000"`}}, {"one of http", []string{"port: web", "port: http"}}},
	}, {
		name: "port-taken", manifest: with("spec:", "spec:\n  initContainers: [{name: metrics, image: x, restartPolicy: Always, ports: [{containerPort: 9880}]}]"),
		says:   `port 9880 is wanted for health and metrics, but container "metrics" has it; write another one in inpod.dev/admin-port`,
		advice: []advice{{"write another one in inpod.dev/admin-port", []string{"annotations: {}", `annotations: {inpod.dev/admin-port: "9881"}`}}},
	}, {
		name: "proxy-port", manifest: annotated(`inpod.dev/proxy-port: "8000"`),
		says:   `port 8000 is wanted for requests to port 8000, but the server has it; write another one in inpod.dev/proxy-port`,
		advice: []advice{{"write another one in inpod.dev/proxy-port", []string{`proxy-port: "8000"`, `proxy-port: "8001"`}}},
	}, {
		name: "unnamed", manifest: with("annotations: {}", "annotations: {inpod.dev/intercept: named}", "name: http, ", ""),
		says: `inpod.dev/intercept is named, but port 8000 of container "web" has no name; ` +
			`give it a name that the Service uses as targetPort, or write inpod.dev/intercept: redirect`,
		advice: []advice{
			{"give it a name", []string{"containerPort: 8000", "name: web, containerPort: 8000"}},
			{"inpod.dev/intercept: redirect", []string{"intercept: named", "intercept: redirect"}},
		},
	}, {
		name: "tls", manifest: with(ports, ports+", readinessProbe: {httpGet: {path: /, port: http, scheme: HTTPS}}"),
		says: `port 8000 of container "web" speaks TLS, as its probe with scheme HTTPS says, and inpod has to read requests; ` +
			`let the server speak HTTP, or write inpod.dev/port: none`,
		advice: []advice{
			{"let the server speak HTTP", []string{", scheme: HTTPS", ""}},
			{"inpod.dev/port: none", []string{"annotations: {}", "annotations: {inpod.dev/port: none}"}},
		},
	}, {
		name: "sidecar-no-port", manifest: with("inject: wrap", "inject: sidecar", ", "+ports, "", "spec:", "spec:\n  securityContext: {runAsUser: 1000}"),
		says: `a sidecar without a port has nothing to do; write inpod.dev/port: NUMBER, or the label inpod.dev/inject: wrap`,
		advice: []advice{
			{"inpod.dev/port: NUMBER", []string{"annotations: {}", `annotations: {inpod.dev/port: "8000"}`}},
			{"inpod.dev/inject: wrap", []string{"inject: sidecar", "inject: wrap"}},
		},
	}}
}

// strict is web as Pod Security's level restricted wants it.
func strict(edits ...string) string {
	return with(append([]string{
		"spec:", "spec:\n  securityContext: {runAsNonRoot: true, runAsUser: 1000, seccompProfile: {type: RuntimeDefault}}",
		"command: [web]", "command: [web], securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}",
	}, edits...)...)
}

func restrictedRefusals() []refusal {
	return []refusal{{
		name: "redirect", manifest: strict("annotations: {}", "annotations: {inpod.dev/intercept: redirect}"),
		says: `inpod.dev/intercept is redirect, which needs an init container with NET_ADMIN, and the Pod Security level restricted of this ` +
			`namespace forbids that; write inpod.dev/intercept: named, or none`,
		advice: []advice{
			{"inpod.dev/intercept: named", []string{"intercept: redirect", "intercept: named"}},
			{"or none", []string{"intercept: redirect", "intercept: none"}},
		},
	}}
}
