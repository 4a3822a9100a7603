package models

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/inpod/inpod/config"
)

// HOME may be a file, or not ours to read: there are no credentials then, unless something names a file there.
func TestAHomeWithoutCredentials(t *testing.T) {
	home := write(t, filepath.Join(t.TempDir(), "home"), nil)
	env := map[string]string{"HOME": home}
	if keys, err := awsCredentials(env); err != nil || keys.HasKeys() {
		t.Errorf("S3: %v, %v", keys, err)
	}
	if cred, err := registryCredentials(env, "r.example.com"); err != nil || cred.Username != "" {
		t.Errorf("registries: %v, %v", cred, err)
	}
	env["AWS_SHARED_CREDENTIALS_FILE"] = home + "/credentials"
	env["DOCKER_CONFIG"] = home
	if _, err := awsCredentials(env); err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("S3, by name: %v", err)
	}
	if _, err := registryCredentials(env, "r.example.com"); err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("registries, by name: %v", err)
	}
	for _, err := range []error{os.ErrPermission, os.ErrNotExist} {
		if !absent(err) {
			t.Errorf("%v is a file", err)
		}
	}
}

// Where there is a token, a config.json that cannot be read does not matter.
func TestTheTokenGoesFirst(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, ".docker", "config.json"), []byte("{"))
	at, err := url.Parse("oci://r.example.com/m:1")
	if err != nil {
		t.Fatal(err)
	}
	u := &unit{model: &config.Model{}, env: map[string]string{"HOME": dir}, client: newClient()}
	if _, err := newRegistrySource(u, at); err == nil {
		t.Error("a bad config.json is taken")
	}
	u.model.TokenFile = write(t, filepath.Join(dir, "token"), []byte("secret\n"))
	src, err := newRegistrySource(u, at)
	if err != nil {
		t.Fatal(err)
	}
	cred, err := src.auth.Credential(t.Context(), "r.example.com")
	if err != nil || cred.AccessToken != "secret" {
		t.Errorf("got %q, %v", cred.AccessToken, err)
	}
}
