package injector

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

const (
	namespaceTime = 5 * time.Second // how long a namespace is believed to be as it was read
	// namespaceSpare is how much longer while the API server cannot be asked. One that is restarted sends reviews before
	// its Service leads to it again.
	namespaceSpare = 10 * time.Minute
	secretsTime    = 5 * time.Second // as namespaceTime, for pull secrets
	versionTime    = 10 * time.Minute
	versionRetry   = 2 * time.Second
	maxNamespaces  = 10_000
	maxSecrets     = 1000
)

// API is Cluster on a real API server.
type API struct {
	client  kubernetes.Interface
	minor   atomic.Int64
	secrets bool // whether pull secrets may be read
	// aging are namespaces that are in use and get old. Run reads them again, so that no admission waits for that: at
	// fifty a second, one wait every five seconds, and all who come meanwhile, would be most of the slowest hundredth.
	aging      chan string
	namespaces memory[readNamespace]
	pulls      memory[[]corev1.Secret]
}

type readNamespace struct{ labels, annotations map[string]string }

// NewAPI reads through client. Without pullSecrets no Secret is ever read, and only public images can be looked up.
func NewAPI(client kubernetes.Interface, pullSecrets bool) *API {
	return &API{
		client: client, secrets: pullSecrets, aging: make(chan string, 64),
		namespaces: memory[readNamespace]{keep: namespaceTime, spare: namespaceSpare, most: maxNamespaces},
		pulls:      memory[[]corev1.Secret]{keep: secretsTime, most: maxSecrets},
	}
}

// Run keeps what is read, until ctx ends.
func (a *API) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for range 4 { // one namespace that is slow to read keeps no other
		wg.Go(func() { a.renew(ctx) })
	}
	a.versions(ctx)
}

// renew reads namespaces again before they are too old.
func (a *API) renew(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case name := <-a.aging:
			soon, cancel := context.WithTimeout(ctx, namespaceTime)
			// When it fails, the next admission reads it, and says what is wrong.
			_, _ = a.namespaces.renew(soon, name, a.readNamespace(name))
			cancel()
		}
	}
}

// versions keeps the server's version; it changes when the control plane is upgraded.
func (a *API) versions(ctx context.Context) {
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

// answered tells whether an error is what the API server said, and not that it could not be asked.
func answered(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status) && status.Status().Code < http.StatusInternalServerError && !apierrors.IsTooManyRequests(err)
}

// Namespace is Cluster's.
func (a *API) Namespace(ctx context.Context, name string) (labels, annotations map[string]string, err error) {
	ns, aging, err := a.namespaces.get(ctx, name, a.readNamespace(name))
	if aging {
		select {
		case a.aging <- name:
		default: // it is read when it is too old
		}
	}
	return ns.labels, ns.annotations, err
}

func (a *API) readNamespace(name string) func(context.Context) (readNamespace, error) {
	return func(ctx context.Context) (readNamespace, error) {
		ns, err := a.client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return readNamespace{}, err
		}
		return readNamespace{ns.Labels, ns.Annotations}, nil
	}
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
func (a *API) PullSecrets(ctx context.Context, namespace string, pod *corev1.Pod) ([]corev1.Secret, error) {
	if !a.secrets {
		return nil, nil
	}
	refs := pod.Spec.ImagePullSecrets
	key := namespace + " " + pod.Spec.ServiceAccountName
	for _, ref := range refs {
		key += " " + ref.Name
	}
	secrets, _, err := a.pulls.get(ctx, key, func(ctx context.Context) ([]corev1.Secret, error) { return a.readSecrets(ctx, namespace, pod) })
	return secrets, err
}

func (a *API) readSecrets(ctx context.Context, namespace string, pod *corev1.Pod) (secrets []corev1.Secret, err error) {
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
