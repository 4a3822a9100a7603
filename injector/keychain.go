package injector

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"path"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	corev1 "k8s.io/api/core/v1"
)

// keychain holds the credentials of a pod's pull secrets, and finds those for an image as the kubelet does: the host
// may begin with *. and the path is a prefix; the longest path wins.
// See https://kubernetes.io/docs/concepts/containers/images/#config-json
type keychain []credential

type credential struct {
	host, path string
	auth       authn.AuthConfig
}

// newKeychain reads pull secrets. One that cannot be read is left out and named in the error; the others count.
func newKeychain(secrets []corev1.Secret) (k keychain, err error) {
	for _, s := range secrets {
		var auths map[string]authn.AuthConfig
		var bad error
		switch s.Type {
		case corev1.SecretTypeDockerConfigJson:
			var file struct {
				Auths map[string]authn.AuthConfig `json:"auths"`
			}
			bad = json.Unmarshal(s.Data[corev1.DockerConfigJsonKey], &file)
			auths = file.Auths
		case corev1.SecretTypeDockercfg:
			bad = json.Unmarshal(s.Data[corev1.DockerConfigKey], &auths)
		default:
			bad = fmt.Errorf("its type is %q; want %s", s.Type, corev1.SecretTypeDockerConfigJson)
		}
		if bad != nil {
			err = fmt.Errorf("cannot read the pull secret %q: %w", s.Name, bad)
			continue
		}
		for where, auth := range auths {
			k = append(k, newCredential(where, auth))
		}
	}
	return k, err
}

func newCredential(where string, auth authn.AuthConfig) credential {
	where = strings.TrimPrefix(strings.TrimPrefix(where, "https://"), "http://")
	host, dir, _ := strings.Cut(where, "/")
	dir = strings.Trim(dir, "/")
	if dir == "v1" || dir == "v2" { // as docker login writes it
		dir = ""
	}
	if host == "docker.io" || host == "registry-1.docker.io" {
		host = "index.docker.io"
	}
	if auth.Username == "" && auth.Password == "" && auth.Auth != "" {
		if text, err := base64.StdEncoding.DecodeString(auth.Auth); err == nil {
			auth.Username, auth.Password, _ = strings.Cut(string(text), ":")
			auth.Auth = ""
		}
	}
	return credential{host: host, path: dir, auth: auth}
}

// Resolve is authn.Keychain's.
func (k keychain) Resolve(target authn.Resource) (authn.Authenticator, error) {
	host, repository := target.RegistryStr(), strings.TrimPrefix(target.String(), target.RegistryStr()+"/")
	best := -1
	for i, c := range k {
		if !hostMatches(c.host, host) || c.path != "" && repository != c.path && !strings.HasPrefix(repository, c.path+"/") {
			continue
		}
		if best < 0 || len(c.path) > len(k[best].path) {
			best = i
		}
	}
	if best < 0 {
		return authn.Anonymous, nil
	}
	return authn.FromConfig(k[best].auth), nil
}

// hostMatches compares label by label, so that a * does not reach over a dot.
func hostMatches(pattern, host string) bool {
	if strings.Count(pattern, ".") != strings.Count(host, ".") {
		return false
	}
	ok, err := path.Match(pattern, host)
	return err == nil && ok
}
