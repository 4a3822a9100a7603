//go:build images

package images

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Miniconda's installer cannot be fetched here. What is tested is the rest: the settings are right, an environment.yml
// is noticed, and its hook, which finds no conda, fails without taking anything along.
func TestMinicondaSettings(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "environment.yml")
	if err := os.WriteFile(file, []byte("dependencies: [python]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	flags := settingsOf("miniconda", "etc/inpod/inpod.yaml")
	c := start(t, build(t, "base"), append(flags, "-v", file+":/root/environment.yml:ro")...)
	if out, code := c.try("/inpod", "check", "--strict"); code != 0 || !strings.Contains(out, "environment.yml") {
		t.Errorf("inpod check: %d\n%s", code, out)
	}
	await(t, "the hook", func() bool { return strings.Contains(c.logs(), `"hook":"environment"`) })
	if log := c.logs(); !strings.Contains(log, "conda") {
		t.Errorf("the log does not name what is missing:\n%s", log)
	}
	c.ready()
	if !c.running() {
		t.Error("the container ended")
	}
}

// Without an environment.yml nothing is done.
func TestMinicondaNothingToDo(t *testing.T) {
	t.Parallel()
	c := start(t, build(t, "base"), settingsOf("miniconda", "etc/inpod/inpod.yaml")...)
	c.ready()
	if log := c.logs(); !strings.Contains(log, `"hook skipped"`) {
		t.Errorf("the log: %s", log)
	}
}
