package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// measureSize builds what is shipped, for both architectures.
func measureSize(ctx context.Context, b *bench) (table, error) {
	var t table
	dir, err := b.dir()
	if err != nil {
		return t, err
	}
	for _, arch := range []string{"amd64", "arm64"} {
		out := filepath.Join(dir, arch)
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", out, "./cmd/inpod")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
		if said, err := cmd.CombinedOutput(); err != nil {
			return t, fmt.Errorf("cannot build for %s: %w: %s", arch, err, said)
		}
		fi, err := os.Stat(out)
		if err != nil {
			return t, err
		}
		t.add("static, stripped, "+arch, mega, lower, below(15), map[string]float64{ours: float64(fi.Size()) / 1e6})
	}
	return t, nil
}

// filesystem names the kind that holds dir.
func filesystem(dir string) string {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return "an unknown file system"
	}
	switch st.Type {
	case unix.EXT4_SUPER_MAGIC:
		return "ext4"
	case unix.TMPFS_MAGIC:
		return "tmpfs"
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlayfs"
	case unix.XFS_SUPER_MAGIC:
		return "xfs"
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs"
	}
	return fmt.Sprintf("a file system of type %#x", st.Type)
}
