//go:build kube

package kube

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// hook watches a webhook from outside while somebody breaks it: a stream of pods with the label, one of pods without,
// and a Deployment whose pods have it.
type hook struct {
	namespace       string
	labelled, other *stream
}

func newHook(t *testing.T) *hook {
	t.Helper()
	ns := newNamespace(t)
	ns.apply(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: labelled}
spec:
  replicas: 1
  selector: {matchLabels: {app: labelled}}
  template:
    metadata:
      labels: {app: labelled, inpod.dev/inject: wrap}
      annotations: {inpod.dev/drain-delay: 0s, inpod.dev/drain-deadline: 1s}
    spec:
      containers:
      - name: main
        image: inpod-test/testprog:1
        command: [/testprog, upstream, ":8000"]
        ports: [{containerPort: 8000}]
`)
	ns.rollout("deployment/labelled")
	return &hook{
		namespace: ns.name,
		labelled:  newStream(t, ns.name, labelledPod, 100*time.Millisecond),
		other:     newStream(t, ns.name, otherPod, 200*time.Millisecond),
	}
}

// stage runs one way to break the webhook. When it has ended, labelled pods are injected again, and pods without the label
// were all admitted unchanged. What labelled pods may have met beside injection is said by may.
func (h *hook) stage(t *testing.T, name string, do func(ns *namespace), may ...outcome) {
	t.Helper()
	h.stageTo(t, name, injected, do, may...)
}

// stageTo is a stage after which labelled pods are something else.
func (h *hook) stageTo(t *testing.T, name string, last outcome, do func(ns *namespace), may ...outcome) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		h.labelled.take()
		h.other.take()
		do(&namespace{t: t, name: h.namespace})
		h.labelled.until(t, last)
		labelled, other := h.labelled.take(), h.other.take()
		t.Logf("labelled: %s", labelled)
		t.Logf("others: %s", other)
		for o, n := range labelled.count {
			if n > 0 && o != injected && o != last && !slices.Contains(may, o) {
				t.Errorf("%d pods with the label: %s: %s", n, o, labelled.said[o])
			}
		}
		for o, n := range other.count {
			if n > 0 && o != unchanged && (o != away || !slices.Contains(may, away)) {
				t.Errorf("%d pods without the label: %s: %s", n, o, other.said[o])
			}
		}
		if other.count[unchanged] == 0 {
			t.Error("no pod without the label was made")
		}
	})
}

// TestWebhook breaks the webhook in every way that we know of. Nobody helps it afterwards.
func TestWebhook(t *testing.T) {
	h := newHook(t)
	t.Cleanup(func() {
		// What a stage that failed may have left.
		kubectl(t, "uncordon", "node1", "node2")
		if err := install("../../charts/inpod"); err != nil {
			t.Error(err)
		}
	})
	h.stage(t, "OneKilled", func(ns *namespace) {
		kill(ns.t, replicas(ns.t)[0].name)
		serving(ns.t)
	})
	h.stage(t, "Rolled", func(ns *namespace) {
		kubectl(ns.t, "cordon", "node1") // so that both are on node2 afterwards
		replaced(ns.t, func() { injector(ns.t, "rollout", "restart", "deployment/inpod-injector") })
		kubectl(ns.t, "uncordon", "node1")
	})
	h.stage(t, "Drained", drained)
	h.stage(t, "SecretDeleted", func(ns *namespace) {
		noRestart(ns.t, func() {
			old := readSecret(ns.t)
			injector(ns.t, "delete", "secret", tlsSecret)
			renewed(ns.t, old)
		})
	})
	h.stage(t, "BundleEmptied", func(ns *namespace) {
		noRestart(ns.t, func() {
			patch(ns.t, hookConfig, `[{"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"}]`)
			eventually(ns.t, "the webhook configuration has its authority again", func() bool { return registered(ns.t, readSecret(ns.t)) })
		})
	}, refused)
	h.stage(t, "ExpiredSecret", func(ns *namespace) {
		noRestart(ns.t, func() {
			old := readSecret(ns.t)
			expired := old.certificate(ns.t, time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour))
			expired.write(ns.t)
			renewed(ns.t, expired)
		})
	})
	if err := install("../../charts/inpod", "--set", "injector.failurePolicy=Ignore"); err != nil {
		t.Fatal(err)
	}
	h.stage(t, "ExpiredInService", h.expires, refused, unchanged)
	// Refused are requests that the API server finishes while it does not listen any more, where the replica that it asks has
	// not met the namespace before: its settings cannot be read.
	h.stage(t, "APIServerRestarted", func(ns *namespace) {
		noRestart(ns.t, func() {
			restartAPIServer(ns.t)
			ns.kubectl("scale", "deployment/labelled", "--replicas", "3")
			ns.rollout("deployment/labelled")
		})
	}, away, refused)
	h.stage(t, "BothKilled", func(ns *namespace) {
		var names []string
		for _, pod := range replicas(ns.t) {
			names = append(names, pod.name)
		}
		kill(ns.t, names...)
		ns.kubectl("scale", "deployment/labelled", "--replicas", "4")
		ns.apply(`{apiVersion: v1, kind: Pod, metadata: {name: other}, spec: {containers: [
			{name: main, image: "inpod-test/testprog:1", command: [/testprog, upstream, ":8000"]}]}}`)
		ns.wait("pod/other", "condition=Ready")
		serving(ns.t)
		ns.rollout("deployment/labelled")
	}, refused)
}

// drained drains the node that both replicas are on: only the disruption budget keeps them from going at once.
func drained(ns *namespace) {
	t := ns.t
	for _, pod := range replicas(t) {
		if pod.node != "node2" {
			t.Errorf("replica %s is on %s before the drain", pod.name, pod.node)
		}
	}
	kubectl(t, "drain", "node2", "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout", "120s")
	serving(t)
	for _, pod := range replicas(t) {
		if pod.node != "node1" {
			t.Errorf("replica %s is on %s after the drain", pod.name, pod.node)
		}
	}
	kubectl(t, "uncordon", "node2")
	ns.rollout("deployment/labelled")
}

// expires lets the certificate expire that both replicas serve, since they may not write another one. The policy is Ignore
// in the beginning and Fail afterwards.
func (h *hook) expires(ns *namespace) {
	t := ns.t
	noRestart(t, func() {
		rights := func(verbs string) {
			patch(t, "role/inpod-injector", `[{"op": "replace", "path": "/rules/0/verbs", "value": `+verbs+`}]`)
		}
		rights(`["get"]`)
		t.Cleanup(func() { rights(`["get", "update"]`) })
		// A certificate is renewed when two thirds of its life are over. Until then both replicas have read it.
		end := time.Now().Add(27 * time.Second).Truncate(time.Second)
		short := readSecret(t).certificate(t, time.Now(), end)
		short.write(t)
		eventually(t, "both replicas serve the certificate that ends soon", func() bool { return served(t, short) })

		<-time.After(time.Until(end)) // its life: nothing else tells that it is over
		// The API server goes on with the connections that it has; with another bundle it makes new ones.
		bundle := base64.StdEncoding.EncodeToString(append(bytes.Clone(short["ca.crt"]), '\n'))
		patch(t, hookConfig, `[{"op": "replace", "path": "/webhooks/0/clientConfig/caBundle", "value": "`+bundle+`"}]`)
		h.labelled.until(t, unchanged)
		patch(t, hookConfig, `[{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Fail"}]`)
		h.labelled.until(t, refused)
		ns.kubectl("scale", "deployment/labelled", "--replicas", "2")
		eventually(t, "an Event that says why the Deployment has no second pod", func() bool {
			said := ns.kubectl("get", "events", "--field-selector", "reason=FailedCreate", "-o", "jsonpath={.items[*].message}")
			return strings.Contains(said, `failed calling webhook "pods.inpod.dev"`)
		})
		rights(`["get", "update"]`)
		renewed(t, short)
	})
	serving(t)
	ns.rollout("deployment/labelled")
}

