package files

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// dir opens the directory that the place is in, for the calls that take one and a name in it; they never follow the
// name. The whole file system needs none.
func (p place) dir() (fd int, base string, done func(), err error) {
	if _, whole := p.fs.(system); whole {
		return unix.AT_FDCWD, p.name, func() {}, nil
	}
	dir, base := path.Split(strings.TrimRight(p.name, "/"))
	if base == "" || base == "." || base == ".." {
		return 0, "", nil, syscall.EBUSY // as the kernel says of a directory that cannot be taken away
	}
	if dir == "" {
		dir = "."
	}
	f, err := p.fs.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return 0, "", nil, err
	}
	return int(f.Fd()), base, func() { _ = f.Close() }, nil
}

func failed(op, p string, err error) error {
	if err == nil {
		return nil
	}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return &fs.PathError{Op: op, Path: p, Err: pe.Err}
	}
	var le *os.LinkError
	if errors.As(err, &le) {
		return &fs.PathError{Op: op, Path: p, Err: le.Err}
	}
	return &fs.PathError{Op: op, Path: p, Err: err}
}

// Stat follows links, Lstat does not. A session that may only write can see what is there by name.
func (t *Tree) Stat(p string) (st fs.FileInfo, err error) {
	err = t.at("stat", p, true, 0, func(at place) error { st, err = at.fs.Stat(at.name); return err })
	return st, failed("stat", p, err)
}

// Lstat is Stat of a link itself.
func (t *Tree) Lstat(p string) (st fs.FileInfo, err error) {
	err = t.at("stat", p, false, 0, func(at place) error { st, err = at.fs.Lstat(at.name); return err })
	return st, failed("stat", p, err)
}

// Readlink returns the target as the session may see it.
func (t *Tree) Readlink(p string) (target string, err error) {
	err = t.at("read the link", p, false, ReadOnly, func(at place) error { target, err = at.fs.Readlink(at.name); return err })
	return t.shown(target), failed("read the link", p, err)
}

// Mkdir makes a directory with the mode, less the umask.
func (t *Tree) Mkdir(p string, mode uint32) error {
	err := t.at("make the directory", p, false, WriteOnly, func(at place) error {
		return at.fs.Mkdir(strings.TrimRight(at.name, "/"), fs.FileMode(mode&0o777&^t.opts.Umask))
	})
	return failed("make the directory", p, err)
}

// Remove removes what is no directory, Rmdir an empty directory.
func (t *Tree) Remove(p string) error {
	err := t.at("remove", p, false, WriteOnly, func(at place) error {
		fd, base, done, err := at.dir()
		if err != nil {
			return err
		}
		defer done()
		return t.opts.Quota.unlinked(fd, base, func() error { return unix.Unlinkat(fd, base, 0) })
	})
	return failed("remove", p, err)
}

// Rmdir removes an empty directory.
func (t *Tree) Rmdir(p string) error {
	err := t.at("remove the directory", p, false, WriteOnly, func(at place) error {
		if t.governed(at.path) {
			return syscall.EACCES
		}
		fd, base, done, err := at.dir()
		if err != nil {
			return err
		}
		defer done()
		return unix.Unlinkat(fd, base, unix.AT_REMOVEDIR)
	})
	return failed("remove the directory", p, err)
}

// Rename renames. Without replace it fails when there is something of the new name.
func (t *Tree) Rename(from, to string, replace bool) error {
	err := t.atBoth("rename", from, to, WriteOnly, func(f, g place) error {
		// What may only be written must not become readable by another name.
		if t.strict && (t.governed(f.path) || t.governed(g.path) || t.access(g.path)&^t.access(f.path) != 0) {
			return syscall.EACCES
		}
		fd1, old, done1, err := f.dir()
		if err != nil {
			return err
		}
		defer done1()
		fd2, name, done2, err := g.dir()
		if err != nil {
			return err
		}
		defer done2()
		if !replace {
			return renameNew(fd1, old, fd2, name)
		}
		return t.opts.Quota.unlinked(fd2, name, func() error { return unix.Renameat(fd1, old, fd2, name) })
	})
	return failed("rename", from, err)
}

// renameNew renames to a name that is free. Where the file system cannot make sure of that, it is looked at first.
func renameNew(fd1 int, old string, fd2 int, name string) error {
	err := unix.Renameat2(fd1, old, fd2, name, unix.RENAME_NOREPLACE)
	if err != unix.EINVAL && err != unix.ENOSYS && err != unix.EPERM {
		return err
	}
	var st unix.Stat_t
	switch err := unix.Fstatat(fd2, name, &st, unix.AT_SYMLINK_NOFOLLOW); err {
	case unix.ENOENT:
		return unix.Renameat(fd1, old, fd2, name)
	case nil:
		return unix.EEXIST
	default:
		return err
	}
}

// Link makes a hard link. One to a file that may only be read, or only written, would be a way to do the other: it
// needs both.
func (t *Tree) Link(from, to string) error {
	err := t.atBoth("link", from, to, ReadWrite, func(f, g place) error {
		if t.strict && t.access(f.path) != t.access(g.path) {
			return syscall.EACCES
		}
		fd1, old, done1, err := f.dir()
		if err != nil {
			return err
		}
		defer done1()
		fd2, name, done2, err := g.dir()
		if err != nil {
			return err
		}
		defer done2()
		return unix.Linkat(fd1, old, fd2, name, 0)
	})
	return failed("link", from, err)
}

