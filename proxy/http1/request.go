package http1

import (
	"bytes"
	"net/netip"
)

// Parse reads a head from the beginning of buf. It returns the head's length, its empty line included; 0 and no
// error when buf does not yet hold all of it. Errors are *Error and certain, also when more is to come: Parse of a
// beginning gives 0 or what Parse of the whole gives. r is reset, and valid only when n > 0.
//
// Each call begins anew, so with an incomplete head a caller waits for the next line end before it calls again.
func (r *Request) Parse(buf []byte) (n int, err error) {
	*r = Request{Fields: r.Fields[:0]}
	if len(buf) > MaxHead {
		buf = buf[:MaxHead]
	}
	pos, e := r.line(buf)
	if e == nil && pos == 0 && len(buf) == MaxHead {
		e = errURITooLong
	}
	if e != nil || pos == 0 {
		return 0, asError(e)
	}
	s := fields{list: r.Fields}
	n, e = s.read(buf, pos)
	r.Fields = s.list
	if e == nil && n == 0 && len(buf) == MaxHead {
		e = errHeadTooLong
	}
	if e == nil && n > 0 {
		e = r.finish(&s)
	}
	if e != nil {
		return 0, e
	}
	return n, nil
}

// asError keeps a nil *Error from becoming an error that is not nil.
func asError(e *Error) error {
	if e == nil {
		return nil
	}
	return e
}

// line reads the request line and returns the index behind it, or 0 when it is not there yet.
func (r *Request) line(buf []byte) (int, *Error) {
	pos := 0
	// One empty line before it, which old clients send after a body (RFC 9112 section 2.2).
	if len(buf) > 0 && buf[0] == '\r' {
		if len(buf) == 1 {
			return 0, nil
		}
		if buf[1] != '\n' {
			return 0, errLineEnd
		}
		pos = 2
	}
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
	if pos == start || buf[pos] != ' ' {
		return 0, errRequestLine
	}
	// Some servers take "head" for HEAD, and then know another end of the response than we do.
	if seen&lowercase != 0 {
		return 0, errMethod
	}
	r.Method = buf[start:pos]
	pos++

	start = pos
	for pos < len(buf) && class[buf[pos]]&targetChar != 0 {
		pos++
	}
	if pos == len(buf) {
		return 0, nil
	}
	if buf[pos] != ' ' {
		if pos == start || buf[pos] == '\r' || buf[pos] == '\n' {
			return 0, errRequestLine
		}
		return 0, errTarget
	}
	if err := r.target(buf[start:pos]); err != nil {
		return 0, err
	}
	return r.version(buf, pos+1)
}

func (r *Request) version(buf []byte, pos int) (int, *Error) {
	const version = "HTTP/1.1"
	if len(buf) >= pos+10 && string(buf[pos:pos+10]) == version+"\r\n" {
		r.Minor = 1
		return pos + 10, nil
	}
	end := pos
	for ; end < len(buf) && end < pos+8; end++ {
		c, want := buf[end], version[end-pos]
		if '0' <= want && want <= '9' {
			if c < '0' || c > '9' {
				return 0, errRequestLine
			}
		} else if c != want {
			return 0, errRequestLine
		}
	}
	next, err := lineEnd(buf, end)
	if next == 0 {
		if end < pos+8 {
			return 0, nil
		}
		if err != nil && buf[end] != '\r' && buf[end] != '\n' {
			return 0, errRequestLine
		}
		return 0, err
	}
	switch string(buf[pos:end]) {
	case version:
		r.Minor = 1
	case "HTTP/1.0":
	default:
		return 0, errVersion
	}
	return next, nil
}

// What stands for a path that an absolute-form has not. Nobody writes to them.
var slash, asterisk = []byte("/"), []byte("*")

