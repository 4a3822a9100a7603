package files

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// File is an open file of a session. Close tells the audit what was transferred.
type File struct {
	*os.File
	Path string // as the session sees it

	tree          *Tree
	ino           uint64
	flag          int
	opened        time.Time
	read, written int64
	orphaned      int64 // bytes of the quota that this handle took after the last name was gone
	err           error
	quiet         bool
}

// OpenFile opens with the flags of os.OpenFile; a new file has the mode, less the umask. In a jail only files can be
// opened: a pipe there would be a way to talk to whoever has its other end, and a device is nobody's in a jail.
func (t *Tree) OpenFile(p string, flag int, mode uint32) (*File, error) {
	need, write := Access(0), flag&(os.O_WRONLY|os.O_RDWR) != 0
	if flag&os.O_WRONLY == 0 {
		need |= ReadOnly
	}
	if write || flag&(os.O_CREATE|os.O_TRUNC|os.O_APPEND) != 0 {
		need |= WriteOnly
	}
	trunc := flag&os.O_TRUNC != 0
	if t.opts.Quota != nil || t.strict {
		flag &^= os.O_TRUNC // a file is cut when it is known to be the right one, and counted
	}
	var file *File
	err := t.at("open", p, true, need, func(at place) error {
		// A pipe without a writer would be waited for without O_NONBLOCK; a terminal would become that of the agent, where it
		// leads a session as PID 1 does, and who has its other end could type signals.
		f, err := t.opts.Quota.create(func() (*os.File, error) {
			return at.fs.OpenFile(at.name, flag|unix.O_NONBLOCK|unix.O_NOCTTY, fs.FileMode(mode&0o777&^t.opts.Umask))
		})
		if err != nil {
			return err
		}
		file = &File{File: f, Path: at.path, tree: t, flag: flag, opened: time.Now()}
		if err := file.check(need); err != nil {
			_ = f.Close() // nothing was written
			return err
		}
		if trunc && flag&os.O_TRUNC == 0 {
			if err := file.Truncate(0); err != nil {
				_ = f.Close() // nothing was written
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, failed("open", p, err)
	}
	return file, nil
}

// check makes sure that what was opened may be: the last name too can have become a link in the meantime.
func (f *File) check(need Access) error {
	t := f.tree
	if t.root == nil && t.opts.Quota == nil && !t.strict {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	f.ino = st.Ino
	if kind := st.Mode & unix.S_IFMT; t.root != nil && kind != unix.S_IFREG && kind != unix.S_IFDIR {
		return syscall.EACCES
	}
	if t.strict {
		at, err := t.whereIs(f.File)
		if err != nil {
			return err
		}
		if t.access(at)&need != need {
			return syscall.EACCES
		}
	}
	return nil
}

// Append tells whether every write goes to the end.
func (f *File) Append() bool { return f.flag&os.O_APPEND != 0 }

// ReadAt reads until the buffer is full or the file at its end.
func (f *File) ReadAt(buf []byte, off int64) (int, error) {
	if f.flag&os.O_WRONLY != 0 {
		return 0, failed("read", f.Path, syscall.EACCES)
	}
	n, err := f.File.ReadAt(buf, off)
	f.read += int64(n)
	return n, f.note("read", err)
}

// WriteAt writes all of buf, in append mode to the end.
func (f *File) WriteAt(buf []byte, off int64) (int, error) {
	if f.flag&(os.O_WRONLY|os.O_RDWR) == 0 {
		return 0, failed("write", f.Path, syscall.EACCES)
	}
	put := func() (n int, err error) {
		if f.Append() {
			n, err = f.File.Write(buf)
		} else {
			n, err = f.File.WriteAt(buf, off)
		}
		f.written += int64(n)
		return n, err
	}
	n, err := 0, error(nil)
	if q := f.tree.opts.Quota; q == nil {
		n, err = put()
	} else {
		n, err = f.grow(q, off, int64(len(buf)), put)
	}
	return n, f.note("write", err)
}

// grow writes within the quota: what the file will be longer is taken before, and what it did not become given back.
func (f *File) grow(q *Quota, off, n int64, put func() (int, error)) (int, error) {
	defer q.lock(f.ino).Unlock()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, err
	}
	if f.Append() {
		off = st.Size
	}
	more := max(0, off+n-st.Size)
	if err := q.reserve(more); err != nil {
		return 0, err
	}
	done, err := put()
	if lost := more - max(0, off+int64(done)-st.Size); done < int(n) {
		q.release(lost)
		more -= lost
	}
	if st.Nlink == 0 {
		f.orphaned += more
	}
	return done, err
}

// Truncate sets the size, within the quota.
func (f *File) Truncate(size int64) error {
	if f.flag&(os.O_WRONLY|os.O_RDWR) == 0 {
		return failed("truncate", f.Path, syscall.EACCES)
	}
	q := f.tree.opts.Quota
	if q == nil {
		return f.note("truncate", f.File.Truncate(size))
	}
	defer q.lock(f.ino).Unlock()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return f.note("truncate", err)
	}
	more := size - st.Size
	if more > 0 {
		if err := q.reserve(more); err != nil {
			return f.note("truncate", err)
		}
	}
	if err := f.File.Truncate(size); err != nil {
		if more > 0 {
			q.release(more)
		}
		return f.note("truncate", err)
	}
	switch {
	case st.Nlink == 0:
		f.orphaned += max(0, more) // what it had before was given back with its last name
	case more < 0:
		q.release(-more)
	}
	return nil
}

// Chmod is Tree.Chmod of an open file.
func (f *File) Chmod(mode uint32) error {
	if !f.tree.May(WriteOnly) || f.tree.strict && f.flag&(os.O_WRONLY|os.O_RDWR) == 0 {
		return failed("change the mode of", f.Path, syscall.EACCES)
	}
	return failed("change the mode of", f.Path, f.File.Chmod(f.tree.mode(mode)))
}

// Chown is Tree.Chown of an open file.
func (f *File) Chown(uid, gid int) error {
	if !f.tree.May(WriteOnly) {
		return failed("change the owner of", f.Path, syscall.EACCES)
	}
	if f.tree.root != nil {
		st, err := f.Stat()
		if err == nil {
			err = sameOwner(st, uid, gid)
		}
		return failed("change the owner of", f.Path, err)
	}
	return failed("change the owner of", f.Path, f.File.Chown(uid, gid))
}

// Chtimes is Tree.Chtimes of an open file.
func (f *File) Chtimes(atime, mtime time.Time) error {
	if !f.tree.May(WriteOnly) || f.tree.strict && f.flag&(os.O_WRONLY|os.O_RDWR) == 0 {
		return failed("set the times of", f.Path, syscall.EACCES)
	}
	tv := []unix.Timeval{unix.NsecToTimeval(atime.UnixNano()), unix.NsecToTimeval(mtime.UnixNano())}
	return failed("set the times of", f.Path, unix.Futimes(int(f.Fd()), tv))
}

// Space is Tree.Space for the file system of an open file.
func (f *File) Space() (Space, error) {
	sp, err := f.tree.space(int(f.Fd()))
	return sp, failed("look at the file system of", f.Path, err)
}

// note remembers the first fault of the transfer, which the audit is to tell.
func (f *File) note(op string, err error) error {
	if err == nil || err == io.EOF { //nolint:errorlint // os.File returns it bare
		return err
	}
	err = failed(op, f.Path, err)
	if f.err == nil {
		f.err = err
	}
	return err
}

// Close closes the file and tells what was transferred.
func (f *File) Close() error { return f.end(nil) }

// Abandon closes the file because of the fault that ended the transfer.
func (f *File) Abandon(why error) { _ = f.end(why) } // a fault of closing is noted

func (f *File) end(why error) error {
	if f.orphaned != 0 {
		f.tree.opts.Quota.release(f.orphaned)
	}
	err := f.note("close", f.File.Close())
	if errors.Is(err, os.ErrClosed) || f.quiet {
		return err
	}
	if f.err == nil {
		f.err = why
	}
	audit := f.tree.opts.Audit
	if audit == nil {
		return err
	}
	tr := Transfer{Path: f.Path, Duration: time.Since(f.opened), Err: f.err}
	writable := f.flag&(os.O_WRONLY|os.O_RDWR) != 0
	if f.written > 0 || writable && f.read == 0 {
		tr.Direction, tr.Bytes = "write", f.written
		audit(tr)
	}
	if f.read > 0 || !writable {
		tr.Direction, tr.Bytes = "read", f.read
		audit(tr)
	}
	return err
}

// Dir is a directory that is being listed.
type Dir struct {
	*os.File
	Path string
	tree *Tree
}

// OpenDir opens a directory to list it.
func (t *Tree) OpenDir(p string) (*Dir, error) {
	var dir *Dir
	err := t.at("list", p, true, ReadOnly, func(at place) error {
		f, err := at.fs.OpenFile(at.name, unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		if t.strict { // the last name too can have become a link in the meantime
			if where, err := t.whereIs(f); err != nil || t.access(where)&ReadOnly == 0 {
				_ = f.Close() // only read
				return syscall.EACCES
			}
		}
		dir = &Dir{File: f, Path: at.path, tree: t}
		return nil
	})
	return dir, failed("list", p, err)
}

// Stat is what is said of an entry; links are not followed. Of the jail's own parent it tells nothing.
func (d *Dir) Lstat(name string) (st unix.Stat_t, err error) {
	if name == ".." && d.tree.root != nil {
		name = "."
	}
	err = unix.Fstatat(int(d.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return st, err
}
