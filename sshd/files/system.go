package files

import (
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// fsys is what Tree needs of the file system; os.Root has it all.
type fsys interface {
	OpenFile(name string, flag int, perm fs.FileMode) (*os.File, error)
	OpenRoot(name string) (*os.Root, error)
	Mkdir(name string, perm fs.FileMode) error
	Remove(name string) error
	Rename(from, to string) error
	Link(from, to string) error
	Symlink(target, name string) error
	Readlink(name string) (string, error)
	Stat(name string) (fs.FileInfo, error)
	Lstat(name string) (fs.FileInfo, error)
	Chmod(name string, mode fs.FileMode) error
	Chown(name string, uid, gid int) error
	Chtimes(name string, atime, mtime time.Time) error
}

// jail is a directory that nothing leads out of.
type jail struct{ *os.Root }

// system is the whole file system. It follows no magic links of /proc, which lead past every permission on the way:
// with an Identity they would lead to what other sessions have open.
type system struct{}

func (system) OpenFile(name string, flag int, perm fs.FileMode) (*os.File, error) {
	how := unix.OpenHow{Flags: uint64(flag | unix.O_CLOEXEC), Resolve: unix.RESOLVE_NO_MAGICLINKS}
	if flag&os.O_CREATE != 0 {
		how.Mode = uint64(perm.Perm())
	}
	for {
		fd, err := unix.Openat2(unix.AT_FDCWD, name, &how)
		switch err {
		case nil:
			return os.NewFile(uintptr(fd), name), nil
		case unix.EINTR, unix.EAGAIN:
			continue
		case unix.ENOSYS, unix.EPERM, unix.EINVAL: // before Linux 5.6, or a seccomp filter that does not know it
			return os.OpenFile(name, flag, perm)
		}
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
}

func (system) OpenRoot(name string) (*os.Root, error)    { return os.OpenRoot(name) }
func (system) Mkdir(name string, perm fs.FileMode) error { return os.Mkdir(name, perm) }
func (system) Remove(name string) error                  { return os.Remove(name) }
func (system) Rename(from, to string) error              { return os.Rename(from, to) }
func (system) Link(from, to string) error                { return os.Link(from, to) }
func (system) Symlink(target, name string) error         { return os.Symlink(target, name) }
func (system) Readlink(name string) (string, error)      { return os.Readlink(name) }
func (system) Stat(name string) (fs.FileInfo, error)     { return os.Stat(name) }
func (system) Lstat(name string) (fs.FileInfo, error)    { return os.Lstat(name) }
func (system) Chmod(name string, mode fs.FileMode) error { return os.Chmod(name, mode) }
func (system) Chown(name string, uid, gid int) error     { return os.Chown(name, uid, gid) }
func (system) Chtimes(name string, a, m time.Time) error { return os.Chtimes(name, a, m) }
