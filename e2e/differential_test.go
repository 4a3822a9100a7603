package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestDifferential gives each testdata/*.ini to Python supervisord and to inpod: what a user can see is the same.
func TestDifferential(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("testdata/*.ini")
	if err != nil || len(paths) < 40 {
		t.Fatalf("got %d cases (%v), want 40 or more", len(paths), err)
	}
	for _, p := range paths {
		sc, err := loadScenario(p)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			compare(t, sc)
		})
	}
}

// compare plays a scenario on both sides at once and reports where the transcripts differ.
func compare(t *testing.T, sc *scenario) {
	t.Helper()
	dir := shortDir(t)
	sides := []kind{python, inpod}
	if os.Getenv("E2E_SELF") != "" {
		sides[1] = python
	}
	results := make([][]string, len(sides))
	done := make(chan int)
	for i, k := range sides {
		go func() {
			// Fatal in a step ends this goroutine: the channel is told all the same.
			defer func() { done <- i }()
			sub := filepath.Join(dir, []string{"a", "b"}[i])
			if err := os.Mkdir(sub, 0o755); err != nil {
				t.Error(err)
				return
			}
			results[i] = play(t, k, sc, sub)
		}()
	}
	for range sides {
		<-done
	}
	want, got := strings.Join(results[0], "\n"), strings.Join(results[1], "\n")
	if os.Getenv("E2E_VERBOSE") != "" {
		t.Logf("python:\n%s", want)
	}
	if want != got {
		t.Errorf("not the same (- python, + inpod):\n%s", cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n")))
		out, _ := os.ReadFile(filepath.Join(dir, "b", "daemon.out"))
		t.Logf("the second side says:\n%s", tailOf(string(out), 2500))
	}
}
