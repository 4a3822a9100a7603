package users

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/inpod/inpod/config"
	"github.com/inpod/inpod/internal/trust"
)

// readKeys reads the lines of files of public keys.
func readKeys(files []string) ([]string, error) {
	var keys []string
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("cannot read the keys: %w", err)
		}
		for text := range strings.Lines(string(b)) {
			if text = strings.TrimSpace(text); text != "" && text[0] != '#' {
				keys = append(keys, text)
			}
		}
	}
	return keys, nil
}

// keys adds what is missing to ~/.ssh/authorized_keys. The home directory may be a volume that its user wrote: it is
// opened so that no link leads out of it.
func (m *Maker) keys(acc *account, keys []string, r *Result) error {
	if len(keys) == 0 {
		return nil
	}
	if err := trust.Path(m.path(acc.home)); err != nil {
		return fmt.Errorf("cannot add the keys: %w", err)
	}
	root, err := os.OpenRoot(m.path(acc.home))
	if err != nil {
		return fmt.Errorf("cannot add the keys: %w", err)
	}
	defer root.Close()
	const dir, file = ".ssh", ".ssh/authorized_keys"
	if err := root.Mkdir(dir, 0o700); err == nil {
		if err := root.Lchown(dir, acc.uid, acc.gid); err != nil {
			return fmt.Errorf("cannot add the keys: %w", err)
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("cannot add the keys: %w", err)
	}
	old, err := root.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot add the keys: %w", err)
	}
	have := strings.Split(string(old), "\n")
	text := string(old)
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	added := 0
	for _, key := range keys {
		if !slices.Contains(have, key) {
			text += key + "\n"
			added++
		}
	}
	if added == 0 {
		return nil
	}
	if err := writeKeys(root, file, text, acc); err != nil {
		return fmt.Errorf("cannot add the keys: %w", err)
	}
	r.Changes = append(r.Changes, fmt.Sprintf("%d keys added", added))
	return nil
}

// writeKeys writes the file as a whole, so that a full disk or a kill does not take the keys that are there. One that is
// mounted on its own, or is a link, is written to.
func writeKeys(root *os.Root, file, text string, acc *account) error {
	uid, gid, mode := acc.uid, acc.gid, os.FileMode(0o600)
	st, err := root.Lstat(file)
	if err == nil && !st.Mode().IsRegular() {
		return root.WriteFile(file, []byte(text), mode)
	}
	if err == nil {
		sys := st.Sys().(*syscall.Stat_t)
		uid, gid, mode = int(sys.Uid), int(sys.Gid), st.Mode().Perm()
	}
	fresh := file + ".inpod-new"
	if err := root.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := root.OpenFile(fresh, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	err = errors.Join(err, f.Chown(uid, gid), f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = root.Rename(fresh, file)
	}
	if err != nil {
		_ = root.Remove(fresh)
	}
	if errors.Is(err, syscall.EBUSY) {
		return root.WriteFile(file, []byte(text), mode)
	}
	return err
}

// sudo writes the user's file of sudoers(5), which must have mode 0440, or takes it away. Names of such files may hold no
// dot.
func (m *Maker) sudo(u config.User, password bool, r *Result) error {
	dir := m.path("/etc/sudoers.d")
	file := filepath.Join(dir, "inpod-"+strings.ReplaceAll(u.Name, ".", "_"))
	if !u.Sudo {
		if _, err := os.Lstat(file); err != nil {
			return nil // on a read-only file system the removal of what is not there fails too
		}
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			r.Warnings = append(r.Warnings, fmt.Sprintf("sudo is still allowed: %v", err))
		}
		return nil
	}
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		r.Warnings = append(r.Warnings, "sudo is not installed")
		return nil
	}
	rule := u.Name + " ALL=(ALL:ALL) NOPASSWD: ALL\n"
	if password {
		rule = u.Name + " ALL=(ALL:ALL) ALL\n"
	}
	if old, err := os.ReadFile(file); err == nil && string(old) == rule {
		return nil
	}
	if err := replace(file, []byte(rule), 0o440); err != nil {
		return fmt.Errorf("cannot allow sudo: %w", err)
	}
	r.Changes = append(r.Changes, "sudo allowed")
	return nil
}
