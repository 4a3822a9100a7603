// Package trust keeps root from going where another user leads it.
package trust

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// maxLinks is how many symbolic links the kernel follows (path_resolution(7)).
const maxLinks = 40

// Path fails where root would follow a symbolic link on the way to path, or at its end, that another user made: what root
// writes there would go wherever that user likes. What is missing is no fault. Who is not root may go where he can.
func Path(path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return follow(path, 0)
}

// follow goes along an absolute path as the kernel does, and takes the links of one user.
func follow(path string, uid uint32) error {
	at, rest := "/", path
	for links := 0; rest != ""; {
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		switch name {
		case "", ".":
			continue
		case "..":
			at = filepath.Dir(at) // at holds no link
			continue
		}
		next := filepath.Join(at, name)
		st, err := os.Lstat(next)
		if err != nil {
			return nil // it is missing and will be made, or whoever uses it finds out
		}
		if st.Mode()&os.ModeSymlink == 0 {
			at = next
			continue
		}
		if owner := st.Sys().(*syscall.Stat_t).Uid; owner != uid {
			return fmt.Errorf("the symbolic link %s belongs to the user %d, and root does not follow it", next, owner)
		}
		target, err := os.Readlink(next)
		if err != nil {
			return nil
		}
		if links++; links > maxLinks {
			return syscall.ELOOP
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		rest = target + "/" + rest
	}
	return nil
}
