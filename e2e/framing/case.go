package framing

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Case is one connection of a client: what it sends, and what must become of it.
type Case struct {
	Name string
	Raw  []byte
	// Answers are the statuses that the client gets, in order; "h2" for a connection that goes on in HTTP/2.
	Answers []string
	End     End
	// MayContinue tells that 100 Continue may come before: it depends on whether the body is there yet.
	MayContinue bool
	// Requests are what the upstream gets.
	Requests []Want
	// Broken tells that a request may reach the upstream in part: what is wrong is found behind its head.
	Broken bool
}

// End is what happens behind the answers.
type End string

const (
	Open  End = "open"  // the connection goes on: another request is answered
	Close End = "close" // the server closes
	Wait  End = "wait"  // more would have to come; the client gives up
)

// Want is one request as the upstream must read it.
type Want struct {
	Method, Target, Body string
	Has                  []string // whole header lines
	Not                  []string // names of fields that must not be there
}

// Load reads all cases of a directory.
func Load(dir string) ([]*Case, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil {
		return nil, err
	}
	var cases []*Case
	names := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		base := strings.TrimSuffix(filepath.Base(file), ".txt")
		more, err := Parse(string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Base(file), err)
		}
		for _, c := range more {
			c.Name = base + "/" + c.Name
			if names[c.Name] {
				return nil, fmt.Errorf("two cases are named %q", c.Name)
			}
			names[c.Name] = true
		}
		cases = append(cases, more...)
	}
	return cases, nil
}

// Parse reads the cases of one file.
func Parse(text string) ([]*Case, error) {
	var cases []*Case
	var c *Case
	for i, line := range strings.Split(text, "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		if name, ok := strings.CutPrefix(line, "== "); ok {
			if err := c.check(); err != nil {
				return nil, err
			}
			c = &Case{Name: name}
			cases = append(cases, c)
			continue
		}
		if c == nil {
			return nil, fmt.Errorf("line %d: is before the first case", i+1)
		}
		if err := c.line(line); err != nil {
			return nil, fmt.Errorf("line %d: case %q: %w", i+1, c.Name, err)
		}
	}
	return cases, c.check()
}

// check tells what a case lacks.
func (c *Case) check() error {
	if c != nil && (len(c.Raw) == 0 || c.End == "") {
		return fmt.Errorf("case %q lacks a request or a verdict", c.Name)
	}
	return nil
}

func (c *Case) line(line string) error {
	kind, rest, _ := strings.Cut(line, " ")
	var last *Want
	if n := len(c.Requests); n > 0 {
		last = &c.Requests[n-1]
	}
	switch {
	case kind == ">":
		raw, err := unescape(rest)
		if err != nil {
			return err
		}
		c.Raw = append(c.Raw, raw...)
	case kind == "=":
		words := strings.Fields(rest)
		if len(words) == 0 {
			return fmt.Errorf("the verdict is empty")
		}
		for _, answer := range words[:len(words)-1] {
			if answer == "100?" {
				c.MayContinue = true
				continue
			}
			c.Answers = append(c.Answers, answer)
		}
		c.End = End(words[len(words)-1])
		if c.End != Open && c.End != Close && c.End != Wait {
			return fmt.Errorf("a verdict ends with open, close or wait, not %q", c.End)
		}
	case kind == "<":
		words := strings.SplitN(rest, " ", 3)
		if len(words) < 2 {
			return fmt.Errorf("want a method and a target in %q", rest)
		}
		w := Want{Method: words[0]}
		var err error
		if w.Target, err = unescape(words[1]); err != nil {
			return err
		}
		if len(words) == 3 {
			if w.Body, err = unescape(words[2]); err != nil {
				return err
			}
		}
		c.Requests = append(c.Requests, w)
	case kind == "~":
		c.Broken = true
	case kind == "+" && last != nil:
		line, err := unescape(rest)
		if err != nil {
			return err
		}
		last.Has = append(last.Has, line)
	case kind == "-" && last != nil:
		last.Not = append(last.Not, rest)
	default:
		return fmt.Errorf("cannot understand %q", line)
	}
	return nil
}

// unescape understands \r \n \t \0 \s (a space, where it would be at a line's end) \\ \xNN and \*N{TEXT}, which is
// TEXT N times.
func unescape(s string) (string, error) {
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '\\')
		if i < 0 {
			b.WriteString(s)
			return b.String(), nil
		}
		b.WriteString(s[:i])
		s = s[i+1:]
		if s == "" {
			return "", fmt.Errorf("a line ends with a backslash")
		}
		c := s[0]
		s = s[1:]
		switch plain := strings.IndexByte(`rnt0s\`, c); {
		case plain >= 0:
			b.WriteByte("\r\n\t\x00 \\"[plain])
		case c == 'x' && len(s) >= 2:
			n, err := strconv.ParseUint(s[:2], 16, 8)
			if err != nil {
				return "", err
			}
			b.WriteByte(byte(n))
			s = s[2:]
		case c == '*':
			count, rest, _ := strings.Cut(s, "{")
			text, rest, closed := strings.Cut(rest, "}")
			n, err := strconv.Atoi(count)
			if err != nil || !closed {
				return "", fmt.Errorf("cannot understand \\*%s", s)
			}
			if text, err = unescape(text); err != nil {
				return "", err
			}
			b.WriteString(strings.Repeat(text, n))
			s = rest
		default:
			return "", fmt.Errorf("cannot understand \\%c", c)
		}
	}
}
