package http1

// fields is what the header lines of one head say together, gathered while they are read.
type fields struct {
	list     []Field
	response bool

	hosts    int
	host     int // index of the Host field
	lengths  int
	length   int64
	codings  int
	expect   bool // Expect: 100-continue
	upgrades int
	upgrade  []byte
	trailers int

	// Of the Connection fields:
	options               int
	close, keep, toSwitch bool // toSwitch: names Upgrade
	names                 bool // names other fields
}

// maxOptions bounds the work of holding each field against each connection option.
const maxOptions = 32

// read reads header lines from buf[pos:] and returns the index behind the empty line, or 0 when that has not come.
// Errors come in the order of the bytes, so that the beginning of a head never gives another error than the whole.
func (s *fields) read(buf []byte, pos int) (int, *Error) {
	for {
		start := pos
		var seen uint8
		for pos < len(buf) {
			c := class[buf[pos]]
			if c&tchar == 0 {
				break
			}
			seen |= c
			pos++
		}
		if pos == len(buf) {
			return 0, nil
		}
		if buf[pos] != ':' || pos == start {
			if pos == start && buf[pos] == '\r' {
				return lineEnd(buf, pos)
			}
			return 0, nameError(buf[start : pos+1])
		}
		name := buf[start:pos]
		pos++
		end := control(buf, pos)
		next, err := lineEnd(buf, end)
		if next == 0 {
			return 0, err
		}
		if len(s.list) == MaxFields {
			return 0, errManyFields
		}
		s.list = append(s.list, Field{Name: name, Value: trim(buf[pos:end])})
		if k := s.kind(name, seen); k != plain {
			if err := s.note(k, &s.list[len(s.list)-1]); err != nil {
				return 0, err
			}
		}
		pos = next
	}
}

func nameError(line []byte) *Error {
	switch c := line[len(line)-1]; {
	case len(line) == 1 && blank(c):
		return errFold
	case c < 0x20 && c != '\t':
		return errLineEnd
	}
	return errFieldName
}

// kind is a field's meaning to this package.
type kind uint8

const (
	plain kind = iota
	host
	connection
	contentLength
	transferEncoding
	upgrade
	expect
	trailer
	hop // not passed on, else without meaning
)

// kind looks at the length and the first letter first: most fields have no meaning here.
func (s *fields) kind(name []byte, seen uint8) kind {
	if seen&underscore != 0 {
		if !s.response && confusable(name) {
			return hop
		}
		return plain
	}
	k, lower := plain, ""
	switch c := name[0] | 0x20; len(name) {
	case 2:
		k, lower = hop, "te"
	case 4:
		k, lower = host, "host"
	case 6:
		if c == 'e' {
			k, lower = expect, "expect"
		}
	case 7:
		switch c {
		case 'u':
			k, lower = upgrade, "upgrade"
		case 't':
			k, lower = trailer, "trailer"
		}
	case 10:
		switch c {
		case 'c':
			k, lower = connection, "connection"
		case 'k':
			k, lower = hop, "keep-alive"
		}
	case 14:
		switch c {
		case 'c':
			k, lower = contentLength, "content-length"
		case 'h':
			k, lower = hop, "http2-settings"
		}
	case 16:
		k, lower = hop, "proxy-connection"
	case 17:
		k, lower = transferEncoding, "transfer-encoding"
	case 19:
		k, lower = hop, "proxy-authorization"
	}
	if k == plain || !is(name, lower) {
		return plain
	}
	return k
}

// note takes in a field that has a meaning.
func (s *fields) note(k kind, f *Field) *Error {
	switch k {
	case host:
		s.hosts++
		s.host = len(s.list) - 1
		if s.hosts > 1 && !s.response {
			return errHost
		}
		return nil
	case trailer:
		s.trailers++
		return nil
	case connection:
		return s.connection(f)
	case contentLength:
		f.Hop = true
		n, ok := number(f.Value)
		if !ok || s.lengths > 0 {
			return errContentLength
		}
		s.lengths, s.length = 1, n
	case transferEncoding:
		f.Hop = true
		if s.codings > 0 {
			return errCodings
		}
		if !is(f.Value, "chunked") {
			return errCoding
		}
		s.codings = 1
	case upgrade:
		f.Hop = true
		s.upgrades++
		s.upgrade = f.Value
	case expect:
		if s.response {
			return nil
		}
		f.Hop = true
		if !is(f.Value, "100-continue") {
			return errExpect
		}
		s.expect = true
	default:
		f.Hop = true
	}
	return nil
}

func (s *fields) connection(f *Field) *Error {
	f.Hop = true
	for rest := f.Value; len(rest) > 0; {
		var option []byte
		option, rest = nextOption(rest)
		if s.options++; s.options > maxOptions {
			return errConnection
		}
		switch {
		case len(option) == 0:
		case is(option, "close"):
			s.close = true
		case is(option, "keep-alive"):
			s.keep = true
		case is(option, "upgrade"):
			s.toSwitch = true
		default:
			s.names = true
		}
	}
	return nil
}

// finish checks what only all fields together tell.
func (s *fields) finish(minor int) *Error {
	if s.codings > 0 && (s.lengths > 0 || minor == 0) {
		return errCodings
	}
	for i := 0; s.trailers > 0 && i < len(s.list); i++ {
		f := &s.list[i]
		if !is(f.Name, "trailer") {
			continue
		}
		framing, forbidden := announces(f.Value)
		if framing && s.codings > 0 {
			return errTrailer
		}
		f.Hop = forbidden // Body drops these from the trailer
	}
	for i := 0; s.names && i < len(s.list); i++ {
		if f := &s.list[i]; is(f.Name, "connection") {
			s.dropNamed(f.Value)
		}
	}
	return nil
}

// announces tells whether a Trailer field names fields that frame the message, or some that cannot be
// in a trailer for any reason.
func announces(list []byte) (framing, forbidden bool) {
	for len(list) > 0 {
		var name []byte
		name, list = nextOption(list)
		framing = framing || is(name, "content-length") || is(name, "transfer-encoding") || is(name, "trailer")
		forbidden = forbidden || !token(name) || notInTrailer(name)
	}
	return framing, forbidden
}

func (s *fields) dropNamed(options []byte) {
	for len(options) > 0 {
		var option []byte
		option, options = nextOption(options)
		if len(option) == 0 || protected(option) {
			continue
		}
		for i := range s.list {
			if f := &s.list[i]; !f.Hop && equalFold(f.Name, option) {
				f.Hop = true
			}
		}
	}
}

func (s *fields) keepAlive(minor int) bool { return !s.close && (minor == 1 || s.keep) }
