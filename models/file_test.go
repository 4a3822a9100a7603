package models

import (
	"context"
	"errors"
	"io"
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
