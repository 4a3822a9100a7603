package xmlrpc

import (
	"encoding/base64"
	"fmt"
	"math"
	"sort"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/inpod/inpod/supervisor"
)

// Member is one field of a Struct.
type Member struct {
	Name  string
	Value any
}

// Struct is a struct whose fields keep their order.
type Struct []Member

const header = "<?xml version='1.0'?>\n"

// Marshal encodes the response that carries value, byte for byte as Python's xmlrpc.client does. It takes nil, bool, int, int64,
// float64, string, []byte (base64), time.Time, []any, []string, []int, map[string]any and Struct.
func Marshal(value any) ([]byte, error) {
	b := append([]byte(header), "<methodResponse>\n<params>\n<param>\n"...)
	b, err := appendValue(b, value)
	if err != nil {
		return nil, err
	}
	return append(b, "</param>\n</params>\n</methodResponse>\n"...), nil
}

// MarshalFault encodes a fault with Supervisor's text ("BAD_NAME: foo").
func MarshalFault(f *supervisor.Fault) []byte {
	b := append([]byte(header), "<methodResponse>\n<fault>\n"...)
	b, _ = appendValue(b, faultStruct(f)) // only ints and strings: no error
	return append(b, "</fault>\n</methodResponse>\n"...)
}

func faultStruct(f *supervisor.Fault) Struct {
	return Struct{{"faultCode", int(f.Code)}, {"faultString", f.Error()}}
}

// MarshalCall encodes a request.
func MarshalCall(method string, args []any) ([]byte, error) {
	b := append([]byte(header), "<methodCall>\n<methodName>"...)
	b = appendText(b, method)
	b = append(b, "</methodName>\n<params>\n"...)
	for i, a := range args {
		b = append(b, "<param>\n"...)
		var err error
		if b, err = appendValue(b, a); err != nil {
			return nil, fmt.Errorf("argument %d of %s: %w", i+1, method, err)
		}
		b = append(b, "</param>\n"...)
	}
	return append(b, "</params>\n</methodCall>\n"...), nil
}

func appendValue(b []byte, value any) ([]byte, error) {
	switch v := value.(type) {
	case nil:
		return append(b, "<value><nil/></value>\n"...), nil
	case bool:
		digit := "0"
		if v {
			digit = "1"
		}
		return appendScalar(b, "boolean", digit), nil
	case int:
		return appendScalar(b, "int", strconv.Itoa(v)), nil
	case int64:
		return appendScalar(b, "int", strconv.FormatInt(v, 10)), nil
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, fmt.Errorf("cannot encode %v: XML-RPC has no such number", v)
		}
		return appendScalar(b, "double", strconv.FormatFloat(v, 'f', -1, 64)), nil
	case string:
		b = append(b, "<value><string>"...)
		b = appendText(b, v)
		return append(b, "</string></value>\n"...), nil
	case []byte:
		b = append(b, "<value><base64>\n"...)
		b = base64.StdEncoding.AppendEncode(b, v)
		return append(b, "\n</base64></value>\n"...), nil
	case time.Time:
		return appendScalar(b, "dateTime.iso8601", v.Format(timeLayout)), nil
	case []any:
		return appendArray(b, v)
	case []string:
		return appendArray(b, v)
	case []int:
		return appendArray(b, v)
	case map[string]any:
		s := make(Struct, 0, len(v))
		for name, field := range v {
			s = append(s, Member{name, field})
		}
		sort.Slice(s, func(i, j int) bool { return s[i].Name < s[j].Name })
		return appendStruct(b, s)
	case Struct:
		return appendStruct(b, v)
	}
	return nil, fmt.Errorf("cannot encode a %T", value)
}

func appendScalar(b []byte, tag, text string) []byte {
	b = append(append(append(b, "<value><"...), tag...), '>')
	b = append(append(append(b, text...), "</"...), tag...)
	return append(b, "></value>\n"...)
}

func appendArray[T any](b []byte, values []T) ([]byte, error) {
	b = append(b, "<value><array><data>\n"...)
	var err error
	for _, v := range values {
		if b, err = appendValue(b, v); err != nil {
			return nil, err
		}
	}
	return append(b, "</data></array></value>\n"...), nil
}

func appendStruct(b []byte, s Struct) ([]byte, error) {
	b = append(b, "<value><struct>\n"...)
	var err error
	for _, m := range s {
		b = append(b, "<member>\n<name>"...)
		b = appendText(b, m.Name)
		b = append(b, "</name>\n"...)
		if b, err = appendValue(b, m.Value); err != nil {
			return nil, fmt.Errorf("field %q: %w", m.Name, err)
		}
		b = append(b, "</member>\n"...)
	}
	return append(b, "</struct></value>\n"...), nil
}

// appendText escapes as Python's xmlrpc.client does, and replaces what XML cannot hold: logs carry escape sequences
// and broken UTF-8, and a parser refuses the whole answer for one of those.
func appendText(b []byte, s string) []byte {
	if plain(s) {
		return append(b, s...)
	}
	for len(s) > 0 {
		i := strings.IndexFunc(s, special)
		if i < 0 {
			return append(b, s...)
		}
		b, s = append(b, s[:i]...), s[i:]
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == '&':
			b = append(b, "&amp;"...)
		case r == '<':
			b = append(b, "&lt;"...)
		case r == '>':
			b = append(b, "&gt;"...)
		default: // includes U+FFFD itself
			b = append(b, "\uFFFD"...)
		}
		s = s[n:]
	}
	return b
}

// plain tells whether s is ASCII that stands as it is, as nearly every text does: it need not be looked at rune by rune.
func plain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '&' || c == '<' || c == '>' {
			return false
		}
	}
	return true
}

// special is what cannot stand in text as it is (XML 1.0, production 2).
func special(r rune) bool {
	switch {
	case r == '&' || r == '<' || r == '>' || r == utf8.RuneError || r == 0xFFFE || r == 0xFFFF:
		return true
	case r < 0x20:
		return r != '\t' && r != '\n' && r != '\r'
	}
	return false
}
