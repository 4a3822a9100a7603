package injector

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	admissionregv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

const dnsName = "inpod-injector.inpod.svc"

func webhookConfig() *admissionregv1.MutatingWebhookConfiguration {
	return &admissionregv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "inpod-injector"},
		Webhooks:   []admissionregv1.MutatingWebhook{{Name: "pods.inpod.dev"}},
	}
}

func certificates(client kubernetes.Interface, now *time.Time) *Certificates {
	return &Certificates{
		Client: client, Namespace: "inpod", Secret: "inpod-injector-tls", Webhook: "inpod-injector", Names: []string{dnsName},
		Log: slog.New(slog.DiscardHandler), Metrics: NewMetrics(prometheus.NewRegistry()),
		Now: func() time.Time { return *now },
	}
}

// handshake does what the API server does: TLS to the replica, trusting the bundle of the webhook configuration.
func handshake(t *testing.T, c *Certificates, now time.Time) error {
	t.Helper()
	cfg, err := c.Client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(t.Context(), c.Webhook, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(cfg.Webhooks[0].ClientConfig.CABundle)
	a, b := net.Pipe()
	server := tls.Server(a, &tls.Config{GetCertificate: c.Get})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Handshake()
		a.Close()
	}()
	client := tls.Client(b, &tls.Config{ServerName: dnsName, RootCAs: roots, Time: func() time.Time { return now }})
	err = client.Handshake()
	b.Close()
	<-done
	return err
}

