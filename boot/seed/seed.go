// Package seed fills empty directories: what an image holds goes into a volume that was just made and that hides it.
//
// Enter at Fill. A copy is made in a hidden directory of the volume and moved into place when it is complete, so that
// nobody meets half of it; one that was interrupted is completed, or made again, by the next Fill. Nothing that is
// there is ever overwritten, and nothing is left behind that would tell a later start, or an image that was saved from
// this container, that it has been done: an empty directory is the only sign.
package seed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/inpod/inpod/internal/trust"
)

// Unchanged as an owner's number keeps that of the image.
const Unchanged = -1

// Options say what Fill copies.
type Options struct {
	From, To string
	UID, GID int   // of everything that is copied; Unchanged keeps each file's own
	Mode     int64 // of To; Unchanged takes From's
	Progress *Progress
}

// Progress counts what is copied, while it is.
type Progress struct {
	Files, Bytes atomic.Int64
	Left         atomic.Int64 // files that could not be copied as they are: devices without root, sockets
}

// Result tells what Fill did.
type Result int

// The results of Fill.
const (
	Filled   Result = iota
	HadData         // To has something in it: nothing was done
	Resumed         // an interrupted Fill was completed
	Conflict        // Filled or Resumed, but To got entries meanwhile, which stay as they are
)

// work is the hidden directory of a copy that is under way, moving the file in it that says that the copy is complete.
const (
	work   = ".inpod-seed"
	data   = "data"
	moving = "complete"
)

// lockPatience is how long another agent that fills the same volume may take between two looks at it.
const lockPatience = 200 * time.Millisecond

// Fill copies the content of From into To, when To is empty or missing. Modes, owners (as root), times, links, extended
// attributes and holes stay. When ctx ends the copy stays as far as it is, for the next Fill. Any other error takes
// back what was copied.
func Fill(ctx context.Context, opt Options) (Result, error) {
	if opt.Progress == nil {
		opt.Progress = &Progress{}
	}
	from, err := openDir(unix.AT_FDCWD, opt.From, true)
	if err != nil {
		return HadData, fmt.Errorf("cannot open %q: %w", opt.From, err)
	}
	defer from.Close()
	if err := trust.Path(opt.To); err != nil {
		return HadData, fmt.Errorf("cannot fill %q: %w", opt.To, err)
	}
	if err := os.MkdirAll(opt.To, 0o755); err != nil {
		return HadData, fmt.Errorf("cannot make %q: %w", opt.To, bare(err))
	}
	to, err := openDir(unix.AT_FDCWD, opt.To, true)
	if err != nil {
		return HadData, fmt.Errorf("cannot open %q: %w", opt.To, err)
	}
	defer to.Close()
	if full, begun, err := look(to); err != nil || full && !begun {
		return HadData, named(opt.To, err)
	}
	if err := lock(ctx, to); err != nil {
		return HadData, fmt.Errorf("cannot wait for another copy into %q: %w", opt.To, err)
	}
	f := &fill{opt: opt, from: from, to: to}
	result, err := f.run(ctx)
	return result, named(opt.To, err)
}

func named(to string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("cannot fill %q: %w", to, err)
}

// fill is one Fill that has found something to do.
type fill struct {
	opt      Options
	from, to *os.File
}

func (f *fill) run(ctx context.Context) (Result, error) {
	full, begun, err := look(f.to) // again: another agent may have been faster
	if err != nil || full && !begun {
		return HadData, err
	}
	result := Filled
	if begun {
		switch complete, err := f.isComplete(); {
		case err != nil:
			return HadData, err
		case complete:
			conflict, err := f.move()
			return resultOf(Resumed, conflict), err
		}
		if err := removeAll(f.to, work); err != nil {
			return HadData, fmt.Errorf("cannot remove what an interrupted copy left: %w", err)
		}
		if full {
			return HadData, nil // somebody put something there since
		}
		result = Resumed
	}
	if err := f.copy(ctx); err != nil {
		if ctx.Err() == nil { // a full volume is of no use to anybody
			_ = removeAll(f.to, work) // the next start tries again
		}
		return HadData, err
	}
	conflict, err := f.move()
	return resultOf(result, conflict), err
}

func resultOf(r Result, conflict bool) Result {
	if conflict {
		return Conflict
	}
	return r
}

// look tells whether a directory has anything in it, and whether a Fill was interrupted there.
func look(dir *os.File) (full, begun bool, err error) {
	names, err := namesOf(dir)
	if err != nil {
		return false, false, err
	}
	return slices.ContainsFunc(names, func(n string) bool { return n != work && n != "lost+found" }), slices.Contains(names, work), nil
}

