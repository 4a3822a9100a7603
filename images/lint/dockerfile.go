package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// step is one instruction of a Dockerfile.
type step struct {
	line  int
	name  string   // in upper case
	flags []string // --from=…
	text  string   // the rest, continuation lines joined by a space
	stage int      // index of its FROM; -1 before the first
}

// words are the text split at blanks, or the elements of its JSON form.
func (s step) words() []string {
	if list, ok := s.list(); ok {
		return list
	}
	return strings.Fields(s.text)
}

// list is the JSON form; ok is false when it is written as for a shell.
func (s step) list() (list []string, ok bool) {
	if !strings.HasPrefix(strings.TrimSpace(s.text), "[") {
		return nil, false
	}
	return list, json.Unmarshal([]byte(s.text), &list) == nil
}

func (s step) flag(name string) (string, bool) {
	for _, f := range s.flags {
		if v, ok := strings.CutPrefix(f, "--"+name); ok && (v == "" || v[0] == '=') {
			return strings.TrimPrefix(v, "="), true
		}
	}
	return "", false
}

var known = []string{
	"ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER", "ONBUILD", "RUN",
	"SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
}

// parse reads a Dockerfile as the old builder does: an instruction a line, \ continues it, comments and empty lines
// within a continued one do not count.
func parse(text string) (steps []step, directives map[string]int, err error) {
	directives = map[string]int{}
	stage, top := -1, true
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		line := strings.TrimSpace(lines[i])
		if d := directive.FindStringSubmatch(line); d != nil && top {
			directives[strings.ToLower(d[1])] = i + 1
			continue
		}
		top = false
		if line == "" || line[0] == '#' {
			continue
		}
		s := step{line: i + 1}
		var parts []string
		for more := true; more; {
			if line, more = strings.CutSuffix(line, `\`); line != "" {
				parts = append(parts, strings.TrimSpace(line))
			}
			for more && i+1 < len(lines) {
				i++
				if line = strings.TrimSpace(lines[i]); line != "" && line[0] != '#' {
					break
				}
				line = ""
			}
			more = more && line != ""
		}
		s.name, s.text, _ = strings.Cut(strings.Join(parts, " "), " ")
		s.name = strings.ToUpper(s.name)
		if !slices.Contains(known, s.name) {
			return nil, nil, fmt.Errorf("%d: there is no instruction %q", s.line, s.name)
		}
		for s.text = strings.TrimSpace(s.text); strings.HasPrefix(s.text, "--") && s.name != "CMD" && s.name != "ENTRYPOINT"; {
			var flag string
			flag, s.text, _ = strings.Cut(s.text, " ")
			s.flags, s.text = append(s.flags, flag), strings.TrimSpace(s.text)
		}
		if s.name == "FROM" {
			stage++
		}
		s.stage = stage
		steps = append(steps, s)
	}
	return steps, directives, nil
}

var directive = regexp.MustCompile(`^#\s*(syntax|escape|check)\s*=`)

// pairs are the key=value of ENV, LABEL and ARG, unquoted.
func (s step) pairs() map[string]string {
	found := map[string]string{}
	for text := strings.TrimSpace(s.text); text != ""; text = strings.TrimSpace(text) {
		end := strings.IndexAny(text, "= ")
		if end < 0 {
			found[text] = ""
			break
		}
		key := text[:end]
		if text[end] == ' ' { // ENV key value, ARG key
			found[key] = strings.TrimSpace(text[end:])
			break
		}
		var n int
		found[key], n = unquote(text[end+1:])
		text = text[end+1+n:]
	}
	return found
}

// unquote reads one word of a Dockerfile and says how many bytes of the text it takes.
func unquote(text string) (word string, n int) {
	var w strings.Builder
	quote := byte(0)
	for n < len(text) {
		switch c := text[n]; {
		case c == '\\' && n+1 < len(text) && quote != '\'':
			n++
			w.WriteByte(text[n])
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && c == ' ':
			return w.String(), n
		default:
			w.WriteByte(c)
		}
		n++
	}
	return w.String(), n
}

// expand replaces $name and ${name} by what is known of them.
func expand(text string, args map[string]string) string {
	return variable.ReplaceAllStringFunc(text, func(m string) string {
		if v, ok := args[strings.Trim(m, "${}")]; ok {
			return v
		}
		return m
	})
}

var variable = regexp.MustCompile(`\$\{?[A-Za-z_][A-Za-z0-9_]*\}?`)

// file is a parsed Dockerfile with its folder's name.
type file struct {
	name   string // of the image
	path   string
	steps  []step
	labels map[string]string // of the last stage
	lines  map[string]int    // where each label is
}

func (f *file) at(line int, format string, args ...any) fault {
	return fault{f.path, line, fmt.Sprintf(format, args...)}
}

func (f *file) label(name string) string { return f.labels[name] }

// last are the steps of the last stage, in order.
func (f *file) last() []step {
	if len(f.steps) == 0 {
		return nil
	}
	stage := f.steps[len(f.steps)-1].stage
	return slices.DeleteFunc(slices.Clone(f.steps), func(s step) bool { return s.stage != stage })
}

// one is the last step of a name in the last stage, which is the one that counts.
func (f *file) one(name string) (step, bool) {
	for _, s := range slices.Backward(f.last()) {
		if s.name == name {
			return s, true
		}
	}
	return step{}, false
}

// args are the defaults of ARG before the first FROM and in the last stage.
func (f *file) args() map[string]string {
	found := map[string]string{}
	for _, s := range slices.Concat(f.before(), f.last()) {
		if s.name == "ARG" {
			maps.Copy(found, s.pairs())
		}
	}
	return found
}

// before are the steps before the first FROM.
func (f *file) before() []step {
	return slices.DeleteFunc(slices.Clone(f.steps), func(s step) bool { return s.stage != -1 })
}
