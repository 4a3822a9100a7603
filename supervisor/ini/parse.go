package ini

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// value is one key as its author typed it.
type value struct {
	key  string // as typed
	text string // joined over its continuation lines
	file string
	line int

	inherited bool // copied from [DEFAULT]

	parts []string // until the file has been read to its end
}

// section is one [name] with its keys. Sections of the same name in one or many files are one section.
type section struct {
	name  string
	file  string
	line  int
	keys  map[string]*value // by lower-case key
	order []string
}

func newSection(name, file string, line int) *section {
	return &section{name: name, file: file, line: line, keys: map[string]*value{}}
}

func (s *section) set(lower string, v *value) {
	if _, ok := s.keys[lower]; !ok {
		s.order = append(s.order, lower)
	}
	s.keys[lower] = v
}

// document is what Python's RawConfigParser holds after reading one or more files, with
// strict=False and ';' and '#' as inline comment prefixes, as Supervisor configures it.
type document struct {
	sections map[string]*section
	order    []string
	defaults *section // [DEFAULT]: its keys show through in every section
}

func newDocument() *document {
	return &document{sections: map[string]*section{}, defaults: newSection("DEFAULT", "", 0)}
}

func (d *document) section(name string) *section { return d.sections[name] }

// reader reads one file into a document.
type reader struct {
	doc    *document
	file   string
	cur    *section
	opt    *value
	indent int
	errs   []Problem
	warns  []Problem
}

// read adds a file's text to the document. The quirks of Python's parser are kept, since files
// that live with them exist: a comment inside a line is found as _read finds it, indented lines
// continue a value, later keys replace earlier ones.
func (d *document) read(file, text string) (errs, warns []Problem) {
	r := &reader{doc: d, file: file}
	text = strings.TrimPrefix(text, "\ufeff")
	text = strings.ReplaceAll(text, "\r\n", "\n")
	text = strings.ReplaceAll(text, "\r", "\n")
	for n := 1; text != ""; n++ {
		var line string
		line, text, _ = strings.Cut(text, "\n")
		if !r.line(n, line) {
			break
		}
	}
	d.join()
	return r.errs, r.warns
}

// line takes one line; false means that nothing after it can be understood.
func (r *reader) line(n int, line string) bool {
	start := commentStart(line)
	text := line
	if start >= 0 {
		text = line[:start]
	}
	text = strip(text)
	if text == "" {
		if start < 0 && r.opt != nil {
			r.opt.parts = append(r.opt.parts, "")
		}
		return true
	}
	indent := indentOf(line)
	if r.opt != nil && indent > r.indent {
		r.opt.parts = append(r.opt.parts, text)
		return true
	}
	r.indent = indent
	if name, ok := sectionHeader(text); ok {
		r.enter(n, name)
		return true
	}
	if r.cur == nil {
		r.fail(n, "%s stands before any [section]: want a line such as [program:web] first", quote(text))
		return false
	}
	at := strings.IndexAny(text, "=:")
	if at < 0 {
		r.fail(n, "[%s] %s: want key=value", r.cur.name, quote(text))
		return true
	}
	key := strip(text[:at])
	if key == "" {
		r.fail(n, "[%s] %s: want a key before the %q", r.cur.name, quote(text), text[at:at+1])
		return true
	}
	lower := strings.ToLower(key)
	if old := r.cur.keys[lower]; old != nil && old.file == r.file && old.line != n && old.parts != nil {
		r.warn(n, "[%s] %s is given twice: the value of line %d is not used", r.cur.name, key, old.line)
	}
	r.opt = &value{key: key, file: r.file, line: n, parts: []string{strip(text[at+1:])}}
	r.cur.set(lower, r.opt)
	return true
}

func (r *reader) enter(n int, name string) {
	r.opt = nil
	if name == r.doc.defaults.name {
		r.cur = r.doc.defaults
		return
	}
	if s := r.doc.sections[name]; s != nil {
		if (s.file != r.file || s.line != n) && name != kInclude {
			r.warn(n, "[%s] is already in %s:%d: the two are merged, later keys win", name, s.file, s.line)
		}
		r.cur = s
		return
	}
	r.cur = newSection(name, r.file, n)
	r.doc.sections[name] = r.cur
	r.doc.order = append(r.doc.order, name)
}

func (r *reader) fail(n int, format string, args ...any) {
	if len(r.errs) <= maxProblems {
		r.errs = append(r.errs, problemf(r.file, n, format, args...))
	}
}

func (r *reader) warn(n int, format string, args ...any) {
	if len(r.warns) <= maxProblems {
		r.warns = append(r.warns, problemf(r.file, n, format, args...))
	}
}

func (d *document) join() {
	d.defaults.join()
	for _, s := range d.sections {
		s.join()
	}
}

func (s *section) join() {
	for _, v := range s.keys {
		if v.parts != nil {
			v.text = strings.TrimRightFunc(strings.Join(v.parts, "\n"), isSpace)
			v.parts = nil
		}
	}
}

// expandHere puts a file's directory in place of %(here)s wherever it still stands, which gives
// every file its own: the main file's keys have had theirs replaced before the first include.
func (d *document) expandHere(here string) {
	const format = "%(here)s"
	for _, name := range d.order {
		s := d.sections[name]
		for key, v := range d.defaults.keys {
			if _, own := s.keys[key]; !own && strings.Contains(v.text, format) {
				copied := *v
				copied.inherited = true
				s.set(key, &copied)
			}
		}
		for _, v := range s.keys {
			v.text = strings.ReplaceAll(v.text, format, here)
		}
	}
}

// commentStart is where a comment begins, or -1. Python looks for the n-th ';' and the n-th '#'
// together and stops at the first n where one of them follows white space, so that in
// "a;b ;c #d" the comment is "#d".
func commentStart(line string) int {
	found := -1
	semi, hash := 0, 0
	for found < 0 && (semi >= 0 || hash >= 0) {
		semi = nextPrefix(line, ';', semi, &found)
		hash = nextPrefix(line, '#', hash, &found)
	}
	if t := strip(line); t != "" && (t[0] == '#' || t[0] == ';') {
		return 0
	}
	return found
}

// nextPrefix returns the place after the next c at or after from, or -1 when there is none,
// and lowers *found when that c starts a comment.
func nextPrefix(line string, c byte, from int, found *int) int {
	if from < 0 {
		return -1
	}
	i := strings.IndexByte(line[from:], c)
	if i < 0 {
		return -1
	}
	i += from
	if before, _ := utf8.DecodeLastRuneInString(line[:i]); i == 0 || isSpace(before) {
		if *found < 0 || i < *found {
			*found = i
		}
	}
	return i + 1
}

// indentOf counts the white space before the text, a tab as one.
func indentOf(line string) int {
	n := 0
	for _, r := range line {
		if !isSpace(r) {
			return n
		}
		n++
	}
	return 0
}

func sectionHeader(text string) (string, bool) {
	if text[0] != '[' {
		return "", false
	}
	end := strings.LastIndexByte(text, ']')
	if end < 2 {
		return "", false
	}
	return text[1:end], true
}

// isSpace is Python's str.isspace, which also knows the four separators from 0x1c.
func isSpace(r rune) bool { return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f }

func strip(s string) string { return strings.TrimFunc(s, isSpace) }
