package ini

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"syscall"
	"unicode/utf8"
)

// What a set of files may cost, so that a wrong path or a hostile file is refused and not swallowed.
const (
	maxFile      = 4 << 20  // bytes of one file
	maxFiles     = 16 << 20 // bytes of all files
	maxProcs     = 10_000   // numprocs of one program, and processes of all
	maxProcBytes = 64 << 20 // bytes of all expanded commands and environments
	maxProblems  = 1000     // problems and warnings told, each
	maxHints     = 100      // problems after which no guess is made at what was meant
)

// Options says what to load and what %(…)s can see.
type Options struct {
	// Main is the supervisord.conf, or "" when there are only programs' files.
	Main string
	// Include are globs of further files. Each is read as if the main file included it;
	// %(here)s in it is its own directory. A glob without a match is fine.
	Include []string
	// Env is what %(ENV_x)s sees; nil is the environment of this process.
	Env map[string]string
	// Hostname is %(host_node_name)s; "" is this host's.
	Hostname string
	// Strict makes errors of the warnings about what was not understood: unknown keys, sections
	// that look like a misspelt one, commands that cannot be split.
	Strict bool
	// Planned are users, by name, that do not have to exist yet, and their numbers; -1 is not known.
	Planned map[string]int
}

// loader holds what is known while one Load runs.
type loader struct {
	opts     Options
	env      map[string]string // ENV_x
	host     string
	here     string // the main file's directory; "" without a main file
	doc      *document
	keys     keyTable
	users    *accounts
	rank     map[string]int // order of the files, for sorting problems
	dirs     map[string]bool
	size     int64
	procs    int
	expanded int
	seen     map[Problem]bool
	errs     []Problem
	warnings []Problem
	doubts   []Problem // warnings of what is probably a slip
	conf     *Config
}

// Load reads the main file and everything that it includes, then the further globs, and checks
// all of it. The error is a Problems with everything that is wrong; then the Config is nil.
func Load(opts Options) (*Config, error) {
	l := newLoader(opts)
	l.readAll()
	if len(l.errs) == 0 || len(l.doc.order) > 0 {
		l.build()
	}
	if len(l.errs) > 0 {
		// What looks like a slip is often why something else is missing.
		problems := append(l.errs, l.doubts...)
		sortProblems(problems, l.rank)
		return nil, Problems(problems)
	}
	l.conf.Warnings = append(l.warnings, l.doubts...)
	sortProblems(l.conf.Warnings, l.rank)
	return l.conf, nil
}

func newLoader(opts Options) *loader {
	l := &loader{
		opts:  opts,
		env:   map[string]string{},
		host:  opts.Hostname,
		doc:   newDocument(),
		keys:  newKeyTable(),
		users: &accounts{passwd: "/etc/passwd", group: "/etc/group", planned: opts.Planned},
		rank:  map[string]int{},
		dirs:  map[string]bool{},
		seen:  map[Problem]bool{},
		conf:  &Config{},
	}
	if opts.Env == nil {
		for _, kv := range os.Environ() {
			if k, v, ok := strings.Cut(kv, "="); ok {
				l.env["ENV_"+k] = v
			}
		}
	}
	for k, v := range opts.Env {
		l.env["ENV_"+k] = v
	}
	if l.host == "" {
		if name, err := os.Hostname(); err == nil {
			l.host = name
		}
	}
	return l
}

func sortProblems(ps []Problem, rank map[string]int) {
	sort.SliceStable(ps, func(i, j int) bool {
		a, b := &ps[i], &ps[j]
		if rank[a.File] != rank[b.File] {
			return rank[a.File] < rank[b.File]
		}
		return a.Line < b.Line
	})
}

func (l *loader) fail(p Problem) { l.tell(&l.errs, p) }

func (l *loader) warn(p Problem) { l.tell(&l.warnings, p) }

// tell keeps a problem once, and no more than anybody would read.
func (l *loader) tell(list *[]Problem, p Problem) {
	if l.seen[p] || len(*list) > maxProblems {
		return
	}
	l.seen[p] = true
	if len(*list) == maxProblems {
		p.Msg = "there are more problems than these: mend them and look again"
	}
	*list = append(*list, p)
}

// doubt warns of what is probably a mistake; Options.Strict makes it an error.
func (l *loader) doubt(p Problem) {
	if l.opts.Strict {
		l.fail(p)
	} else {
		l.tell(&l.doubts, p)
	}
}

