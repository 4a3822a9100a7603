package config

import (
	"fmt"
	"strings"
)

// Problem is one thing wrong with the settings, told so that their author can mend it.
type Problem struct {
	// File and Line say where; for a setting from the environment File is empty and Env names the variable.
	File string
	Line int
	Env  string
	// Key is the setting, such as proxy.routes[0].upstream; empty when the problem is the file itself.
	Key string
	// Msg says what is wrong and what would be right.
	Msg string
}

// String is "file:line: key: message".
func (p Problem) String() string {
	var b strings.Builder
	switch {
	case p.Env != "":
		b.WriteString("environment " + p.Env + ": ")
	case p.Line > 0:
		fmt.Fprintf(&b, "%s:%d: ", p.File, p.Line)
	case p.File != "":
		b.WriteString(p.File + ": ")
	}
	if p.Key != "" && (p.Env == "" || EnvName(p.Key) != p.Env) { // a variable may hold a whole list
		b.WriteString(p.Key + ": ")
	}
	b.WriteString(p.Msg)
	return b.String()
}

// Problems is the error of Load: everything wrong at once.
type Problems []Problem

func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// origin is where a key got its value.
type origin struct {
	file string
	line int
	env  string
}

func (o origin) String() string {
	if o.env != "" {
		return o.env
	}
	return fmt.Sprintf("%s:%d", o.file, o.line)
}

func (o origin) problem(key, format string, args ...any) Problem {
	return Problem{File: o.file, Line: o.line, Env: o.env, Key: key, Msg: fmt.Sprintf(format, args...)}
}
