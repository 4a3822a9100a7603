package ini

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxExpanded bounds one expanded value, so that a file cannot multiply itself into all memory.
const maxExpanded = 1 << 20

// expansions are the names that %(name)s may use. Values are strings, but for process_num and numprocs.
type expansions struct {
	vars map[string]any
	env  map[string]string // with the ENV_ prefix
}

func (e expansions) lookup(name string) (any, bool) {
	if v, ok := e.vars[name]; ok {
		return v, true
	}
	v, ok := e.env[name]
	return v, ok
}

// expand is Python's s % expansions for a mapping.
func (e expansions) expand(s string) (string, error) {
	if !strings.Contains(s, "%") {
		return s, nil
	}
	var out strings.Builder
	for s != "" {
		at := strings.IndexByte(s, '%')
		if at < 0 {
			out.WriteString(s)
			break
		}
		out.WriteString(s[:at])
		rest, err := e.directive(&out, s[at+1:])
		if err != nil {
			return "", err
		}
		if out.Len() > maxExpanded {
			return "", fmt.Errorf("is longer than %d bytes when expanded", maxExpanded)
		}
		s = rest
	}
	return out.String(), nil
}

var errLonePercent = errors.New(`has a "%" that starts no expansion: want "%%" for a percent sign, or %(name)s`)

// directive writes what follows one '%' and returns the text behind it.
func (e expansions) directive(out *strings.Builder, s string) (string, error) {
	if strings.HasPrefix(s, "%") {
		out.WriteByte('%')
		return s[1:], nil
	}
	var arg any
	var name string
	if strings.HasPrefix(s, "(") {
		end := closing(s)
		if end < 0 {
			return "", errors.New(`has a "%(" without its ")": want %(name)s`)
		}
		name = s[1:end]
		s = s[end+1:]
		v, ok := e.lookup(name)
		if !ok {
			return "", e.unknown(name)
		}
		arg = v
	}
	flags, s := span(s, "#0- +")
	width, s := span(s, "0123456789")
	prec := ""
	if strings.HasPrefix(s, ".") {
		prec, s = span(s[1:], "0123456789")
		prec = "." + prec
	}
	if s != "" && strings.IndexByte("hlL", s[0]) >= 0 {
		s = s[1:]
	}
	if s == "" {
		if name != "" {
			return "", fmt.Errorf("has %%(%s) without a letter behind it: want %%(%s)s", name, name)
		}
		return "", errLonePercent
	}
	if arg == nil {
		return "", errLonePercent
	}
	verb := s[0]
	if verb >= utf8.RuneSelf {
		_, size := utf8.DecodeRuneInString(s)
		return "", fmt.Errorf("has %%(%s)%s, which is no format: want %%(%s)s", name, s[:size], name)
	}
	if len(width) > 4 || len(prec) > 5 {
		return "", fmt.Errorf("has a width of more than 9999 in %%(%s)", name)
	}
	text, err := format(name, flags, width, prec, verb, arg)
	if err != nil {
		return "", err
	}
	out.WriteString(text)
	return s[1:], nil
}

// closing finds the ')' that belongs to the '(' at the start, as Python counts them.
func closing(s string) int {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

func span(s, set string) (head, tail string) {
	rest := strings.TrimLeft(s, set)
	return s[:len(s)-len(rest)], rest
}

// format is one conversion of Python's % operator. Numbers are process_num and numprocs.
func format(name, flags, width, prec string, verb byte, arg any) (string, error) {
	text, isText := arg.(string)
	n, isInt := arg.(int)
	switch {
	case strings.IndexByte("sra", verb) >= 0:
		if isText && verb != 's' {
			text = pyQuote(text)
		}
		if isText && verb == 'a' {
			text = asciiOnly(text)
		}
		if isInt {
			text = strconv.Itoa(n)
		}
		if prec != "" {
			text = fmt.Sprintf("%"+prec+"s", text)
		}
		return pad(text, "", strings.ReplaceAll(flags, "0", ""), width), nil
	case verb == 'c' && isInt:
		return pad(string(rune(n)), "", strings.ReplaceAll(flags, "0", ""), width), nil
	case verb == 'c' && len([]rune(text)) == 1:
		return pad(text, "", strings.ReplaceAll(flags, "0", ""), width), nil
	case strings.IndexByte("diuxXoeEfFgGc", verb) < 0:
		return "", fmt.Errorf("has %%(%s)%s, which is no format: want %%(%s)s, or %%(%s)02d for a number", name, string(rune(verb)), name, name)
	case !isInt:
		return "", fmt.Errorf("has %%(%s)%c, but %s is no number: want %%(%s)s", name, verb, name, name)
	case strings.IndexByte("eEfFgG", verb) >= 0:
		sharp := ""
		if strings.Contains(flags, "#") {
			sharp = "#"
		}
		digits := fmt.Sprintf("%"+sharp+prec+string(verb), math.Abs(float64(n)))
		return pad(digits, sign(n, flags), flags, width), nil
	}
	return formatInt(n, flags, width, prec, verb), nil
}

func formatInt(n int, flags, width, prec string, verb byte) string {
	base, prefix := 10, ""
	switch verb {
	case 'x', 'X':
		base, prefix = 16, "0"+string(verb)
	case 'o':
		base, prefix = 8, "0o"
	}
	digits := strings.TrimPrefix(strconv.FormatInt(int64(n), base), "-")
	if verb == 'X' {
		digits = strings.ToUpper(digits)
	}
	if least, err := strconv.Atoi(strings.TrimPrefix(prec, ".")); err == nil && len(digits) < least {
		digits = strings.Repeat("0", least-len(digits)) + digits
	}
	if base == 10 || !strings.Contains(flags, "#") {
		prefix = ""
	}
	return pad(digits, sign(n, flags)+prefix, flags, width)
}

func sign(n int, flags string) string {
	switch {
	case n < 0:
		return "-"
	case strings.Contains(flags, "+"):
		return "+"
	case strings.Contains(flags, " "):
		return " "
	}
	return ""
}

// pad fills up to a width: with spaces in front, behind for the flag '-', with zeros behind the prefix for '0'.
func pad(text, prefix, flags, width string) string {
	w, _ := strconv.Atoi(width)
	w = max(0, w-utf8.RuneCountInString(prefix+text))
	switch {
	case strings.Contains(flags, "-"):
		return prefix + text + strings.Repeat(" ", w)
	case strings.Contains(flags, "0"):
		return prefix + strings.Repeat("0", w) + text
	}
	return strings.Repeat(" ", w) + prefix + text
}

// pyQuote is Python's repr of a text.
func pyQuote(s string) string {
	q := "'"
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		q = `"`
	}
	return q + strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\t", `\t`, "\r", `\r`, q, `\`+q).Replace(s) + q
}

func asciiOnly(s string) string {
	var out strings.Builder
	for _, r := range s {
		switch {
		case r < 0x80:
			out.WriteRune(r)
		case r < 0x100:
			fmt.Fprintf(&out, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(&out, `\u%04x`, r)
		default:
			fmt.Fprintf(&out, `\U%08x`, r)
		}
	}
	return out.String()
}

func (e expansions) unknown(name string) error {
	if env, ok := strings.CutPrefix(name, "ENV_"); ok {
		return fmt.Errorf("uses %%(%s)s, but the environment has no %s: set it, or give the value itself", name, strconv.Quote(env))
	}
	var names []string
	for n := range e.vars {
		if !strings.HasPrefix(n, "ENV_") {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	names = append(names, "ENV_<variable>")
	return fmt.Errorf("uses %%(%s)s, which does not exist here: want one of %s", name, strings.Join(names, ", "))
}
