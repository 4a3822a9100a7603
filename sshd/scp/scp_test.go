package scp

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/inpod/inpod/sshd/files"
)

// TestMain lets the test binary stand in for ssh: scp starts it with the command that it wants to be run.
func TestMain(m *testing.M) {
	if root, ok := os.LookupEnv("SCP_TEST_ROOT"); ok {
		command, home := os.Args[len(os.Args)-1], os.Getenv("SCP_TEST_HOME")
		args, ok := Parse(command, home)
		if !ok {
			fmt.Fprintf(os.Stderr, "cannot parse %q\n", os.Args)
			os.Exit(9)
		}
		opts := Options{Root: root, Access: files.ReadWrite, Home: home}
		os.Exit(RunPatterns(context.Background(), args, os.Stdin, os.Stdout, os.Stderr, opts))
	}
	os.Exit(m.Run())
}

type sandbox struct {
	t             *testing.T
	local, served string
	jail          bool
}

func newSandbox(t *testing.T, jail bool) *sandbox {
	t.Helper()
	b := &sandbox{t: t, local: t.TempDir(), served: t.TempDir(), jail: jail}
	return b
}

// scp runs Debian's scp in the local directory, with the old protocol.
func (b *sandbox) scp(args ...string) (string, error) {
	b.t.Helper()
	self, err := os.Executable()
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(b.t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "scp", append([]string{"-O", "-q", "-S", self}, args...)...)
	cmd.Dir = b.local
	root, home := "", b.served
	if b.jail {
		root, home = b.served, "/"
	}
	cmd.Env = append(os.Environ(), "SCP_TEST_ROOT="+root, "SCP_TEST_HOME="+home, "LC_ALL=C")
	cmd.WaitDelay = time.Minute
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (b *sandbox) must(args ...string) {
	b.t.Helper()
	if out, err := b.scp(args...); err != nil {
		b.t.Fatalf("scp %q: %v\n%s", args, err, out)
	}
}

func (b *sandbox) write(path string, data []byte, mode os.FileMode, when int64) {
	b.t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		b.t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		b.t.Fatal(err)
	}
	if err := os.Chtimes(path, time.Unix(when, 0), time.Unix(when, 0)); err != nil {
		b.t.Fatal(err)
	}
}

