package models

import "testing"

// Nobody may end the agent with a URL, whatever config takes.
func TestURLsThatAreNone(t *testing.T) {
	for _, s := range []string{"", "{}", "ftp://h/x", "http://h/%zz"} {
		if src, err := (&unit{url: s}).source(); err == nil {
			t.Errorf("%q: taken as %T", s, src)
		}
	}
}
