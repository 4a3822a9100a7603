package http1

import "strconv"

const (
	maxExtension = 1 << 10 // of one chunk
	maxExcess    = 8 << 10 // of a body's framing over its data
	maxTrailer   = 8 << 10
	keepTrailer  = 1 << 10 // of a trailer's memory, for the next body
)

// Body finds the end of a message's body and takes its framing away. The zero value is a body that is not there.
type Body struct {
	state   state
	left    int64 // of the body (Length) or of the chunk
	digits  int   // of the chunk size
	ext     int   // bytes of the chunk extension
	excess  int64
	trailer []byte
	line    int // where the trailer's last line begins
	read    int // bytes of the trailer, also of lines that are dropped
}

type state uint8

const (
	done state = iota
	inLength
	untilClose
	chunkSize
	chunkExt
	chunkSizeLF // the LF of the line with the size
	chunkData
	chunkCR // the CR LF behind the data
	chunkLF
	inTrailer
)

// Begin starts a body.
func (b *Body) Begin(f Framing, length int64) {
	if cap(b.trailer) > keepTrailer {
		b.trailer = nil
	}
	*b = Body{trailer: b.trailer[:0]}
	switch f {
	case Length:
		b.left = length
		if length > 0 {
			b.state = inLength
		}
	case Chunked:
		b.state = chunkSize
	case UntilClose:
		b.state = untilClose
	}
}

// Done tells that the body has ended.
func (b *Body) Done() bool { return b.state == done }

// Remaining returns how many bytes of the connection still belong to the body; -1 when that is not known.
func (b *Body) Remaining() int64 {
	switch b.state {
	case done:
		return 0
	case inLength:
		return b.left
	}
	return -1
}

// EOF tells the body that the connection has ended: nil when that is its proper end.
func (b *Body) EOF() error {
	if b.state == untilClose {
		b.state = done
	}
	if b.state != done {
		return errBodyEnd
	}
	return nil
}

// Trailer returns the trailer's lines, each with its CR LF, without the empty one and without those that must not be
// in a trailer. It is complete when Done, and valid until Begin.
func (b *Body) Trailer() []byte { return b.trailer }

// Decode returns the next piece of data in src and how many bytes of src are done with: the data and the framing
// before and behind it. It is called again with the rest until all is used or Done: without data, what src held was
// framing only, or lies behind the body. data is a part of src. Errors are *Error.
func (b *Body) Decode(src []byte) (data []byte, used int, err error) {
	if len(src) == 0 {
		return nil, 0, nil
	}
	switch b.state {
	case inLength:
		n := len(src)
		if int64(n) >= b.left {
			n = int(b.left)
			b.state = done
		}
		b.left -= int64(n)
		return src[:n:n], n, nil
	case untilClose:
		return src, len(src), nil
	}
	used, e := b.framing(src)
	if e != nil {
		return nil, used, e
	}
	if b.state != chunkData || used == len(src) {
		return nil, used, nil
	}
	n := len(src) - used
	if int64(n) >= b.left {
		n = int(b.left)
		b.state = chunkCR
	}
	b.left -= int64(n)
	data = src[used : used+n : used+n]
	used += n
	// What is wrong behind the data stays in src, where the next call finds it.
	n, _ = b.framing(src[used:])
	return data, used + n, nil
}

// framing reads what is not data: up to the next data, the end of the body or of src, or what is wrong.
func (b *Body) framing(src []byte) (used int, err *Error) {
	for i := 0; i < len(src); i++ {
		c := src[i]
		switch b.state {
		case done, chunkData:
			return i, nil
		case chunkSize:
			err = b.size(c)
		case chunkExt:
			err = b.extension(c)
		case chunkSizeLF:
			err = b.sizeLine(c)
		case chunkCR:
			if c != '\r' {
				return i, errChunkEnd
			}
			b.state = chunkLF
		case chunkLF:
			if c != '\n' {
				return i, errChunkEnd
			}
			b.state = chunkSize
			b.digits, b.ext = 0, 0
		case inTrailer:
			err = b.trailing(c)
		}
		if err != nil {
			return i, err
		}
	}
	return len(src), nil
}

func (b *Body) size(c byte) *Error {
	switch {
	case class[c]&hexDigit != 0:
		d := int64(fold(c)) - '0'
		if d > 9 {
			d -= 'a' - '0' - 10
		}
		if b.digits == 16 || b.left >= 1<<56 { // 15 digits, and a zero before them
			return errChunkSize
		}
		b.digits++
		b.left = b.left<<4 | d
	case b.digits == 0:
		return errChunkSize
	case c == '\r':
		b.state = chunkSizeLF
	case c == ';':
		b.state = chunkExt
		b.ext = 1
	default:
		return errChunkSize
	}
	return nil
}

// extension drops a chunk extension (RFC 9112 section 7.1.1): nobody uses them but who hides something in them.
func (b *Body) extension(c byte) *Error {
	if c == '\r' {
		b.state = chunkSizeLF
		return nil
	}
	if c < 0x20 || c == 0x7f || b.ext == maxExtension {
		return errChunkExt
	}
	b.ext++
	return nil
}

func (b *Body) sizeLine(c byte) *Error {
	if c != '\n' {
		return errChunkSize
	}
	// A client that makes us read much and pass on little; net/http counts so too.
	b.excess = max(0, b.excess+int64(b.digits+b.ext+2)-16-2*b.left)
	if b.excess > maxExcess {
		return errChunkMany
	}
	b.state = chunkData
	if b.left == 0 {
		b.state = inTrailer
	}
	return nil
}

func (b *Body) trailing(c byte) *Error {
	if b.read++; b.read > maxTrailer {
		return errTrailers
	}
	b.trailer = append(b.trailer, c)
	if c != '\n' {
		return nil
	}
	line := b.trailer[b.line:]
	end := control(line, 0)
	if next, _ := lineEnd(line, end); next != len(line) {
		return errTrailers
	}
	if end == 0 {
		b.trailer = b.trailer[:b.line]
		b.state = done
		return nil
	}
	i := 0
	for class[line[i]]&tchar != 0 {
		i++
	}
	if i == 0 || line[i] != ':' {
		return errTrailers
	}
	if notInTrailer(line[:i]) {
		b.trailer = b.trailer[:b.line]
	}
	b.line = len(b.trailer)
	return nil
}

// AppendChunkHead appends what stands before a chunk of n bytes to dst. CR LF follows the data.
func AppendChunkHead(dst []byte, n int) []byte {
	dst = strconv.AppendUint(dst, uint64(n), 16)
	return append(dst, "\r\n"...)
}

// AppendLastChunk appends the end of a chunked body to dst, with a trailer as Body.Trailer returns it.
func AppendLastChunk(dst, trailer []byte) []byte {
	dst = append(dst, "0\r\n"...)
	dst = append(dst, trailer...)
	return append(dst, "\r\n"...)
}
