package ini

import (
	"os"
	"path/filepath"
	"strings"
)

// scope reads the keys of one section: it finds them, expands them, converts them, and tells
// the loader what is wrong with them. Each method returns the default when the key is absent or wrong.
type scope struct {
	l        *loader
	sec      *section
	kind     string
	fallback *section // [program-default]
	vars     expansions
	soft     bool // problems are warnings
}

func (l *loader) scope(sec *section, kind string, vars map[string]any) *scope {
	return &scope{l: l, sec: sec, kind: kind, vars: expansions{vars, l.env}}
}

// hereOf is %(here)s for a section: the main file's directory, or without one its own file's.
func (l *loader) hereOf(sec *section) string {
	if l.opts.Main != "" {
		return l.here
	}
	return filepath.Dir(absolute(sec.file))
}

func (s *scope) find(key string) *value {
	if v := s.sec.keys[key]; v != nil {
		return v
	}
	if s.fallback != nil {
		if v := s.fallback.keys[key]; v != nil {
			return v
		}
	}
	return s.l.doc.defaults.keys[key]
}

func (s *scope) has(key string) bool { return s.find(key) != nil }

func (s *scope) fallbackFor(key string) string {
	k, ok := s.l.keys[s.kind][key]
	if !ok {
		panic("BUG: no declaration of key " + key + " for " + s.kind)
	}
	return k.Default
}

// text returns the expanded value and where it stands; the place is nil when the default is returned.
func (s *scope) text(key string) (string, *value) {
	def := s.fallbackFor(key)
	v := s.find(key)
	if v == nil {
		return def, nil
	}
	text, ok := s.expand(v, v.text)
	if !ok {
		return def, nil
	}
	return text, v
}

// plain is text without a default.
func (s *scope) plain(key string) string {
	if text, v := s.text(key); v != nil {
		return text
	}
	return ""
}

func (s *scope) expand(v *value, text string) (string, bool) {
	out, err := s.vars.expand(text)
	if err != nil {
		s.problem(v, "[%s] %s=%s %v", s.sec.name, v.key, s.show(v, text), err)
		return "", false
	}
	return out, true
}

func (s *scope) show(v *value, text string) string {
	switch strings.ToLower(v.key) {
	case "password", "environment": // a message goes to logs, a secret must not
		return `"…"`
	}
	return quote(text)
}

func (s *scope) problem(v *value, format string, args ...any) {
	p := problemf(v.file, v.line, format, args...)
	if s.soft {
		s.l.warn(p)
	} else {
		s.l.fail(p)
	}
}

// bad says what would be right.
func (s *scope) bad(v *value, text, want string) {
	s.problem(v, "[%s] %s=%s: want %s", s.sec.name, v.key, s.show(v, text), want)
}

// at is a problem of the section as a whole.
func (s *scope) at(format string, args ...any) {
	s.problem(&value{file: s.sec.file, line: s.sec.line}, "["+strings.ReplaceAll(s.sec.name, "%", "%%")+"] "+format, args...)
}

func (s *scope) integer(key string) int {
	text, v := s.text(key)
	n, err := integer(text)
	if err != nil && v != nil {
		want := "a whole number, such as 3"
		if s.l.keys[s.kind][key].Type == "seconds" {
			want = "a whole number of seconds, such as 10"
		}
		s.bad(v, text, want)
		n, _ = integer(s.fallbackFor(key))
	}
	return n
}

// between is an integer with bounds, which are checked only when the key is given.
func (s *scope) between(key string, low, high int, want string) int {
	n := s.integer(key)
	if v := s.find(key); v != nil && (n < low || n > high) {
		text, _ := s.text(key)
		s.bad(v, text, want)
		n, _ = integer(s.fallbackFor(key))
	}
	return n
}

func (s *scope) boolean(key string) bool {
	text, v := s.text(key)
	b, ok := boolean(text)
	if !ok && v != nil {
		s.bad(v, text, "true or false")
		b, _ = boolean(s.fallbackFor(key))
	}
	return b
}