const (
	tlsSecret  = "inpod-injector-tls"
	hookConfig = "mutatingwebhookconfiguration/inpod-injector"
)

// injector runs kubectl in the injector's namespace.
func injector(t *testing.T, args ...string) string {
	t.Helper()
	return kubectl(t, append([]string{"--namespace", "inpod"}, args...)...)
}

func patch(t *testing.T, what, json string) {
	t.Helper()
	injector(t, "patch", what, "--type", "json", "-p", json)
}

// kill ends pods of the injector as hard as the API allows.
func kill(t *testing.T, pods ...string) {
	t.Helper()
	injector(t, append([]string{"delete", "pod", "--grace-period", "0", "--force"}, pods...)...)
}

// serving waits until the injector has all its replicas.
func serving(t *testing.T) {
	t.Helper()
	injector(t, "rollout", "status", "deployment/inpod-injector", "--timeout=180s")
}

// replica is a pod of the injector.
type replica struct {
	name, node, ip string
	restarts       int
}

// replicas are those that are ready.
func replicas(t *testing.T) []replica {
	t.Helper()
	var pods struct {
		Items []struct {
			Metadata struct{ Name, DeletionTimestamp string }
			Spec     struct{ NodeName string }
			Status   struct {
				PodIP             string
				ContainerStatuses []struct {
					Ready        bool
					RestartCount int
				}
			}
		}
	}
	text := injector(t, "get", "pods", "-l", "app.kubernetes.io/component=injector", "-o", "json")
	if err := json.Unmarshal([]byte(text), &pods); err != nil {
		t.Fatal(err)
	}
	var out []replica
	for _, p := range pods.Items {
		if p.Metadata.DeletionTimestamp == "" && len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].Ready {
			out = append(out, replica{p.Metadata.Name, p.Spec.NodeName, p.Status.PodIP, p.Status.ContainerStatuses[0].RestartCount})
		}
	}
	return out
}

