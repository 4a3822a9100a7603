package scp

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/inpod/inpod/sshd/files"
)

// both asks our scp and OpenSSH's for the same, each in a directory that prepare makes, and returns what they answered and
// what was there afterwards.
func both(t *testing.T, prepare func(dir string), args []string, sent string) (theirs, ours string) {
	t.Helper()
	after := func(dir, answers string, code int) string {
		out := fmt.Sprintf("answers %q, status %d", bytes.ReplaceAll([]byte(answers), []byte(dir), nil), code)
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			st, err := e.Info()
			if err != nil {
				t.Fatal(err)
			}
			out += fmt.Sprintf("\n%q %v %d", e.Name(), st.Mode(), st.Size())
		}
		return out
	}
	dir := t.TempDir()
	prepare(dir)
	cmd := exec.CommandContext(t.Context(), "scp", args...)
	cmd.Dir, cmd.Stdin, cmd.Env = dir, bytes.NewReader([]byte(sent)), append(os.Environ(), "LC_ALL=C")
	answers, _ := cmd.Output() // the status is compared
	theirs = after(dir, string(answers), cmd.ProcessState.ExitCode())

	dir = t.TempDir()
	prepare(dir)
	var out, errs bytes.Buffer
	code := Run(t.Context(), args, bytes.NewReader([]byte(sent)), &out, &errs, Options{Access: files.ReadWrite, Home: dir})
	return theirs, after(dir, out.String(), code)
}

func TestAsOpenSSHsSCP(t *testing.T) {
	file := func(name string, mode os.FileMode) func(string) {
		return func(dir string) {
			p := filepath.Join(dir, name)
			if err := os.WriteFile(p, []byte("before"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(p, mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	nothing := func(string) {}
	for _, tt := range []struct {
		name    string
		prepare func(string)
		args    []string
		sent    string
	}{
		{"read-only, new", nothing, []string{"-t", "."}, "C0444 3 f\nabc\x00"},
		{"read-only, over one that may be written", file("f", 0o755), []string{"-t", "."}, "C0444 3 f\nabc\x00"},
		{"read-only, over one that may be written, with its mode", file("f", 0o755), []string{"-p", "-t", "."}, "C0444 3 f\nabc\x00"},
		{"to be written, over an executable", file("f", 0o755), []string{"-t", "."}, "C0644 3 f\nabc\x00"},
		{"a directory that is there", func(dir string) { _ = os.Mkdir(dir+"/d", 0o700) }, []string{"-r", "-t", "."}, "D0555 0 d\nE\n"},
		{"a directory that is there, with its mode", func(dir string) { _ = os.Mkdir(dir+"/d", 0o700) }, []string{"-rp", "-t", "."}, "D0555 0 d\nE\n"},
		{"a directory that is not", nothing, []string{"-r", "-t", "."}, "D0555 0 d\nE\n"},
		{"a name of two lines", file("two\nlines", 0o644), []string{"-f", "two\nlines"}, "\x00\x00\x00"},
		{"a name of much", file("\\ü\t\n~", 0o644), []string{"-f", "\\ü\t\n~"}, "\x00\x00\x00"},
		{"a name of bytes", file("\x01\x7f\x80\xa0\xff\n*", 0o644), []string{"-f", "\x01\x7f\x80\xa0\xff\n*"}, "\x00\x00\x00"},
		{"a name of the same without an end of line", file("\\ü\t~", 0o644), []string{"-f", "\\ü\t~"}, "\x00\x00\x00"},
	} {
		theirs, ours := both(t, tt.prepare, tt.args, tt.sent)
		if d := cmp.Diff(theirs, ours); d != "" {
			t.Errorf("%s: theirs (-) and ours (+):\n%s", tt.name, d)
		}
	}
}
