package ini

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// load loads a text that must be right.
func load(t *testing.T, text string) *Config {
	t.Helper()
	c, err := Load(Options{Main: write(t, filepath.Join(t.TempDir(), "main.ini"), text), Env: corpusEnv()})
	if err != nil {
		t.Fatalf("got %v, want no problem", err)
	}
	return c
}

func groupNames(c *Config) []string {
	var names []string
	for _, g := range c.Groups {
		names = append(names, g.Name)
	}
	return names
}

func TestProgramsOnlyFiles(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/a/one.ini", "[program:one]\ncommand=/bin/echo %(here)s\n")
	write(t, dir+"/b/two.conf", "[program:two]\ncommand=/bin/echo %(here)10s\n[group:all]\nprograms=one,two\n")
	write(t, dir+"/b/.hidden.conf", "[program:hidden]\ncommand=/bin/true\n")
	c, err := Load(Options{Include: []string{dir + "/a/*.ini", dir + "/b/*.conf", dir + "/none/*.ini"}})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := groupNames(c), []string{"all"}; !slices.Equal(got, want) {
		t.Errorf("got groups %v, want %v", got, want)
	}
	for i, want := range []string{"/bin/echo " + dir + "/a", "/bin/echo " + dir + "/b"} {
		if got := c.Groups[0].Programs[i].Command; got != want {
			t.Errorf("got command %q, want %q", got, want)
		}
	}
	if want := []string{dir + "/a/one.ini", dir + "/b/two.conf"}; !slices.Equal(c.Files, want) {
		t.Errorf("got files %v, want %v", c.Files, want)
	}
	if len(c.Globs) != 3 || len(c.Warnings) != 0 {
		t.Errorf("got globs %v, warnings %v, want 3 and none", c.Globs, c.Warnings)
	}
	if empty, err := Load(Options{Include: []string{dir + "/none/*.ini"}}); err != nil || len(empty.Groups) != 0 {
		t.Errorf("got %v, %v, want no groups and no error", empty, err)
	}
}

func TestMainFileThatAGlobFindsToo(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/main.ini", "[program:one]\ncommand=/bin/cat\n")
	t.Chdir(dir)
	c, err := Load(Options{Main: "main.ini", Include: []string{"*.ini"}})
	if err != nil || len(c.Warnings) != 0 || !slices.Equal(c.Files, []string{dir + "/main.ini"}) {
		t.Errorf("got %+v, %v, want the file read once", c, err)
	}
}