// replaced waits until all replicas are others, and the old ones have ended: their last review may come when they almost have.
func replaced(t *testing.T, do func()) {
	t.Helper()
	before := replicas(t)
	do()
	serving(t)
	for _, pod := range before {
		injector(t, "wait", "pod/"+pod.name, "--for=delete", "--timeout=60s")
	}
}

// noRestart checks that the replicas are the same afterwards, and have not been started again.
func noRestart(t *testing.T, do func()) {
	t.Helper()
	before := replicas(t)
	do()
	serving(t)
	if after := replicas(t); !slices.Equal(after, before) {
		t.Errorf("the replicas were %v and are %v", before, after)
	}
}

// secret is what the injector's Secret holds.
type secret map[string][]byte

func readSecret(t *testing.T) secret {
	t.Helper()
	var object struct{ Data secret }
	text := injector(t, "get", "secret", tlsSecret, "--ignore-not-found", "-o", "json")
	if text == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(text), &object); err != nil {
		t.Fatal(err)
	}
	return object.Data
}

// certificate is the Secret with another certificate of the same authority.
func (s secret) certificate(t *testing.T, from, to time.Time) secret {
	t.Helper()
	caCert, _ := pem.Decode(s["ca.crt"])
	caKey, _ := pem.Decode(s["ca.key"])
	ca, err := x509.ParseCertificate(caCert.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := x509.ParseECPrivateKey(caKey.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"inpod-injector.inpod.svc", "inpod-injector.inpod.svc.cluster.local"}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: from, NotAfter: to, Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, ca, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return secret{
		"ca.crt": s["ca.crt"], "ca.key": s["ca.key"],
		"tls.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		"tls.key": pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}),
	}
}

// write replaces what the Secret holds.
func (s secret) write(t *testing.T) {
	t.Helper()
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	patch(t, "secret/"+tlsSecret, fmt.Sprintf(`[{"op": "replace", "path": "/data", "value": %s}]`, data))
}

// renewed waits until the injector has made a certificate instead of the old one, serves it and has registered its authority.
func renewed(t *testing.T, old secret) {
	t.Helper()
	eventually(t, "both replicas serve a new certificate, and the webhook configuration has its authority", func() bool {
		s := readSecret(t)
		return s != nil && !bytes.Equal(s["tls.crt"], old["tls.crt"]) && registered(t, s) && served(t, s)
	})
}

// registered tells whether the webhook configuration has the Secret's authorities.
func registered(t *testing.T, s secret) bool {
	t.Helper()
	text := kubectl(t, "get", hookConfig, "-o", "jsonpath={.webhooks[0].clientConfig.caBundle}")
	bundle, err := base64.StdEncoding.DecodeString(text)
	return err == nil && bytes.Equal(bundle, s["ca.crt"])
}

// served tells whether both replicas serve the Secret's certificate.
func served(t *testing.T, s secret) bool {
	t.Helper()
	want, _ := pem.Decode(s["tls.crt"])
	pods := replicas(t)
	for _, pod := range pods {
		c, err := tls.Dial("tcp", pod.ip+":8443", &tls.Config{InsecureSkipVerify: true}) // what it serves is what is asked
		if err != nil {
			return false
		}
		got := c.ConnectionState().PeerCertificates[0].Raw
		c.Close()
		if !bytes.Equal(got, want.Bytes) {
			return false
		}
	}
	return len(pods) == 2
}

// restartAPIServer restarts it as hack/kube.sh ctl does, and waits until it is ready again.
func restartAPIServer(t *testing.T) {
	t.Helper()
	socket := filepath.Join(filepath.Dir(os.Getenv("KUBECONFIG")), "inpod.sock")
	if out, err := run("", "../../bin/inpod", "ctl", "-s", "unix://"+socket, "restart", "apiserver"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	eventually(t, "the API server is ready", func() bool {
		_, err := run("", "kubectl", "get", "--raw", "/readyz")
		return err == nil
	})
}
