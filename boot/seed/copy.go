package seed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// chunk is how much is copied between two looks at the context.
const chunk = 64 << 20

// copier copies one tree. Everything is done by names relative to open directories and without following links: the
// volume may belong to somebody who would like root to write elsewhere.
type copier struct {
	opt    Options
	top    *os.File
	links  map[inode]string // files with several names: the path below top of the first
	asRoot bool
	noCopy bool // the file systems do not copy by themselves
	buf    []byte
	depth  int // of the directories that are open
}

type inode struct{ dev, ino uint64 }

// maxDepth bounds the open directories.
const maxDepth = 1000

func newCopier(opt Options, top *os.File) *copier {
	return &copier{opt: opt, top: top, links: map[inode]string{}, asRoot: os.Geteuid() == 0}
}

// tree copies what is in one directory into another; at is the path of both below the top.
func (c *copier) tree(ctx context.Context, from, to *os.File, at string) error {
	if c.depth++; c.depth > maxDepth {
		return fmt.Errorf("%q lies too deep: %d directories", at, maxDepth)
	}
	defer func() { c.depth-- }()
	names, err := namesOf(from)
	if err != nil {
		return fmt.Errorf("cannot list %q: %w", at, err)
	}
	for _, name := range names {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if at == "" && (name == work || name == "lost+found") {
			continue
		}
		if err := c.entry(ctx, from, to, name, path.Join(at, name)); err != nil {
			return err
		}
	}
	return nil
}

