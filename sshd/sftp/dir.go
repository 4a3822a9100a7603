package sftp

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/inpod/inpod/sshd/files"
	"golang.org/x/sys/unix"
)

// listing is an open directory. "." and ".." come first, as OpenSSH has them.
type listing struct {
	*files.Dir
	ahead []string // names that were read but not yet sent
	done  bool
}

const (
	listBatch = 256      // names that are read at a time
	listBytes = 30 << 10 // of a reply; every client takes 34,000
)

func (s *session) openDir(id uint32, q *parser) error {
	p := q.string()
	switch {
	case q.err != nil:
		return s.status(id, q.err)
	case s.open >= maxHandles:
		return s.status(id, errTooMany)
	}
	d, err := s.tree.OpenDir(p)
	if err != nil {
		return s.status(id, err)
	}
	return s.handleReply(id, s.newHandle(nil, &listing{Dir: d, ahead: []string{".", ".."}}))
}

func (s *session) readDir(id uint32, q *parser) error {
	h, _ := s.handle(q)
	if q.err != nil || h == nil || h.dir == nil {
		return s.status(id, first(q.err, errHandle))
	}
	at := s.begin(typeName, id)
	s.out = appendUint32(s.out, 0)
	n, err := s.list(h.dir, at+listBytes)
	if n == 0 {
		s.out = s.out[:at]
		return s.status(id, first(err, io.EOF))
	}
	copy(s.out[at+9:], appendUint32(nil, n))
	return s.end(at)
}

// list appends entries until the reply is full. A name that is gone when it is looked at is left out.
func (s *session) list(d *listing, full int) (n uint32, err error) {
	now := time.Now()
	for len(s.out) < full {
		if len(d.ahead) == 0 {
			if d.done {
				return n, nil
			}
			if d.ahead, err = d.Readdirnames(listBatch); err != nil {
				d.done = errors.Is(err, io.EOF)
				if d.done {
					err = nil
				}
				return n, err
			}
		}
		name := d.ahead[0]
		d.ahead = d.ahead[1:]
		st, err := d.Lstat(name)
		if err != nil {
			continue
		}
		s.out = appendString(s.out, name)
		s.out = s.appendLong(s.out, name, &st, now)
		s.out = appendAttrs(s.out, attrs{
			flags: attrSize | attrOwner | attrMode | attrTimes,
			size:  uint64(st.Size), uid: st.Uid, gid: st.Gid, mode: st.Mode, atime: uint32(st.Atim.Sec), mtime: uint32(st.Mtim.Sec),
		})
		n++
	}
	return n, nil
}

// appendLong appends the line of `ls -l` as OpenSSH's server makes it; some clients read it for want of better.
func (s *session) appendLong(b []byte, name string, st *unix.Stat_t, now time.Time) []byte {
	at := len(b)
	b = append(b, 0, 0, 0, 0)
	when := time.Unix(st.Mtim.Sec, 0)
	layout := "Jan _2 15:04"
	// The same half year as ls(1): what is older, or of the future, has its year.
	if age := now.Sub(when); age < 0 || age > (365*24*time.Hour)/2 {
		layout = "Jan _2  2006"
	}
	b = append(b, modeString(st.Mode)...)
	b = append(b, "    ? "...)
	b = pad(b, s.names.user(st.Uid))
	b = pad(b, s.names.group(st.Gid))
	b = fmt.Appendf(b, "%8d ", st.Size)
	b = when.AppendFormat(b, layout)
	b = append(append(b, ' '), name...)
	copy(b[at:], appendUint32(nil, uint32(len(b)-at-4)))
	return b
}

func pad(b []byte, s string) []byte {
	b = append(b, s...)
	for n := len(s); n < 8; n++ {
		b = append(b, ' ')
	}
	return append(b, ' ')
}

func modeString(mode uint32) string {
	m := []byte("?rwxrwxrwx")
	m[0] = map[uint32]byte{
		unix.S_IFDIR: 'd', unix.S_IFREG: '-', unix.S_IFLNK: 'l', unix.S_IFCHR: 'c', unix.S_IFBLK: 'b',
		unix.S_IFIFO: 'p', unix.S_IFSOCK: 's',
	}[mode&unix.S_IFMT]
	if m[0] == 0 {
		m[0] = '?'
	}
	for i := range 9 {
		if mode&(1<<(8-i)) == 0 {
			m[i+1] = '-'
		}
	}
	special := func(at int, bit uint32, lower, upper byte) {
		if mode&bit == 0 {
			return
		}
		if m[at] == 'x' {
			m[at] = lower
		} else {
			m[at] = upper
		}
	}
	special(3, unix.S_ISUID, 's', 'S')
	special(6, unix.S_ISGID, 's', 'S')
	special(9, unix.S_ISVTX, 't', 'T')
	return string(m)
}

// names are the users and groups of the container, read when they are first asked for.
type names struct {
	users, groups map[uint32]string
}

func (n *names) user(id uint32) string {
	if n.users == nil {
		n.users = readNames("/etc/passwd")
	}
	return nameOr(n.users, id)
}

func (n *names) group(id uint32) string {
	if n.groups == nil {
		n.groups = readNames("/etc/group")
	}
	return nameOr(n.groups, id)
}

func nameOr(m map[uint32]string, id uint32) string {
	if name, ok := m[id]; ok {
		return name
	}
	return strconv.FormatUint(uint64(id), 10)
}

// readNames reads passwd(5) or group(5), of which the first and third fields are wanted. Without a file nobody has a
// name.
func readNames(file string) map[uint32]string {
	m := map[uint32]string{}
	f, err := os.Open(file)
	if err != nil {
		return m
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.SplitN(lines.Text(), ":", 4)
		if len(fields) < 4 {
			continue
		}
		id, err := strconv.ParseUint(fields[2], 10, 32)
		if _, known := m[uint32(id)]; err == nil && !known {
			m[uint32(id)] = fields[0]
		}
	}
	return m
}
