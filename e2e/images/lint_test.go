//go:build images

package images

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Every image that was built keeps to images/README.md, down to the files of each layer.
func TestLint(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(lab.root, "images/*/Dockerfile"))
	if err != nil || len(files) < 2 {
		t.Fatalf("found %q, %v", files, err)
	}
	for _, f := range files {
		name := filepath.Base(filepath.Dir(f))
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			build(t, name)
			cmd := exec.Command("go", "run", "./images/lint", "-all", name)
			cmd.Dir = lab.root
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			t.Logf("%s", out)
		})
	}
}

// What the linter has to find in an image that was built, where no look at its Dockerfile can see it.
func TestLintBites(t *testing.T) {
	t.Parallel()
	build(t, "base") // and with it debian:12-slim
	root := t.TempDir()
	dir := filepath.Join(root, "images", "bad")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(lab.root, "hack"), filepath.Join(root, "hack")); err != nil {
		t.Fatal(err)
	}
	const dockerfile = `ARG BASE_IMAGE=debian:12-slim
ARG INPOD_IMAGE=inpod/base
FROM ${INPOD_IMAGE} AS inpod
FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.version="bad1-python3.9-ubuntu22.04" inpod.dev/max-size="10MB"
ARG WHO=me
RUN printf -- '-----BEGIN PRIVATE KEY-----\n%064d\n' 0 >/root/hidden.pem
RUN rm /root/hidden.pem
RUN echo "root:$(printf '$6$salt$%086d' 0):1::::::" >/etc/shadow && mkdir -p /root/.cache/pip && head -c 3000000 /dev/zero >/root/.cache/pip/x
RUN echo "$WHO" >/etc/who
COPY --from=inpod /inpod /usr/local/bin/inpod
EXPOSE 9880
ENTRYPOINT ["inpod", "run"]
`
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o644); err != nil {
		t.Fatal(err)
	}
	secret := "ghp_" + strings.Repeat("a1B2", 9) // the form of a token, and none
	must(t, "build", "-q", "--build-arg", "WHO="+secret, "-t", "inpod/bad", "-f", filepath.Join(dir, "Dockerfile"), root)
	t.Cleanup(func() {
		if _, err := docker("rmi", "inpod/bad"); err != nil {
			t.Error(err)
		}
	})
	cmd := exec.Command("go", "run", "./images/lint", "-C", root, "bad")
	cmd.Dir = lab.root
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Errorf("the linter found nothing:\n%s", out)
	}
	for _, want := range []string{
		`inpod/bad:latest: is not tagged inpod/bad:bad1-python3.9-ubuntu22.04`,
		"/root/hidden.pem holds a private key", // though a later layer deleted it
		"/etc/shadow holds a password's hash, of root",
		"/root/.cache/pip holds 3 MB that nobody needs",
		"the history holds a token of GitHub",
		"its version says Python 3.9, in the image are none",
		"its version says ubuntu22.04, the image is debian12",
		`its label inpod.dev/max-size allows "10MB"`,
		"runs as root",
		"the label org.opencontainers.image.title is missing",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q", want)
		}
	}
	if t.Failed() {
		t.Logf("%s", out)
	}
}