// lock waits until nobody else fills the directory: a volume may be mounted by several pods. File systems without locks
// go without.
func lock(ctx context.Context, dir *os.File) error {
	for {
		err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err != unix.EWOULDBLOCK && err != unix.EINTR {
			return nil
		}
		select {
		case <-time.After(lockPatience):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// isComplete tells whether the copy that was interrupted had been made and only was not in its place.
func (f *fill) isComplete() (bool, error) {
	dir, err := openDir(int(f.to.Fd()), work, false)
	if err != nil {
		return false, nil // a file or a link of that name: it is removed
	}
	defer dir.Close()
	var st unix.Stat_t
	err = unix.Fstatat(int(dir.Fd()), moving, &st, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil, nil
}

// copy makes the copy, complete and on the disk, in the hidden directory.
func (f *fill) copy(ctx context.Context) error {
	if err := unix.Mkdirat(int(f.to.Fd()), work, 0o700); err != nil {
		return fmt.Errorf("cannot write there: %w", err)
	}
	dir, err := openDir(int(f.to.Fd()), work, false)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.Fchmod(int(dir.Fd()), 0o700); err != nil { // whatever the umask and the parent's set-gid bit made of it
		return err
	}
	if err := unix.Mkdirat(int(dir.Fd()), data, 0o700); err != nil {
		return err
	}
	inner, err := openDir(int(dir.Fd()), data, false)
	if err != nil {
		return err
	}
	defer inner.Close()
	c := newCopier(f.opt, inner)
	if err := c.tree(ctx, f.from, inner, ""); err != nil {
		return err
	}
	if err := unix.Syncfs(int(dir.Fd())); err != nil && err != unix.ENOSYS {
		return fmt.Errorf("cannot write to the disk: %w", err)
	}
	fd, err := unix.Openat(int(dir.Fd()), moving, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(unix.Fsync(fd), unix.Close(fd), dir.Sync())
}

// move puts the complete copy in its place, one entry after the other. What is in its place already stays.
func (f *fill) move() (conflict bool, err error) {
	dir, err := openDir(int(f.to.Fd()), work, false)
	if err != nil {
		return false, err
	}
	defer dir.Close()
	inner, err := openDir(int(dir.Fd()), data, false)
	if err != nil {
		return false, err
	}
	defer inner.Close()
	names, err := namesOf(inner)
	if err != nil {
		return false, err
	}
	for _, name := range names {
		err := renameNew(inner, f.to, name)
		if err == unix.EACCES {
			err = renameLocked(inner, f.to, name)
		}
		switch {
		case err == unix.EEXIST || err == unix.ENOTEMPTY:
			conflict = true
		case err != nil:
			return conflict, fmt.Errorf("cannot move %q: %w", name, err)
		}
	}
	c := newCopier(f.opt, f.to)
	if err := c.attributes(f.from, f.to, f.opt.Mode); err != nil {
		return conflict, err
	}
	if err := removeAll(f.to, work); err != nil {
		return conflict, fmt.Errorf("cannot remove %s: %w", work, err)
	}
	keepTimes(f.from, f.to)
	return conflict, ignoreInvalid(f.to.Sync())
}

// renameNew renames unless the new name is taken.
func renameNew(from, to *os.File, name string) error {
	err := unix.Renameat2(int(from.Fd()), name, int(to.Fd()), name, unix.RENAME_NOREPLACE)
	if err != unix.EINVAL && err != unix.ENOSYS {
		return err
	}
	// NFS and old kernels know no such flag.
	var st unix.Stat_t
	if err := unix.Fstatat(int(to.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err == nil {
		return unix.EEXIST
	}
	return unix.Renameat(int(from.Fd()), name, int(to.Fd()), name)
}

// renameLocked renames a directory that nobody may write to: its entry for the parent changes, and who is not root needs
// the right to that.
func renameLocked(from, to *os.File, name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(int(from.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	mode := st.Mode & 0o7777
	if err := unix.Fchmodat(int(from.Fd()), name, mode|0o200, 0); err != nil {
		return err
	}
	if err := renameNew(from, to, name); err != nil {
		return err
	}
	return unix.Fchmodat(int(to.Fd()), name, mode, 0)
}

// removeAll removes an entry of a directory and what is in it, and follows no link.
func removeAll(dir *os.File, name string) error {
	err := unix.Unlinkat(int(dir.Fd()), name, 0)
	if err == nil || err == unix.ENOENT {
		return nil
	}
	if err != unix.EISDIR && err != unix.EPERM {
		return fmt.Errorf("cannot remove %q: %w", name, err)
	}
	if sub, err := openDir(int(dir.Fd()), name, false); err == nil {
		_ = unix.Fchmod(int(sub.Fd()), 0o700) // a copy of one that nobody may write to
		names, err := namesOf(sub)
		for _, n := range names {
			err = errors.Join(err, removeAll(sub, n))
		}
		sub.Close()
		if err != nil {
			return err
		}
	}
	if err := unix.Unlinkat(int(dir.Fd()), name, unix.AT_REMOVEDIR); err != nil && err != unix.ENOENT {
		return fmt.Errorf("cannot remove %q: %w", name, err)
	}
	return nil
}

// openDir opens a directory; only the first one may be a link, all others are opened by the names that were read.
func openDir(at int, name string, follow bool) (*os.File, error) {
	flags := unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC
	if !follow {
		flags |= unix.O_NOFOLLOW
	}
	for {
		fd, err := unix.Openat(at, name, flags, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		return os.NewFile(uintptr(fd), name), nil
	}
}

// namesOf lists a directory from its beginning.
func namesOf(dir *os.File) ([]string, error) {
	if _, err := dir.Seek(0, 0); err != nil {
		return nil, bare(err)
	}
	names, err := dir.Readdirnames(-1)
	return names, bare(err)
}

// bare takes away the path of an error: who reports it names the one that the user knows.
func bare(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

func ignoreInvalid(err error) error {
	if errors.Is(err, unix.EINVAL) { // a file system that syncs no directories
		return nil
	}
	return err
}

// String says a result as it is shown to people.
func (r Result) String() string {
	switch r {
	case Filled:
		return "filled"
	case HadData:
		return "is not empty, left alone"
	case Resumed:
		return "an interrupted copy was completed"
	}
	return "filled; entries that somebody made meanwhile were left alone"
}

// Text tells how much was copied.
func (p *Progress) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d files, %d bytes", p.Files.Load(), p.Bytes.Load())
	if n := p.Left.Load(); n > 0 {
		fmt.Fprintf(&b, ", %d left out", n)
	}
	return b.String()
}
