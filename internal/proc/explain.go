package proc

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
)

// explain says which step of a start failed: ForkExec returns the bare errno of whichever it was.
func explain(spec Spec, cred *syscall.Credential, err error) error {
	if spec.Dir != "" {
		if st, serr := os.Stat(spec.Dir); serr != nil && errors.Is(err, errno(serr)) {
			return fmt.Errorf("cannot start %q: cannot change to directory %q: %w", spec.Path, spec.Dir, err)
		} else if serr == nil && !st.IsDir() && err == syscall.ENOTDIR {
			return fmt.Errorf("cannot start %q: %q is not a directory: %w", spec.Path, spec.Dir, err)
		}
	}
	switch {
	case cred != nil && (err == syscall.EPERM || err == syscall.EINVAL):
		return fmt.Errorf("cannot start %q: cannot switch to uid %d, gid %d: %w", spec.Path, cred.Uid, cred.Gid, err)
	case err == syscall.ENOEXEC:
		return fmt.Errorf("cannot start %q: neither a program for this machine nor a script with a #! line: %w", spec.Path, err)
	case err == syscall.EAGAIN:
		return fmt.Errorf("cannot start %q: too many processes: %w", spec.Path, err)
	case err == syscall.E2BIG:
		return fmt.Errorf("cannot start %q: arguments and environment are too large: %w", spec.Path, err)
	}
	if err == syscall.ENOENT || err == syscall.EACCES {
		if interp := interpreter(spec.Path); interp != "" {
			return fmt.Errorf("cannot start %q: cannot run its interpreter %q: %w", spec.Path, interp, err)
		}
	}
	if _, serr := os.Stat(spec.Path); serr == nil && err == syscall.ENOENT {
		return fmt.Errorf("cannot start %q: it is there, but the loader that it was linked for is not (another C library?): %w", spec.Path, err)
	}
	if cred != nil && err == syscall.EACCES {
		return fmt.Errorf("cannot start %q as uid %d in directory %q: %w", spec.Path, cred.Uid, spec.Dir, err)
	}
	return fmt.Errorf("cannot start %q: %w", spec.Path, err)
}

func errno(err error) error {
	var e syscall.Errno
	if errors.As(err, &e) {
		return e
	}
	return err
}

// interpreter returns the program on the #! line of the script at path when that is what cannot be run.
func interpreter(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	head := make([]byte, 256) // BINPRM_BUF_SIZE
	n, _ := io.ReadFull(f, head)
	line, ok := bytes.CutPrefix(head[:n], []byte("#!"))
	if !ok {
		return ""
	}
	line, _, _ = bytes.Cut(line, []byte("\n"))
	// The kernel ends the name at a blank or a tab. A \r, as Windows ends lines, belongs to it.
	fields := strings.FieldsFunc(string(line), func(r rune) bool { return r == ' ' || r == '\t' })
	if len(fields) == 0 {
		return ""
	}
	if st, err := os.Stat(fields[0]); err == nil && st.Mode()&0o111 != 0 && !st.IsDir() {
		return ""
	}
	return fields[0]
}