func TestEmptyFiles(t *testing.T) {
	dir := t.TempDir()
	empty := write(t, dir+"/empty.conf", "; nothing but a comment\n")
	main := write(t, dir+"/main.conf", "[include]\nfiles=empty.conf\n")
	program := write(t, dir+"/program.ini", "[program:one]\ncommand=/bin/cat\n")
	for _, tc := range []struct {
		name string
		opts Options
		want string
	}{
		{"main", Options{Main: empty}, empty + ": is empty: want sections such as [supervisord] and [program:web]"},
		{"main, with other files", Options{Main: empty, Include: []string{program}}, empty + ": is empty: want sections such as [supervisord] and [program:web]"},
		{"included", Options{Main: main}, ""},
		{"by a glob", Options{Include: []string{dir + "/*.conf"}}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Load(tc.opts)
			if got := fmt.Sprint(err); err != nil && got != tc.want || err == nil && tc.want != "" {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

// TestDescriptorsNeedNoDirectory: an image may have no /dev.
func TestDescriptorsNeedNoDirectory(t *testing.T) {
	dir := t.TempDir()
	for target, want := range map[string]bool{
		"/dev/stdout": true, "/dev//stderr": true, "/dev/fd/3": true, "/proc/self/fd/1": true,
		"/dev/stdout/x": false, "/none/fd/1": false,
	} {
		if got := isDescriptor(target); got != want {
			t.Errorf("isDescriptor(%q) = %v, want %v", target, got, want)
		}
	}
	file := write(t, dir+"/main.conf", "[program:one]\ncommand=/bin/cat\nstdout_logfile=/dev/fd/999\nstderr_logfile=/proc/self/fd/2\n")
	c, err := Load(Options{Main: file})
	if err != nil || c.Groups[0].Programs[0].Stdout.File != "/dev/fd/999" {
		t.Errorf("got %+v, %v, want the descriptor as written", c, err)
	}
}

func TestFilesThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	good := "[program:a]\ncommand=/bin/cat\n"
	huge := write(t, dir+"/huge.ini", good+strings.Repeat("; 0123456789abcdef\n", 10<<20/20))
	dangling := dir + "/x/dangling.ini"
	write(t, dir+"/x/good.ini", good)
	if err := os.Symlink("nowhere", dangling); err != nil {
		t.Fatal(err)
	}
	fifo := dir + "/fifo"
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	locked := write(t, dir+"/locked.ini", good)
	if err := os.Chmod(locked, 0); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name, want string
		opts       Options
		root       bool // root may read it
	}{
		{"missing", "cannot be read: no such file or directory", Options{Main: dir + "/missing.ini"}, false},
		{"directory", "is a directory: want a file", Options{Main: dir}, false},
		{"fifo", "is empty: want sections such as [supervisord] and [program:web]", Options{Main: fifo}, false}, // and not a wait for somebody who writes
		{"10 MB", "is too large: want at most 4 MiB", Options{Main: huge}, false},
		{"10 MB by a glob", "is too large: want at most 4 MiB", Options{Include: []string{dir + "/h*.ini"}}, false},
		{"no permission", "cannot be read: permission denied", Options{Main: locked}, true},
		{"dangling link that is named", "cannot be read: no such file or directory", Options{Include: []string{dangling}}, false},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			c, err := Load(tc.opts)
			if tc.root && os.Getuid() == 0 {
				if err != nil {
					t.Errorf("got %v, want root to read it", err)
				}
				return
			}
			if err == nil || !strings.HasSuffix(err.Error(), ": "+tc.want) || c != nil {
				t.Errorf("got %v, %v, want a problem that ends with %q", c, err, tc.want)
			}
		})
	}
	c, err := Load(Options{Include: []string{dir + "/x/*.ini"}})
	if err != nil || len(c.Groups) != 1 || len(c.Warnings) != 1 {
		t.Errorf("got %+v, %v, want one group and a warning of the dangling link", c, err)
	}
}

// TestBounds loads what would multiply itself and looks at the memory that it takes.
func TestBounds(t *testing.T) {
	big := strings.Repeat("x", 1<<20)
	cases := map[string]string{
		"a name that grows":      "[program:a]\ncommand=" + strings.Repeat("%(ENV_BIG)s", 100) + "\n",
		"copies of a long text":  "[program:a]\ncommand=" + big[:900<<10] + "\nnumprocs=9999\nprocess_name=%(process_num)d\n",
		"a width":                "[program:a]\ncommand=%(process_num)999999999d\n",
		"many unknown keys":      "[program:a]\ncommand=/bin/cat\nstartsecs=x\n" + numbered("key%d=1\n", 200_000),
		"many unknown programs":  "[group:a]\nprograms=" + numbered("p%d,", 200_000) + "\n" + numbered("[program:q%d]\ncommand=/bin/cat\n", 5000),
		"many broken lines":      "[program:a]\n" + strings.Repeat("x\n", 1<<20),
		"a long list of signals": "[program:a]\ncommand=/bin/cat\nstopsignal=" + strings.Repeat("TERM ", 100_000) + "\n",
	}
	for name, text := range cases {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := Load(Options{Main: write(t, filepath.Join(t.TempDir(), "main.ini"), text), Env: map[string]string{"BIG": big[:100_000]}})
			runtime.ReadMemStats(&after)
			if err == nil {
				t.Error("got no problem, want one")
			}
			if got := after.TotalAlloc - before.TotalAlloc; got > 512<<20 {
				t.Errorf("took %d MiB, want less than 512", got>>20)
			}
		})
	}
}

func numbered(format string, n int) string {
	var out strings.Builder
	for i := range n {
		fmt.Fprintf(&out, format, i)
	}
	return out.String()
}

