package proc

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestLookPath(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	for file, mode := range map[string]os.FileMode{
		a + "/plain": 0o644, a + "/both": 0o644, b + "/both": 0o755, b + "/run": 0o755, b + "/it's": 0o644,
	} {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("#!/bin/sh\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(a+"/sub", 0o755); err != nil {
		t.Fatal(err)
	}
	path := dir + "/missing:" + a + "/:" + b
	tests := []struct {
		name, want string
		err        error
		text       string
	}{
		{name: "run", want: b + "/run"},
		{name: b + "/run", want: b + "/run"},
		{name: "none", err: ErrNotFound, text: "can't find command 'none'"},
		{name: "", err: ErrNotFound, text: "can't find command ''"},
		{name: "/no/such", err: ErrNotFound, text: "can't find command '/no/such'"},
		{name: "sub", err: ErrIsDirectory, text: "command at '" + a + "/sub' is a directory"},
		{name: "plain", err: ErrNotExecutable, text: "command at '" + a + "/plain' is not executable"},
		{name: "both", err: ErrNotExecutable, text: "command at '" + a + "/both' is not executable"}, // the first that exists counts
		{name: b + "/it's", err: ErrNotExecutable, text: `command at "` + b + `/it's" is not executable`},
	}
	for _, test := range tests {
		got, err := LookPath(test.name, path)
		if !errors.Is(err, test.err) || (err == nil) != (test.err == nil) {
			t.Errorf("%q: got error %v, want %v", test.name, err, test.err)
		}
		if err == nil && got != test.want {
			t.Errorf("%q: got %q, want %q", test.name, got, test.want)
		}
		if err != nil && err.Error() != test.text {
			t.Errorf("%q: got %q, want %q", test.name, err, test.text)
		}
	}
}

// A file that only others may execute: root may run it, its plain owner may not.
func TestLookPathAsksTheKernel(t *testing.T) {
	file := filepath.Join(t.TempDir(), "others")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, 0o001); err != nil {
		t.Fatal(err)
	}
	want := ErrNoPermission
	if os.Geteuid() == 0 {
		want = nil
	}
	if _, err := LookPath(file, ""); !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
}
