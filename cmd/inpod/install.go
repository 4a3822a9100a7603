package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
)

func newInstall(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "install DIR",
		Short: "Copy this binary to DIR/inpod (for init containers)",
		Long: "install makes DIR when it is missing and puts a copy of this binary into it, with mode 0755. The copy appears at\n" +
			"once and whole: a process that starts meanwhile never sees half of it.",
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := install(args[0]); err != nil {
				return a.fail(fmt.Errorf("cannot install into %q: %w", args[0], err))
			}
			return nil
		},
	}
}

func install(dir string) (err error) {
	// Not os.Executable's path: the running file may have been replaced or lie outside this root.
	src, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer src.Close()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, ".inpod-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(tmp.Name()))
		}
	}()
	_, err = io.Copy(tmp, src)
	for _, step := range []func() error{func() error { return tmp.Chmod(0o755) }, tmp.Sync, tmp.Close} {
		if serr := step(); err == nil {
			err = serr
		}
	}
	if err != nil {
		return err
	}
	return os.Rename(tmp.Name(), filepath.Join(dir, "inpod"))
}
