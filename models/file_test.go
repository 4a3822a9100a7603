package models

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/inpod/inpod/config"
)

// A copy of a large file ends with its context.
func TestACopyEndsWithItsContext(t *testing.T) {
	path := write(t, filepath.Join(t.TempDir(), "f"), []byte("model"))
	ctx, cancel := context.WithCancel(t.Context())
	l, err := (&fileSource{path: path, u: &unit{model: &config.Model{}}}).list(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.files[0].open(ctx, 0, "")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	buf := make([]byte, 2)
	if _, err := io.ReadFull(b, buf); err != nil {
		t.Fatal(err)
	}
	cancel()
	if n, err := b.Read(buf); n > 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("read %d bytes, %v", n, err)
	}
}

// A copy of a directory into itself would have itself in it, and grow with each start.
func TestACopyIntoItself(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/models/bert/a.bin", []byte("model"))
	if err := os.Symlink(dir+"/models", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	const want = ", which it is to be a copy of; set models[].to to another directory"
	for _, where := range []string{"url: DIR/models, to: DIR/models/bert", "url: DIR/models/bert, to: DIR/models/bert", "url: DIR/link, to: DIR/models/new/x", "url: DIR/models/bert, to: DIR/models"} {
		refused(t, dir, "- {name: m, "+where+"}", want)
	}
	if got := tree(t, dir+"/models"); len(got) != 1 || got["bert/a.bin"] != "model" {
		t.Errorf("got %v", got)
	}
}

// A directory may be named by a link, such as latest.
func TestADirectoryByALink(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/v3/sub/a.bin", []byte("model"))
	if err := os.Symlink("v3", dir+"/latest"); err != nil {
		t.Fatal(err)
	}
	fetch(t, dir, "- {name: m, url: DIR/latest, to: DIR/m}")
	if got := tree(t, dir+"/m"); len(got) != 1 || got["sub/a.bin"] != "model" {
		t.Errorf("got %v", got)
	}
}

// What stands in the way of the directory is named.
func TestADirectoryBelowAFile(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/f", []byte("model"))
	refused(t, dir, "- {name: m, url: DIR/f, to: DIR/f/x}", "cannot put the model into "+dir+"/f/x: not a directory")
}
