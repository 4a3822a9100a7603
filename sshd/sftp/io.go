package sftp

import (
	"io"
	"slices"

	"github.com/inpod/inpod/sshd/files"
)

// slot is a place for a handle. The generation tells a handle from one that was there before.
type slot struct {
	generation uint16
	file       *files.File
	dir        *listing
}

func (s *session) newHandle(file *files.File, dir *listing) uint32 {
	var i uint32
	if n := len(s.free); n > 0 {
		i, s.free = s.free[n-1], s.free[:n-1]
	} else {
		i = uint32(len(s.slots))
		s.slots = append(s.slots, slot{})
	}
	s.open++
	s.slots[i].file, s.slots[i].dir = file, dir
	return uint32(s.slots[i].generation)<<16 | i
}

// handle finds what a request is about; nil when there is no such handle.
func (s *session) handle(q *parser) (h *slot, index uint32) {
	hq := parser{b: q.bytes()}
	v := hq.uint32()
	if i := v & 0xffff; hq.err == nil && len(hq.b) == 0 && i < uint32(len(s.slots)) {
		if h := &s.slots[i]; uint32(h.generation) == v>>16 && (h.file != nil || h.dir != nil) {
			return h, i
		}
	}
	return nil, 0
}

// file is the handle of an open file.
func (s *session) file(q *parser) (*files.File, error) {
	h, _ := s.handle(q)
	switch {
	case q.err != nil:
		return nil, q.err
	case h == nil || h.file == nil:
		return nil, errHandle
	}
	return h.file, nil
}

func (s *session) close(q *parser) error {
	h, i := s.handle(q)
	if q.err != nil {
		return q.err
	}
	if h == nil {
		return errHandle
	}
	file, dir := h.file, h.dir
	*h = slot{generation: h.generation + 1}
	s.free = append(s.free, i)
	s.open--
	if dir != nil {
		return dir.Close()
	}
	return file.Close()
}

func (s *session) closeAll(why error) {
	for i := range s.slots {
		if f := s.slots[i].file; f != nil {
			f.Abandon(why)
		}
		if d := s.slots[i].dir; d != nil {
			_ = d.Close() // only read
		}
		s.slots[i] = slot{}
	}
}

const dataHeader = 4 + 1 + 4 + 4

// read puts the file's bytes where the reply needs them and sends them at once: the next ones can be read while
// these are on their way.
func (s *session) read(id uint32, q *parser) error {
	f, err := s.file(q)
	off, n := q.uint64(), q.uint32()
	switch {
	case q.err != nil:
		return s.status(id, q.err)
	case err != nil:
		return s.status(id, err)
	case off > 1<<63-1:
		return s.status(id, io.EOF)
	}
	n = min(n, maxData)
	if room := dataHeader + int(n); cap(s.out)-len(s.out) < room {
		if err := s.flush(); err != nil {
			return err
		}
		if cap(s.out) < room {
			s.out = make([]byte, 0, largeBuffer)
		}
	}
	at := s.begin(typeData, id)
	s.out = slices.Grow(s.out, 4+int(n))
	body := len(s.out) + 4
	got, err := f.ReadAt(s.out[body:body+int(n)], int64(off))
	if got == 0 && err != nil {
		s.out = s.out[:at]
		return s.status(id, err)
	}
	s.out = appendUint32(s.out, uint32(got))
	s.out = s.out[:body+got]
	return s.end(at)
}

func (s *session) write(q *parser) error {
	f, err := s.file(q)
	off, data := q.uint64(), q.bytes()
	switch {
	case q.err != nil:
		return q.err
	case err != nil:
		return err
	case off > 1<<63-1-maxPacket:
		return errShort
	}
	_, err = f.WriteAt(data, int64(off))
	return err
}
