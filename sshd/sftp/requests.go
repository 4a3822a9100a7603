package sftp

import (
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/inpod/inpod/sshd/files"
)

// others answers what is not asked for in a stream.
func (s *session) others(kind byte, id uint32, q *parser) error {
	switch kind {
	case typeOpen:
		return s.openFile(id, q)
	case typeOpendir:
		return s.openDir(id, q)
	case typeReaddir:
		return s.readDir(id, q)
	case typeStat, typeLstat:
		return s.stat(id, q, kind == typeStat)
	case typeFstat:
		return s.fstat(id, q)
	case typeRealpath:
		return s.realpath(id, q)
	case typeReadlink:
		return s.readlink(id, q)
	case typeExtended:
		return s.extended(id, q)
	}
	return s.status(id, s.change(kind, q))
}

// change answers what has no other answer than a status.
func (s *session) change(kind byte, q *parser) error {
	switch kind {
	case typeClose:
		return s.close(q)
	case typeSetstat:
		p, a := q.string(), q.attrs()
		if q.err != nil {
			return q.err
		}
		return s.setstat(p, a, true)
	case typeFsetstat:
		f, err := s.file(q)
		a := q.attrs()
		if q.err != nil || err != nil {
			return first(q.err, err)
		}
		return fsetstat(f, a)
	case typeMkdir:
		p, a := q.string(), q.attrs()
		if q.err != nil {
			return q.err
		}
		mode := uint32(0o777)
		if a.flags&attrMode != 0 {
			mode = a.mode
		}
		return s.tree.Mkdir(p, mode)
	}
	// What is left has one name, or two.
	a := q.string()
	if q.err != nil {
		return q.err
	}
	switch kind {
	case typeRemove:
		return s.tree.Remove(a)
	case typeRmdir:
		return s.tree.Rmdir(a)
	}
	b := q.string()
	if q.err != nil {
		return q.err
	}
	switch kind {
	case typeRename:
		return s.tree.Rename(a, b, false)
	case typeSymlink:
		return s.tree.Symlink(a, b) // target first: OpenSSH's order, not the draft's, and everybody's since
	}
	return errUnsupported
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func openFlags(pflags uint32) int {
	flag := os.O_RDONLY
	switch pflags & (flagRead | flagWrite) {
	case flagWrite:
		flag = os.O_WRONLY
	case flagRead | flagWrite:
		flag = os.O_RDWR
	}
	for _, f := range []struct {
		bit  uint32
		flag int
	}{{flagAppend, os.O_APPEND}, {flagCreate, os.O_CREATE}, {flagTrunc, os.O_TRUNC}, {flagExcl, os.O_EXCL}} {
		if pflags&f.bit != 0 {
			flag |= f.flag
		}
	}
	return flag
}

func (s *session) openFile(id uint32, q *parser) error {
	p, pflags, a := q.string(), q.uint32(), q.attrs()
	switch {
	case q.err != nil:
		return s.status(id, q.err)
	case s.open >= maxHandles:
		return s.status(id, errTooMany)
	}
	mode := uint32(0o666)
	if a.flags&attrMode != 0 {
		mode = a.mode
	}
	f, err := s.tree.OpenFile(p, openFlags(pflags), mode)
	if err != nil {
		return s.status(id, err)
	}
	return s.handleReply(id, s.newHandle(f, nil))
}

func (s *session) handleReply(id, handle uint32) error {
	at := s.begin(typeHandle, id)
	s.out = appendUint32(appendUint32(s.out, 4), handle)
	return s.end(at)
}

func (s *session) attrsReply(id uint32, a attrs) error {
	at := s.begin(typeAttrs, id)
	s.out = appendAttrs(s.out, a)
	return s.end(at)
}

func (s *session) stat(id uint32, q *parser, follow bool) error {
	p := q.string()
	if q.err != nil {
		return s.status(id, q.err)
	}
	look := s.tree.Lstat
	if follow {
		look = s.tree.Stat
	}
	st, err := look(p)
	if err != nil {
		return s.status(id, err)
	}
	return s.attrsReply(id, attrsOf(st))
}

func (s *session) fstat(id uint32, q *parser) error {
	h, _ := s.handle(q)
	if q.err != nil || h == nil {
		return s.status(id, first(q.err, errHandle))
	}
	f := (*os.File)(nil)
	if h.dir != nil {
		f = h.dir.File
	} else {
		f = h.file.File
	}
	st, err := f.Stat()
	if err != nil {
		return s.status(id, err)
	}
	return s.attrsReply(id, attrsOf(st))
}

// attrsOf is what is said of a file.
func attrsOf(st fs.FileInfo) attrs {
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return attrs{}
	}
	return attrs{
		flags: attrSize | attrOwner | attrMode | attrTimes,
		size:  uint64(sys.Size), uid: sys.Uid, gid: sys.Gid, mode: sys.Mode,
		atime: uint32(sys.Atim.Sec), mtime: uint32(sys.Mtim.Sec),
	}
}

func (a attrs) times() (atime, mtime time.Time) {
	return time.Unix(int64(a.atime), 0), time.Unix(int64(a.mtime), 0)
}

// setstat changes what is given, in OpenSSH's order, and goes on after a fault; the last one is told.
func (s *session) setstat(p string, a attrs, follow bool) (err error) {
	t := s.tree
	if !t.May(files.WriteOnly) {
		return &fs.PathError{Op: "change", Path: p, Err: syscall.EACCES}
	}
	note := func(e error) {
		if e != nil {
			err = e
		}
	}
	if a.flags&attrSize != 0 {
		if follow {
			note(t.Truncate(p, int64(min(a.size, 1<<63-1))))
		} else {
			note(&fs.PathError{Op: "truncate", Path: p, Err: syscall.EINVAL})
		}
	}
	if a.flags&attrMode != 0 {
		note(t.Chmod(p, a.mode&0o7777, follow))
	}
	if a.flags&attrTimes != 0 {
		atime, mtime := a.times()
		note(t.Chtimes(p, atime, mtime, follow))
	}
	if a.flags&attrOwner != 0 {
		note(t.Chown(p, int(a.uid), int(a.gid), follow))
	}
	return err
}

func fsetstat(f *files.File, a attrs) (err error) {
	note := func(e error) {
		if e != nil {
			err = e
		}
	}
	if a.flags&attrSize != 0 {
		note(f.Truncate(int64(min(a.size, 1<<63-1))))
	}
	if a.flags&attrMode != 0 {
		note(f.Chmod(a.mode & 0o7777))
	}
	if a.flags&attrTimes != 0 {
		note(f.Chtimes(a.times()))
	}
	if a.flags&attrOwner != 0 {
		note(f.Chown(int(a.uid), int(a.gid)))
	}
	return err
}

func (s *session) realpath(id uint32, q *parser) error {
	p := q.string()
	if q.err != nil {
		return s.status(id, q.err)
	}
	real, err := s.tree.Real(p)
	if err != nil {
		return s.status(id, err)
	}
	return s.nameReply(id, real)
}

func (s *session) readlink(id uint32, q *parser) error {
	p := q.string()
	if q.err != nil {
		return s.status(id, q.err)
	}
	target, err := s.tree.Readlink(p)
	if err != nil {
		return s.status(id, err)
	}
	return s.nameReply(id, target)
}

// nameReply is a list of one name without attributes.
func (s *session) nameReply(id uint32, name string) error {
	at := s.begin(typeName, id)
	s.out = appendUint32(s.out, 1)
	s.out = appendString(appendString(s.out, name), name)
	s.out = appendAttrs(s.out, attrs{})
	return s.end(at)
}
