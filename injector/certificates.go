package injector

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	admissionregv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// roundTime is how often the certificate is looked at, and so how soon every replica has a new one.
const roundTime = 10 * time.Second

// Certificates keeps the serving certificate: one of its own making, in a Secret that all replicas share, with the
// authority's certificate in the webhook's configuration; or the files of somebody else.
//
// The replicas need no leader. The Secret's resourceVersion decides who was first, and whoever was not reads what the
// other wrote. An authority is replaced in two steps, so that the API server trusts the new one before anybody serves
// with it: see authority.go.
type Certificates struct {
	Client     kubernetes.Interface
	Namespace  string
	Secret     string
	Webhook    string   // the MutatingWebhookConfiguration
	Names      []string // DNS names of the Service
	Dir        string   // when set: tls.crt and tls.key in it are served, and nothing is made or written
	Log        *slog.Logger
	Metrics    *Metrics
	Now        func() time.Time
	authority  // how long things are valid
	current    atomic.Pointer[tls.Certificate]
	registered atomic.Bool // that of current

	bundle  []byte    // what the webhook configuration had when it was last seen; belongs to Run, as the next
	trusted time.Time // since when
}

// Run looks at the certificate until ctx ends.
func (c *Certificates) Run(ctx context.Context) {
	for {
		changed, err := c.round(ctx)
		wait := roundTime
		if c.Ready() != nil { // such as when another replica was just writing
			wait = roundTime / 20
		}
		switch {
		case err != nil && ctx.Err() == nil:
			c.Metrics.rotation.WithLabelValues("error").Inc()
			c.Log.Error("cannot keep the certificate", "error", err)
			wait = roundTime / 5
		case changed:
			c.Metrics.rotation.WithLabelValues("changed").Inc()
		default:
			c.Metrics.rotation.WithLabelValues("ok").Inc()
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// Ready tells whether there is a certificate which the API server has been told to trust.
func (c *Certificates) Ready() error {
	cert := c.current.Load()
	switch {
	case cert == nil:
		return errors.New("there is no certificate yet")
	case !c.registered.Load():
		return fmt.Errorf("the webhook configuration %q does not have the certificate's authority yet", c.Webhook)
	case c.Now().After(cert.Leaf.NotAfter):
		return errors.New("the certificate has expired")
	}
	return nil
}

// Get is for tls.Config.GetCertificate: a new certificate is served to the next connection, without a restart.
func (c *Certificates) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if cert := c.current.Load(); cert != nil {
		return cert, nil
	}
	return nil, errors.New("there is no certificate yet")
}

func (c *Certificates) round(ctx context.Context) (changed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, roundTime)
	defer cancel()
	if c.Dir != "" {
		c.registered.Store(true) // by whoever made the files
		return c.load(filepath.Join(c.Dir, corev1.TLSCertKey), filepath.Join(c.Dir, corev1.TLSPrivateKeyKey))
	}
	cfg, err := c.Client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, c.Webhook, metav1.GetOptions{})
	if err != nil {
		cfg, err = nil, fmt.Errorf("cannot read the webhook configuration %q: %w", c.Webhook, err)
	}
	failed := err
	secret, err := c.secret(ctx, cfg)
	if err != nil {
		return false, errors.Join(failed, err)
	}
	// First the API server learns whom to trust. While that fails, what it trusts already is served.
	written := false
	if failed == nil {
		written, failed = c.register(ctx, cfg, secret.Data[bundleKey])
	}
	if cert := c.current.Load(); cert == nil || c.Now().After(cert.Leaf.NotAfter) || c.trusts(secret.Data[corev1.TLSCertKey]) {
		if changed, err = c.serve(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey]); err != nil {
			return false, errors.Join(failed, err)
		}
	}
	cert := c.current.Load()
	c.registered.Store(c.trusts(pemOf("CERTIFICATE", cert.Leaf.Raw)))
	return changed || written, failed
}

// trusts tells whether the API server takes a certificate, as far as we know.
func (c *Certificates) trusts(certPEM []byte) bool {
	cas, err := readBundle(c.bundle)
	leaf, bad := readBundle(certPEM)
	if err != nil || bad != nil || len(leaf) == 0 {
		return false
	}
	return slices.ContainsFunc(cas, func(ca *x509.Certificate) bool { return leaf[0].CheckSignatureFrom(ca) == nil })
}

func (c *Certificates) load(certFile, keyFile string) (bool, error) {
	cert, err := os.ReadFile(certFile)
	if err != nil {
		return false, fmt.Errorf("cannot read the certificate: %w", err)
	}
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return false, fmt.Errorf("cannot read the key: %w", err)
	}
	return c.serve(cert, key)
}

