package injector

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func TestJudgeRemembers(t *testing.T) {
	var j judge
	const file = "drain: {delay: 5s}"
	for range 2 {
		if err := j.check(file, []string{"INPOD_LOG_LEVEL=info"}); err != nil {
			t.Error(err)
		}
		if err := j.check(file, []string{"INPOD_LOG_LEVEL=loud"}); err == nil {
			t.Error("a level that there is not was taken")
		}
		if cfg, err := j.read("proxy: {nothing: 1}"); err == nil {
			t.Errorf("a key that there is not was taken: %v", cfg)
		}
	}
	first, err := j.read(file)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := j.read(file); err != nil || again != first {
		t.Errorf("it was read again: %v", err)
	}
	if len(j.passed) != 1 || len(j.files) != 1 {
		t.Errorf("%d and %d are kept, want what passed", len(j.passed), len(j.files))
	}
	for i := range 3 * maxFiles {
		if _, err := j.read(fmt.Sprintf("drain: {delay: %dms}", i)); err != nil || len(j.files) > maxFiles {
			t.Fatalf("%d files are kept, %v", len(j.files), err)
		}
	}
}

// TestJudgeReadsNoFiles: what the settings name is in the pod, and what is here is not for whoever wrote a ConfigMap.
func TestJudgeReadsNoFiles(t *testing.T) {
	var j judge
	file := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(file, []byte("httpRules: [{port: 1, name: a, path: /secret}]"), 0o600); err != nil {
		t.Fatal(err)
	}
	text := "proxy: {sources: [{file: " + file + "}]}"
	if err := j.check(text, nil); err != nil {
		t.Error(err)
	}
	if cfg, err := j.read(text); err != nil || len(cfg.Proxy.Routes) != 0 {
		t.Errorf("got %v, %v", cfg, err)
	}
}

// TestJudgeTellsApart: where one variable ends and the next begins is part of what is judged.
func TestJudgeTellsApart(t *testing.T) {
	var j judge
	for _, env := range [][]string{{"INPOD_LOG_LEVEL=info", "A=b"}, {"INPOD_LOG_LEVEL=info"}, nil} {
		if err := j.check("", env); err != nil {
			t.Error(err)
		}
	}
	if err := j.check("", []string{"INPOD_LOG_LEVEL=infoA=b"}); err == nil || len(j.passed) != 3 {
		t.Errorf("got %v, and %d passed", err, len(j.passed))
	}
}
