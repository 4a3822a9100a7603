//go:build kube

package kube

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// Jobs of all kinds end as they would without inpod: with the exit code of their own command, and without waiting for anybody.
func TestJobs(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			ns := newNamespace(t)
			// What does not wait for another begins at once: it is the cluster that takes its time.
			ns.apply(job("well", mode, "echo the output; echo the errors >&2", "backoffLimit: 0") + "---" +
				job("badly", mode, "echo not so well; echo a message >/dev/termination-log; exit 3", "backoffLimit: 0") + "---" +
				job("policy", mode, "exit 42", `backoffLimit: 6, podFailurePolicy: {rules: [
					{action: FailJob, onExitCodes: {containerName: main, operator: In, values: [42]}}]}`) + "---" +
				job("indexed", mode, "echo I am $JOB_COMPLETION_INDEX", "completionMode: Indexed, completions: 2, parallelism: 2, backoffLimit: 0") + "---" +
				job("late", mode, waiting, "activeDeadlineSeconds: 20") + "---" +
				// So long that whoever waits for its end fails the test.
				strings.Replace(job("deleted", mode, waiting, "backoffLimit: 0"), "Never", "Never, terminationGracePeriodSeconds: 900", 1) + "---" +
				`
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly}
spec:
  schedule: "0 3 1 1 *"
  jobTemplate:
    spec: {backoffLimit: 0, template: ` + jobPod(mode, "echo good night; exit 0") + `}
`)
			ns.kubectl("create", "job", "tonight", "--from", "cronjob/nightly")
			t.Run("deleted", func(t *testing.T) { deleteJob(t, ns.of(t)) })
			t.Run("well", func(t *testing.T) {
				ns := ns.of(t)
				ns.wait("job/well", "condition=Complete")
				ns.ended(t, "well", mode, "Succeeded", 0, "the output\n", "the errors\n")
			})
			t.Run("badly", func(t *testing.T) {
				ns := ns.of(t)
				ns.wait("job/badly", "condition=Failed")
				if end := ns.ended(t, "badly", mode, "Failed", 3, "not so well\n"); end.Message != "a message\n" {
					t.Errorf("the termination message: %q", end.Message)
				}
			})
			t.Run("policy", func(t *testing.T) {
				ns := ns.of(t)
				ns.wait("job/policy", "condition=Failed")
				if got := ns.field("job/policy", `.status.conditions[?(@.type=="Failed")].reason`); got != "PodFailurePolicy" {
					t.Errorf("it failed for %q", got)
				}
				ns.ended(t, "policy", mode, "Failed", 42)
			})
			t.Run("indexed", func(t *testing.T) {
				ns := ns.of(t)
				ns.wait("job/indexed", "condition=Complete")
				said := map[string]bool{}
				for _, p := range ns.pods("job-name=indexed") {
					for line := range strings.Lines(ns.kubectl("logs", p.Metadata.Name, "-c", "main")) {
						if strings.HasPrefix(line, "I am ") {
							said[strings.TrimSpace(line)] = true
						}
					}
				}
				if got := slices.Sorted(maps.Keys(said)); !slices.Equal(got, []string{"I am 0", "I am 1"}) {
					t.Errorf("the pods said %q", got)
				}
			})
			t.Run("cron", func(t *testing.T) {
				ns := ns.of(t)
				ns.wait("job/tonight", "condition=Complete")
				ns.ended(t, "tonight", mode, "Succeeded", 0, "good night\n")
			})
			t.Run("late", func(t *testing.T) {
				ns := ns.of(t)
				ns.wait("job/late", "condition=Failed")
				if got := ns.field("job/late", `.status.conditions[?(@.type=="Failed")].reason`); got != "DeadlineExceeded" {
					t.Errorf("it failed for %q", got)
				}
			})
		})
	}
}

// waiting works until it is told to end, and then ends well.
const waiting = `trap 'echo told to end; exit 0' TERM; while true; do echo working; sleep 1 & wait; done`

