// Package docs checks the documentation: links lead somewhere, and the Chinese guide has the pages of the English one.
package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

func TestLinks(t *testing.T) {
	t.Parallel()
	var pages []string
	for _, pattern := range []string{"../*.md", "*.md", "*/*.md", "../*/README.md", "../*/*/README.md", "../bench/*.md"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, files...)
	}
	if len(pages) < 20 {
		t.Fatalf("found only %q", pages)
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range link.FindAllStringSubmatch(string(text), -1) {
			target, _, _ := strings.Cut(found[1], "#")
			if target == "" || strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), target)); err != nil {
				t.Errorf("%s: the link %q leads nowhere", page, found[1])
			}
		}
	}
}

func TestTranslated(t *testing.T) {
	t.Parallel()
	english, err := filepath.Glob("guide/*.md")
	if err != nil || len(english) == 0 {
		t.Fatalf("no guide: %v", err)
	}
	for _, page := range english {
		other := filepath.Join("zh", filepath.Base(page))
		from, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		to, err := os.ReadFile(other)
		if err != nil {
			t.Errorf("%s has no translation: %v", page, err)
			continue
		}
		// What is shown as code is the same in both, so its amount tells when one was forgotten.
		if got, want := strings.Count(string(to), "```"), strings.Count(string(from), "```"); got != want {
			t.Errorf("%s: %d fences, %s has %d", other, got, page, want)
		}
		if got, want := strings.Count(string(to), "\n## "), strings.Count(string(from), "\n## "); got != want {
			t.Errorf("%s: %d headings, %s has %d", other, got, page, want)
		}
	}
}

// Every direct dependency and every tool has its reason in decision 001, and nothing else has.
func TestDependencies(t *testing.T) {
	t.Parallel()
	mod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("decisions/001-dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	direct := map[string]bool{}
	for _, line := range regexp.MustCompile(`(?m)^(?:require )?\t?(\S+\.\S+/\S+) v\S+$`).FindAllStringSubmatch(string(mod), -1) {
		direct[line[1]] = true
		if !strings.Contains(string(page), "`"+line[1]+"`") {
			t.Errorf("decision 001 says nothing of %s", line[1])
		}
	}
	if len(direct) < 5 {
		t.Fatalf("found only %v in go.mod", direct)
	}
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)`").FindAllStringSubmatch(string(page), -1) {
		if !direct[row[1]] {
			t.Errorf("decision 001 has a reason for %s, which go.mod does not require", row[1])
		}
	}
	_, tools, _ := strings.Cut(string(mod), "tool (")
	for _, line := range strings.Fields(strings.TrimSuffix(strings.TrimSpace(tools), ")")) {
		if name := filepath.Base(line); !strings.Contains(string(page), "`"+name+"`") {
			t.Errorf("decision 001 says nothing of the tool %s", name)
		}
	}
}
