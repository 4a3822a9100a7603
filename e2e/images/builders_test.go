//go:build images

package images

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// The same Dockerfiles for every builder. hack/images.sh has used the client's own, which is the legacy one of Debian's
// docker; buildah with chroot stands for Kaniko, which cannot be had as a package: no daemon, no namespaces.
func TestBuilders(t *testing.T) {
	t.Parallel()
	want := imageConfig(t, build(t, "digits"))
	builders := map[string]func(t *testing.T, name string) string{
		"BuildKit": buildKit,
		"buildah":  buildah,
	}
	for name, make := range builders {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			make(t, "base")
			image := make(t, "digits")
			if got := imageConfig(t, image); !reflect.DeepEqual(got, want) {
				t.Errorf("the image's configuration is %+v, the legacy builder's %+v", got, want)
			}
			c := start(t, image, "--read-only", "--cap-drop", "ALL")
			c.ready()
			if got, err := newClient(c.addr(8080)).predict(seven(t)); got != 7 || err != nil {
				t.Errorf("a seven is %d, %v", got, err)
			}
			if code, _ := c.stop(60 * time.Second); code != 0 {
				t.Errorf("docker stop: exit code %d", code)
			}
		})
	}
}

// config is what of an image must not depend on its builder.
type config struct {
	User, WorkingDir string
	Entrypoint, Cmd  []string
	ExposedPorts     map[string]any
	Labels           map[string]string
}

func imageConfig(t *testing.T, image string) config {
	t.Helper()
	var c config
	if err := json.Unmarshal([]byte(must(t, "image", "inspect", "-f", "{{json .Config}}", image)), &c); err != nil {
		t.Fatal(err)
	}
	delete(c.Labels, "io.buildah.version")
	if len(c.Cmd) == 0 {
		c.Cmd = nil // some write [], others null
	}
	return c
}

// buildOne runs a builder from the repository's root. Only one builds at a time: they are heavy.
func buildOne(t *testing.T, env []string, tool string, args ...string) {
	t.Helper()
	buildLock.Lock()
	defer buildLock.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	began := time.Now()
	cmd := exec.CommandContext(ctx, tool, args...)
	cmd.Dir, cmd.Env = lab.root, append(os.Environ(), env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s", tool, strings.Join(args, " "), err, tail(out.String(), 60))
	}
	t.Logf("%s %s: %s", filepath.Base(tool), args[len(args)-2], time.Since(began).Round(time.Second))
}

func buildKit(t *testing.T, name string) string {
	t.Helper()
	image := "inpod-buildkit/" + name
	// The plain output comes from BuildKit alone: with the legacy builder the flag is an error.
	buildOne(t, []string{"DOCKER_BUILDKIT=1"}, lab.docker, "build", "--progress", "plain", "--build-arg", "INPOD_IMAGE=inpod-buildkit/base",
		"-f", "images/"+name+"/Dockerfile", "-t", image, ".")
	return image
}

// buildah has a store of its own, kept between runs as dockerd's is, and gives the image to docker to run.
func buildah(t *testing.T, name string) string {
	t.Helper()
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		cache = filepath.Join(os.Getenv("HOME"), ".cache")
	}
	store := []string{"--root", cache + "/inpod/buildah", "--runroot", "/run/inpod-docker/buildah", "--storage-driver", "overlay"}
	if name == "base" {
		file := filepath.Join(t.TempDir(), "debian.tar")
		must(t, "save", "-o", file, "debian:12-slim")
		buildOne(t, nil, "buildah", append(store, "pull", "--quiet", "docker-archive:"+file)...)
	}
	image := "localhost/inpod/" + name
	buildOne(t, nil, "buildah", append(store, "bud", "--isolation", "chroot", "--format", "docker", "--layers",
		"--build-arg", "BASE_IMAGE=localhost/debian:12-slim", "--build-arg", "INPOD_IMAGE=localhost/inpod/base",
		"-f", "images/"+name+"/Dockerfile", "-t", image, ".")...)
	if name == "base" {
		return image
	}
	file := filepath.Join(t.TempDir(), "image.tar")
	result := "inpod-buildah/" + name + ":latest"
	buildOne(t, nil, "buildah", append(store, "push", "--quiet", image, fmt.Sprintf("docker-archive:%s:%s", file, result))...)
	must(t, "load", "-q", "-i", file)
	return result
}