// serve takes a certificate into use, when it is another one.
func (c *Certificates) serve(certPEM, keyPEM []byte) (bool, error) {
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return false, fmt.Errorf("cannot use the certificate: %w", err)
	}
	old := c.current.Load()
	if old != nil && bytes.Equal(old.Certificate[0], cert.Certificate[0]) {
		return false, nil
	}
	c.current.Store(&cert)
	c.Metrics.expires.Set(float64(cert.Leaf.NotAfter.Unix()))
	c.Log.Info("serving with a certificate", "until", cert.Leaf.NotAfter, "serial", cert.Leaf.SerialNumber)
	return true, nil
}

// secret returns the Secret as it should be, after having written it when it was not. Where there is none it is made
// only beside the webhook configuration: a replica that is still draining leaves nothing behind when that is gone.
func (c *Certificates) secret(ctx context.Context, cfg *admissionregv1.MutatingWebhookConfiguration) (*corev1.Secret, error) {
	secrets := c.Client.CoreV1().Secrets(c.Namespace)
	secret, err := secrets.Get(ctx, c.Secret, metav1.GetOptions{})
	missing := apierrors.IsNotFound(err)
	if missing && cfg == nil {
		return nil, fmt.Errorf("the Secret %q is missing", c.Secret)
	} else if missing {
		secret = &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: c.Namespace, Name: c.Secret}, Type: corev1.SecretTypeTLS}
	} else if err != nil {
		return nil, fmt.Errorf("cannot read the Secret %q: %w", c.Secret, err)
	}
	var trusted time.Time
	if bytes.Equal(c.bundle, secret.Data[bundleKey]) {
		trusted = c.trusted
	}
	next, why, err := c.next(secret.Data, c.Names, c.Now(), c.bundle, trusted)
	if err != nil {
		return nil, err
	}
	if belong(secret, cfg) && why == "" {
		why = "it belongs to the webhook configuration"
	}
	if why == "" {
		return secret, nil
	}
	if next != nil {
		secret.Data = next
	}
	if missing {
		secret, err = secrets.Create(ctx, secret, metav1.CreateOptions{})
	} else {
		secret, err = secrets.Update(ctx, secret, metav1.UpdateOptions{})
	}
	if apierrors.IsAlreadyExists(err) || apierrors.IsConflict(err) { // another replica was first
		secret, err = secrets.Get(ctx, c.Secret, metav1.GetOptions{})
	} else if err == nil {
		c.Log.Info("the certificate's Secret is written", "why", why)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot write the Secret %q: %w", c.Secret, err)
	}
	return secret, nil
}

// belong makes the Secret the webhook configuration's, so that Kubernetes removes both together: no chart has it. It tells
// whether anything changed.
func belong(secret *corev1.Secret, cfg *admissionregv1.MutatingWebhookConfiguration) bool {
	if cfg == nil || slices.ContainsFunc(secret.OwnerReferences, func(o metav1.OwnerReference) bool { return o.UID == cfg.UID }) {
		return false
	}
	owner := metav1.OwnerReference{
		APIVersion: admissionregv1.SchemeGroupVersion.String(), Kind: "MutatingWebhookConfiguration", Name: cfg.Name, UID: cfg.UID,
	}
	// One of the same name with another UID has been deleted.
	others := slices.DeleteFunc(secret.OwnerReferences, func(o metav1.OwnerReference) bool { return o.Kind == owner.Kind && o.Name == owner.Name })
	secret.OwnerReferences = append(others, owner)
	return true
}

// register tells the API server which authority to trust.
func (c *Certificates) register(ctx context.Context, cfg *admissionregv1.MutatingWebhookConfiguration, bundle []byte) (bool, error) {
	stale := false
	for i := range cfg.Webhooks {
		if cc := &cfg.Webhooks[i].ClientConfig; !bytes.Equal(cc.CABundle, bundle) {
			cc.CABundle, stale = bundle, true
		}
	}
	if stale {
		_, err := c.Client.AdmissionregistrationV1().MutatingWebhookConfigurations().Update(ctx, cfg, metav1.UpdateOptions{})
		if apierrors.IsConflict(err) {
			return false, nil // the other replica was first; the next round looks again
		} else if err != nil {
			return false, fmt.Errorf("cannot write the webhook configuration %q: %w", c.Webhook, err)
		}
	}
	if stale || !bytes.Equal(c.bundle, bundle) {
		c.bundle, c.trusted = bundle, c.Now()
	}
	return stale, nil
}
