package ini

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzLoad holds that any file either loads into a Config whose parts keep their promises, or is
// refused with problems that name it.
func FuzzLoad(f *testing.F) {
	for _, pattern := range []string{"testdata/corpus/*.ini", "testdata/bad/*.ini"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		main := filepath.Join(t.TempDir(), "fuzz.ini")
		if err := os.WriteFile(main, data, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load(Options{Main: main, Env: corpusEnv()})
		if err != nil {
			var problems Problems
			if !errors.As(err, &problems) || len(problems) == 0 || c != nil {
				t.Fatalf("got %v, %v, want no Config and some Problems", c, err)
			}
			for _, p := range problems {
				if p.File == "" || p.Msg == "" || strings.Contains(p.Msg, "%!") && !bytes.Contains(data, []byte("%!")) {
					t.Errorf("got problem %q, want a file and a message", p)
				}
			}
			return
		}
		names := map[string]bool{}
		for _, g := range c.Groups {
			if names[g.Name] {
				t.Errorf("got two groups %q, want one", g.Name)
			}
			names[g.Name] = true
			if !g.Equal(&g) {
				t.Errorf("group %q is not equal to itself", g.Name)
			}
			for _, p := range g.Programs {
				if p.Name == "" || p.Group != g.Name || len(p.StopSignals) == 0 || p.Environment == nil || (len(p.Argv) == 0) != (p.CommandError != "") {
					t.Errorf("got program %+v, want a name, its group, a signal, an environment, and words or an error", p)
				}
			}
		}
		if a, ch, r := c.Diff(c); len(a)+len(ch)+len(r) != 0 {
			t.Errorf("got changes %v %v %v to itself, want none", a, ch, r)
		}
	})
}

// FuzzSplit holds that words survive being quoted and split again, and that nothing is made up.
func FuzzSplit(f *testing.F) {
	for _, s := range splitCases() {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		words, err := Split(s)
		if err != nil || !utf8.ValidString(s) {
			return
		}
		quoted := make([]string, len(words))
		for i, w := range words {
			quoted[i] = "'" + strings.ReplaceAll(w, "'", `'"'"'`) + "'"
		}
		again, err := Split(strings.Join(quoted, " "))
		if err != nil || strings.Join(again, "\x00") != strings.Join(words, "\x00") || len(again) != len(words) {
			t.Errorf("Split(%q) = %q, quoted and split again %q, %v", s, words, again, err)
		}
		if got := len(strings.Join(words, "")); got > len(s) {
			t.Errorf("Split(%q) has %d bytes of words, want at most %d", s, got, len(s))
		}
	})
}

// FuzzEnvironment holds that what is parsed comes back the same when it is written with quotes.
func FuzzEnvironment(f *testing.F) {
	for _, s := range environmentCases() {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		env, _, err := parseEnvironment(s)
		if err != nil || !utf8.ValidString(s) {
			return
		}
		for k, v := range env {
			if k == "" || strings.ContainsAny(v, `"'`) && strings.Contains(v, `"`) && strings.Contains(v, "'") {
				continue
			}
			if !isPlainName(k) || v != strings.Trim(v, `'"`) {
				continue
			}
			q := `"`
			if strings.Contains(v, q) {
				q = "'"
			}
			again, dropped, err := parseEnvironment(k + "=" + q + v + q + ",")
			if err != nil || len(dropped) != 0 || len(again) != 1 || again[k] != v {
				t.Errorf("parseEnvironment(%q)[%q] = %q, written again %q, %q, %v", s, k, v, again, dropped, err)
			}
		}
	})
}

func isPlainName(k string) bool {
	return strings.IndexFunc(k, func(r rune) bool { return !isEnvWord(r) }) < 0
}
