package trust

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFollow(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "a/b"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{
		"relative": "a/b", "absolute": filepath.Join(dir, "a"), "twice": "absolute/b", "a/up": "../relative", "loop": "loop", "nowhere": "missing/x",
	} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	me := uint32(os.Getuid())
	for path, link := range map[string]string{ // the first link on the way
		"": "", "a": "", "a/b/missing/more": "", "a/./../a/b/": "",
		"relative": "relative", "relative/x": "relative", "twice/x": "twice", "a/up": "a/up", "a/../nowhere": "nowhere",
	} {
		at := dir + "/" + path
		if err := follow(at, me); err != nil {
			t.Errorf("%s: my own link: %v", path, err)
		}
		err := follow(at, me+1)
		switch {
		case link == "" && err != nil:
			t.Errorf("%s: %v", path, err)
		case link != "" && (err == nil || !strings.Contains(err.Error(), "the symbolic link "+dir+"/"+link+" belongs to the user")):
			t.Errorf("%s: got %v, want the link %s", path, err, link)
		}
	}
	if err := follow(dir+"/loop", me); err == nil {
		t.Error("a loop is followed")
	}
	if err := Path(dir + "/twice"); err != nil {
		t.Errorf("a link of the one who goes: %v", err)
	}
}

// A link that a trusted one leads to counts too.
func TestALinkBehindALink(t *testing.T) {
	if os.Getuid() != 0 {
		return // only root can make links of two owners
	}
	dir := t.TempDir()
	for name, target := range map[string]string{"ours": "theirs/x", "theirs": "/etc"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Lchown(filepath.Join(dir, "theirs"), 1234, 1234); err != nil {
		t.Fatal(err)
	}
	want := "theirs belongs to the user 1234, and root does not follow it"
	if err := Path(filepath.Join(dir, "ours")); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}