func job(name, mode, script, spec string) string {
	return fmt.Sprintf("\napiVersion: batch/v1\nkind: Job\nmetadata: {name: %s}\nspec: {%s, template: %s}\n", name, spec, jobPod(mode, script))
}

// jobPod is the pod of a Job. In sidecar mode there has to be a port, since there is nothing else for inpod to do.
func jobPod(mode, script string) string {
	port := ""
	if mode == "sidecar" {
		port = `, annotations: {inpod.dev/port: "8000"}`
	}
	return fmt.Sprintf(`{metadata: {labels: {inpod.dev/inject: %s}%s}, spec: {restartPolicy: Never, securityContext: {runAsUser: 1000},
		containers: [{name: main, image: inpod-test/digits:plain, command: [bash, -c, %s]}]}}`, mode, port, quote(script))
}

// ended looks at the pod of a Job that has ended, and returns the end of its container.
func (ns *namespace) ended(t *testing.T, job, mode, phase string, code int, output ...string) *termination {
	t.Helper()
	pods := ns.pods("job-name=" + job)
	if len(pods) != 1 {
		t.Fatalf("%d pods, want 1", len(pods))
	}
	p := pods[0]
	if p.Metadata.Labels["inpod.dev/injected"] != mode || p.Status.Phase != phase {
		t.Errorf("inpod.dev/injected: %q, phase %q", p.Metadata.Labels["inpod.dev/injected"], p.Status.Phase)
	}
	main := p.Status.ContainerStatuses[0].State.Terminated
	if main == nil || main.ExitCode != code {
		t.Fatalf("the container ended so: %+v, want exit code %d", main, code)
	}
	logs := ns.kubectl("logs", p.Metadata.Name, "-c", "main")
	for _, text := range output {
		if !strings.Contains(logs, text) {
			t.Errorf("kubectl logs lacks %q:\n%s", text, logs)
		}
	}
	for _, s := range p.Status.InitContainerStatuses {
		end := s.State.Terminated
		switch {
		case end == nil || end.ExitCode != 0: // 137 would say that the sidecar was killed after all of the grace period
			t.Errorf("%s ended so: %+v", s.Name, end)
		case s.Name == "inpod" && end.FinishedAt.Before(main.FinishedAt):
			t.Errorf("the sidecar ended at %v, the container at %v", end.FinishedAt, main.FinishedAt)
		}
	}
	return main
}

// deleteJob deletes a Job in the midst of its work: the command is told so at once, and nothing waits for a drain.
func deleteJob(t *testing.T, ns *namespace) {
	t.Helper()
	var p pod
	eventually(t, "the command is at work", func() bool {
		if pods := ns.pods("job-name=deleted"); len(pods) == 1 && len(pods[0].Status.ContainerStatuses) == 1 {
			p = pods[0]
		}
		return p.Metadata.Name != "" && p.Status.ContainerStatuses[0].State.Running != nil
	})
	said := ns.attach(p.Metadata.Name, "working")
	ns.kubectl("delete", "job", "deleted", "--wait=false")
	ns.kubectl("wait", "pod/"+p.Metadata.Name, "--for=delete", "--timeout=120s")
	if got := said(); !strings.Contains(got, "told to end\n") {
		t.Errorf("the command was not told to end:\n%s", got)
	}
}

// attach reads what the container main says from now on, until it has said a line. What it returns reads the rest, and waits for
// the container's end. (The kubelet's way to follow a log takes an inotify instance, of which a machine has 128.)
func (ns *namespace) attach(pod, until string) func() string {
	ns.t.Helper()
	cmd := exec.Command("kubectl", "--namespace", ns.name, "attach", pod, "--container", "main")
	out, err := cmd.StdoutPipe()
	if err != nil {
		ns.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		ns.t.Fatal(err)
	}
	read := bufio.NewReader(out)
	var said strings.Builder
	for !strings.Contains(said.String(), until+"\n") {
		line, err := read.ReadString('\n')
		if said.WriteString(line); err != nil {
			_ = cmd.Wait()
			ns.t.Fatalf("kubectl attach ended, and %q was not in it: %s", until, said.String())
		}
	}
	return func() string {
		_, _ = io.Copy(&said, read)
		_ = cmd.Wait()
		return said.String()
	}
}

