//go:build kube

package kube

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// A refusal says what is wrong and what to write instead. Here it is read as somebody would who knows nothing else: what it says to
// write is written, all of it, and then the pod is admitted.
//
// Two reasons cannot be had here and have golden pods in injector/testdata: OldKubernetes, since this API server is none, and
// NoImage, since the chart always names an image. EmptyCommand is in TestLookup.
type refusal struct {
	name     string
	manifest string // NAME is the pod's, NAMESPACE its namespace
	says     string // all of it
	offline  string // what check says where it knows less than a cluster
	advice   []advice
}

// advice is one of the things that a message says to write.
type advice struct {
	words string   // of the message
	edits []string // old, new, old, new, …
}

// TestRefusals writes pods that are refused, and then what the messages say.
func TestRefusals(t *testing.T) {
	t.Parallel()
	plain := newNamespace(t)
	plain.kubectl("create", "secret", "generic", "alice-keys", "--from-literal=authorized_keys=ssh-ed25519 AAAA alice")
	restricted := newNamespace(t, "pod-security.kubernetes.io/enforce=restricted")
	for _, group := range []struct {
		ns    *namespace
		cases []refusal
	}{{plain, refusals()}, {restricted, restrictedRefusals()}} {
		for _, r := range group.cases {
			t.Run(r.name, func(t *testing.T) {
				t.Parallel()
				ns := &namespace{t, group.ns.name}
				heads := "apiVersion: v1\nkind: Namespace\nmetadata: {name: NAMESPACE}\n"
				if group.ns == restricted {
					heads = "apiVersion: v1\nkind: Namespace\nmetadata: {name: NAMESPACE, labels: {pod-security.kubernetes.io/enforce: restricted}}\n"
				}
				ns.followed(r, heads)
			})
		}
	}
}

func (ns *namespace) followed(r refusal, offlineHead string) {
	ns.t.Helper()
	fill := func(text, suffix string) string {
		return strings.NewReplacer("NAMESPACE", ns.name, "NAME", r.name+suffix).Replace(text)
	}
	said := ns.refuse(fill(r.manifest, ""))
	want := fill(r.says, "")
	if !strings.Contains(said, "denied the request: inpod: "+want) {
		ns.t.Errorf("got  %s\nwant %s", said, want)
	}
	offline := want
	if r.offline != "" {
		offline = fill(r.offline, "")
	}
	out, err := check(fill(offlineHead+"---\n"+r.manifest, ""))
	if err == nil || !strings.Contains(out, "refused: "+offline) {
		ns.t.Errorf("check says %v\n%swant %s", err, out, offline)
	}
	for i, a := range r.advice {
		if !strings.Contains(want, a.words) {
			ns.t.Errorf("it does not say %q: %s", a.words, want)
		}
		text := r.manifest
		for j := 0; j < len(a.edits); j += 2 {
			if !strings.Contains(text, a.edits[j]) {
				ns.t.Fatalf("%q is not in the manifest", a.edits[j])
			}
			text = strings.ReplaceAll(text, a.edits[j], a.edits[j+1])
		}
		text = fill(text, fmt.Sprint("-", i))
		if _, err := ns.try(text, "apply", "-f", "-"); err != nil {
			ns.t.Errorf("%s: as it said: %v\n%s", a.words, err, text)
		}
		if out, err := check(fill(offlineHead, "") + "---\n" + text); err != nil && r.offline == "" {
			ns.t.Errorf("%s: check says %v\n%s", a.words, err, out)
		}
	}
}

// check runs inpod-injector check.
func check(manifest string, flags ...string) (string, error) {
	return run(manifest, "../../bin/inpod-injector", append([]string{"check", "--kubernetes", "1.34", "-f", "-"}, flags...)...)
}

// TestWarnings does the same with what is admitted with a warning: when it is done, nothing is said any more.
func TestWarnings(t *testing.T) {
	t.Parallel()
	plain := newNamespace(t)
	restricted := newNamespace(t, "pod-security.kubernetes.io/enforce=restricted")
	for _, w := range warned() {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			ns, level := &namespace{t, plain.name}, "privileged"
			if strings.Contains(w.manifest, "runAsNonRoot") {
				ns, level = &namespace{t, restricted.name}, "restricted"
			}
			fill := strings.NewReplacer("NAMESPACE", ns.name, "NAME", w.name)
			text := fill.Replace(w.manifest)
			if got, want := warnings(ns.apply(text)), fill.Replace(w.says); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			offline := fill.Replace(w.says)
			if w.offline != "" {
				offline = w.offline
			}
			if out, err := check(text, "--pod-security", level); err != nil || !strings.Contains(out, strings.TrimPrefix(offline, "inpod left the pod alone: ")) {
				t.Errorf("check says %v\n%swant %s", err, out, offline)
			}
			for i, a := range w.advice {
				text := w.manifest
				for j := 0; j < len(a.edits); j += 2 {
					if !strings.Contains(text, a.edits[j]) {
						t.Fatalf("%q is not in the manifest", a.edits[j])
					}
					text = strings.ReplaceAll(text, a.edits[j], a.edits[j+1])
				}
				if !strings.Contains(w.says, a.words) {
					t.Errorf("it does not say %q", a.words)
				}
				text = strings.NewReplacer("NAMESPACE", ns.name, "NAME", fmt.Sprint(w.name, "-", i)).Replace(text)
				if got := warnings(ns.apply(text)); got != "" {
					t.Errorf("%s: as it said: %s\n%s", a.words, got, text)
				}
			}
		})
	}
}

