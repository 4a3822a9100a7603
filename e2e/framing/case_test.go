package framing

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	got, err := Parse(`# about
== one
# why
> POST / HTTP/1.1\r\n
> \*3{A:\tb\\ \x80\0\s}|
= 100? 200 open
< POST / a\r\nb c
+ Host: a
- Connection
< GET /
== two
> x
= wait
~
`)
	if err != nil {
		t.Fatal(err)
	}
	want := []*Case{
		{
			Name: "one", Raw: []byte("POST / HTTP/1.1\r\n" + strings.Repeat("A:\tb\\ \x80\x00 ", 3) + "|"),
			Answers: []string{"200"}, End: Open, MayContinue: true,
			Requests: []Want{
				{Method: "POST", Target: "/", Body: "a\r\nb c", Has: []string{"Host: a"}, Not: []string{"Connection"}},
				{Method: "GET", Target: "/"},
			},
		},
		{Name: "two", Raw: []byte("x"), End: Wait, Broken: true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestParseErrors(t *testing.T) {
	for text, want := range map[string]string{
		"> x":                         "line 1: is before the first case",
		"== a\n> x":                   `case "a" lacks a request or a verdict`,
		"== a\n= 400 close\n== b":     `case "a" lacks a request or a verdict`,
		"== a\n> \\q":                 `cannot understand \q`,
		"== a\n> \\":                  "a line ends with a backslash",
		"== a\n> \\*x{y}":             `cannot understand \*x{y}`,
		"== a\n> \\*2{y":              `cannot understand \*2{y`,
		"== a\n= 400":                 `a verdict ends with open, close or wait, not "400"`,
		"== a\n=":                     "the verdict is empty",
		"== a\n> x\n+ A: b":           `cannot understand "+ A: b"`,
		"== a\n> x\n= open\n< GET":    `want a method and a target in "GET"`,
		"== a\n> \\xzz\n= 400 close":  "invalid syntax",
		"== a\n> x\n= 400 close\n? b": `cannot understand "? b"`,
	} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}
