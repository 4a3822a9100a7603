package injector

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	corev1 "k8s.io/api/core/v1"
)

// patient is a registry whose lookups end in time on a machine that stands still for some seconds, too.
func patient() *Registry { return &Registry{Local: true, timeout: time.Minute} }

// realRegistry is go-containerregistry's own, behind a password.
type realRegistry struct {
	host     string
	requests atomic.Int64
	slow     atomic.Bool
	release  chan struct{}
}

func startRegistry(t *testing.T) *realRegistry {
	t.Helper()
	r := &realRegistry{release: make(chan struct{})}
	handler := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.requests.Add(1)
		if r.slow.Load() {
			<-r.release
		}
		user, password, _ := req.BasicAuth()
		if user != "alice" || password != "secret:1" {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		handler.ServeHTTP(w, req)
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(r.release) })
	r.host = strings.TrimPrefix(server.URL, "http://")
	return r
}

func (r *realRegistry) push(t *testing.T, repository string, cfg v1.Config) string {
	t.Helper()
	image, err := mutate.Config(empty.Image, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(r.host + "/" + repository)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, image, remote.WithAuth(&authn.Basic{Username: "alice", Password: "secret:1"})); err != nil {
		t.Fatal(err)
	}
	digest, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest.String()
}

func pullSecret(host, user, password string) corev1.Secret {
	auth := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	return corev1.Secret{Type: corev1.SecretTypeDockerConfigJson, Data: map[string][]byte{
		corev1.DockerConfigJsonKey: []byte(`{"auths":{"https://` + host + `/v1/":{"auth":"` + auth + `"}}}`),
	}}
}

func keysOf(t *testing.T, secrets ...corev1.Secret) keychain {
	t.Helper()
	k, err := newKeychain(secrets)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestLookup(t *testing.T) {
	server := startRegistry(t)
	digest := server.push(t, "team/web:1", v1.Config{Entrypoint: []string{"/web"}, Cmd: []string{"--fast"}, User: "1000", StopSignal: "SIGQUIT"})
	want := Image{Digest: digest, Entrypoint: []string{"/web"}, Cmd: []string{"--fast"}, User: "1000", StopSignal: "SIGQUIT"}
	r := patient()
	alice := r.With(keysOf(t, pullSecret(server.host, "alice", "secret:1")))

	for _, ref := range []string{"/team/web:1", "/team/web:1", "/team/web@" + digest} {
		got, err := alice.Image(t.Context(), server.host+ref)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", ref, diff)
		}
	}
	before := server.requests.Load()
	if _, err := alice.Image(t.Context(), server.host+"/team/web:1"); err != nil || server.requests.Load() != before {
		t.Errorf("a known tag: %v, %d requests, want none", err, server.requests.Load()-before)
	}

	// What is cached for Alice is not for who has no password.
	if _, err := r.With(keychain{}).Image(t.Context(), server.host+"/team/web:1"); err == nil || !strings.Contains(err.Error(), "refuses the pull secrets") {
		t.Errorf("without a secret: %v", err)
	}
	if _, err := alice.Image(t.Context(), server.host+"/team/none:1"); err == nil || !strings.Contains(err.Error(), "does not have it") {
		t.Errorf("an image that is not there: %v", err)
	}
	if _, err := alice.Image(t.Context(), "UPPER CASE"); err == nil {
		t.Error("a name that is none: no error")
	}
}

func TestLookupOfAnIndex(t *testing.T) {
	server := startRegistry(t)
	var adds []mutate.IndexAddendum
	for _, p := range []v1.Platform{{OS: "windows", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"}, {OS: "linux", Architecture: "amd64"}} {
		image, err := mutate.Config(empty.Image, v1.Config{Entrypoint: []string{p.OS + "-" + p.Architecture}})
		if err != nil {
			t.Fatal(err)
		}
		adds = append(adds, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: &p}})
	}
	ref, err := name.ParseReference(server.host + "/multi:1")
	if err != nil {
		t.Fatal(err)
	}
	auth := remote.WithAuth(&authn.Basic{Username: "alice", Password: "secret:1"})
	if err := remote.WriteIndex(ref, mutate.AppendManifests(empty.Index, adds...), auth); err != nil {
		t.Fatal(err)
	}
	got, err := patient().With(keysOf(t, pullSecret(server.host, "alice", "secret:1"))).Image(t.Context(), ref.Name())
	if err != nil || len(got.Entrypoint) != 1 || got.Entrypoint[0] != "linux-amd64" {
		t.Errorf("got %+v, %v; want the one for linux-amd64", got, err)
	}
}

func TestLookupIsBounded(t *testing.T) {
	server := startRegistry(t)
	server.slow.Store(true)
	began := time.Now()
	_, err := (&Registry{Local: true}).With(keychain{}).Image(t.Context(), server.host+"/slow:1")
	if took := time.Since(began); err == nil || !strings.Contains(err.Error(), "did not answer within 3.5s") || took > lookupTimeout+30*time.Second {
		t.Errorf("a registry that hangs: %v after %s", err, took)
	}
}