// TestTenYears lets two replicas live for ten years, a day at a time: the API server can always talk to both.
func TestTenYears(t *testing.T) {
	t.Parallel()
	client := fake.NewSimpleClientset(webhookConfig())
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	first, second := certificates(client, &now), certificates(client, &now)
	if err := first.Ready(); err == nil {
		t.Error("ready before there is a certificate")
	}
	serials, bundles := map[string]bool{}, map[string]bool{}
	for day := range 3650 {
		for i, c := range []*Certificates{first, second} {
			if _, err := c.round(t.Context()); err != nil {
				t.Fatalf("day %d: %v", day, err)
			}
			if day%7 != 0 {
				continue
			}
			// Between the two rounds the replicas are a step apart.
			for j, c := range []*Certificates{first, second} {
				if day == 0 && j > i {
					continue
				}
				if err := handshake(t, c, now); err != nil {
					t.Fatalf("day %d, after the round of replica %d, replica %d: %v", day, i, j, err)
				}
			}
		}
		if err := first.Ready(); err != nil {
			t.Fatalf("day %d: %v", day, err)
		}
		secret, err := client.CoreV1().Secrets("inpod").Get(t.Context(), "inpod-injector-tls", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		serials[first.current.Load().Leaf.SerialNumber.String()] = true
		bundles[string(secret.Data[bundleKey])] = true
		now = now.Add(24 * time.Hour)
	}
	if n := len(serials); n < 55 || n > 70 { // ten years by sixty days
		t.Errorf("%d certificates in ten years", n)
	}
	if n := len(bundles); n < 4 || n > 8 {
		t.Errorf("%d bundles in ten years", n)
	}
}

// TestExpired: whoever was away too long recovers without hands.
func TestExpired(t *testing.T) {
	client := fake.NewSimpleClientset(webhookConfig())
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	c := certificates(client, &now)
	for _, away := range []time.Duration{0, 100 * 24 * time.Hour, 6 * 365 * 24 * time.Hour} {
		now = now.Add(away)
		if away > 0 && c.Ready() == nil {
			t.Errorf("ready with an expired certificate, after %s", away)
		}
		for range 3 {
			if _, err := c.round(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if err := handshake(t, c, now); err != nil {
			t.Errorf("after %s: %v", away, err)
		}
		if err := c.Ready(); err != nil {
			t.Errorf("after %s: %v", away, err)
		}
	}
}

// TestBrokenSecret: somebody emptied the Secret, or took the bundle out of the webhook configuration.
func TestBrokenSecret(t *testing.T) {
	client := fake.NewSimpleClientset(webhookConfig())
	now := time.Now()
	c := certificates(client, &now)
	if _, err := c.round(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{bundleKey, authorityKey, corev1.TLSCertKey, corev1.TLSPrivateKeyKey, ""} {
		secret, err := client.CoreV1().Secrets("inpod").Get(t.Context(), "inpod-injector-tls", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		secret.Data[key] = nil
		if _, err := client.CoreV1().Secrets("inpod").Update(t.Context(), secret, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := client.AdmissionregistrationV1().MutatingWebhookConfigurations().Update(t.Context(), webhookConfig(), metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.round(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := handshake(t, c, now); err != nil {
			t.Errorf("without %s: %v", key, err)
		}
	}
}

// TestMixedSecret: one key of the Secret is from another one, as when it was restored by halves. Whoever starts then gets
// a certificate of use all the same, and so does whoever has served all the time.
func TestMixedSecret(t *testing.T) {
	now := time.Now()
	other := fake.NewSimpleClientset(webhookConfig())
	if _, err := certificates(other, &now).round(t.Context()); err != nil {
		t.Fatal(err)
	}
	foreign, err := other.CoreV1().Secrets("inpod").Get(t.Context(), "inpod-injector-tls", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{bundleKey, authorityKey, corev1.TLSCertKey, corev1.TLSPrivateKeyKey} {
		client := fake.NewSimpleClientset(webhookConfig())
		old := certificates(client, &now)
		if _, err := old.round(t.Context()); err != nil {
			t.Fatal(err)
		}
		secret, err := client.CoreV1().Secrets("inpod").Get(t.Context(), "inpod-injector-tls", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		secret.Data[key] = foreign.Data[key]
		if _, err := client.CoreV1().Secrets("inpod").Update(t.Context(), secret, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		for _, c := range []*Certificates{certificates(client, &now), old} {
			if _, err := c.round(t.Context()); err != nil {
				t.Errorf("another %s: %v", key, err)
			} else if err := handshake(t, c, now); err != nil {
				t.Errorf("another %s: %v", key, err)
			}
		}
	}
}

// TestRegisteredFirst: as long as the webhook configuration cannot be written, the API server is answered with what
// it trusts; and a new authority signs only when it has been known for a while.
func TestRegisteredFirst(t *testing.T) {
	client := fake.NewSimpleClientset(webhookConfig())
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	first, second := certificates(client, &now), certificates(client, &now)
	both := []*Certificates{first, second}
	broken := false
	client.PrependReactor("update", "mutatingwebhookconfigurations", func(clienttesting.Action) (bool, runtime.Object, error) {
		return broken, nil, errors.New("forbidden")
	})
	rounds := func(wait time.Duration) {
		t.Helper()
		now = now.Add(wait)
		for _, c := range both {
			if _, err := c.round(t.Context()); (err != nil) != broken {
				t.Errorf("broken %v, got %v", broken, err)
			}
			for i, c := range both {
				if c.current.Load() == nil {
					continue
				}
				if err := handshake(t, c, now); err != nil {
					t.Fatalf("replica %d, broken %v: %v", i, broken, err)
				}
			}
		}
	}
	serial := func() string { return first.current.Load().Leaf.SerialNumber.String() }
	for _, c := range both {
		c.authorityLife, c.servingLife = 300*24*time.Hour, 290*24*time.Hour
	}
	rounds(0)
	before := serial()
	broken = true
	now = now.Add(205 * 24 * time.Hour)
	for range 10 {
		rounds(settleTime / 2)
	}
	if serial() != before || first.Ready() != nil {
		t.Errorf("while nothing can be registered: another certificate, or %v", first.Ready())
	}
	broken = false
	rounds(settleTime / 2)
	rounds(settleTime / 2)
	if serial() != before {
		t.Error("the new authority signed as soon as it was registered")
	}
	rounds(settleTime)
	if serial() == before {
		t.Error("the new authority does not sign")
	}
	before, broken = serial(), true
	if err := client.CoreV1().Secrets("inpod").Delete(t.Context(), "inpod-injector-tls", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	rounds(time.Second)
	if serial() != before {
		t.Error("the certificate of a lost Secret is not served any more, and nobody trusts the next")
	}
	broken = false
	rounds(time.Second)
	if serial() == before || first.Ready() != nil || second.Ready() != nil {
		t.Errorf("registered, but the old certificate is served; %v, %v", first.Ready(), second.Ready())
	}
}

// TestOwner: the Secret goes with the webhook configuration, and is not made again by a replica that is still there.
func TestOwner(t *testing.T) {
	other := metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: "other", UID: "other"}
	gone := metav1.OwnerReference{
		APIVersion: "admissionregistration.k8s.io/v1", Kind: "MutatingWebhookConfiguration", Name: "inpod-injector", UID: "gone",
	}
	cfg := webhookConfig()
	cfg.UID = "here"
	here := gone
	here.UID = "here"
	client := fake.NewSimpleClientset(cfg)
	secrets, configs := client.CoreV1().Secrets("inpod"), client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	now := time.Now()
	c := certificates(client, &now)
	owners := func(want ...metav1.OwnerReference) []byte {
		t.Helper()
		if _, err := c.round(t.Context()); err != nil {
			t.Fatal(err)
		}
		secret, err := secrets.Get(t.Context(), c.Secret, metav1.GetOptions{})
		if err != nil || !slices.Equal(secret.OwnerReferences, want) {
			t.Fatalf("got %v, %v, want %v", secret.OwnerReferences, err, want)
		}
		return secret.Data[corev1.TLSCertKey]
	}
	cert := owners(here)
	secret, err := secrets.Get(t.Context(), c.Secret, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	secret.OwnerReferences = []metav1.OwnerReference{other, gone} // as an injector before this one, and somebody else, left it
	if _, err := secrets.Update(t.Context(), secret, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(owners(other, here), cert) {
		t.Error("another owner, another certificate")
	}
	if err := errors.Join(configs.Delete(t.Context(), c.Webhook, metav1.DeleteOptions{}), secrets.Delete(t.Context(), c.Secret, metav1.DeleteOptions{})); err != nil {
		t.Fatal(err)
	}
	if _, err := c.round(t.Context()); err == nil {
		t.Error("no webhook configuration: no error")
	}
	if _, err := secrets.Get(t.Context(), c.Secret, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the Secret is there again: %v", err)
	}
}

func TestCertificateFiles(t *testing.T) {
	now := time.Now()
	dir := t.TempDir()
	c := certificates(nil, &now)
	c.Dir = dir
	if _, err := c.round(t.Context()); err == nil {
		t.Error("no files: no error")
	}
	for i := range 2 {
		data, err := authority{}.fresh([]string{dnsName}, now)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{corev1.TLSCertKey, corev1.TLSPrivateKeyKey} {
			if err := os.WriteFile(filepath.Join(dir, name), data[name], 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if changed, err := c.round(t.Context()); err != nil || !changed {
			t.Errorf("files %d: changed %v, %v", i, changed, err)
		}
		if changed, err := c.round(t.Context()); err != nil || changed {
			t.Errorf("the same files %d: changed %v, %v", i, changed, err)
		}
	}
	if err := c.Ready(); err != nil {
		t.Error(err)
	}
}