func TestStrict(t *testing.T) {
	main := write(t, filepath.Join(t.TempDir(), "main.ini"), "[program:a]\ncommand=/bin/cat\nautostrat=true\n[includes]\nfiles=x\n")
	c, err := Load(Options{Main: main})
	if err != nil || len(c.Warnings) != 2 {
		t.Fatalf("got %+v, %v, want two warnings", c, err)
	}
	_, err = Load(Options{Main: main, Strict: true})
	want := main + ":3: [program:a] autostrat is not a key of this section: did you mean autostart?\n" +
		main + ":4: [includes] is not a section that is known and is left out: did you mean [include]?"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want\n%s", err, want)
	}
}

func TestDiff(t *testing.T) {
	const base = "[program:a]\ncommand=/bin/cat\n[program:b]\ncommand=/bin/cat\n[eventlistener:e]\ncommand=/bin/cat\nevents=TICK,EVENT\n"
	cases := []struct {
		name, next              string
		added, changed, removed []string
	}{
		{"the same", base, nil, nil, nil},
		{"other lines and comments", "; moved\n\n" + base, nil, nil, nil},
		{"order of events", strings.Replace(base, "TICK,EVENT", "event, tick", 1), nil, nil, nil},
		{"a log file for AUTO", base + "[program:a]\nstdout_logfile=/tmp/a.log\n", nil, []string{"a"}, nil},
		{"a command", base + "[program:a]\ncommand=/bin/dog\n", nil, []string{"a"}, nil},
		{"an environment for all", base + "[supervisord]\nenvironment=A=1\n", nil, []string{"e", "a", "b"}, nil},
		{"a key beyond Supervisor", base + "[program:b]\nreadiness_tcp=80\n", nil, []string{"b"}, nil},
		{"a group of one", base + "[group:a]\nprograms=a\n", nil, nil, nil},
		{"a group of two", base + "[group:g]\nprograms=a,b\n", []string{"g"}, nil, []string{"a", "b"}},
		{"a new program", base + "[program:c]\ncommand=/bin/cat\n", []string{"c"}, nil, nil},
		{"nothing left", "[supervisord]\n", nil, nil, []string{"e", "a", "b"}},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			added, changed, removed := load(t, tc.next).Diff(load(t, base))
			if diff := cmp.Diff([][]string{tc.added, tc.changed, tc.removed}, [][]string{added, changed, removed}); diff != "" {
				t.Errorf("added, changed, removed (-want +got):\n%s", diff)
			}
		})
	}
	if _, changed, _ := load(t, base).Diff(load(t, base+"[program:a]\nstdout_logfile=/tmp/a.log\n")); changed != nil {
		t.Errorf("got %v changed by AUTO for a log file, want none, as Supervisor", changed)
	}
	if added, _, _ := load(t, base).Diff(nil); len(added) != 3 {
		t.Errorf("got %v added to nothing, want 3", added)
	}
}

func TestResolve(t *testing.T) {
	c := load(t, "[program:a]\ncommand=/bin/cat\nnumprocs=2\nprocess_name=a%(process_num)d\n[program:b]\ncommand=/bin/cat\n[group:g]\nprograms=a\n")
	for name, want := range map[string]int{"a": 2, "g": 2, "g:a1": 1, "g:*": 2, "b": 1, "b:b": 1, "none": 0, "g:none": 0} {
		if got := c.Resolve(name); len(got) != want {
			t.Errorf("Resolve(%q) gives %d programs, want %d", name, len(got), want)
		}
	}
}

func TestEveryKeyIsDeclaredOnce(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range Keys() {
		if k.Doc == "" || k.Type == "" || len(k.Sections) == 0 || !slices.Contains([]string{Supervisor, Ochinchina, Inpod}, k.Origin) {
			t.Errorf("key %+v lacks something", k)
		}
		for _, s := range k.Sections {
			if id := s + " " + strings.ToLower(k.Name); seen[id] {
				t.Errorf("key %s is declared twice for [%s]", k.Name, s)
			} else {
				seen[id] = true
			}
		}
	}
}
