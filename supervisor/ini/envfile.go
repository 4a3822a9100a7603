package ini

import (
	"strconv"
	"strings"
)

// parseEnvFile reads a .env file: KEY=value lines, an export in front, # comments, single quotes
// for a text as it is, double quotes for one with backslashes; quoted values may span lines.
func parseEnvFile(file, text string) (map[string]string, []Problem) {
	env := map[string]string{}
	var problems []Problem
	text = strings.ReplaceAll(strings.TrimPrefix(text, "\ufeff"), "\r\n", "\n")
	for n := 1; text != ""; {
		at := n
		var line string
		line, rest, _ := strings.Cut(text, "\n")
		line = strings.TrimLeft(line, " \t")
		if line == "" || line[0] == '#' {
			text = rest
			n++
			continue
		}
		line = strings.TrimPrefix(line, "export ")
		key, val, ok := strings.Cut(line, "=")
		key = strings.TrimSpace(key)
		if !ok || !isEnvName(key) {
			problems = append(problems, problemf(file, at, "%s: want KEY=value", quote(line)))
			text = rest
			n++
			continue
		}
		val = strings.TrimLeft(val, " \t")
		if val != "" && (val[0] == '\'' || val[0] == '"') {
			quoted := text[strings.Index(text, val):]
			value, used, ok := unquoteEnv(quoted)
			if !ok {
				return env, append(problems, problemf(file, at, "%s has a quote that is not closed", key))
			}
			env[key] = value
			n += strings.Count(quoted[:used], "\n") + 1
			tail, after, _ := strings.Cut(quoted[used:], "\n")
			if tail = strings.TrimSpace(tail); tail != "" && tail[0] != '#' {
				problems = append(problems, problemf(file, at, "%s has %s behind its closing quote", key, quote(tail)))
			}
			text = after
			continue
		}
		if i := strings.Index(val, " #"); i >= 0 {
			val = val[:i]
		}
		env[key] = strings.TrimSpace(val)
		text = rest
		n++
	}
	return env, problems
}

// unquoteEnv takes a quoted value off the front of s and tells how long it was.
func unquoteEnv(s string) (value string, used int, ok bool) {
	var out strings.Builder
	q := s[0]
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == q:
			return out.String(), i + 1, true
		case s[i] == '\\' && q == '"' && i+1 < len(s):
			i++
			if c, err := strconv.Unquote(`"\` + string(s[i]) + `"`); err == nil && strings.IndexByte(`nrt"\`, s[i]) >= 0 {
				out.WriteString(c)
			} else {
				out.WriteByte('\\')
				out.WriteByte(s[i])
			}
		default:
			out.WriteByte(s[i])
		}
	}
	return "", 0, false
}

func isEnvName(s string) bool {
	for i, c := range s {
		if !(c == '_' || c == '.' || c == '-' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || i > 0 && c >= '0' && c <= '9') {
			return false
		}
	}
	return s != ""
}