func TestLookupRefusesLocalAddressesAndHosts(t *testing.T) {
	server := startRegistry(t)
	if _, err := (&Registry{}).With(keychain{}).Image(t.Context(), server.host+"/web:1"); err == nil || !strings.Contains(err.Error(), "may not ask 127.0.0.1") {
		t.Errorf("an address of this machine: %v", err)
	}
	r := &Registry{Local: true, Allow: []string{"*.example.com"}}
	if _, err := r.With(keychain{}).Image(t.Context(), server.host+"/web:1"); err == nil || !strings.Contains(err.Error(), "may not ask the registry") {
		t.Errorf("a host that is not allowed: %v", err)
	}
	if server.requests.Load() != 0 {
		t.Errorf("%d requests, want none", server.requests.Load())
	}
}

func TestKeychain(t *testing.T) {
	secret := corev1.Secret{Type: corev1.SecretTypeDockerConfigJson, Data: map[string][]byte{corev1.DockerConfigJsonKey: []byte(`{"auths":{
		"registry.example.com": {"username": "a", "password": "1"},
		"registry.example.com/team/app": {"username": "b", "password": "2"},
		"*.other.example.com": {"username": "c", "password": "3"},
		"https://index.docker.io/v1/": {"username": "d", "password": "4"}}}`)}}
	old := corev1.Secret{Type: corev1.SecretTypeDockercfg, Data: map[string][]byte{corev1.DockerConfigKey: []byte(`{"old.example.com": {"username": "e", "password": "5"}}`)}}
	k := keysOf(t, secret, old)
	tests := []struct{ image, user string }{
		{"registry.example.com/x", "a"},
		{"registry.example.com/team/app", "b"},
		{"registry.example.com/team/app/sub:1", "b"},
		{"registry.example.com/team/application", "a"},
		{"eu.other.example.com/x", "c"},
		{"a.eu.other.example.com/x", ""},
		{"nginx", "d"},
		{"old.example.com/x", "e"},
		{"registry.example.com.evil.test/x", ""},
	}
	for _, tt := range tests {
		ref, err := name.ParseReference(tt.image)
		if err != nil {
			t.Fatal(err)
		}
		auth, err := k.Resolve(ref.Context())
		if err != nil {
			t.Fatal(err)
		}
		got, err := auth.Authorization()
		if err != nil || got.Username != tt.user {
			t.Errorf("%s: user %q, %v; want %q", tt.image, got.Username, err, tt.user)
		}
	}
	if _, err := newKeychain([]corev1.Secret{{Type: corev1.SecretTypeOpaque}}); err == nil {
		t.Error("a secret of another type: no error")
	}
}

func pushWeb(t *testing.T, server *realRegistry) {
	t.Helper()
	server.push(t, "web:1", v1.Config{Entrypoint: []string{"/web"}})
}

func TestImageNameThatIsLong(t *testing.T) {
	r := &Registry{}
	if _, err := r.With(authn.DefaultKeychain).Image(t.Context(), strings.Repeat("X", 5000)); err == nil || len(err.Error()) > 400 {
		t.Errorf("got an error of %d bytes", len(fmt.Sprint(err)))
	}
}

// TestLookupsOfOneImage: whoever wants the same with the same keys waits for the one who asks.
func TestLookupsOfOneImage(t *testing.T) {
	server := startRegistry(t)
	server.push(t, "web:1", v1.Config{Entrypoint: []string{"/web"}})
	keys := keysOf(t, pullSecret(server.host, "alice", "secret:1"))
	before := server.requests.Load()
	if _, err := patient().With(keys).Image(t.Context(), server.host+"/web:1"); err != nil {
		t.Fatal(err)
	}
	one := server.requests.Load() - before
	server.slow.Store(true)
	r := patient()
	done := make(chan error)
	const all = 40 // more than may ask at once
	for range all {
		go func() {
			_, err := r.With(keys).Image(t.Context(), server.host+"/web:1")
			done <- err
		}()
	}
	for left := all; left > 0; {
		select {
		case server.release <- struct{}{}: // one answer
		case err := <-done:
			if left--; err != nil {
				t.Error(err)
			}
		}
	}
	if n := server.requests.Load() - before - one; n != one {
		t.Errorf("%d lookups took %d requests, one takes %d", all, n, one)
	}
}

// TestRegistryThatHangs takes none of the turns of another one.
func TestRegistryThatHangs(t *testing.T) {
	hanging, other := startRegistry(t), startRegistry(t)
	other.push(t, "web:1", v1.Config{Entrypoint: []string{"/web"}})
	hanging.slow.Store(true)
	r, nobody := patient(), keysOf(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	const all = 3 * maxLookups
	for i := range all {
		go func() {
			_, err := r.With(nobody).Image(ctx, fmt.Sprintf("%s/web:%d", hanging.host, i))
			done <- err
		}()
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); hanging.requests.Load() < maxOfHost; <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("%d lookups have begun", hanging.requests.Load())
		}
	}
	keys := keysOf(t, pullSecret(other.host, "alice", "secret:1"))
	if got, err := r.With(keys).Image(t.Context(), other.host+"/web:1"); err != nil || len(got.Entrypoint) != 1 {
		t.Errorf("beside a registry that hangs: %v, %v", got, err)
	}
	if n := hanging.requests.Load(); n > maxOfHost {
		t.Errorf("it is asked %d times at once, want at most %d", n, maxOfHost)
	}
	cancel()
	for range all {
		if err := <-done; err == nil {
			t.Error("it answered")
		}
	}
	if len(r.hosts)+len(r.slots) != 0 {
		t.Errorf("%d registries and %d turns are left", len(r.hosts), len(r.slots))
	}
}
