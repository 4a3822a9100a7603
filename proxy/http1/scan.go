package http1

import (
	"encoding/binary"
	"math/bits"
)

// Bits of class.
const (
	tchar      = 1 << iota // of a token (RFC 9110 section 5.6.2)
	underscore             // _
	lowercase
	targetChar // of a request target: printable ASCII but #
	hostChar   // of a host name
	hexDigit
)

// class says what a byte may be part of.
var class = classes()

func classes() (t [256]uint8) {
	for i := range t {
		c := byte(i)
		digit := '0' <= c && c <= '9'
		lower := 'a' <= c && c <= 'z'
		letter := lower || 'A' <= c && c <= 'Z'
		if letter || digit || index("!#$%&'*+-.^_`|~", c) {
			t[i] |= tchar
		}
		if c == '_' {
			t[i] |= underscore
		}
		if lower {
			t[i] |= lowercase
		}
		if 0x20 < c && c < 0x7f && c != '#' {
			t[i] |= targetChar
		}
		// The sub-delims and percent signs that RFC 3986 has are in no name that anybody uses, and read differently.
		if letter || digit || index("-._~", c) {
			t[i] |= hostChar
		}
		if digit || 'a' <= fold(c) && fold(c) <= 'f' {
			t[i] |= hexDigit
		}
	}
	return t
}

func index(s string, c byte) bool {
	for i := range len(s) {
		if s[i] == c {
			return true
		}
	}
	return false
}

func fold(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c | 0x20
	}
	return c
}

// is tells whether b is lower, which is in lower case, in whatever case.
func is(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i := range len(lower) {
		if fold(b[i]) != lower[i] {
			return false
		}
	}
	return true
}

func equalFold[B []byte | string](a []byte, b B) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(b) {
		if fold(a[i]) != fold(b[i]) {
			return false
		}
	}
	return true
}

// hasPrefix tells whether b begins with lower, which is in lower case, in whatever case.
func hasPrefix(b []byte, lower string) bool { return len(b) >= len(lower) && is(b[:len(lower)], lower) }

func token(b []byte) bool {
	for _, c := range b {
		if class[c]&tchar == 0 {
			return false
		}
	}
	return len(b) > 0
}

// control returns the index of the first control character but HTAB in b[i:], or len(b). It looks at eight bytes at
// a time: most bytes of a head are in values, where this is all that must be checked.
func control(b []byte, i int) int {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	for i+8 <= len(b) {
		x := binary.LittleEndian.Uint64(b[i:])
		del := x ^ 0x7f*ones
		// Below 0x20, or 0x7f. A borrow can mark a byte wrongly, but only above one that is marked rightly.
		m := ((x-0x20*ones)&^x | (del-ones)&^del) & high
		if m == 0 {
			i += 8
			continue
		}
		i += bits.TrailingZeros64(m) >> 3
		if b[i] != '\t' {
			return i
		}
		i++
	}
	for ; i < len(b); i++ {
		if c := b[i]; c < 0x20 && c != '\t' || c == 0x7f {
			return i
		}
	}
	return i
}

func blank(c byte) bool { return c == ' ' || c == '\t' }

func trim(b []byte) []byte {
	for len(b) > 0 && blank(b[0]) {
		b = b[1:]
	}
	for len(b) > 0 && blank(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	return b
}

// nextOption cuts the first element from a comma-separated list; elements may be empty.
func nextOption(list []byte) (option, rest []byte) {
	for i, c := range list {
		if c == ',' {
			return trim(list[:i]), list[i+1:]
		}
	}
	return trim(list), nil
}

// lineEnd looks at the end of a line at buf[i], where control stopped: the index behind it, or 0 when it has not come.
func lineEnd(buf []byte, i int) (next int, err *Error) {
	switch {
	case i == len(buf):
		return 0, nil
	case buf[i] != '\r':
		return 0, errLineEnd
	case i+1 == len(buf):
		return 0, nil
	case buf[i+1] != '\n':
		return 0, errLineEnd
	}
	return i + 2, nil
}

// number reads a Content-Length: decimal digits, at most 2^62. Leading zeros would be octal to some.
func number(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 19 || len(b) > 1 && b[0] == '0' {
		return 0, false
	}
	var n uint64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + uint64(c-'0')
	}
	return int64(n), n <= 1<<62
}
