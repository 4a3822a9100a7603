package models

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/aws/aws-sdk-go-v2/aws"
	"oras.land/oras-go/v2/registry/remote/auth"
)

// awsCredentials are those of the environment, else of the shared file (sdkref: AWS_SHARED_CREDENTIALS_FILE, AWS_PROFILE). None
// at all is no error: objects may be public.
func awsCredentials(env map[string]string) (aws.Credentials, error) {
	keys := aws.Credentials{
		AccessKeyID: env["AWS_ACCESS_KEY_ID"], SecretAccessKey: env["AWS_SECRET_ACCESS_KEY"], SessionToken: env["AWS_SESSION_TOKEN"],
	}
	if keys.HasKeys() {
		return keys, nil
	}
	path := env["AWS_SHARED_CREDENTIALS_FILE"]
	if path == "" {
		path = filepath.Join(env["HOME"], ".aws", "credentials")
	}
	profile := firstOf(env["AWS_PROFILE"], "default")
	f, err := os.Open(path)
	if absent(err) && env["AWS_SHARED_CREDENTIALS_FILE"] == "" && env["AWS_PROFILE"] == "" {
		return aws.Credentials{}, nil
	}
	if err != nil {
		return keys, fmt.Errorf("cannot read the credentials of S3: %w", err)
	}
	defer f.Close()
	keys = aws.Credentials{}
	found, inside := false, false
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if strings.HasPrefix(line, "[") {
			inside = strings.TrimSpace(strings.Trim(line, "[]")) == profile
			found = found || inside
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !inside || !ok {
			continue
		}
		switch value = strings.TrimSpace(value); strings.TrimSpace(name) {
		case "aws_access_key_id":
			keys.AccessKeyID = value
		case "aws_secret_access_key":
			keys.SecretAccessKey = value
		case "aws_session_token":
			keys.SessionToken = value
		}
	}
	if !keys.HasKeys() && (found || env["AWS_PROFILE"] != "") {
		return keys, fmt.Errorf("%s has no aws_access_key_id and aws_secret_access_key for the profile %q", path, profile)
	}
	return keys, nil
}

// absent tells whether there is no file for us below a HOME, which may be another user's: nobody named the file.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.ENOTDIR)
}

// dockerConfig is what of docker's config.json is read. Helpers that keep credentials are programs, and are not run.
type dockerConfig struct {
	Auths map[string]struct {
		Auth          string `json:"auth"`
		Username      string `json:"username"`
		Password      string `json:"password"`
		IdentityToken string `json:"identitytoken"`
		RegistryToken string `json:"registrytoken"`
	} `json:"auths"`
}

// registryCredentials looks a registry up in the files of docker and podman, and in a mounted Secret of the type
// kubernetes.io/dockerconfigjson.
func registryCredentials(env map[string]string, host string) (auth.Credential, error) {
	var paths []string
	if dir := env["DOCKER_CONFIG"]; dir != "" {
		paths = append(paths, filepath.Join(dir, "config.json"), filepath.Join(dir, ".dockerconfigjson"))
	}
	if file := env["REGISTRY_AUTH_FILE"]; file != "" {
		paths = append(paths, file)
	}
	home := filepath.Join(env["HOME"], ".docker", "config.json")
	for _, path := range append(paths, home) {
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) || path == home && absent(err) {
			continue
		}
		var c dockerConfig
		if err == nil {
			err = json.Unmarshal(b, &c)
		}
		if err != nil {
			return auth.Credential{}, fmt.Errorf("cannot read the credentials of registries in %s: %w", path, err)
		}
		for name, a := range c.Auths {
			if registryName(name) != registryName(host) {
				continue
			}
			cred := auth.Credential{Username: a.Username, Password: a.Password, RefreshToken: a.IdentityToken, AccessToken: a.RegistryToken}
			if a.Auth != "" {
				pair, err := base64.StdEncoding.DecodeString(a.Auth)
				user, password, ok := strings.Cut(string(pair), ":")
				if err != nil || !ok {
					return auth.Credential{}, fmt.Errorf("%s: the auth of %s is not base64 of user:password", path, name)
				}
				cred.Username, cred.Password = user, password
			}
			return cred, nil
		}
	}
	return auth.Credential{}, nil
}

// registryName is the host of a key of auths, which may be a URL. Docker's own registry has three names.
func registryName(s string) string {
	_, rest, ok := strings.Cut(s, "://")
	if !ok {
		rest = s
	}
	host, _, _ := strings.Cut(rest, "/")
	switch host {
	case "index.docker.io", "registry-1.docker.io":
		return "docker.io"
	}
	return host
}