// list is what is below a directory: names, modes, times and contents.
func (b *sandbox) list(dir string) map[string]string {
	b.t.Helper()
	out := map[string]string{}
	err := filepath.Walk(dir, func(p string, st os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		what := fmt.Sprint(st.Mode(), st.ModTime().Unix())
		if st.Mode().IsRegular() {
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			what += string(data)
		}
		rel, err := filepath.Rel(dir, p)
		out[rel] = what
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

func TestRealClient(t *testing.T) {
	for _, jail := range []bool{false, true} {
		t.Run(map[bool]string{false: "whole", true: "jail"}[jail], func(t *testing.T) {
			b := newSandbox(t, jail)
			big := bytes.Repeat([]byte("0123456789abcdef\x00\xff"), 100_000)
			b.write(filepath.Join(b.local, "tree/big"), big, 0o640, 1_000_000_000)
			b.write(filepath.Join(b.local, "tree/empty"), nil, 0o400, 1_000_000_001)
			b.write(filepath.Join(b.local, "tree/sub/name with 'quotes' and *"), []byte("x"), 0o755, 1_000_000_002)
			for _, d := range []string{"tree/sub", "tree"} {
				if err := os.Chtimes(filepath.Join(b.local, d), time.Unix(1_000_000_003, 0), time.Unix(1_000_000_003, 0)); err != nil {
					t.Fatal(err)
				}
			}
			b.must("-r", "-p", "tree", "x:up")
			if d := cmp.Diff(b.list(filepath.Join(b.local, "tree")), b.list(filepath.Join(b.served, "up"))); d != "" {
				t.Errorf("sent:\n%s", d)
			}
			b.must("-r", "-p", "x:up", "down")
			if d := cmp.Diff(b.list(filepath.Join(b.local, "tree")), b.list(filepath.Join(b.local, "down"))); d != "" {
				t.Errorf("fetched:\n%s", d)
			}
			b.must("tree/empty", "tree/big", "x:")
			b.must("tree/sub/name with 'quotes' and *", "x:big") // onto a longer one
			if got, err := os.ReadFile(filepath.Join(b.served, "big")); err != nil || string(got) != "x" {
				t.Errorf("a shorter file leaves %d bytes (%v)", len(got), err)
			}
			if err := os.Mkdir(filepath.Join(b.local, "many"), 0o755); err != nil {
				t.Fatal(err)
			}
			b.must("x:up/[be]*", "many")
			if got := slices.Sorted(func(yield func(string) bool) {
				for k := range b.list(filepath.Join(b.local, "many")) {
					if !yield(k) {
						return
					}
				}
			}); !slices.Equal(got, []string{".", "big", "empty"}) {
				t.Errorf("a pattern fetched %q", got)
			}
		})
	}
}

func TestFaultsAreTold(t *testing.T) {
	b := newSandbox(t, false)
	b.write(filepath.Join(b.local, "f"), []byte("f"), 0o644, 1)
	b.write(filepath.Join(b.local, "g"), []byte("g"), 0o644, 1)
	b.write(filepath.Join(b.served, "there"), []byte("there"), 0o644, 1)
	if err := os.Mkdir(filepath.Join(b.served, "dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(b.served, "dir", "f"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ from, to, want string }{
		{"f", "x:nowhere/f", "nowhere/f: No such file or directory"},
		{"x:nothing", ".", "nothing: No such file or directory"},
		{"x:dir", ".", "not a regular file"},
		{"f", "x:there/f", "Not a directory"},
		{"f", "x:dir", "Is a directory"},
	} {
		out, err := b.scp(test.from, test.to)
		if err == nil || !strings.Contains(out, test.want) {
			t.Errorf("scp %s %s: %v, %q; want %q", test.from, test.to, err, out, test.want)
		}
	}
	// One fault does not keep the others.
	if out, err := b.scp("f", "g", "x:dir"); err == nil {
		t.Errorf("no error: %q", out)
	}
	if got, err := os.ReadFile(filepath.Join(b.served, "dir", "g")); err != nil || string(got) != "g" {
		t.Errorf("the file after the fault: %q, %v", got, err)
	}
	if out, err := b.scp("f", "g", "x:there"); err == nil || !strings.Contains(out, "Not a directory") {
		t.Errorf("two files into one: %v, %q", err, out)
	}
}

// talk gives the sink what a client would send.
func talk(t *testing.T, opts Options, args, sent string) (code int, answers, log string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = Run(t.Context(), strings.Fields(args), strings.NewReader(sent), &out, &errs, opts)
	return code, out.String(), errs.String()
}

func TestNamesCannotLeadElsewhere(t *testing.T) {
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	if err := os.MkdirAll(filepath.Join(root, "d"), 0o755); err != nil {
		t.Fatal(err)
	}
	opts := Options{Root: root, Access: files.ReadWrite}
	for _, line := range []string{
		"C0644 1 ../x\n", "C0644 1 /x\n", "C0644 1 ..\n", "C0644 1 .\n", "C0644 1 \n", "D0755 0 ..\n", "C0644 -1 x\n", "C9999 1 x\n", "Cx\n", "E\n",
		"hello\n", "T1 2\n", "D0755 0 x\n",
	} {
		code, answers, _ := talk(t, opts, "-t d", line+"x\x00")
		if code != exitFailed || !strings.HasPrefix(answers, "\x00\x01scp: protocol error") {
			t.Errorf("%q: exit %d, %q", line, code, answers)
		}
	}
	if got, err := os.ReadDir(dir); err != nil || len(got) != 1 {
		t.Errorf("beside the root there is %v (%v)", got, err)
	}
	if err := os.Symlink("../../outside", filepath.Join(root, "d", "out")); err != nil {
		t.Fatal(err)
	}
	talk(t, opts, "-t d/out", "C0644 1 x\nx\x00")
	if got, err := os.ReadDir(dir); err != nil || len(got) != 1 {
		t.Errorf("through a link: beside the root there is %v (%v)", got, err)
	}
}

// In a directory that a session is held in, nobody goes deeper than a path may be long.
func TestDepthHasAnEnd(t *testing.T) {
	const levels = 40
	down, up := "D0755 0 "+strings.Repeat("d", 200)+"\n", "E\n"
	opts := Options{Root: t.TempDir(), Access: files.ReadWrite}
	code, answers, _ := talk(t, opts, "-r -t .", strings.Repeat(down, levels)+strings.Repeat(up, 4096/201))
	if code != exitFailed || strings.Count(answers, "File name too long") != levels-4096/201 {
		t.Errorf("exit %d, %q", code, answers)
	}
}

func TestAccessAndQuota(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "f"), []byte("file"), 0o644); err != nil {
		t.Fatal(err)
	}
	code, answers, _ := talk(t, Options{Root: root, Access: files.ReadOnly}, "-t .", "C0644 1 x\nx\x00")
	if code != exitFailed || !strings.Contains(answers, "Permission denied") {
		t.Errorf("read-only: exit %d, %q", code, answers)
	}
	code, answers, _ = talk(t, Options{Root: root, Access: files.WriteOnly}, "-f f", "\x00")
	if code != exitFailed || !strings.Contains(answers, "Permission denied") || strings.Contains(answers, "file\x00") {
		t.Errorf("write-only: exit %d, %q", code, answers)
	}
	opts := Options{Root: root, Access: files.ReadWrite, Quota: files.NewQuota(root, 8)}
	code, answers, _ = talk(t, opts, "-t .", "C0644 5 x\n12345\x00C0644 1 y\ny\x00")
	if code != exitFailed || !strings.Contains(answers, "the quota is used up") || !strings.HasSuffix(answers, "\x00\x00") {
		t.Errorf("quota: exit %d, %q", code, answers)
	}
	var got []files.Transfer
	opts = Options{Root: root, Access: files.ReadWrite, Audit: func(tr files.Transfer) { got = append(got, tr) }}
	talk(t, opts, "-t .", "C0644 5 z\n123")
	talk(t, opts, "-f f", "\x00\x00\x00")
	if len(got) != 2 || got[0].Bytes != 3 || got[0].Err == nil || got[1].Bytes != 4 || got[1].Err != nil || got[1].Direction != "read" {
		t.Errorf("audit: %+v", got)
	}
}

func TestParse(t *testing.T) {
	for _, test := range []struct {
		command string
		want    []string // nil = not ours
	}{
		{"scp -t d", []string{"-t", "d"}},
		{"scp -r -p -d -t -- '/a b/c'", []string{"-r", "-p", "-d", "-t", "--", "/a b/c"}},
		{`scp -f a\ b "c\"d" 'e'"'"'f'`, []string{"-f", "a b", `c"d`, "e'f"}},
		{"/usr/bin/scp -vf x", []string{"-vf", "x"}},
		{"scp -f ''", []string{"-f", ""}},
		{"scp -f ~/a ~ a~ '~' b/~", []string{"-f", "/home/me/a", "/home/me", "a~", "~", "b/~"}},
		{"scp -f ~root/a", nil},
		{"scp a b:c", nil},
		{"scp -t d; rm x", nil},
		{"scp -t $HOME", nil},
		{"scp -t `x`", nil},
		{"scp -t \"$(x)\"", nil},
		{"scp -t 'x", nil},
		{"scp -t x\\", nil},
		{"scp -t a b", nil},
		{"scp -f x | cat", nil},
		{"notscp -t x", nil},
		{"scp", nil},
		{"", nil},
	} {
		got, ok := Parse(test.command, "/home/me")
		if ok != (test.want != nil) || !slices.Equal(got, test.want) {
			t.Errorf("Parse(%q) = %q, %v; want %q", test.command, got, ok, test.want)
		}
	}
}

// FuzzRun gives both sides arbitrary bytes.
func FuzzRun(f *testing.F) {
	f.Add("-r -t d", "D0755 0 x\nT1 0 2 0\nC0644 3 f\nabc\x00E\n")
	f.Add("-t d", "\x01warning\nC0644 99999999999 f\nabc")
	f.Add("-r -p -f d", "\x00\x00\x00\x00\x01no\n\x00")
	f.Fuzz(func(t *testing.T, args, in string) {
		root := t.TempDir()
		for _, d := range []string{"jail", "jail/d", "jail/d/e"} {
			if err := os.Mkdir(filepath.Join(root, d), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		opts := Options{Root: filepath.Join(root, "jail"), Access: files.ReadWrite}
		Run(t.Context(), strings.Fields(args), strings.NewReader(in), io.Discard, io.Discard, opts)
		if got, err := os.ReadDir(root); err != nil || len(got) != 1 {
			t.Errorf("beside the jail there is %v (%v)", got, err)
		}
	})
}

func TestUmaskOfTheTestDoesNotMatter(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	root := t.TempDir()
	opts := Options{Root: root, Access: files.ReadWrite, Umask: 0o027}
	if code, answers, log := talk(t, opts, "-r -t .", "D0777 0 d\nC0666 1 f\nx\x00E\n"); code != 0 {
		t.Fatalf("exit %d: %q %q", code, answers, log)
	}
	for name, want := range map[string]os.FileMode{"d": 0o750 | os.ModeDir, "d/f": 0o640} {
		if st, err := os.Stat(filepath.Join(root, name)); err != nil || st.Mode() != want {
			t.Errorf("%s: %v (%v), want %v", name, st.Mode(), err, want)
		}
	}
}
