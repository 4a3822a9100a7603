package supervisor

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// pyRepr quotes s as Python's repr does: Supervisor's messages carry it, and their readers match on it.
func pyRepr(s string) string {
	quote := '\''
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		quote = '"'
	}
	var b strings.Builder
	b.WriteRune(quote)
	for _, r := range s {
		switch {
		case r == quote || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r >= 0x7f && unicode.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		case r > 0xff:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteString(pyEscape(byte(r)))
		}
	}
	b.WriteRune(quote)
	return b.String()
}

func pyEscape(c byte) string {
	switch c {
	case '\n':
		return `\n`
	case '\r':
		return `\r`
	case '\t':
		return `\t`
	}
	if c < ' ' || c >= 0x7f {
		return fmt.Sprintf(`\x%02x`, c)
	}
	return string(rune(c))
}

// pyText is how Supervisor puts a program's output into an event: as text, or as the repr of bytes that are none.
func pyText(data []byte) string {
	if utf8.Valid(data) {
		return string(data)
	}
	quote := byte('\'')
	if strings.Contains(string(data), "'") && !strings.Contains(string(data), `"`) {
		quote = '"'
	}
	var b strings.Builder
	b.WriteString("Undecodable: b")
	b.WriteByte(quote)
	for _, c := range data {
		if c == quote || c == '\\' {
			b.WriteByte('\\')
			b.WriteByte(c)
			continue
		}
		b.WriteString(pyEscape(c))
	}
	b.WriteByte(quote)
	return b.String()
}