// Symlink makes a link at p. Its target is kept as it is, and means in a jail what it would mean to a process whose
// root the jail is.
func (t *Tree) Symlink(target, p string) error {
	err := t.at("make the link", p, false, WriteOnly, func(at place) error { return at.fs.Symlink(target, at.name) })
	return failed("make the link", p, err)
}

// setID are the bits that a jail's session may not set: whoever has the jail may not become who keeps it.
const setID = 0o6000

// Chmod changes the mode, of twelve bits.
func (t *Tree) Chmod(p string, mode uint32, follow bool) error {
	err := t.at("change the mode of", p, follow, WriteOnly, func(at place) error {
		if !follow {
			st, err := at.fs.Lstat(at.name)
			if err != nil {
				return err
			}
			if st.Mode()&fs.ModeSymlink != 0 {
				return syscall.EOPNOTSUPP // a link has no mode on Linux
			}
		}
		return at.fs.Chmod(at.name, t.mode(mode))
	})
	return failed("change the mode of", p, err)
}

// mode turns the kernel's bits into Go's.
func (t *Tree) mode(bits uint32) fs.FileMode {
	if t.root != nil {
		bits &^= setID
	}
	m := fs.FileMode(bits & 0o777)
	if bits&syscall.S_ISUID != 0 {
		m |= fs.ModeSetuid
	}
	if bits&syscall.S_ISGID != 0 {
		m |= fs.ModeSetgid
	}
	if bits&syscall.S_ISVTX != 0 {
		m |= fs.ModeSticky
	}
	return m
}

// Chown changes the owner. In a jail nobody may, except to what it is: the process may own more than the session.
func (t *Tree) Chown(p string, uid, gid int, follow bool) error {
	err := t.at("change the owner of", p, follow, WriteOnly, func(at place) error {
		if t.root != nil {
			st, err := at.fs.Lstat(at.name)
			if err != nil {
				return err
			}
			return sameOwner(st, uid, gid)
		}
		if !follow {
			return os.Lchown(at.name, uid, gid)
		}
		return at.fs.Chown(at.name, uid, gid)
	})
	return failed("change the owner of", p, err)
}

func sameOwner(st fs.FileInfo, uid, gid int) error {
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && int(sys.Uid) == uid && int(sys.Gid) == gid {
		return nil
	}
	return syscall.EPERM
}

// Chtimes sets the times.
func (t *Tree) Chtimes(p string, atime, mtime time.Time, follow bool) error {
	err := t.at("set the times of", p, follow, WriteOnly, func(at place) error {
		if follow {
			return at.fs.Chtimes(at.name, atime, mtime)
		}
		fd, base, done, err := at.dir()
		if err != nil {
			return err
		}
		defer done()
		ts := []unix.Timespec{unix.NsecToTimespec(atime.UnixNano()), unix.NsecToTimespec(mtime.UnixNano())}
		return unix.UtimesNanoAt(fd, base, ts, unix.AT_SYMLINK_NOFOLLOW)
	})
	return failed("set the times of", p, err)
}

// Truncate sets the size of a file.
func (t *Tree) Truncate(p string, size int64) error {
	f, err := t.OpenFile(p, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	f.quiet = true
	defer f.Close()
	return f.Truncate(size)
}

// Space is what statvfs says.
type Space struct {
	Bsize, Frsize, Blocks, Bfree, Bavail, Files, Ffree, Favail, Fsid, Flag, Namemax uint64
}

// Space tells how much room there is: of a session with a quota its own.
func (t *Tree) Space(p string) (sp Space, err error) {
	err = t.at("look at the file system of", p, true, 0, func(at place) error {
		f, err := at.fs.OpenFile(at.name, unix.O_PATH, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		sp, err = t.space(int(f.Fd()))
		return err
	})
	return sp, failed("look at the file system of", p, err)
}

func (t *Tree) space(fd int) (Space, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return Space{}, err
	}
	frsize := uint64(st.Frsize)
	if frsize == 0 {
		frsize = uint64(st.Bsize)
	}
	sp := Space{
		Bsize: uint64(st.Bsize), Frsize: frsize, Blocks: st.Blocks, Bfree: st.Bfree, Bavail: st.Bavail,
		Files: st.Files, Ffree: st.Ffree, Favail: st.Ffree, Namemax: uint64(st.Namelen),
		Fsid: uint64(uint32(st.Fsid.Val[0])) | uint64(uint32(st.Fsid.Val[1]))<<32,
	}
	// SSH_FXE_STATVFS_ST_RDONLY and _NOSUID have the kernel's values.
	sp.Flag = uint64(st.Flags) & (unix.ST_RDONLY | unix.ST_NOSUID)
	if !t.May(WriteOnly) {
		sp.Flag |= unix.ST_RDONLY
	}
	if q := t.opts.Quota; q != nil {
		sp.Blocks = uint64(q.limit) / frsize
		sp.Bfree = min(sp.Bfree, uint64(q.Left())/frsize)
		sp.Bavail = min(sp.Bavail, sp.Bfree)
	}
	return sp, nil
}
