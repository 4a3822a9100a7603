package users

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// lockPatience is how long lckpwdf(3) waits too.
const lockPatience = 15 * time.Second

// database is the three files that describe users.
type database struct{ passwd, group, shadow *table }

// table is one file, line by line: what is no entry (comments, NIS) stays as it is.
type table struct {
	path   string
	fields int
	mode   os.FileMode // of a new file
	read   []byte      // as it was
	hidden bool        // it is there, and may not be read
	lines  []line
	dirty  bool
}

type line struct {
	text  string
	entry []string // nil where text is no entry
}

func (m *Maker) open() (*database, error) {
	db := &database{}
	for _, f := range []struct {
		to     **table
		name   string
		fields int
		mode   os.FileMode
	}{{&db.passwd, "/etc/passwd", 7, 0o644}, {&db.group, "/etc/group", 4, 0o644}, {&db.shadow, "/etc/shadow", 9, 0o600}} {
		t, err := readTable(m.path(f.name), f.fields, f.mode)
		if err != nil {
			return nil, err
		}
		*f.to = t
	}
	return db, nil
}

func readTable(path string, fields int, mode os.FileMode) (*table, error) {
	b, err := os.ReadFile(path)
	hidden := errors.Is(err, fs.ErrPermission)
	if err != nil && !hidden && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot read the users: %w", err)
	}
	t := parseTable(b, fields)
	t.path, t.mode, t.hidden = path, mode, hidden
	return t, nil
}

func parseTable(b []byte, fields int) *table {
	t := &table{fields: fields, read: b}
	for text := range strings.Lines(string(b)) {
		text = strings.TrimSuffix(text, "\n")
		l := line{text: text}
		if f := strings.Split(text, ":"); len(f) == fields && f[0] != "" && !strings.ContainsAny(f[0][:1], "#+-") {
			l.entry = f
		}
		t.lines = append(t.lines, l)
	}
	return t
}

// bytes is the file as it is to be.
func (t *table) bytes() []byte {
	var b bytes.Buffer
	for _, l := range t.lines {
		text := l.text
		if l.entry != nil {
			text = strings.Join(l.entry, ":")
		}
		b.WriteString(text + "\n")
	}
	return b.Bytes()
}

func (t *table) find(name string) []string {
	for _, l := range t.lines {
		if l.entry != nil && l.entry[0] == name {
			return l.entry
		}
	}
	return nil
}

// byNumber finds the entry of a uid or gid.
func (t *table) byNumber(n int) []string {
	for _, l := range t.lines {
		if l.entry != nil && l.entry[2] == strconv.Itoa(n) {
			return l.entry
		}
	}
	return nil
}

// free is the first number from firstID that neither table uses: a user and his group have the same where they can.
func (t *table) free(other *table) int {
	for n := firstID; ; n++ {
		if t.byNumber(n) == nil && other.byNumber(n) == nil {
			return n
		}
	}
}

func (t *table) add(entry []string) {
	t.lines = append(t.lines, line{entry: entry})
	t.dirty = true
}

func (db *database) tables() []*table { return []*table{db.group, db.shadow, db.passwd} }

func (db *database) changed() bool {
	return slices.ContainsFunc(db.tables(), func(t *table) bool { return t.dirty })
}

// same tells whether both were read from the same files.
func (db *database) same(other *database) bool {
	mine, others := db.tables(), other.tables()
	for i := range mine {
		if !bytes.Equal(mine[i].read, others[i].read) {
			return false
		}
	}
	return true
}

// write writes what was changed, the user last: nobody finds one without a group.
func (db *database) write() error {
	for _, t := range db.tables() {
		if !t.dirty {
			continue
		}
		if err := replace(t.path, t.bytes(), t.mode); err != nil {
			hint := ""
			if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
				hint = "; making users needs root and an /etc that can be written"
			}
			return fmt.Errorf("cannot write %s: %w%s", t.path, bare(err), hint)
		}
	}
	return nil
}

// replace writes a file anew and renames it into place, with mode and owner of the one it replaces. Where that is mounted
// on its own (Docker and OpenShift do so) it cannot be replaced, and is written to.
func replace(path string, b []byte, mode os.FileMode) error {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	uid, gid := -1, -1
	if st, err := os.Stat(path); err == nil {
		mode = st.Mode().Perm()
		uid, gid = owner(path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".inpod-*")
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		if overwrite(path, b, mode) == nil { // the file may be mounted writable where the directory is not
			return nil
		}
	}
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	err = errors.Join(err, f.Chmod(mode))
	if uid >= 0 && uid != os.Geteuid() || gid >= 0 && gid != os.Getegid() {
		if chown := f.Chown(uid, gid); errors.Is(chown, fs.ErrPermission) && err == nil {
			// Root without the right to change owners can still write to what is there.
			return errors.Join(f.Close(), overwrite(path, b, mode))
		} else if chown != nil {
			err = errors.Join(err, chown)
		}
	}
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	err = os.Rename(f.Name(), path)
	if errors.Is(err, syscall.EBUSY) {
		err = overwrite(path, b, mode)
	}
	return err
}

// overwrite writes to the file that is there. It is not touched before the disk has room for all of it.
func overwrite(path string, b []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, mode)
	if err != nil {
		return err
	}
	defer f.Close()
	err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, int64(max(len(b), 1)))
	if err == unix.ENOSPC || err == unix.EDQUOT || err == unix.EFBIG { // others: a file system that cannot do it
		return &fs.PathError{Op: "write", Path: path, Err: err}
	}
	if _, err := f.Write(b); err != nil {
		return err
	}
	return errors.Join(f.Truncate(int64(len(b))), f.Sync())
}

// lock takes the lock that useradd, passwd and the others take (lckpwdf(3)).
func (m *Maker) lock(ctx context.Context) (unlock func(), err error) {
	path := m.path("/etc/.pwd.lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
			// The files themselves may be writable, where they are mounted on their own.
			return func() {}, nil
		}
		return nil, fmt.Errorf("cannot lock the users: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	lk := unix.Flock_t{Type: unix.F_WRLCK}
	for {
		err := unix.FcntlFlock(f.Fd(), unix.F_SETLK, &lk)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if err != unix.EAGAIN && err != unix.EACCES && err != unix.EINTR {
			return func() { _ = f.Close() }, nil // a file system without locks
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			_ = f.Close()
			return nil, errors.New("cannot lock the users: somebody has held /etc/.pwd.lock for too long")
		}
	}
}

func owner(path string) (uid, gid int) {
	st, err := os.Stat(path)
	if err != nil {
		return -1, -1
	}
	sys := st.Sys().(*syscall.Stat_t)
	return int(sys.Uid), int(sys.Gid)
}

// daysNow is the date as /etc/shadow has it.
func daysNow() int { return int(time.Now().Unix() / (24 * 60 * 60)) }

func bare(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	var le *os.LinkError
	if errors.As(err, &le) {
		return le.Err
	}
	return err
}
