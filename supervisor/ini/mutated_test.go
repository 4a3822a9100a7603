package ini

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestMutatedAgainstSupervisor mixes and breaks lines of the corpus, always the same way, and
// holds that Supervisor and inpod agree on every file that comes out.
func TestMutatedAgainstSupervisor(t *testing.T) {
	const files = 600
	lines := supervisorLines(t)
	rnd := rand.New(rand.NewPCG(1, 2))
	dir := t.TempDir()
	var names []string
	for n := range files {
		name := filepath.Join(dir, fmt.Sprintf("%04d.ini", n))
		names = append(names, write(t, name, mixed(rnd, lines)))
	}
	theirs := askSupervisor(t, names)
	accepted := 0
	for _, name := range names {
		c, err := Load(Options{Main: name, Env: corpusEnv()})
		if diff := cmp.Diff(theirs[name], takeSnapshot(t)(c, err)); diff != "" {
			text, readErr := os.ReadFile(name)
			t.Errorf("differs (-Supervisor +inpod, %v, %v):\n%s\n%s", err, readErr, diff, text)
		}
		if err == nil {
			accepted++
		}
	}
	if accepted < files/10 || accepted > files*9/10 {
		t.Errorf("got %d of %d files accepted, want some of each kind", accepted, files)
	}
}

// supervisorLines are the lines of keys in the corpus that mean the same to both.
func supervisorLines(t *testing.T) []string {
	t.Helper()
	foreign := map[string]bool{"files": true, "programs": true}
	for _, k := range beyondKeys() {
		foreign[strings.ToLower(k.Name)] = true
	}
	files, err := filepath.Glob("testdata/corpus/*.ini")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, file := range files {
		if _, deviates := deviations[filepath.Base(file)]; deviates || strings.HasSuffix(file, "latin1.ini") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.FieldsFuncSeq(string(text), func(r rune) bool { return r == '\n' || r == '\r' }) {
			key, _, ok := strings.Cut(line, "=")
			if ok && !foreign[strings.ToLower(strip(key))] && !strings.HasPrefix(strip(line), "[") {
				lines = append(lines, line)
			}
		}
	}
	return lines
}

func mixed(rnd *rand.Rand, lines []string) string {
	pick := func(from ...string) string { return from[rnd.IntN(len(from))] }
	// No commas: in a log file's name they are the one place where the Go port's dialect collides.
	inserts := []string{" ;", " #", ";", "#", "%%", `"`, "'", `\`, "=", ":", " ", "\t", "%(process_num)s", "%(here)s", "é", "[", "]", "%(ENV_CORPUS_WORD)s", "\f", "\u2003"}
	out := []string{"[supervisord]"}
	for range 1 + rnd.IntN(3) {
		kind := pick(kProgram, kProgram, kProgram, kGroup, kListener, kFastCGI)
		out = append(out, "["+kind+":"+kind[:1]+pick("a", "b", "c")+"]")
		switch kind {
		case kGroup:
			out = append(out, "programs="+pick("pa", "pb", "pa,pb", "pc , pa"))
		case kListener:
			out = append(out, "events=TICK", "command=/bin/cat")
		case kFastCGI:
			out = append(out, "socket=tcp://localhost:9000", "command=/bin/cat")
		default:
			out = append(out, "command=/bin/cat")
		}
		for range rnd.IntN(5) {
			line := pick(lines...)
			switch r := rnd.IntN(20); {
			case r < 5:
				at := rnd.IntN(len(line) + 1)
				for at < len(line) && line[at]&0xc0 == 0x80 {
					at++
				}
				line = line[:at] + pick(inserts...) + line[at:]
			case r < 7:
				line = pick(" ", "\t", "  ", "\v", "\f", "\u00a0", "\x1c") + line
			}
			out = append(out, line)
		}
	}
	return strings.Join(out, pick("\n", "\n", "\r\n")) + "\n"
}
