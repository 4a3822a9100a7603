package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// maxFile bounds the config file: a thousand routes need a tenth of it.
const maxFile = 1 << 20

// Options says where settings come from.
type Options struct {
	// File is the YAML file. Empty means DefaultFile, which may be absent; a file named here may not.
	File string
	// Env is the environment, as os.Environ gives it.
	Env []string
	// UID names the fallback of the control socket.
	UID int
	// Elsewhere says that the settings are for another machine: the files of proxy.sources are there and not here, and
	// what is here is nobody's business who wrote the settings.
	Elsewhere bool
}

// Load reads the settings. Its error is Problems, with everything that is wrong.
func Load(opts Options) (*Config, error) {
	file, must := opts.File, true
	if file == "" {
		file, must = DefaultFile, false
	}
	data, err := readFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !must:
		file = ""
	case err != nil:
		return nil, Problems{{File: file, Msg: err.Error()}}
	}
	return Parse(file, data, opts)
}

// Parse is Load for a file that has been read.
func Parse(file string, data []byte, opts Options) (*Config, error) {
	env := envMap(opts.Env)
	c := &Config{File: file, fallback: socketFallbacks(env, opts.UID)}
	d := &decoder{origins: map[string]origin{}, budget: maxNodes}
	d.defaults("", reflect.ValueOf(c).Elem())
	d.origins = map[string]origin{}
	d.src = origin{file: file}
	d.document(data, reflect.ValueOf(c).Elem())
	c.Warnings = d.environment(env, reflect.ValueOf(c).Elem())
	c.origins = d.origins
	for _, p := range c.expandAll(env) {
		d.problems, d.unread = append(d.problems, p), append(d.unread, p.Key)
	}
	d.problems = append(d.problems, c.applySources(opts.Elsewhere)...)
	c.applyPresets()
	c.derive(env, opts.UID)
	if len(d.problems) == 0 {
		d.problems = c.validate()
	} else {
		// A value that could not be read must not hide what is wrong with the others.
		d.problems = append(d.problems, dropUnread(c.validate(), d.unread)...)
	}
	if len(d.problems) > 0 {
		sort.SliceStable(d.problems, func(i, j int) bool {
			a, b := &d.problems[i], &d.problems[j]
			if a.Env != b.Env {
				return a.Env < b.Env
			}
			return a.Line < b.Line
		})
		return nil, d.problems
	}
	c.Proxy.Sources = nil // they are checked, and what they stood for is in proxy.routes
	return c, nil
}

// dropUnread leaves out the problems of keys (and of what is below them) whose value could not be read at all.
func dropUnread(ps Problems, unread []string) Problems {
	return slices.DeleteFunc(ps, func(p Problem) bool {
		return slices.ContainsFunc(unread, func(key string) bool {
			below, ok := strings.CutPrefix(p.Key, key)
			return ok && (below == "" || below[0] == '.' || below[0] == '[')
		})
	})
}

// readFile reads at most maxFile bytes of text; its errors read well after "file: ".
func readFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // NONBLOCK: a FIFO must not hang the start
	if err != nil {
		return nil, fmt.Errorf("cannot open it: %w", bare(err))
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil {
		return nil, fmt.Errorf("cannot stat it: %w", bare(err))
	} else if !st.Mode().IsRegular() {
		kind := "a special file"
		if st.IsDir() {
			kind = "a directory"
		}
		return nil, fmt.Errorf("is %s; want a YAML file", kind)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read it: %w", bare(err))
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("is larger than %d KiB, which no config needs; is this the right file?", maxFile>>10)
	}
	return data, nil
}

// bare takes the path out of an os error: the message names it already.
func bare(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

var (
	yamlLine = regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?`)
	// parserText is what the YAML library says of tokens in the wrong place: with those it counts lines from 0
	// and names the line of the error or of where the enclosing collection begins.
	parserText = regexp.MustCompile(`^did not find expected (<|node content|key$|'-' indicator|',' or)`)
)

// document decodes the one YAML document of a file into v.
func (d *decoder) document(data []byte, v reflect.Value) {
	if bytes.IndexByte(data, 0) >= 0 || !utf8.Valid(data) {
		line := 1 + bytes.Count(data[:firstBad(data)], []byte("\n"))
		d.problems = append(d.problems, Problem{File: d.src.file, Line: line, Msg: "is not text: want YAML in UTF-8"})
		return
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return // empty, or comments only: every key has a default
	}
	if err != nil {
		d.syntax(err)
		return
	}
	var second yaml.Node
	if err := dec.Decode(&second); err == nil {
		d.problems = append(d.problems, Problem{File: d.src.file, Line: second.Line, Msg: "a second YAML document begins here; want one"})
	} else if !errors.Is(err, io.EOF) {
		d.syntax(err)
	}
	if len(doc.Content) == 1 && !isNull(doc.Content[0]) {
		d.value("", doc.Content[0], v, "")
	}
}

// syntax reports an error of the YAML parser, whose text begins with its line.
func (d *decoder) syntax(err error) {
	msg := err.Error()
	m := yamlLine.FindStringSubmatch(msg)
	line, _ := strconv.Atoi(m[1]) // 0 where the parser names none
	msg = strings.TrimPrefix(msg, m[0])
	if parserText.MatchString(msg) {
		line++
		msg += " (here or further down)"
	}
	d.problems = append(d.problems, Problem{File: d.src.file, Line: line, Env: d.src.env, Msg: "is not valid YAML: " + msg})
}

// firstBad is the offset of the first NUL or byte that is not UTF-8.
func firstBad(data []byte) int {
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		if r == 0 || r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return 0
}

func envMap(env []string) map[string]string {
	m := make(map[string]string, len(env))
	for _, kv := range env {
		if k, v, ok := strings.Cut(kv, "="); ok {
			m[k] = v
		}
	}
	return m
}
