package injector

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/version"
	fakediscovery "k8s.io/client-go/discovery/fake"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

// TestVersionIsAskedAgain: one call that fails does not leave the version unknown for long.
func TestVersionIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewSimpleClientset()
		failures := 2
		client.PrependReactor("get", "version", func(clienttesting.Action) (bool, runtime.Object, error) {
			if failures--; failures >= 0 {
				return true, nil, errors.New("no API server")
			}
			return true, nil, nil
		})
		client.Discovery().(*fakediscovery.FakeDiscovery).FakedServerVersion = &version.Info{Major: "1", Minor: "34-gke.1"}
		api := NewAPI(client, false)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go api.Run(ctx)
		synctest.Wait()
		if n := api.Minor(); n != 0 {
			t.Errorf("after a failure: %d", n)
		}
		<-time.After(2*versionRetry + time.Second) // of the bubble's clock
		synctest.Wait()
		if n := api.Minor(); n != 34 {
			t.Errorf("after %d: %d, want 34", 2*versionRetry, n)
		}
	})
}

func TestLeadingNumber(t *testing.T) {
	for text, want := range map[string]int64{"34": 34, "34+": 34, "29-eks-1": 29, "": 0, "x": 0} {
		if got := leadingNumber(text); got != want {
			t.Errorf("%q: got %d, want %d", text, got, want)
		}
	}
}
