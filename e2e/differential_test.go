package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
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

// TestKnownDifferencesAreTold: the decision page lists each .differs file, and no other.
func TestKnownDifferencesAreTold(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/decisions/070-e2e.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "## Known deviations")
	table, _, _ = strings.Cut(table, "## Measured")
	var told []string
	for _, line := range strings.Split(table, "\n")[3:] {
		if name, _, ok := strings.Cut(strings.TrimPrefix(line, "| "), " |"); ok {
			told = append(told, "testdata/"+name+".differs")
		}
	}
	slices.Sort(told)
	files, err := filepath.Glob("testdata/*.differs")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(files, told); diff != "" {
		t.Errorf("known differences (- files, + docs/decisions/070-e2e.md):\n%s", diff)
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
	if os.Getenv("E2E_VERBOSE") != "" {
		t.Logf("python:\n%s", strings.Join(results[0], "\n"))
	}
	got := lineDiff(lines(results[0]), lines(results[1]))
	why, want := sc.known(t)
	if os.Getenv("E2E_SELF") != "" {
		want = nil
	}
	if cmp.Equal(got, want, cmpopts.EquateEmpty()) {
		return
	}
	if why != "" && os.Getenv("E2E_UPDATE") != "" {
		text := "# " + why + "\n" + strings.Join(got, "\n") + "\n"
		if err := os.WriteFile(sc.differs(), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if len(want) > 0 {
		t.Errorf("known to differ (%s), but not so: got\n%s\nwant\n%s", why, strings.Join(got, "\n"), strings.Join(want, "\n"))
	} else {
		t.Errorf("not the same (- python, + inpod):\n%s", strings.Join(got, "\n"))
	}
	out, _ := os.ReadFile(filepath.Join(dir, "b", "daemon.out"))
	t.Logf("the second side says:\n%s", tailOf(string(out), 2500))
}

// known reads testdata/NAME.differs: why inpod is meant to differ from Supervisor here, and the lines of the
// transcript that do. The reason is written by hand; E2E_UPDATE=1 writes the lines below it.
func (sc *scenario) known(t *testing.T) (why string, diff []string) {
	t.Helper()
	data, err := os.ReadFile(sc.differs())
	if err != nil {
		return "", nil
	}
	for _, line := range strings.Split(strings.TrimRight(string(data), "\n"), "\n") {
		if text, ok := strings.CutPrefix(line, "# "); ok {
			why = strings.TrimSpace(why + " " + text)
			continue
		}
		diff = append(diff, line)
	}
	return why, diff
}

func (sc *scenario) differs() string { return strings.TrimSuffix(sc.extra, ".d") + ".differs" }

// lines splits notes of several lines.
func lines(notes []string) []string { return strings.Split(strings.Join(notes, "\n"), "\n") }

// lineDiff lists the lines that only a has ("- …") and only b has ("+ …"), by the longest common subsequence.
func lineDiff(a, b []string) []string {
	n, m := len(a), len(b)
	lcs := make([][]int, n+1)
	for i := range lcs {
		lcs[i] = make([]int, m+1)
	}
	for i := n - 1; i >= 0; i-- {
		for j := m - 1; j >= 0; j-- {
			if a[i] == b[j] {
				lcs[i][j] = lcs[i+1][j+1] + 1
			} else {
				lcs[i][j] = max(lcs[i+1][j], lcs[i][j+1])
			}
		}
	}
	var out []string
	i, j := 0, 0
	for i < n || j < m {
		switch {
		case i < n && j < m && a[i] == b[j]:
			i, j = i+1, j+1
		case i < n && (j == m || lcs[i+1][j] >= lcs[i][j+1]):
			out = append(out, "- "+a[i])
			i++
		default:
			out = append(out, "+ "+b[j])
			j++
		}
	}
	return out
}
