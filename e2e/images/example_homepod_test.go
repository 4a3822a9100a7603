//go:build images

package images

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The example's own script brings it up, checks it and takes it down.
func TestExampleHomepod(t *testing.T) {
	t.Parallel()
	env := append(os.Environ(), "DOCKER="+lab.docker, "LABEL="+mark(), "NAME=inpod-e2e-"+fmt.Sprint(os.Getpid()),
		"SECRETS="+filepath.Join(t.TempDir(), "secrets"), fmt.Sprintf("PAGE_PORT=%d", freePort(t)), fmt.Sprintf("SFTP_PORT=%d", freePort(t)),
		"HOMEPOD_IMAGE="+build(t, "homepod"), "AIRLOCK_IMAGE="+build(t, "airlock"), "BASE_IMAGE="+build(t, "base"))
	script := func(action string) error {
		ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, filepath.Join(lab.root, "examples/homepod/homepod.sh"), action)
		cmd.Env = env
		out, err := cmd.CombinedOutput()
		t.Logf("homepod.sh %s:\n%s", action, out)
		return err
	}
	defer func() {
		if err := script("down"); err != nil {
			t.Error(err)
		}
	}()
	for _, action := range []string{"up", "check"} {
		if err := script(action); err != nil {
			t.Fatalf("homepod.sh %s: %v", action, err)
		}
	}
}
