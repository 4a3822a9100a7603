package output

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMainLogInMemory(t *testing.T) {
	m, err := OpenMainLog("", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for i := range 20000 {
		line := fmt.Sprintf("record %d\n", i)
		all.WriteString(line)
		_, _ = io.WriteString(m, line)
	}
	got, err := m.Read(0, 0)
	if err != nil || len(got) != ringSize || !strings.HasSuffix(all.String(), string(got)) {
		t.Errorf("%d bytes, %v; want the last %d", len(got), err, ringSize)
	}
	if len(m.ring) > 2*ringSize {
		t.Errorf("the ring holds %d bytes", len(m.ring))
	}
	if got, err := m.Read(-6, 0); err != nil || string(got) != "19999\n" {
		t.Errorf("Read(-6, 0) = %q, %v", got, err)
	}
	if _, err := m.Read(-6, 1); !errors.Is(err, ErrBadArguments) {
		t.Errorf("Read(-6, 1): %v", err)
	}
	if err := errors.Join(m.Clear(), m.Reopen(), m.Close()); err != nil {
		t.Error(err)
	}
	if got, _ := m.Read(0, 0); len(got) != 0 {
		t.Errorf("after Clear: %q", got)
	}
}

func TestMainLogFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "main.log")
	m, err := OpenMainLog(path, 10, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	_, _ = io.WriteString(m, "0123456789")
	_, _ = io.WriteString(m, "new")
	if got, err := m.Read(0, 0); err != nil || string(got) != "new" {
		t.Errorf("Read = %q, %v", got, err)
	}
	wantContent(t, path+".1", "0123456789")
	if err := m.Clear(); err != nil {
		t.Error(err)
	}
	wantContent(t, path, "")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Read(0, 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without the file: %v", err)
	}
	if err := m.Clear(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Clear without the file: %v", err)
	}
	if _, err := OpenMainLog(filepath.Join(path, "x"), 0, 0); err == nil || !strings.HasPrefix(err.Error(), "cannot open logfile of [supervisord]") {
		t.Errorf("OpenMainLog: %v", err)
	}
}

// followed starts to follow and returns what comes, piece by piece.
func followed(t *testing.T, follow func(ctx context.Context, emit func([]byte) error) error) (read func(n int) string) {
	t.Helper()
	r, w := io.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- follow(ctx, func(p []byte) error { _, err := w.Write(p); return err })
	}()
	t.Cleanup(func() {
		cancel()
		_ = r.Close()
		if err := <-ended; err != nil && !errors.Is(err, io.ErrClosedPipe) {
			t.Error(err)
		}
	})
	return func(n int) string {
		t.Helper()
		buf := make([]byte, n)
		if _, err := io.ReadFull(r, buf); err != nil {
			t.Fatal(err)
		}
		return string(buf)
	}
}

func TestFollowMainLogInMemory(t *testing.T) {
	m, _ := OpenMainLog("", 0, 0)
	_, _ = io.WriteString(m, "older and newer\n")
	read := followed(t, func(ctx context.Context, emit func([]byte) error) error { return m.Follow(ctx, 6, emit) })
	if got := read(6); got != "newer\n" {
		t.Errorf("head %q", got)
	}
	_, _ = io.WriteString(m, "more\n")
	if got := read(5); got != "more\n" {
		t.Errorf("then %q", got)
	}
	_ = m.Clear()
	_, _ = io.WriteString(m, "after clear\n")
	if got := read(12); got != "after clear\n" {
		t.Errorf("then %q", got)
	}
}

// Nothing is lost when a file rotates many times while it is followed, as long as the backups last.
func TestFollowThroughRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	f, err := newFile(path, 1000, 3)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write([]byte("old: begin")); err != nil {
		t.Fatal(err)
	}
	read := followed(t, func(ctx context.Context, emit func([]byte) error) error { return Follow(ctx, path, 5, emit) })
	if got := read(5); got != "begin" {
		t.Fatalf("head %q", got)
	}
	for i := range 6 {
		part := strings.Repeat(fmt.Sprint(i), 700)
		if _, err := f.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
		if got := read(700); got != part {
			t.Fatalf("part %d came as %.20q…", i, got)
		}
	}
	if err := Follow(t.Context(), path+".none", 1, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}
