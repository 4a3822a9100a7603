package injector

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

func TestMemoryShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := memory[int]{keep: time.Minute, most: 2}
		reads := 0
		read := func(context.Context) (int, error) {
			reads++
			<-time.After(time.Second) // of the bubble's clock
			return reads, nil
		}
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if v, _, err := m.get(t.Context(), "a", read); v != 1 || err != nil {
					t.Errorf("got %d, %v", v, err)
				}
			})
		}
		wg.Wait()
		if reads != 1 {
			t.Errorf("ten at once read %d times", reads)
		}
		<-time.After(31 * time.Second)
		for i, want := range []bool{true, false} {
			if v, aging, err := m.get(t.Context(), "a", read); v != 1 || aging != want || err != nil {
				t.Errorf("look %d in the second half: got %d, %v, %v", i, v, aging, err)
			}
		}
		if v, err := m.renew(t.Context(), "a", read); v != 2 || err != nil {
			t.Errorf("renewed: got %d, %v", v, err)
		}
		<-time.After(59 * time.Second) // the reading took one more
		if v, _, err := m.get(t.Context(), "a", read); v != 3 || err != nil {
			t.Errorf("too old: got %d, %v", v, err)
		}
		for _, key := range []string{"b", "c", "d"} {
			if _, _, err := m.get(t.Context(), key, read); err != nil {
				t.Error(err)
			}
			if len(m.known) > m.most {
				t.Errorf("%d are kept, at most %d should be", len(m.known), m.most)
			}
		}
		<-time.After(2 * time.Minute)
		if _, _, err := m.get(t.Context(), "e", read); err != nil || len(m.known) != 1 {
			t.Errorf("what is too old stays: %v, %v", m.known, err)
		}
	})
}

// TestMemoryFails: a failure is everybody's who waited, but not that of somebody who went away, and it is not kept.
func TestMemoryFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := memory[int]{keep: time.Minute, most: 2}
		broken, reads := errors.New("broken"), 0
		fail := func(context.Context) (int, error) {
			reads++
			<-time.After(time.Second)
			return 0, broken
		}
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if _, _, err := m.get(t.Context(), "a", fail); !errors.Is(err, broken) {
					t.Errorf("got %v", err)
				}
			})
		}
		wg.Wait()
		if reads != 1 {
			t.Errorf("three at once read %d times", reads)
		}
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		hangs := func(ctx context.Context) (int, error) {
			<-ctx.Done()
			return 0, ctx.Err()
		}
		wg.Go(func() {
			if _, _, err := m.get(impatient, "a", hangs); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the impatient one got %v", err)
			}
		})
		synctest.Wait()
		wg.Go(func() {
			if v, _, err := m.get(t.Context(), "a", func(context.Context) (int, error) { return 7, nil }); v != 7 || err != nil {
				t.Errorf("after the impatient one: %d, %v", v, err)
			}
		})
		also, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, _, err := m.get(also, "a", hangs); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("who waits for another one's reading got %v", err)
		}
		wg.Wait()
	})
}

// TestNoReviewWaitsForANamespace: one that is in use is read before it is too old, beside the reviews.
func TestNoReviewWaitsForANamespace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewSimpleClientset(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team"}})
		reads, slow := 0, false
		client.PrependReactor("get", "namespaces", func(clienttesting.Action) (bool, runtime.Object, error) {
			if reads++; slow {
				<-time.After(time.Second)
			}
			return false, nil, nil
		})
		api := NewAPI(client, false)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { api.Run(ctx); close(done) }()
		if _, _, err := api.Namespace(t.Context(), "team"); err != nil {
			t.Fatal(err)
		}
		slow = true
		began := time.Now()
		for range 60 * 50 { // a minute of 50 a second
			<-time.After(20 * time.Millisecond)
			before := time.Now()
			if _, _, err := api.Namespace(t.Context(), "team"); err != nil || time.Since(before) > 0 {
				t.Fatalf("after %s a review waited %s: %v", time.Since(began), time.Since(before), err)
			}
		}
		if reads < 12 || reads > 25 {
			t.Errorf("it was read %d times in a minute", reads)
		}
		cancel()
		<-done
	})
}

// TestNamespaceOfBefore: while the API server cannot be asked, a namespace is what it was; what it answers counts at once.
func TestNamespaceOfBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewSimpleClientset(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team", Labels: map[string]string{"a": "b"}}})
		var fails error
		client.PrependReactor("get", "namespaces", func(clienttesting.Action) (bool, runtime.Object, error) { return fails != nil, nil, fails })
		api := NewAPI(client, false)
		get := func() error {
			t.Helper()
			labels, _, err := api.Namespace(t.Context(), "team")
			if err == nil && labels["a"] != "b" {
				t.Errorf("got labels %v", labels)
			}
			return err
		}
		fails = errors.New("connection refused")
		if get() == nil {
			t.Error("a namespace that was never read has no error")
		}
		fails = nil
		if err := get(); err != nil {
			t.Fatal(err)
		}
		group := schema.GroupResource{Resource: "namespaces"}
		for _, err := range []error{
			errors.New("connection refused"), context.DeadlineExceeded, apierrors.NewInternalError(errors.New("etcd")), apierrors.NewTooManyRequests("later", 1),
		} {
			<-time.After(time.Minute)
			fails = err
			if err := get(); err != nil {
				t.Errorf("with %v: %v", fails, err)
			}
		}
		for _, err := range []error{apierrors.NewNotFound(group, "team"), apierrors.NewForbidden(group, "team", nil)} {
			if fails = err; get() == nil {
				t.Errorf("no error with %v", fails)
			}
		}
		<-time.After(namespaceSpare)
		if fails = errors.New("connection refused"); get() == nil {
			t.Error("a namespace that was read too long ago has no error")
		}
	})
}

func TestPullSecretsAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewSimpleClientset(
			&corev1.ServiceAccount{
				ObjectMeta:       metav1.ObjectMeta{Namespace: "team", Name: "default"},
				ImagePullSecrets: []corev1.LocalObjectReference{{Name: "pull"}},
			},
			&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "pull"}},
			&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "other"}},
		)
		api := NewAPI(client, true)
		pod, other := &corev1.Pod{}, &corev1.Pod{Spec: corev1.PodSpec{ImagePullSecrets: []corev1.LocalObjectReference{{Name: "other"}}}}
		lost := &corev1.Pod{Spec: corev1.PodSpec{ImagePullSecrets: []corev1.LocalObjectReference{{Name: "other"}, {Name: "lost"}}}}
		for range 3 {
			for pod, want := range map[*corev1.Pod]string{pod: "pull", other: "other"} {
				if got, err := api.PullSecrets(t.Context(), "team", pod); err != nil || len(got) != 1 || got[0].Name != want {
					t.Errorf("got %v, %v; want %s", got, err, want)
				}
			}
		}
		if n := len(client.Actions()); n != 3 {
			t.Errorf("%d things were read, want the account and two secrets", n)
		}
		if got, err := api.PullSecrets(t.Context(), "team", lost); err == nil || len(got) != 1 {
			t.Errorf("with a secret that is lost: %v, %v", got, err)
		}
		if got, err := api.PullSecrets(t.Context(), "elsewhere", pod); err == nil {
			t.Errorf("in another namespace: %v", got)
		}
		<-time.After(secretsTime)
		if _, err := api.PullSecrets(t.Context(), "team", pod); err != nil {
			t.Error(err)
		}
		if n := len(client.Actions()); n != 8 {
			t.Errorf("%d things were read in all, want 8", n)
		}
	})
}
