package ini

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files")

// TestProblemTexts holds every word that a bad file is answered with.
func TestProblemTexts(t *testing.T) {
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("testdata/bad/*.ini")
	if err != nil {
		t.Fatal(err)
	}
	corpus, err := filepath.Glob("testdata/corpus/*.ini")
	if err != nil {
		t.Fatal(err)
	}
	var bad, odd strings.Builder
	for _, file := range append(files, corpus...) {
		out := &odd
		if strings.HasPrefix(file, "testdata/bad/") {
			out = &bad
		}
		c, err := Load(Options{Main: file, Env: corpusEnv(), Hostname: "golden"})
		if err != nil {
			out.WriteString("== " + filepath.Base(file) + "\n" + err.Error() + "\n")
			continue
		}
		if len(c.Warnings) > 0 {
			out.WriteString("== " + filepath.Base(file) + " (accepted)\n" + Problems(c.Warnings).Error() + "\n")
		}
	}
	for name, got := range map[string]string{"bad.golden": bad.String(), "corpus.golden": odd.String()} {
		path := filepath.Join("testdata", name)
		got = strings.ReplaceAll(got, wd+"/", "")
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s (-want +got), -update writes it:\n%s", name, diff)
		}
	}
}