// Who wraps the commands of pods or replaces their files is left alone, unless somebody insists.
func TestLeftAlone(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	// As Argo Workflow makes its pods: an init container puts argoexec where it becomes the command of main.
	argo := func(name, labels, annotations string) string {
		return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, labels: {inpod.dev/inject: wrap%s}, annotations: {%s}}
spec:
  restartPolicy: Never
  volumes: [{name: var-run-argo, emptyDir: {}}]
  initContainers:
  - name: init
    image: inpod-test/digits:plain
    command: [bash, -c, %s]
    volumeMounts: [{name: var-run-argo, mountPath: /var/run/argo}]
  containers:
  - name: main
    image: inpod-test/digits:plain
    command: [/var/run/argo/argoexec, emissary, --loglevel, info, --, bash, -c, "echo the step; exit 3"]
    volumeMounts: [{name: var-run-argo, mountPath: /var/run/argo}]
`, name, labels, annotations, quote(`printf '#!/bin/bash\nshift 4\n"$@"\ncode=$?\necho "emissary: $code"; exit $code\n' >/var/run/argo/argoexec; chmod 755 /var/run/argo/argoexec`))
	}
	const kaniko = `
apiVersion: v1
kind: Pod
metadata: {name: kaniko, labels: {inpod.dev/inject: wrap}}
spec:
  restartPolicy: Never
  volumes: [{name: kaniko, emptyDir: {}}]
  initContainers:
  - name: init
    image: inpod-test/digits:plain
    command: [cp, /bin/echo, /kaniko/executor]
    volumeMounts: [{name: kaniko, mountPath: /kaniko}]
  containers:
  - {name: main, image: inpod-test/digits:plain, command: [/kaniko/executor, --dockerfile, Dockerfile], volumeMounts: [{name: kaniko, mountPath: /kaniko}]}
`
	ns.apply(argo("step", `, workflows.argoproj.io/workflow: digits`, "") + "---" + argo("emissary", "", "") + "---" +
		argo("anyway", `, workflows.argoproj.io/workflow: digits`, `inpod.dev/inject-anyway: "true"`) + "---" + kaniko)
	for _, c := range []struct {
		name, reason, output string
		code                 int
	}{
		{"step", "ArgoWorkflow", "the step\nemissary: 3\n", 3},
		{"emissary", "ArgoWorkflow", "the step\nemissary: 3\n", 3},
		{"anyway", "", "the step\nemissary: 3\n", 3},
		{"kaniko", "Kaniko", "--dockerfile Dockerfile\n", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			ns := ns.of(t)
			ns.wait("pod/"+c.name, map[bool]string{true: "jsonpath={.status.phase}=Succeeded", false: "jsonpath={.status.phase}=Failed"}[c.code == 0])
			p := ns.pod(c.name)
			if end := p.Status.ContainerStatuses[0].State.Terminated; end == nil || end.ExitCode != c.code {
				t.Errorf("it ended so: %+v", end)
			}
			logs := ns.kubectl("logs", c.name, "-c", "main")
			if c.reason == "" {
				if p.Metadata.Labels["inpod.dev/injected"] != "wrap" || !strings.Contains(logs, c.output) {
					t.Errorf("labels %v; it said:\n%s", p.Metadata.Labels, logs)
				}
				return
			}
			if logs != c.output {
				t.Errorf("it said %q, want %q", logs, c.output)
			}
			if names := p.initNames(); len(names) != 1 || p.Metadata.Labels["inpod.dev/injected"] != "" || p.Metadata.Annotations["inpod.dev/status"] != "" {
				t.Errorf("it was touched: init containers %v, labels %v, annotations %v", names, p.Metadata.Labels, p.Metadata.Annotations)
			}
			eventually(t, "the Event that says why", func() bool {
				return strings.Contains(ns.kubectl("get", "events", "--field-selector", "reason="+c.reason), "pod/"+c.name)
			})
		})
	}
}
