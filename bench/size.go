package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// measureSize builds what is shipped, as make cross does, for both architectures.
func measureSize(ctx context.Context, _ *bench) (table, error) {
	var t table
	if said, err := exec.CommandContext(ctx, "make", "--silent", "cross").CombinedOutput(); err != nil {
		return t, fmt.Errorf("cannot build: %w: %s", err, said)
	}
	for _, arch := range []string{"amd64", "arm64"} {
		fi, err := os.Stat("bin/inpod-linux-" + arch)
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
