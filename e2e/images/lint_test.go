//go:build images

package images

import (
	"os/exec"
	"path/filepath"
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
