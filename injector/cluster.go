package injector

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

const (
	namespaceTime = 5 * time.Second // how long a namespace is believed to be as it was read
	versionTime   = 10 * time.Minute
	versionRetry  = 2 * time.Second
	maxNamespaces = 10_000
)

// API is Cluster on a real API server.
type API struct {
	client  kubernetes.Interface
	minor   atomic.Int64
	secrets bool // whether pull secrets may be read

	mu         sync.Mutex
	namespaces map[string]readNamespace
}

type readNamespace struct {
	labels, annotations map[string]string
	until               time.Time
}

// NewAPI reads through client. Without pullSecrets no Secret is ever read, and only public images can be looked up.
func NewAPI(client kubernetes.Interface, pullSecrets bool) *API {
	return &API{client: client, secrets: pullSecrets, namespaces: map[string]readNamespace{}}
}

// Run keeps the server's version until ctx ends; it changes when the control plane is upgraded.
func (a *API) Run(ctx context.Context) {
	for {
		wait := versionTime
		if v, err := a.client.Discovery().ServerVersion(); err != nil {
			wait = versionRetry
		} else if n := leadingNumber(v.Minor); n > 0 {
			a.minor.Store(n)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// leadingNumber reads a minor version, behind which distributions write what they like: 34, 34+, 34-gke.1.
func leadingNumber(minor string) int64 {
	end := strings.IndexFunc(minor, func(r rune) bool { return r < '0' || r > '9' })
	if end >= 0 {
		minor = minor[:end]
	}
	n, _ := strconv.ParseInt(minor, 10, 32)
	return n
}

// Minor is Cluster's.
func (a *API) Minor() int { return int(a.minor.Load()) }

// Namespace is Cluster's.
func (a *API) Namespace(ctx context.Context, name string) (labels, annotations map[string]string, err error) {
	a.mu.Lock()
	known, ok := a.namespaces[name]
	a.mu.Unlock()
	if ok && time.Now().Before(known.until) {
		return known.labels, known.annotations, nil
	}
	ns, err := a.client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.namespaces) >= maxNamespaces {
		clear(a.namespaces)
	}
	a.namespaces[name] = readNamespace{ns.Labels, ns.Annotations, time.Now().Add(namespaceTime)}
	return ns.Labels, ns.Annotations, nil
}

// ConfigMap is Cluster's. It is read each time: whoever changes it and makes a pod expects the new one.
func (a *API) ConfigMap(ctx context.Context, namespace, name string) (map[string]string, error) {
	cm, err := a.client.CoreV1().ConfigMaps(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	return cm.Data, nil
}

// PullSecrets is Cluster's.
func (a *API) PullSecrets(ctx context.Context, namespace string, pod *corev1.Pod) (secrets []corev1.Secret, err error) {
	if !a.secrets {
		return nil, nil
	}
	refs := pod.Spec.ImagePullSecrets
	// The API server's own plugin has added the account's secrets before webhooks, unless the pod named some.
	if len(refs) == 0 {
		account := pod.Spec.ServiceAccountName
		if account == "" {
			account = "default"
		}
		sa, err := a.client.CoreV1().ServiceAccounts(namespace).Get(ctx, account, metav1.GetOptions{})
		if err != nil {
			return nil, fmt.Errorf("cannot read the service account %q: %w", account, err)
		}
		refs = sa.ImagePullSecrets
	}
	var errs []error
	for _, ref := range refs {
		s, err := a.client.CoreV1().Secrets(namespace).Get(ctx, ref.Name, metav1.GetOptions{})
		if err != nil {
			errs = append(errs, fmt.Errorf("cannot read the pull secret %q: %w", ref.Name, err))
			continue
		}
		secrets = append(secrets, *s)
	}
	return secrets, errors.Join(errs...)
}