var pieces = regexp.MustCompile(`\s*\nWarning: inpod: … `)

// warnings joins what the injector had to cut, since the API server shortens what is longer than 256 bytes.
func warnings(stderr string) string {
	var all []string
	for line := range strings.SplitSeq(pieces.ReplaceAllString(stderr, " "), "\n") {
		if text, ok := strings.CutPrefix(line, "Warning: inpod: "); ok {
			all = append(all, text)
		}
	}
	return strings.Join(all, "; ")
}

// TestRefusedDeployment finds the message where the guide says it is, and so is what was done when it is followed.
func TestRefusedDeployment(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	const manifest = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web, inpod.dev/inject: wrap}}
    spec:
      terminationGracePeriodSeconds: 45
      containers:
      - {name: web, image: "inpod-test/testprog:1", command: [/testprog, upstream, ":8000"], ports: [{containerPort: 8000}]}
`
	const says = "terminationGracePeriodSeconds is 45, but the drain takes up to 125 seconds; write terminationGracePeriodSeconds: 125"
	ns.apply(manifest)
	eventually(t, "kubectl describe replicaset tells", func() bool {
		return strings.Contains(strings.Join(strings.Fields(ns.kubectl("describe", "replicaset")), " "), says)
	})
	// Of the ReplicaSet's controller, and of the injector.
	eventually(t, "there are Events", func() bool {
		return strings.Contains(ns.kubectl("get", "events", "--field-selector", "reason=FailedCreate", "-o", "jsonpath={.items[*].message}"), says) &&
			strings.Contains(ns.kubectl("get", "events", "--field-selector", "reason=GraceTooShort", "-o", "jsonpath={.items[*].message}"), says)
	})
	ns.apply(strings.Replace(manifest, "terminationGracePeriodSeconds: 45", "terminationGracePeriodSeconds: 125", 1))
	ns.rollout("deployment/web")
	eventually(t, "an Event says what was done", func() bool {
		return strings.Contains(ns.kubectl("get", "events", "--field-selector", "reason=Injected", "-o", "jsonpath={.items[*].message}"),
			"inpod was injected (wrap, container web)")
	})
}

// A namespace's annotations are settings of its pods, and a mistake there is said to whoever makes a pod.
func TestRefusedByNamespace(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	kubectl(t, "annotate", "namespace", ns.name, "inpod.dev/queue=-1")
	manifest := strings.NewReplacer("NAMESPACE", ns.name, "NAME", "web").Replace(web)
	const says = `annotation of the namespace inpod.dev/queue is "-1"; want a whole number, 0 or more`
	if got := ns.refuse(manifest); !strings.Contains(got, says) {
		t.Errorf("got  %s\nwant %s", got, says)
	}
	head := "apiVersion: v1\nkind: Namespace\nmetadata: {name: " + ns.name + ", annotations: {inpod.dev/queue: \"-1\"}}\n---\n"
	if out, err := check(head + manifest); err == nil || !strings.Contains(out, says) {
		t.Errorf("check says %v\n%s", err, out)
	}
	kubectl(t, "annotate", "--overwrite", "namespace", ns.name, "inpod.dev/queue=1")
	// The injector believes for some seconds what it has read.
	eventually(t, "the namespace is read again", func() bool {
		_, err := ns.try(manifest, "apply", "-f", "-")
		return err == nil
	})
}

// OldKubernetes cannot be had from this API server, so only check is asked.
func TestOldKubernetes(t *testing.T) {
	t.Parallel()
	manifest := strings.NewReplacer("NAMESPACE", "team", "NAME", "web").Replace(with("inject: wrap", "inject: sidecar"))
	const says = "native sidecars need Kubernetes 1.29 and this is 1.24; write the label inpod.dev/inject: wrap"
	if out, err := check(manifest, "--kubernetes", "1.24"); err == nil || !strings.Contains(out, says) {
		t.Errorf("check says %v\n%s", err, out)
	}
	if out, err := check(strings.Replace(manifest, "inject: sidecar", "inject: wrap", 1), "--kubernetes", "1.24"); err != nil {
		t.Errorf("check says %v\n%s", err, out)
	}
}

// TestMissingSecret follows the guide: Secrets are read by the kubelet alone, as with any pod, so it is the kubelet that tells.
func TestMissingSecret(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	ns.apply(`
apiVersion: v1
kind: Pod
metadata:
  name: web
  labels: {inpod.dev/inject: wrap}
  annotations: {inpod.dev/ssh-keys: alice-keys, inpod.dev/drain-delay: 0s, inpod.dev/drain-deadline: 1s}
spec:
  containers: [{name: web, image: "inpod-test/testprog:1", command: [/testprog, upstream, ":8000"], ports: [{containerPort: 8000}]}]
`)
	eventually(t, "kubectl describe pod tells", func() bool {
		return strings.Contains(ns.kubectl("describe", "pod", "web"), `MountVolume.SetUp failed for volume "inpod-keys" : secret "alice-keys" not found`)
	})
	ns.kubectl("create", "secret", "generic", "alice-keys", "--from-literal=authorized_keys=")
	ns.wait("pod/web", "condition=Ready")
}