func (l *loader) readAll() {
	if l.opts.Main != "" {
		l.here = filepath.Dir(absolute(l.opts.Main))
		if l.readFile(l.opts.Main, true) {
			if len(l.errs) == 0 && len(l.doc.order) == 0 {
				// A wrong path or a file that was not filled in; included files may be empty.
				l.fail(problemf(l.opts.Main, 0, "is empty: want sections such as [supervisord] and [program:web]"))
			}
			l.readIncludes()
		}
	}
	for _, pattern := range l.opts.Include {
		pattern = absolute(pattern)
		l.conf.Globs = append(l.conf.Globs, pattern)
		for _, name := range glob(pattern) {
			if !slices.Contains(l.conf.Files, name) && l.readFile(name, !hasMagic(pattern)) {
				l.doc.expandHere(filepath.Dir(name))
			}
		}
	}
}

// readIncludes follows the main file's [include], and that one only, as Supervisor does.
func (l *loader) readIncludes() {
	inc := l.doc.section(kInclude)
	if inc == nil {
		return
	}
	l.doc.expandHere(l.here)
	files := l.doc.value(inc, "files")
	if files == nil {
		l.fail(problemf(inc.file, inc.line, "[include] has no files: want a line such as files = conf.d/*.conf"))
		return
	}
	vars := expansions{map[string]any{"here": l.here, "host_node_name": l.host}, l.env}
	text, err := vars.expand(files.text)
	if err != nil {
		l.fail(problemf(files.file, files.line, "[include] %s=%s %v", files.key, quote(files.text), err))
		return
	}
	for _, pattern := range strings.FieldsFunc(text, isSpace) {
		if !filepath.IsAbs(pattern) {
			pattern = l.here + "/" + pattern
		}
		l.conf.Globs = append(l.conf.Globs, pattern)
		found := glob(pattern)
		if len(found) == 0 {
			l.warn(problemf(files.file, files.line, "[include] %s: no file matches %s", files.key, quote(pattern)))
		}
		for _, name := range found {
			if l.readFile(name, !hasMagic(pattern)) {
				l.doc.expandHere(filepath.Dir(absolute(name)))
			}
		}
	}
	if inc := l.doc.section(kInclude); inc != nil {
		if v := l.doc.value(inc, "files"); v != nil && v != files {
			l.warn(problemf(v.file, v.line, "[include] in an included file is not followed, as in Supervisor"))
		}
	}
}

// readFile adds one file to the document. A named file must be there; one that a pattern found
// may be a directory or a link to nothing, which is passed over with a warning.
func (l *loader) readFile(name string, named bool) bool {
	if _, again := l.rank[name]; !again {
		l.rank[name] = len(l.rank)
		l.conf.Files = append(l.conf.Files, absolute(name))
	}
	text, err := readText(name, min(maxFile, maxFiles-l.size))
	if err != nil {
		p := problemf(name, 0, "%v", err)
		if !named && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, errDirectory)) {
			l.warn(p)
		} else {
			l.fail(p)
		}
		return false
	}
	l.size += int64(len(text))
	errs, warns := l.doc.read(name, text)
	for _, p := range errs {
		l.fail(p)
	}
	for _, p := range warns {
		l.warn(p)
	}
	if strip(text) == "" && name != l.opts.Main {
		l.warn(problemf(name, 0, "is empty"))
	}
	return true
}

var errDirectory = errors.New("is a directory: want a file")

func readText(name string, limit int64) (string, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // NONBLOCK: a FIFO that nobody writes to must not hang the start
	if err != nil {
		return "", fmt.Errorf("cannot be read: %w", reason(err))
	}
	defer f.Close()
	st, err := f.Stat()
	switch {
	case err != nil:
		return "", fmt.Errorf("cannot be read: %w", reason(err))
	case st.IsDir():
		return "", errDirectory
	case st.Size() > limit:
		return "", errTooLarge(limit)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("cannot be read: %w", reason(err))
	case int64(len(data)) > limit:
		return "", errTooLarge(limit)
	case bytes.IndexByte(data, 0) >= 0:
		return "", errors.New("is not text: it holds a zero byte; want an ini file in UTF-8")
	case !utf8.Valid(data):
		return "", errNotUTF8(data)
	}
	return string(data), nil
}

func errTooLarge(limit int64) error {
	if limit < maxFile {
		return fmt.Errorf("is too large: all files together may have %d MiB", maxFiles>>20)
	}
	return fmt.Errorf("is too large: want at most %d MiB", maxFile>>20)
}

func errNotUTF8(data []byte) error {
	line := 1
	for len(data) > 0 {
		r, n := utf8.DecodeRune(data)
		if r == utf8.RuneError && n == 1 {
			break
		}
		if r == '\n' {
			line++
		}
		data = data[n:]
	}
	return fmt.Errorf("is not UTF-8 text at line %d: save it as UTF-8", line)
}

// reason takes the path out of an error that is shown behind the path.
func reason(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// value finds a key in a section or in [DEFAULT].
func (d *document) value(s *section, key string) *value {
	if v := s.keys[key]; v != nil {
		return v
	}
	return d.defaults.keys[key]
}