// target takes the request target apart (RFC 9112 section 3.2). Its bytes are printable ASCII without #.
func (r *Request) target(t []byte) *Error {
	r.Target = t
	if len(t) == 0 {
		return errRequestLine
	}
	if len(r.Method) == 7 && string(r.Method) == "CONNECT" {
		return errConnect
	}
	rest := t
	switch {
	case t[0] == '/':
	case len(t) == 1 && t[0] == '*':
		if string(r.Method) != "OPTIONS" {
			return errTarget
		}
		r.Path = t
		return nil
	case hasPrefix(t, "http://"):
		rest = t[len("http://"):]
	case hasPrefix(t, "https://"):
		rest = t[len("https://"):]
	default:
		return errTarget
	}
	if len(rest) < len(t) {
		end := bytes.IndexAny(rest, "/?")
		if end < 0 {
			end = len(rest)
		}
		r.Host, rest = rest[:end], rest[end:]
		if len(r.Host) == 0 || !validHost(r.Host) {
			return errTarget
		}
	}
	r.Path = rest
	if q := bytes.IndexByte(rest, '?'); q >= 0 {
		r.Path, r.Query = rest[:q], rest[q:]
	}
	if len(r.Path) == 0 {
		r.Path = slash
		if len(r.Query) == 0 && string(r.Method) == "OPTIONS" {
			r.Path = asterisk // RFC 9112 section 3.2.4
		}
		return nil
	}
	return validEscapes(r.Path)
}

func validEscapes(path []byte) *Error {
	for {
		i := bytes.IndexByte(path, '%')
		if i < 0 {
			return nil
		}
		if i+2 >= len(path) || class[path[i+1]]&class[path[i+2]]&hexDigit == 0 {
			return errTarget
		}
		path = path[i+3:]
	}
}

// validHost tells whether h is a host name or address with an optional port.
func validHost(h []byte) bool {
	i := 0
	if len(h) > 0 && h[0] == '[' {
		end := bytes.IndexByte(h, ']')
		if end < 0 {
			return false
		}
		addr, err := netip.ParseAddr(string(h[1:end]))
		if err != nil || !addr.Is6() || addr.Zone() != "" {
			return false
		}
		i = end + 1
	} else {
		for i < len(h) && class[h[i]]&hostChar != 0 {
			i++
		}
		if i == 0 {
			return false
		}
	}
	if i == len(h) {
		return true
	}
	port := h[i+1:]
	if h[i] != ':' || len(port) > 5 {
		return false
	}
	for _, c := range port {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// finish checks what only the whole head tells.
func (r *Request) finish(s *fields) *Error {
	if s.hosts == 0 && r.Minor == 1 {
		return errHost
	}
	if s.hosts > 0 {
		f := &s.list[s.host]
		if len(f.Value) == 0 && r.Minor == 1 || len(f.Value) > 0 && !validHost(f.Value) {
			return errHost
		}
		if r.Host != nil {
			f.Value = r.Host
		}
		r.Host = f.Value
	}
	if err := s.finish(r.Minor); err != nil {
		return err
	}
	switch {
	case s.codings > 0:
		r.Framing = Chunked
	case s.lengths > 0:
		r.Framing, r.Length = Length, s.length
	}
	r.KeepAlive = s.keepAlive(r.Minor)
	body := r.Framing == Chunked || r.Length > 0
	r.Continue = s.expect && body && r.Minor == 1
	if s.toSwitch && s.upgrades == 1 && !body && r.Minor == 1 && !upgradesHTTP(s.upgrade) {
		r.Upgrade = s.upgrade
	}
	return nil
}

// upgradesHTTP tells whether an Upgrade field names no protocol or one that carries HTTP again.
func upgradesHTTP(list []byte) bool {
	if len(list) == 0 {
		return true
	}
	for len(list) > 0 {
		var protocol []byte
		protocol, list = nextOption(list)
		if hasPrefix(protocol, "h2") || hasPrefix(protocol, "http") {
			return true
		}
	}
	return false
}
