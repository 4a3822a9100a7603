// Package sftp serves version 3 of the SSH file transfer protocol (draft-ietf-secsh-filexfer-02) with the extensions
// that OpenSSH lists in its file PROTOCOL, on any stream.
//
// Enter at Serve. Requests are answered one after the other, in their order: an upload that is cut leaves a file
// without holes, which can be resumed. What a session may do is said by package files; nothing here opens a file by
// itself.
//
// It is our own loop because it costs less than that of github.com/pkg/sftp, which is measured in bench/: data is read
// from the file to behind its header and written from where the packet lies, replies to requests that came together
// leave together, and nobody else has to be woken for a request.
package sftp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime/debug"

	"github.com/inpod/inpod/sshd/files"
)

// Options say what a session may do; the zero value may do nothing.
type Options = files.Options

// Serve answers requests until the client ends the stream, which is no error, or ctx is done. Then rw is closed; open
// files are closed in any case, those being written with what has arrived.
func Serve(ctx context.Context, rw io.ReadWriteCloser, opts Options) error {
	stop := context.AfterFunc(ctx, func() { _ = rw.Close() })
	defer stop()
	err := opts.Identity.Run(func() error { return serve(rw, opts, func() bool { return ctx.Err() != nil }) })
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func serve(rw io.ReadWriter, opts Options, stopped func() bool) (err error) {
	tree, err := files.Open(opts)
	if err != nil {
		return err
	}
	defer tree.Close()
	s := &session{rw: rw, tree: tree, stopped: stopped}
	defer s.closeAll(files.ErrCut)
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("BUG: SFTP session: %v\n%s", r, debug.Stack())
		}
	}()
	return s.loop()
}

// The buffers begin small, most sessions need no more, and grow to the largest packet.
const (
	smallBuffer = 34 << 10
	largeBuffer = maxPacket + 4
)

// session is one client. All of it belongs to the goroutine of loop.
type session struct {
	rw      io.ReadWriter
	tree    *files.Tree
	stopped func() bool // asked where one request takes long

	in   []byte // read but not yet answered is in[r:w]
	r, w int
	out  []byte // replies that wait for company

	slots  []slot
	free   []uint32
	open   int
	names  names
	inited bool
}

func (s *session) loop() error {
	s.in, s.out = make([]byte, smallBuffer), make([]byte, 0, smallBuffer)
	for {
		p, err := s.packet()
		if err != nil {
			if err == io.EOF { //nolint:errorlint // ours, bare
				return nil
			}
			return err
		}
		if err := s.answer(p); err != nil {
			return err
		}
	}
}

// packet returns the next one without its length. It is valid until the next call. Before it waits, what is to be
// said is said.
func (s *session) packet() ([]byte, error) {
	for {
		have := s.w - s.r
		want := 4
		if have >= 4 {
			n := binary.BigEndian.Uint32(s.in[s.r:])
			if n == 0 || n > maxPacket {
				return nil, fmt.Errorf("cannot read a packet of %d bytes", n)
			}
			want = 4 + int(n)
			if have >= want {
				p := s.in[s.r+4 : s.r+want]
				s.r += want
				return p, nil
			}
		}
		if err := s.flush(); err != nil {
			return nil, err
		}
		if err := s.fill(have, want); err != nil {
			return nil, err
		}
	}
}

// fill reads more behind what there is of a packet.
func (s *session) fill(have, want int) error {
	if want > len(s.in) {
		big := make([]byte, largeBuffer)
		copy(big, s.in[s.r:s.w])
		s.in, s.r, s.w = big, 0, have
	}
	if s.r > 0 {
		copy(s.in, s.in[s.r:s.w])
		s.r, s.w = 0, have
	}
	room := s.in[s.w:]
	if want > smallBuffer {
		room = s.in[s.w:want] // the next packet is to begin where the buffer does: then it need not be moved
	}
	n, err := s.rw.Read(room)
	s.w += n
	switch {
	case n > 0:
		return nil
	case errors.Is(err, io.EOF) && have > 0:
		return io.ErrUnexpectedEOF
	case errors.Is(err, io.EOF):
		return io.EOF
	case err == nil:
		return io.ErrNoProgress
	}
	return err
}

func (s *session) flush() error {
	if len(s.out) == 0 {
		return nil
	}
	_, err := s.rw.Write(s.out)
	s.out = s.out[:0]
	return err
}

// begin starts a reply and returns where; end completes it.
func (s *session) begin(kind byte, id uint32) int {
	at := len(s.out)
	s.out = append(s.out, 0, 0, 0, 0, kind)
	s.out = appendUint32(s.out, id)
	return at
}

func (s *session) end(at int) error {
	binary.BigEndian.PutUint32(s.out[at:], uint32(len(s.out)-at-4))
	if len(s.out) >= smallBuffer-(2<<10) {
		return s.flush()
	}
	return nil
}

// status answers with how a request went.
func (s *session) status(id uint32, err error) error {
	code, text := status(err)
	at := s.begin(typeStatus, id)
	s.out = appendUint32(s.out, code)
	s.out = appendString(s.out, text)
	s.out = appendString(s.out, "") // the language
	return s.end(at)
}

// answer answers one request. Its error ends the session; a request's own failure is a status.
func (s *session) answer(p []byte) error {
	kind := p[0]
	q := parser{b: p[1:]}
	if kind == typeInit {
		return s.hello(&q)
	}
	if !s.inited {
		return fmt.Errorf("cannot serve a request before the version: packet type %d", kind)
	}
	id := q.uint32()
	if q.err != nil {
		return fmt.Errorf("cannot read a request: %w", q.err)
	}
	switch kind {
	case typeRead:
		return s.read(id, &q)
	case typeWrite:
		return s.status(id, s.write(&q))
	}
	return s.others(kind, id, &q)
}

func (s *session) hello(q *parser) error {
	if version := q.uint32(); q.err != nil || version < protocolVersion {
		// Versions 1 and 2 are those of clients of the last century.
		return fmt.Errorf("cannot speak version %d of the protocol", version)
	}
	s.inited = true
	at := len(s.out)
	s.out = append(s.out, 0, 0, 0, 0, typeVersion)
	s.out = appendUint32(s.out, protocolVersion)
	for _, e := range extensions() {
		s.out = appendString(appendString(s.out, e.name), e.version)
	}
	return s.end(at)
}
