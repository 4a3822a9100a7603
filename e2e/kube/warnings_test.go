//go:build kube

package kube

// warned are pods that are admitted with a warning.
func warned() []refusal {
	return []refusal{{
		name: "grace-keep", manifest: with("annotations: {}", "annotations: {inpod.dev/grace: keep}"),
		says:   "terminationGracePeriodSeconds is 30 and stays so, but the drain takes up to 125 seconds and is cut off; write 125",
		advice: []advice{{"write 125", []string{"spec:", "spec:\n  terminationGracePeriodSeconds: 125"}}},
	}, {
		name: "prestop", manifest: with("command: [web]", "command: [web], lifecycle: {preStop: {sleep: {seconds: 5}}}"),
		says: `container "web" has a preStop hook, and inpod begins to drain only after it; ` +
			`remove the hook, since inpod goes on serving for inpod.dev/drain-delay by itself`,
		advice: []advice{{"remove the hook", []string{", lifecycle: {preStop: {sleep: {seconds: 5}}}", ""}}},
	}, {
		name: "prestop-sidecar", manifest: with("inject: wrap", "inject: sidecar", "spec:", "spec:\n  securityContext: {runAsUser: 1000}",
			"command: [web]", "command: [web], lifecycle: {preStop: {sleep: {seconds: 5}}}"),
		says: `container "web" has a preStop hook of its own, so it may be stopped before inpod has drained; ` +
			`remove the hook, or write the label inpod.dev/inject: wrap`,
		advice: []advice{{"remove the hook", []string{", lifecycle: {preStop: {sleep: {seconds: 5}}}", ""}}},
	}, {
		name: "user", manifest: with("inject: wrap", "inject: sidecar", "registry.test", "10.98.0.1:1"),
		says: `which user container "web" runs as is not known (the registry 10.98.0.1:1: ` +
			`Get "https://10.98.0.1:1/v2/": dial tcp 10.98.0.1:1: connect: connection refused; ` +
			`Get "http://10.98.0.1:1/v2/": dial tcp 10.98.0.1:1: connect: connection refused): unless it is root, its preStop hook cannot ask inpod to drain; write securityContext.runAsUser`,
		offline: `which user container "web" runs as is not known (no registry may be asked): unless it is root, its preStop hook cannot ask ` +
			`inpod to drain; write securityContext.runAsUser`,
		advice: []advice{{"write securityContext.runAsUser", []string{"command: [web]", "command: [web], securityContext: {runAsUser: 1000}"}}},
	}, {
		name: "readiness", manifest: with("command: [web]", "command: [web], readinessProbe: {exec: {command: [cat]}}"),
		says: `the readiness probe of container "web" stays as it is, so the pod counts as ready while inpod warms up or drains; ` +
			`write inpod.dev/health instead and remove the probe`,
		advice: []advice{{"write inpod.dev/health", []string{
			", readinessProbe: {exec: {command: [cat]}}", "", "annotations: {}",
			`annotations: {inpod.dev/health: "exec:cat"}`,
		}}},
	}, {
		name: "own-variable", manifest: with("command: [web]", "command: [web], env: [{name: INPOD_LOG_LEVEL, value: debug}]"),
		says:   `container "web" sets INPOD_LOG_LEVEL itself, and that counts; remove it, so that the annotations do`,
		advice: []advice{{"remove it", []string{", env: [{name: INPOD_LOG_LEVEL, value: debug}]", ""}}},
	}, {
		name: "ssh-off", manifest: settings(", inpod.dev/ssh-keys: alice-keys", `inpod.yaml: "ssh: {listen: 'off'}"`),
		says: `inpod.yaml of ConfigMap "NAME-settings" sets ssh.listen to off, so nobody can log in; write inpod.dev/ssh: on, or leave it out`,
		advice: []advice{
			{"write inpod.dev/ssh: on", []string{"ssh-keys: alice-keys", `ssh-keys: alice-keys, inpod.dev/ssh: "on"`}},
			{"leave it out", []string{`"ssh: {listen: 'off'}"`, `"{}"`}},
		},
	}, {
		name: "qos", manifest: with("inject: wrap", "inject: sidecar", "spec:", "spec:\n  securityContext: {runAsUser: 1000}",
			"command: [web]", "command: [web], resources: {limits: {cpu: 100m, memory: 64Mi}}"),
		says: `the pod is of the QoS class Guaranteed, and to keep that, the sidecar requests what its limits are: 1 of CPU and 256Mi of memory; ` +
			`write inpod.dev/cpu-limit and inpod.dev/memory-limit for others`,
	}, {
		name: "argo", manifest: with("labels: {", "labels: {workflows.argoproj.io/workflow: w, "),
		says:   `inpod left the pod alone: Argo Workflow wraps the commands of its pods itself; inpod.dev/inject-anyway: "true" injects all the same`,
		advice: []advice{{`inpod.dev/inject-anyway: "true"`, []string{"annotations: {}", `annotations: {inpod.dev/inject-anyway: "true"}`}}},
	}, {
		name: "kaniko", manifest: with("registry.test/web:1", "gcr.io/kaniko-project/executor:v1"),
		says:   `inpod left the pod alone: Kaniko replaces the file system that it runs in; inpod.dev/inject-anyway: "true" injects all the same`,
		advice: []advice{{`inpod.dev/inject-anyway: "true"`, []string{"annotations: {}", `annotations: {inpod.dev/inject-anyway: "true"}`}}},
	}, {
		name: "named", manifest: strict(),
		says: `the Pod Security level restricted of this namespace does not allow a redirect: the name http moves to port 15080; Services that ` +
			`name the number 8000 go past inpod, so write targetPort: http there`,
		advice: []advice{{"http", []string{"annotations: {}", "annotations: {inpod.dev/intercept: named}"}}},
	}, {
		name: "unnamed", manifest: strict("name: http, ", ""),
		says: `the Pod Security level restricted of this namespace does not allow a redirect and port 8000 has no name: write targetPort: 15080 ` +
			`in the Service, or give the port a name`,
		advice: []advice{{"targetPort: 15080", []string{"annotations: {}", "annotations: {inpod.dev/intercept: none}"}}},
	}}
}
