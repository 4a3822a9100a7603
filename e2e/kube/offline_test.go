//go:build kube

package kube

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

const upstream = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata:
      labels: {app: web, inpod.dev/inject: wrap}
      annotations: {inpod.dev/drain-delay: 0s, inpod.dev/drain-deadline: 1s}
    spec:
      containers:
      - {name: web, image: "inpod-test/testprog:1", command: [/testprog, upstream, ":8000"], ports: [{containerPort: 8000}]}
`

// TestInjectedFile applies what inpod-injector inject prints. The webhook sees that inpod is there and does nothing.
func TestInjectedFile(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	flags := []string{"--image", "inpod/base:e2e", "--redirect-image", "inpod/injector:e2e", "-f", "-"}
	text, err := run(upstream, "../../bin/inpod-injector", append([]string{"inject"}, flags...)...)
	if err != nil {
		t.Fatal(err)
	}
	if said := ns.apply(text); said != "" {
		t.Errorf("kubectl apply says %s", said)
	}
	ns.rollout("deployment/web")
	pod := ns.injected("app=web", "wrap")
	if code, body := get("http://" + net.JoinHostPort(pod.Status.PodIP, "8000") + "/health"); code != http.StatusOK || requests(t, pod) < 1 {
		t.Errorf("through inpod: %d %s", code, body)
	}
	var template struct {
		Spec struct{ Template struct{ Spec map[string]any } }
	}
	var made struct{ Spec map[string]any }
	ns.get(&template, "deployment", "web")
	ns.get(&made, "pod", pod.Metadata.Name)
	for _, list := range []string{"initContainers", "containers"} {
		if got, want := names(made.Spec[list]), names(template.Spec.Template.Spec[list]); got != want {
			t.Errorf("%s of the pod: %s, in the file: %s", list, got, want)
		}
	}
	if got, want := pod.Metadata.Annotations["inpod.dev/status"], ns.field("deployment/web", ".spec.template.metadata.annotations.inpod\\.dev/status"); got != want {
		t.Errorf("inpod.dev/status of the pod: %s, in the file: %s", got, want)
	}
	if got := ns.kubectl("get", "events", "--field-selector", "reason=Injected"); strings.Contains(got, "inpod was injected") {
		t.Errorf("the webhook injected again: %s", got)
	}
	// A pod that was read from the cluster can be applied again, too.
	again, err := run(text, "../../bin/inpod-injector", append([]string{"inject"}, flags...)...)
	if err != nil || again != text {
		t.Errorf("a second inject: %v\n%s", err, again)
	}
}

// TestStaticPod follows the advice that static pods get, as far as it is about the API server: it lets the kubelet show the pod.
func TestStaticPod(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	file := strings.NewReplacer("NAMESPACE", ns.name, "NAME", "static").Replace(with("schedulingGates: [{name: e2e.inpod.dev/never}]", "nodeName: node1"))
	text, err := run(file, "../../bin/inpod-injector", "inject", "-f", "-")
	if err != nil {
		t.Fatal(err)
	}
	// A kubelet deletes what says to be its own and is not, but only after the API server has taken it.
	shown, err := run(text, "kubectl", "annotate", "--local", "-f", "-", "kubernetes.io/config.mirror=abc", "-o", "yaml")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ns.try(shown, "create", "-f", "-"); err != nil {
		t.Error(err)
	}
}

// names are the names and commands of containers.
func names(list any) string {
	all, _ := list.([]any)
	var out []string
	for _, c := range all {
		m, _ := c.(map[string]any)
		out = append(out, fmt.Sprint(m["name"], m["command"], m["args"]))
	}
	return strings.Join(out, " ")
}

// TestReinvocation has another webhook that changes pods after the injector, so that the API server asks the injector again.
func TestReinvocation(t *testing.T) {
	t.Parallel()
	ns := newNamespace(t)
	var asked atomic.Int64
	var had atomic.Bool
	other := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		var review struct {
			Request struct {
				UID    string
				Object struct {
					Metadata struct{ Labels map[string]string }
				}
			}
		}
		_ = json.NewDecoder(req.Body).Decode(&review)
		asked.Add(1)
		had.Store(review.Request.Object.Metadata.Labels["inpod.dev/injected"] == "wrap")
		patch := base64.StdEncoding.EncodeToString([]byte(`[{"op": "add", "path": "/spec/containers/-", "value": {"name": "beside", "image": "inpod-test/pause:1"}}]`))
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": {"uid": %q, "allowed": true, "patchType": "JSONPatch", "patch": %q}}`,
			review.Request.UID, patch)
	}))
	other.StartTLS()
	t.Cleanup(other.Close)
	authority := base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: other.Certificate().Raw}))
	name := "z-after-inpod-" + ns.name
	t.Cleanup(func() { kubectl(t, "delete", "mutatingwebhookconfiguration", name) })
	ns.apply(fmt.Sprintf(`
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {name: %s}
webhooks:
- name: after.inpod.dev
  admissionReviewVersions: [v1]
  sideEffects: None
  clientConfig: {url: %q, caBundle: %s}
  rules: [{apiGroups: [""], apiVersions: [v1], resources: [pods], operations: [CREATE]}]
  namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: %s}}
`, name, other.URL, authority, ns.name))
	left := func() (n float64) {
		for _, r := range replicas(t) {
			_, text := get("http://" + net.JoinHostPort(r.ip, "9881") + "/metrics")
			for line := range strings.Lines(text) {
				if strings.HasPrefix(line, "inpod_injector_") && strings.Contains(line, `reason="AlreadyInjected"`) {
					var more float64
					_, _ = fmt.Sscan(line[strings.LastIndex(line, " ")+1:], &more)
					n += more
				}
			}
		}
		return n
	}
	before := left()
	manifest := strings.NewReplacer("NAMESPACE", ns.name, "NAME", "web").Replace(web)
	eventually(t, "the API server knows the other webhook", func() bool {
		ns.apply(manifest)
		if asked.Load() > 0 {
			return true
		}
		ns.kubectl("delete", "pod", "web", "--grace-period=0", "--force")
		return false
	})
	pod := ns.pod("web")
	if !had.Load() || len(pod.Spec.Containers) != 2 || pod.Spec.Containers[1].Name != "beside" {
		t.Fatalf("the other webhook came after inpod: %v; the containers are %v", had.Load(), pod.Spec.Containers)
	}
	if got := strings.Join(pod.initNames(), " "); got != "inpod-install inpod-redirect" {
		t.Errorf("the init containers are %s", got)
	}
	if after := left(); after <= before {
		t.Errorf("the injector was not asked again: %v pods had inpod already, then %v", before, after)
	}
}
