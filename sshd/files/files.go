// Package files is the file system as a session may see it: held in a directory or not, read-only, write-only or
// both, within a quota, as the user it belongs to, and with a record of every transfer. SFTP and scp are two ways to
// ask it.
//
// Enter at Open. A Tree is used by one goroutine at a time; a Quota is shared by all sessions of the directory that
// it limits. What is refused here is refused for every request of either protocol.
package files

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Access is what a session may do. The zero value is nothing.
type Access uint8

const (
	ReadOnly  Access = 1
	WriteOnly Access = 2
	ReadWrite Access = ReadOnly | WriteOnly
)

// ParseAccess reads the words of the configuration.
func ParseAccess(word string) (Access, error) {
	switch word {
	case "read-only":
		return ReadOnly, nil
	case "write-only":
		return WriteOnly, nil
	case "read-write":
		return ReadWrite, nil
	case "none":
		return 0, nil
	}
	return 0, fmt.Errorf("cannot use access %q: it is read-only, write-only, read-write or none", word)
}

// Rule is another access below a path, which is absolute as the session sees it. The longest path wins.
type Rule struct {
	Path   string
	Access Access
}

// Options say what a session may do. The zero value may do nothing.
type Options struct {
	Root     string    // the directory that the session is held in, on the host; "" is the whole file system
	Access   Access    //
	Paths    []Rule    // overrides of Access
	Quota    *Quota    // nil is none
	Home     string    // where relative paths begin, as the session sees it; "" is "/"
	Umask    uint32    // of new files and directories; the process's own is applied too, so this can only be stricter
	Identity *Identity // whose rights files are asked for with; nil is the process's own
	Audit    func(Transfer)
}

// Transfer is the record of a file that was read or written, told when it is closed.
type Transfer struct {
	Path      string // as the session sees it
	Direction string // "read" or "write"
	Bytes     int64
	Duration  time.Duration
	Err       error // nil when the file was closed in order
}

// ErrCut is a transfer's error when the session ended before the file was closed.
var ErrCut = errors.New("the session ended before the file was closed")

// Tree is the file system of one session.
type Tree struct {
	opts   Options
	fs     fsys
	root   *os.Root // nil without a jail
	host   string   // the jail's path on the host, without symlinks
	rules  []Rule   // longest first
	strict bool     // rules are there: locations are resolved and then held
}

// Open makes the tree of a session. With an Identity it belongs into Identity.Run.
func Open(opts Options) (*Tree, error) {
	t := &Tree{opts: opts, fs: system{}}
	if err := opts.Quota.refresh(); err != nil {
		return nil, err
	}
	if opts.Root != "" {
		host, err := filepath.EvalSymlinks(opts.Root)
		if err != nil {
			return nil, fmt.Errorf("cannot open the root directory: %w", err)
		}
		if t.root, err = os.OpenRoot(host); err != nil {
			return nil, fmt.Errorf("cannot open the root directory: %w", err)
		}
		t.fs, t.host = jail{t.root}, host
	}
	if t.opts.Home == "" {
		t.opts.Home = "/"
	}
	t.setRules(opts.Paths)
	return t, nil
}

// Close lets go of the directory.
func (t *Tree) Close() error {
	if t.root == nil {
		return nil
	}
	return t.root.Close()
}

// Abs is the absolute name for what the session called p. Dots are left in it: what comes before them may be a link.
func (t *Tree) Abs(p string) string {
	if strings.HasPrefix(p, "/") {
		return p
	}
	if p == "" || p == "." {
		return t.opts.Home
	}
	return strings.TrimSuffix(t.opts.Home, "/") + "/" + p
}

// Jailed tells whether the session is held in a directory.
func (t *Tree) Jailed() bool { return t.root != nil }

// Real resolves every link of p. What its last name stands for need not exist.
func (t *Tree) Real(p string) (string, error) { return t.resolve(t.Abs(p), true) }

// pathMax is the kernel's PATH_MAX. Names that are walked part by part would be taken beyond it, for the square of their
// length in work.
const pathMax = 4096

const maxLinks = 40 // as the kernel's

// resolve walks p link by link, as a process whose root the jail is would. It only finds out a name; that nothing
// outside is reached through it is for os.Root to hold.
func (t *Tree) resolve(p string, follow bool) (string, error) {
	if len(p) >= pathMax {
		return "", &fs.PathError{Op: "resolve", Path: p[:64] + "…", Err: syscall.ENAMETOOLONG}
	}
	done, todo, links := "/", strings.Split(p, "/"), 0
	for len(todo) > 0 {
		name := todo[0]
		todo = todo[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			done = path.Dir(done)
			continue
		}
		next := path.Join(done, name)
		last := strings.Trim(strings.Join(todo, "/"), "/.") == "" && !hasDotDot(todo)
		if last && !follow {
			done = next
			continue
		}
		st, err := t.fs.Lstat(t.inside(next))
		switch {
		case err != nil && last && errors.Is(err, fs.ErrNotExist):
			return next, nil
		case err != nil:
			return "", err
		case st.Mode()&fs.ModeSymlink == 0:
			if !st.IsDir() && !last {
				return "", &fs.PathError{Op: "resolve", Path: next, Err: syscall.ENOTDIR}
			}
			done = next
			continue
		}
		if links++; links > maxLinks {
			return "", &fs.PathError{Op: "resolve", Path: p, Err: syscall.ELOOP}
		}
		target, err := t.fs.Readlink(t.inside(next))
		if err != nil {
			return "", err
		}
		if target = t.shown(target); strings.HasPrefix(target, "/") {
			done = "/"
		}
		todo = append(strings.Split(target, "/"), todo...)
	}
	return done, nil
}

func hasDotDot(names []string) bool {
	for _, n := range names {
		if n == ".." {
			return true
		}
	}
	return false
}

// shown is a link's target as the session may see it: one that an administrator made with the host's name for
// something in the jail leads there.
func (t *Tree) shown(target string) string {
	if t.host == "" || t.host == "/" {
		return target
	}
	if rest, ok := strings.CutPrefix(target, t.host); ok && (rest == "" || rest[0] == '/') {
		return "/" + strings.TrimLeft(rest, "/")
	}
	return target
}

// inside is the name that the file system below wants for an absolute one.
func (t *Tree) inside(p string) string {
	if t.root == nil {
		return p
	}
	if p = strings.TrimLeft(p, "/"); p == "" {
		return "."
	}
	return p
}
