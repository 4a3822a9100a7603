package sftp

import (
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"github.com/inpod/inpod/sshd/files"
)

// extension is one of OpenSSH's, described in its file PROTOCOL.
type extension struct {
	name, version string
	answer        func(*session, uint32, *parser) error
}

func extensions() []extension {
	return []extension{
		{"posix-rename@openssh.com", "1", (*session).posixRename},
		{"statvfs@openssh.com", "2", (*session).statvfs},
		{"fstatvfs@openssh.com", "2", (*session).fstatvfs},
		{"hardlink@openssh.com", "1", (*session).hardlink},
		{"fsync@openssh.com", "1", (*session).fsync},
		{"lsetstat@openssh.com", "1", (*session).lsetstat},
		{"limits@openssh.com", "1", (*session).limits},
		{"expand-path@openssh.com", "1", (*session).expandPath},
		{"copy-data", "1", (*session).copyData},
		{"home-directory", "1", (*session).homeDirectory},
		{"users-groups-by-id@openssh.com", "1", (*session).usersGroups},
	}
}

func (s *session) extended(id uint32, q *parser) error {
	name := q.string()
	if q.err != nil {
		return s.status(id, q.err)
	}
	for _, e := range extensions() {
		if e.name == name {
			return e.answer(s, id, q)
		}
	}
	return s.status(id, errUnsupported)
}

func (s *session) posixRename(id uint32, q *parser) error {
	from, to := q.string(), q.string()
	if q.err != nil {
		return s.status(id, q.err)
	}
	return s.status(id, s.tree.Rename(from, to, true))
}

func (s *session) hardlink(id uint32, q *parser) error {
	from, to := q.string(), q.string()
	if q.err != nil {
		return s.status(id, q.err)
	}
	return s.status(id, s.tree.Link(from, to))
}

func (s *session) fsync(id uint32, q *parser) error {
	f, err := s.file(q)
	if err == nil && !s.tree.May(files.WriteOnly) {
		err = &fs.PathError{Op: "sync", Path: f.Path, Err: syscall.EACCES}
	}
	if err == nil {
		err = f.Sync()
	}
	return s.status(id, err)
}

func (s *session) lsetstat(id uint32, q *parser) error {
	p, a := q.string(), q.attrs()
	if q.err != nil {
		return s.status(id, q.err)
	}
	return s.status(id, s.setstat(p, a, false))
}

func (s *session) limits(id uint32, _ *parser) error {
	at := s.begin(typeExtendedReply, id)
	for _, v := range []uint64{maxPacket, maxData, maxData, maxHandles} {
		s.out = appendUint64(s.out, v)
	}
	return s.end(at)
}

func (s *session) statvfs(id uint32, q *parser) error {
	p := q.string()
	if q.err != nil {
		return s.status(id, q.err)
	}
	sp, err := s.tree.Space(p)
	return s.space(id, sp, err)
}

func (s *session) fstatvfs(id uint32, q *parser) error {
	f, err := s.file(q)
	if err != nil {
		return s.status(id, err)
	}
	sp, err := f.Space()
	return s.space(id, sp, err)
}

func (s *session) space(id uint32, sp files.Space, err error) error {
	if err != nil {
		return s.status(id, err)
	}
	at := s.begin(typeExtendedReply, id)
	for _, v := range []uint64{
		sp.Bsize, sp.Frsize, sp.Blocks, sp.Bfree, sp.Bavail, sp.Files, sp.Ffree, sp.Favail, sp.Fsid, sp.Flag, sp.Namemax,
	} {
		s.out = appendUint64(s.out, v)
	}
	return s.end(at)
}

// expandPath is REALPATH that knows the tilde.
func (s *session) expandPath(id uint32, q *parser) error {
	p := q.string()
	if q.err != nil {
		return s.status(id, q.err)
	}
	if p == "~" || strings.HasPrefix(p, "~/") {
		p = path.Join(s.tree.Abs("."), p[1:])
	} else if strings.HasPrefix(p, "~") {
		return s.status(id, &fs.PathError{Op: "expand", Path: p, Err: syscall.ENOENT})
	}
	real, err := s.tree.Real(p)
	if err != nil {
		return s.status(id, err)
	}
	return s.nameReply(id, real)
}

// homeDirectory knows one user: who asks.
func (s *session) homeDirectory(id uint32, q *parser) error {
	q.bytes()
	if q.err != nil {
		return s.status(id, q.err)
	}
	return s.nameReply(id, s.tree.Abs("."))
}

// usersGroups turns identifiers into names; those without one are empty.
func (s *session) usersGroups(id uint32, q *parser) error {
	uids, gids := parser{b: q.bytes()}, parser{b: q.bytes()}
	if q.err != nil {
		return s.status(id, q.err)
	}
	_, _ = s.names.user(0), s.names.group(0) // read them
	at := s.begin(typeExtendedReply, id)
	for _, list := range []struct {
		ids   parser
		names map[uint32]string
	}{{uids, s.names.users}, {gids, s.names.groups}} {
		start := len(s.out)
		s.out = appendUint32(s.out, 0)
		for len(list.ids.b) > 0 && list.ids.err == nil {
			if v := list.ids.uint32(); list.ids.err == nil && len(s.out)-at < maxPacket/2 {
				s.out = appendString(s.out, list.names[v])
			}
		}
		copy(s.out[start:], appendUint32(nil, uint32(len(s.out)-start-4)))
	}
	return s.end(at)
}

// copyData copies from one open file into another without the client. A length of 0 is all there is.
func (s *session) copyData(id uint32, q *parser) error {
	from, err1 := s.file(q)
	off, n := q.uint64(), q.uint64()
	to, err2 := s.file(q)
	at := q.uint64()
	if err := first(q.err, err1, err2); err != nil {
		return s.status(id, err)
	}
	const most = 1<<63 - 1
	if off > most || n > most || at > most || sameFile(from, to) {
		return s.status(id, &fs.PathError{Op: "copy", Path: from.Path, Err: syscall.EINVAL})
	}
	buf := make([]byte, maxData)
	for left := n; n == 0 || left > 0; {
		if s.stopped() {
			return s.status(id, files.ErrCut)
		}
		part := buf
		if n != 0 {
			part = buf[:min(uint64(len(buf)), left)]
		}
		got, err := from.ReadAt(part, int64(off))
		if got > 0 {
			if _, err := to.WriteAt(part[:got], int64(at)); err != nil {
				return s.status(id, err)
			}
			off, at, left = off+uint64(got), at+uint64(got), left-uint64(got)
		}
		if err == io.EOF { //nolint:errorlint // a file's end is returned bare
			break
		}
		if err != nil {
			return s.status(id, err)
		}
	}
	return s.status(id, nil)
}

// sameFile tells whether two handles are one file: a copy of it to its own end would never come to one.
func sameFile(a, b *files.File) bool {
	x, err1 := a.Stat()
	y, err2 := b.Stat()
	return err1 != nil || err2 != nil || os.SameFile(x, y)
}
