package users

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A file that cannot be replaced is written to only where that is why.
func TestReplace(t *testing.T) {
	path := t.TempDir() + "/" + strings.Repeat("x", 240) // no name is left for a new file beside it
	write(t, path, "old")
	if err := replace(path, []byte("new"), 0o644); !errors.Is(err, syscall.ENAMETOOLONG) {
		t.Errorf("got %v", err)
	}
	if got := read(t, path); got != "old" {
		t.Errorf("it holds %q", got)
	}
}

func TestOverwrite(t *testing.T) {
	path := t.TempDir() + "/f"
	for _, text := range []string{"a", "longer", "short", ""} {
		if err := overwrite(path, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
		if got := read(t, path); got != text {
			t.Errorf("got %q, want %q", got, text)
		}
	}
}

// A full disk leaves the file as it was.
func TestOverwriteOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k")
	if errors.Is(err, unix.EPERM) {
		return // only root can make a small disk
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	write(t, dir+"/f", "old")
	if err := overwrite(dir+"/f", make([]byte, 1<<20), 0o644); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("got %v", err)
	}
	if got := read(t, dir+"/f"); got != "old" {
		t.Errorf("it holds %d bytes", len(got))
	}
	if st, err := os.Stat(dir + "/f"); err != nil || st.Size() != 3 {
		t.Errorf("%v, %v", st, err)
	}
}