func (s *scope) bytes(key string) int64 {
	text, v := s.text(key)
	n, err := byteSize(text)
	if err != nil && v != nil {
		s.bad(v, text, "a number of bytes, or a size such as 512KB, 50MB or 1GB")
		n, _ = byteSize(s.fallbackFor(key))
	}
	return n
}

// octal is -1 when the key is absent.
func (s *scope) octal(key string) int {
	text, v := s.text(key)
	if v == nil {
		return -1
	}
	n, err := octal(text)
	if err != nil {
		s.bad(v, text, "an octal number, such as 022")
		return -1
	}
	return n
}

// environment returns nil when the key is absent.
func (s *scope) environment(key string) map[string]string {
	text, v := s.text(key)
	if v == nil {
		return nil
	}
	return s.pairs(v, text)
}

func (s *scope) pairs(v *value, text string) map[string]string {
	env, dropped, err := parseEnvironment(text)
	if err != nil {
		s.problem(v, "[%s] %s=%s %v", s.sec.name, v.key, s.show(v, text), err)
		return nil
	}
	for _, d := range dropped {
		s.l.warn(problemf(v.file, v.line, "[%s] %s: %s is left out, as in Supervisor: put the value in quotes", s.sec.name, v.key, quote(d)))
	}
	return env
}

// dirPath checks a path of a file that may yet have to be made: its directory must exist.
func (s *scope) dirPath(v *value, path string) string {
	path = s.l.expandUser(path)
	dir, _ := splitPath(path)
	if dir != "" && !s.l.isDir(dir) {
		s.bad(v, path, "a path in a directory that exists: make "+quote(dir)+" first")
	}
	return path
}

func (s *scope) dir(key string) string {
	text, v := s.text(key)
	if v == nil {
		return ""
	}
	dir := s.l.expandUser(text)
	if !s.l.isDir(dir) {
		s.bad(v, text, "a directory that exists")
	}
	return dir
}

// isDir remembers its answers: a thousand programs log to the same directory.
func (l *loader) isDir(path string) bool {
	is, known := l.dirs[path]
	if !known {
		st, err := os.Stat(path)
		is = err == nil && st.IsDir()
		l.dirs[path] = is
	}
	return is
}

// normalize is Supervisor's normalize_path.
func (l *loader) normalize(path string) string { return absolute(l.expandUser(path)) }

// unknownKeys warns of keys that mean nothing in this kind of section.
func (s *scope) unknownKeys() {
	for _, lower := range s.sec.order {
		if _, known := s.l.keys[s.kind][lower]; known {
			continue
		}
		v := s.sec.keys[lower]
		if v.inherited || lower == "liveness_log" && s.kind != kListener { // check tells of that one
			continue
		}
		hint := ""
		if strings.HasPrefix(lower, "[") {
			hint = `: a line that starts a section ends with "]"`
		} else if len(s.l.doubts)+len(s.l.errs) > maxHints {
			hint = ""
		} else if other := s.l.keys.suggest(s.kind, v.key); other != "" {
			hint = ": did you mean " + other + "?"
		} else if kinds := s.l.keys.kindsOf(lower); kinds != "" {
			hint = ": it belongs in " + kinds
		}
		s.l.doubt(problemf(v.file, v.line, "[%s] %s is not a key of this section%s", s.sec.name, v.key, hint))
	}
}

// kindsOf names the sections that a key may stand in.
func (t keyTable) kindsOf(lower string) string {
	var in []string
	for _, kind := range []string{kSupervisord, kUnix, kInet, kCtl, kInclude, kGroup, kProgram, kListener, kFastCGI} {
		if _, ok := t[kind][lower]; !ok {
			continue
		}
		switch kind {
		case kGroup, kProgram, kListener, kFastCGI:
			kind += ":x"
		}
		in = append(in, "["+kind+"]")
	}
	return strings.Join(in, " or ")
}