func (c *copier) entry(ctx context.Context, from, to *os.File, name, at string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(int(from.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("cannot read %q: %w", at, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR && st.Nlink > 1 {
		key := inode{st.Dev, st.Ino}
		if first, ok := c.links[key]; ok {
			if err := unix.Linkat(int(c.top.Fd()), first, int(to.Fd()), name, 0); err == nil {
				return nil
			} // a file system without hard links gets a copy
		}
		c.links[key] = at
	}
	var err error
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		err = c.directory(ctx, from, to, name, at)
	case unix.S_IFREG:
		err = c.regular(ctx, from, to, name)
	case unix.S_IFLNK:
		err = c.symlink(from, to, name, &st)
	case unix.S_IFSOCK:
		c.opt.Progress.Left.Add(1)
		return nil
	default:
		err = c.special(to, name, &st)
	}
	if err != nil && ctx.Err() == nil {
		var inner *copyError
		if !errors.As(err, &inner) {
			err = &copyError{at, err}
		}
		return err
	}
	c.opt.Progress.Files.Add(1)
	return err
}

// copyError names the file that could not be copied, once.
type copyError struct {
	at  string
	err error
}

func (e *copyError) Error() string { return fmt.Sprintf("cannot copy %q: %v", e.at, e.err) }
func (e *copyError) Unwrap() error { return e.err }

func (c *copier) directory(ctx context.Context, from, to *os.File, name, at string) error {
	src, err := openDir(int(from.Fd()), name, false)
	if err != nil {
		return err
	}
	defer src.Close()
	if err := unix.Mkdirat(int(to.Fd()), name, 0o700); err != nil {
		return err
	}
	dst, err := openDir(int(to.Fd()), name, false)
	if err != nil {
		return err
	}
	defer dst.Close()
	if err := c.tree(ctx, src, dst, at); err != nil {
		return err
	}
	return c.attributes(src, dst, Unchanged)
}

func (c *copier) regular(ctx context.Context, from, to *os.File, name string) error {
	in, err := unix.Openat(int(from.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	src := os.NewFile(uintptr(in), name)
	defer src.Close()
	out, err := unix.Openat(int(to.Fd()), name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	dst := os.NewFile(uintptr(out), name)
	defer dst.Close()
	if err := c.content(ctx, src, dst); err != nil {
		return err
	}
	if err := c.attributes(src, dst, Unchanged); err != nil {
		return err
	}
	return dst.Close() // a full NFS volume says so here
}

// content copies the bytes of a file: as a reference to the same blocks where the file system can, and else without its
// holes.
func (c *copier) content(ctx context.Context, src, dst *os.File) error {
	st, err := src.Stat()
	if err != nil {
		return err
	}
	size := st.Size()
	if size == 0 {
		return nil
	}
	if unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())) == nil {
		c.opt.Progress.Bytes.Add(size)
		return nil
	}
	for at := int64(0); at < size; {
		begin, err := unix.Seek(int(src.Fd()), at, unix.SEEK_DATA)
		if err == unix.ENXIO {
			break // the rest is a hole
		}
		end := size
		if err != nil {
			begin = at // a file system that does not tell
		} else if end, err = unix.Seek(int(src.Fd()), begin, unix.SEEK_HOLE); err != nil {
			end = size
		}
		if err := c.extent(ctx, src, dst, begin, min(end, size)-begin); err != nil {
			return err
		}
		at = end
	}
	return bare(dst.Truncate(size))
}

// extent copies n bytes at one place.
func (c *copier) extent(ctx context.Context, src, dst *os.File, at, n int64) error {
	for n > 0 {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		copied, err := c.some(src, dst, at, min(n, chunk))
		if err != nil {
			return err
		}
		if copied == 0 {
			return nil // it became shorter
		}
		c.opt.Progress.Bytes.Add(copied)
		at, n = at+copied, n-copied
	}
	return nil
}

func (c *copier) some(src, dst *os.File, at, n int64) (int64, error) {
	if !c.noCopy {
		in, out := at, at
		copied, err := unix.CopyFileRange(int(src.Fd()), &in, int(dst.Fd()), &out, int(n), 0)
		switch err {
		case nil:
			if copied > 0 {
				return int64(copied), nil
			}
		case unix.EINTR:
			return c.some(src, dst, at, n)
		case unix.ENOSPC, unix.EDQUOT, unix.EIO, unix.EFBIG:
			return 0, err
		}
		c.noCopy = true
	}
	if c.buf == nil {
		c.buf = make([]byte, 256<<10)
	}
	read, err := src.ReadAt(c.buf[:min(n, int64(len(c.buf)))], at)
	if err != nil && err != io.EOF {
		return 0, bare(err)
	}
	written, err := dst.WriteAt(c.buf[:read], at)
	return int64(written), bare(err)
}

func (c *copier) symlink(from, to *os.File, name string, st *unix.Stat_t) error {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(from.Fd()), name, buf)
	if err != nil {
		return err
	}
	if err := unix.Symlinkat(string(buf[:n]), int(to.Fd()), name); err != nil {
		return err
	}
	return c.named(to, name, st)
}

// special makes a FIFO or a device node.
func (c *copier) special(to *os.File, name string, st *unix.Stat_t) error {
	err := unix.Mknodat(int(to.Fd()), name, st.Mode&unix.S_IFMT|0o600, int(st.Rdev))
	if err == unix.EPERM || err == unix.EACCES {
		c.opt.Progress.Left.Add(1) // a device needs root, and the right to make it
		return nil
	}
	if err == nil {
		err = unix.Fchmodat(int(to.Fd()), name, st.Mode&0o7777, 0)
	}
	if err != nil {
		return err
	}
	return c.named(to, name, st)
}

// named sets owner and times of what cannot be opened.
func (c *copier) named(to *os.File, name string, st *unix.Stat_t) error {
	if uid, gid := c.owner(st); uid >= 0 || gid >= 0 {
		if err := unix.Fchownat(int(to.Fd()), name, uid, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return c.chownError(err)
		}
	}
	times := []unix.Timespec{st.Atim, st.Mtim}
	_ = unix.UtimesNanoAt(int(to.Fd()), name, times, unix.AT_SYMLINK_NOFOLLOW) // not every file system keeps them
	return nil
}

// owner says whom a file is to belong to; -1 leaves it.
func (c *copier) owner(st *unix.Stat_t) (uid, gid int) {
	uid, gid = c.opt.UID, c.opt.GID
	if c.asRoot && uid == Unchanged {
		uid = int(st.Uid)
	}
	if c.asRoot && gid == Unchanged {
		gid = int(st.Gid)
	}
	return uid, gid
}

// chownError forgives file systems without owners, unless somebody asked for one.
func (c *copier) chownError(err error) error {
	if c.opt.UID == Unchanged && c.opt.GID == Unchanged {
		return nil
	}
	return fmt.Errorf("cannot change the owner: %w", err)
}

// attributes gives dst the owner, the mode, the extended attributes and the times of src. The mode comes after the owner,
// whose change clears the set-uid bit.
func (c *copier) attributes(src, dst *os.File, mode int64) error {
	var st, now unix.Stat_t
	if err := unix.Fstat(int(src.Fd()), &st); err != nil {
		return err
	}
	if err := unix.Fstat(int(dst.Fd()), &now); err != nil {
		return err
	}
	uid, gid := c.owner(&st)
	if uid >= 0 && uint32(uid) != now.Uid || gid >= 0 && uint32(gid) != now.Gid {
		if err := unix.Fchown(int(dst.Fd()), uid, gid); err != nil {
			if err := c.chownError(err); err != nil {
				return err
			}
		}
	}
	bits := st.Mode & 0o7777
	if !c.asRoot && int(st.Uid) != os.Geteuid() {
		bits &^= unix.S_ISUID | unix.S_ISGID // they would hand out our rights and not the owner's
	}
	if mode >= 0 {
		bits = uint32(mode)
	}
	_ = unix.Fchmod(int(dst.Fd()), bits) // a volume's root may be another's; some file systems have no modes
	copyXattrs(src, dst)
	keepTimes(src, dst)
	return nil
}

// keepTimes sets the times, where the file system keeps any. /proc/self/fd: utimensat(2) takes no descriptor.
func keepTimes(src, dst *os.File) {
	var st unix.Stat_t
	if unix.Fstat(int(src.Fd()), &st) == nil {
		_ = unix.UtimesNanoAt(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", dst.Fd()), []unix.Timespec{st.Atim, st.Mtim}, 0)
	}
}

// copyXattrs copies the extended attributes that the file system and our rights allow: ACLs, capabilities, user.*.
func copyXattrs(src, dst *os.File) {
	size, err := unix.Flistxattr(int(src.Fd()), nil)
	if err != nil || size == 0 {
		return
	}
	list := make([]byte, size)
	if size, err = unix.Flistxattr(int(src.Fd()), list); err != nil {
		return
	}
	for _, name := range splitNames(list[:size]) {
		n, err := unix.Fgetxattr(int(src.Fd()), name, nil)
		if err != nil {
			continue
		}
		value := make([]byte, n)
		if n, err = unix.Fgetxattr(int(src.Fd()), name, value); err == nil {
			_ = unix.Fsetxattr(int(dst.Fd()), name, value[:n], 0)
		}
	}
}

// splitNames splits what listxattr(2) gives: names, each with a NUL behind it.
func splitNames(list []byte) []string {
	var names []string
	for begin, i := 0, 0; i < len(list); i++ {
		if list[i] == 0 {
			names = append(names, string(list[begin:i]))
			begin = i + 1
		}
	}
	return names
}
