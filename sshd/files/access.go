package files

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// setRules orders the overrides so that the first that fits is the right one.
func (t *Tree) setRules(rules []Rule) {
	for _, r := range rules {
		if r.Path = path.Clean("/" + r.Path); r.Path == "/" {
			t.opts.Access = r.Access
		}
		t.rules = append(t.rules, r)
	}
	slices.SortStableFunc(t.rules, func(a, b Rule) int { return len(b.Path) - len(a.Path) })
	t.strict = len(t.rules) > 0
}

func within(p, dir string) bool {
	rest, ok := strings.CutPrefix(p, dir)
	return ok && (rest == "" || rest[0] == '/' || dir == "/")
}

// access is what the session may do at a path without links.
func (t *Tree) access(p string) Access {
	for _, r := range t.rules {
		if within(p, r.Path) {
			return r.Access
		}
	}
	return t.opts.Access
}

// May tells whether the session may do this anywhere at all: what nobody may is refused before anything is looked at.
func (t *Tree) May(need Access) bool {
	if t.opts.Access&need == need {
		return true
	}
	return slices.ContainsFunc(t.rules, func(r Rule) bool { return r.Access&need == need })
}

// place is where an operation takes place: a name below a file system.
type place struct {
	fs   fsys
	name string
	path string   // as the session sees it; without links where there are rules
	held *os.Root // to close
}

func (p place) close() {
	if p.held != nil {
		_ = p.held.Close() // nothing was written through it
	}
}

func refuse(op, p string) error { return &fs.PathError{Op: op, Path: p, Err: syscall.EACCES} }

// locate finds the place for p and refuses it when the session may not do there what is needed; 0 asks only that it
// may do something. With follow a link as the last name is followed.
func (t *Tree) locate(op, p string, follow bool, need Access) (place, error) {
	p = t.Abs(p)
	if !t.strict {
		if t.opts.Access&need != need || t.opts.Access == 0 {
			return place{}, refuse(op, p)
		}
		return place{fs: t.fs, name: t.inside(p), path: p}, nil
	}
	real, err := t.resolve(p, follow)
	if err != nil {
		return place{}, err
	}
	if a := t.access(real); a&need != need || a == 0 && !t.leads(real) {
		return place{}, refuse(op, p)
	}
	return t.hold(real)
}

// leads tells whether there is something below p that the session may use: it must be able to see the way there.
func (t *Tree) leads(p string) bool {
	return slices.ContainsFunc(t.rules, func(r Rule) bool { return r.Access != 0 && within(r.Path, p) })
}

// hold opens the directory of a path without links and makes sure that it is the one: between looking and opening,
// a name on the way may have become a link to where another rule holds. What is then done is done in that directory.
func (t *Tree) hold(real string) (place, error) {
	dir, base := path.Split(real)
	if real == "/" {
		base = "."
	}
	dir = path.Clean(dir)
	held, err := t.fs.OpenRoot(t.inside(dir))
	if err != nil {
		return place{}, err
	}
	pl := place{fs: jail{held}, name: base, path: real, held: held}
	self, err := held.Open(".")
	if err != nil {
		pl.close()
		return place{}, err
	}
	defer self.Close()
	if at, err := t.whereIs(self); err != nil || at != dir {
		pl.close()
		return place{}, refuse("open", real)
	}
	return pl, nil
}

// whereIs asks the kernel for the path of an open file, as the session sees it.
func (t *Tree) whereIs(f *os.File) (string, error) {
	at, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(f.Fd())))
	if err != nil {
		return "", err
	}
	if t.root == nil {
		return at, nil
	}
	rest, ok := strings.CutPrefix(at, strings.TrimSuffix(t.host, "/"))
	if !ok {
		return "", syscall.EACCES
	}
	return path.Clean("/" + rest), nil
}

// at runs op at the place of p. In a jail a link with an absolute target is one that os.Root does not follow; then
// the name is resolved by hand, and os.Root holds what comes of it like any other name.
func (t *Tree) at(what, p string, follow bool, need Access, op func(place) error) error {
	pl, err := t.locate(what, p, follow, need)
	if err != nil {
		return err
	}
	defer pl.close()
	err = op(pl)
	if t.root == nil || t.strict || !escapes(err) {
		return err
	}
	if pl.path, err = t.resolve(pl.path, follow); err != nil {
		return err
	}
	pl.name = t.inside(pl.path)
	return op(pl)
}

// escapes tells whether os.Root refused a name: then it is not the kernel that did.
func escapes(err error) bool {
	return err != nil && !errors.As(err, new(syscall.Errno)) && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist)
}

// atBoth is at for two names, neither followed.
func (t *Tree) atBoth(what, from, to string, needFrom Access, op func(from, to place) error) error {
	return t.at(what, from, false, needFrom, func(f place) error {
		return t.at(what, to, false, WriteOnly, func(g place) error { return op(f, g) })
	})
}

// governed tells whether a rule is about p or something below it: such a directory cannot be moved or removed, or
// the rule would not hold for what it is about.
func (t *Tree) governed(p string) bool {
	return slices.ContainsFunc(t.rules, func(r Rule) bool { return within(r.Path, p) })
}
