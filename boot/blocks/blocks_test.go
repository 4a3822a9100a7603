package blocks

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"":                                       "[]",
		"\n\n---a\n":                             "[{a }]",
		"---a\nx\n--- b.txt \r\ny":               "[{a x\n} {b.txt y}]",
		"---a.yaml\none: 1\n---\ntwo: 2\n----\n": "[{a.yaml one: 1\n---\ntwo: 2\n----\n}]",
		"x\n---a\n":                              "line 1: want ---NAME before the first line of a file",
		"---a\n---a\n":                           `line 2: "a" is there twice, first in line 1`,
		"---../a\n":                              `line 1: "../a" is no name of a file`,
		"---..\n":                                `line 1: ".." is no name of a file`,
		"---a/b\n":                               `line 1: "a/b" is no name of a file`,
	} {
		blocks, err := Parse(text)
		got := fmt.Sprint(blocks)
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q:\ngot  %q\nwant %q", text, got, want)
		}
	}
}

func TestWrite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a/b")
	blocks := []Block{{Name: "one", Content: "1\n"}, {Name: "two"}}
	for i, want := range []int{2, 0} {
		if n, err := Write(dir, blocks, 0o640); err != nil || n != want {
			t.Errorf("%d: %d, %v", i, n, err)
		}
	}
	b, err := os.ReadFile(dir + "/one")
	if err != nil || string(b) != "1\n" {
		t.Errorf("%q, %v", b, err)
	}
	if st, err := os.Stat(dir + "/two"); err != nil || st.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", st, err)
	}
	if err := os.Mkdir(dir+"/three", 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Write(dir, []Block{{Name: "three", Content: "x"}}, 0o644); err == nil || !strings.Contains(err.Error(), `cannot write "three" in`) {
		t.Errorf("over a directory: %v", err)
	}
	if names, _ := os.ReadDir(dir); len(names) != 3 {
		t.Errorf("left behind: %v", names)
	}
}

// The mode is that of the settings also where the text is what it was.
func TestAnotherMode(t *testing.T) {
	dir := t.TempDir()
	blocks := []Block{{Name: "one", Content: "secret"}}
	for i, want := range []struct {
		mode    os.FileMode
		changed int
	}{{0o644, 1}, {0o600, 1}, {0o600, 0}} {
		n, err := Write(dir, blocks, want.mode)
		st, serr := os.Stat(dir + "/one")
		if err != nil || serr != nil || n != want.changed || st.Mode().Perm() != want.mode {
			t.Errorf("%d: %d, %v, %v %v", i, n, err, st, serr)
		}
	}
}

// What lies in the way waits for nobody, and nobody has a hand in a file that is being written.
func TestWhatIsInTheWay(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(unix.Mkfifo(dir+"/one", 0o600), os.WriteFile(dir+"/.inpod-new", nil, 0o666)); err != nil {
		t.Fatal(err)
	}
	left, err := os.Open(dir + "/.inpod-new")
	if err != nil {
		t.Fatal(err)
	}
	defer left.Close()
	done := make(chan error, 1)
	go func() {
		_, err := Write(dir, []Block{{Name: "one", Content: "secret"}}, 0o644)
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("a FIFO is read for ever")
	}
	if b, err := os.ReadFile(dir + "/one"); err != nil || string(b) != "secret" {
		t.Errorf("%q, %v", b, err)
	}
	if b, err := io.ReadAll(left); err != nil || len(b) > 0 {
		t.Errorf("who had the other file open reads %q, %v", b, err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "---a\nb", "---a\n---\n", "x", "---a\r\n---b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		blocks, err := Parse(text)
		if err != nil {
			return
		}
		n := 0
		for _, b := range blocks {
			if checkName(b.Name) != nil {
				t.Errorf("%q", b.Name)
			}
			n += len(b.Content)
		}
		if n > len(text) {
			t.Error("more came out than went in")
		}
	})
}

// Root does not go where a link of another user leads.
func TestALinkOfAnotherUser(t *testing.T) {
	if os.Getuid() != 0 {
		return // who is not root may go where he can
	}
	victim, dir := t.TempDir(), t.TempDir()+"/link"
	if err := errors.Join(os.Symlink(victim, dir), os.Lchown(dir, 1234, 1234)); err != nil {
		t.Fatal(err)
	}
	_, err := Write(dir+"/sub", []Block{{Name: "a", Content: "b"}}, 0o644)
	if err == nil || !strings.Contains(err.Error(), "belongs to the user 1234, and root does not follow it") {
		t.Errorf("got %v", err)
	}
	if names, _ := os.ReadDir(victim); len(names) > 0 {
		t.Errorf("the link was followed: %v", names)
	}
}
