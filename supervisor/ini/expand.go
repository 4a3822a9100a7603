package ini

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
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
	verb := s[0]
	if verb == '%' {
		out.WriteByte('%')
		return s[1:], nil
	}
	if arg == nil {
		return "", errLonePercent
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

func format(name, flags, width, prec string, verb byte, arg any) (string, error) {
	switch verb {
	case 's', 'r', 'a':
		text := fmt.Sprint(arg)
		if _, isText := arg.(string); isText && verb != 's' {
			text = "'" + text + "'"
		}
		spec := "%"
		if strings.Contains(flags, "-") {
			spec += "-"
		}
		return fmt.Sprintf(spec+strings.TrimLeft(width, "0")+prec+"s", text), nil
	}
	n, isInt := arg.(int)
	if !isInt {
		return "", fmt.Errorf("has %%(%s)%c, but %s is no number: want %%(%s)s", name, verb, name, name)
	}
	spec := "%" + flags + width + prec
	switch verb {
	case 'd', 'i', 'u':
		return fmt.Sprintf(strings.ReplaceAll(spec, "#", "")+"d", n), nil
	case 'x', 'X':
		return fmt.Sprintf(spec+string(verb), n), nil
	case 'o':
		if strings.Contains(flags, "#") {
			return fmt.Sprintf(strings.ReplaceAll(spec, "#", "")+"O", n), nil
		}
		return fmt.Sprintf(spec+"o", n), nil
	case 'e', 'E', 'f', 'F', 'g', 'G':
		return fmt.Sprintf(spec+string(verb), float64(n)), nil
	case 'c':
		return string(rune(n)), nil
	}
	return "", fmt.Errorf("has %%(%s)%c, which is no format: want %%(%s)s or %%(%s)02d", name, verb, name, name)
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
