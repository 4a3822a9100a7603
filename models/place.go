package models

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/inpod/inpod/internal/trust"
)

// place is where a model is put.
type place struct {
	to   string // the directory, without symbolic links
	work string // the work directory
	// inside tells that the directory itself cannot be replaced, as it is a mount point or its parent is not ours: the
	// work directory is in it then, and its content is replaced.
	inside  bool
	stamped []byte // the stamp as it was read last
}

const insideName = ".inpod"

// place looks where the unit's directory is.
func (u *unit) place() (*place, error) {
	if err := trust.Path(u.to); err != nil {
		return nil, err
	}
	to, err := filepath.EvalSymlinks(u.to)
	if errors.Is(err, fs.ErrNotExist) {
		to, err = filepath.Clean(u.to), nil
	}
	if err != nil {
		return nil, (&place{to: u.to}).explain(bareError(err))
	}
	p := &place{to: to}
	st, err := os.Lstat(to)
	switch {
	case err == nil && !st.IsDir():
		return nil, fmt.Errorf("%s is no directory", to)
	case err == nil:
		p.inside = mountPoint(to) || unix.Access(filepath.Dir(to), unix.W_OK|unix.X_OK) != nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, p.explain(bareError(err))
	}
	p.work = filepath.Join(filepath.Dir(to), "."+filepath.Base(to)+".inpod")
	if p.inside {
		p.work = filepath.Join(to, insideName)
	}
	return p, trust.Path(p.work)
}

// bareError takes the path out of an error of os: who reports it names the one that the user knows.
func bareError(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// mountPoint tells whether something is mounted on the directory (proc_pid_mountinfo(5)).
func mountPoint(dir string) bool {
	text, _ := os.ReadFile("/proc/self/mountinfo") // without it a rename says so
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) > 4 && unescape(fields[4]) == dir {
			return true
		}
	}
	return false
}

// unescape takes back what mountinfo does with blanks and backslashes.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// explain names the directory and what can be done.
func (p *place) explain(err error) error {
	hint := ""
	switch {
	case errors.Is(err, unix.EROFS):
		hint = "; mount a volume there, or set models[].to"
	case errors.Is(err, fs.ErrPermission):
		hint = fmt.Sprintf("; the agent runs as user %d", os.Getuid())
	}
	return fmt.Errorf("cannot put the model into %s: %w%s", p.to, err, hint)
}

// entries lists what is in the directory and not ours: a new file system's lost+found and our work directory do not count.
func (p *place) entries() ([]string, error) {
	list, err := os.ReadDir(p.to)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range list {
		if e.Name() != insideName && e.Name() != "lost+found" {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// owned fails where the directory holds what no fetch put there.
func (p *place) owned() error {
	names, err := p.entries()
	if err != nil {
		return p.explain(err)
	}
	if len(names) == 0 || slices.Contains(names, stampName) {
		return nil
	}
	if _, err := os.Stat(filepath.Join(p.to, insideName, ownedName)); err == nil {
		return nil // an agent was ended in the middle of a swap
	}
	return fmt.Errorf("%s holds %q, which inpod did not put there; remove it, or set models[].to to another directory", p.to, names[0])
}

// finish checks the new model as a whole and puts it into its place.
func (u *unit) finish(ctx context.Context, w *work, p *place, st *stamp) error {
	if u.model.Path != "" && !w.state.Mixed {
		return fmt.Errorf("path is given, but nothing was unpacked")
	}
	root, err := w.root.OpenRoot(newName)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := st.survey(ctx, root); err != nil {
		return err
	}
	if st.Count == 0 && u.model.Path != "" {
		return fmt.Errorf("nothing of the image is in %s (models[].path)", u.model.Path)
	}
	if st.Count == 0 {
		return fmt.Errorf("there is no file in it")
	}
	st.describe(u)
	if err := st.write(root); err != nil {
		return err
	}
	// What the stamp says must be true after a power cut, too.
	if dir, err := root.Open("."); err == nil {
		_ = unix.Syncfs(int(dir.Fd()))
		_ = dir.Close()
	}
	if err := w.root.RemoveAll(oldName); err != nil {
		return err
	}
	if err := p.owned(); err != nil {
		return err
	}
	swap := w.swap
	if p.inside {
		swap = w.swapContent
	}
	if err := swap(p); err != nil {
		return p.explain(err)
	}
	if err := w.remove(); err != nil {
		u.log.Warn("cannot remove what is not needed any more", "error", err)
	}
	return nil
}

// swap exchanges the directories, so that there is no moment without a model.
func (w *work) swap(p *place) error {
	fresh, old := filepath.Join(w.dir, newName), filepath.Join(w.dir, oldName)
	if _, err := os.Lstat(p.to); errors.Is(err, fs.ErrNotExist) {
		return os.Rename(fresh, p.to)
	}
	err := unix.Renameat2(unix.AT_FDCWD, fresh, unix.AT_FDCWD, p.to, unix.RENAME_EXCHANGE)
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
		return err
	}
	// NFS and others know no exchange.
	if err := os.Rename(p.to, old); err != nil {
		return err
	}
	return os.Rename(fresh, p.to)
}

// swapContent replaces what is in a directory that must stay. The stamp goes first and comes last.
func (w *work) swapContent(p *place) error {
	names, err := p.entries()
	if err != nil {
		return err
	}
	if err := w.root.WriteFile(ownedName, nil, 0o600); err != nil {
		return err
	}
	if i := slices.Index(names, stampName); i > 0 {
		names[0], names[i] = names[i], names[0]
	}
	if err := w.root.Mkdir(oldName, 0o700); err != nil {
		return err
	}
	for _, name := range names {
		if err := os.Rename(filepath.Join(p.to, name), filepath.Join(w.dir, oldName, name)); err != nil {
			return err
		}
	}
	list, err := os.ReadDir(filepath.Join(w.dir, newName))
	if err != nil {
		return err
	}
	for _, e := range list {
		if e.Name() == stampName {
			continue
		}
		if err := os.Rename(filepath.Join(w.dir, newName, e.Name()), filepath.Join(p.to, e.Name())); err != nil {
			return err
		}
	}
	return os.Rename(filepath.Join(w.dir, newName, stampName), path.Join(p.to, stampName))
}
