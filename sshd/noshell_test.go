package sshd

import "testing"

func TestNeedsShell(t *testing.T) {
	for command, want := range map[string]string{
		"":                                 "",
		"/app --level=3 a=b *.txt ~ #x {}": "",
		`/app 'a; b' "c | d" e\;f`:         "",
		`/app '$HOME' \$HOME "\$HOME" $`:   "",
		`/app "it's" 'a"b' 'c' ;`:          ";",
		"/a && /b":                         "&",
		"/a | /b":                          "|",
		"/a > f":                           ">",
		"/a $HOME":                         "$",
		`/a "$HOME"`:                       "$",
		"/a \"`b`\"":                       "`",
		"(/a)":                             "(",
		"/a\n/b":                           "\n",
		`/a 'x' "y" & `:                    "&",
	} {
		if got := needsShell(command); got != want {
			t.Errorf("%q: got %q, want %q", command, got, want)
		}
	}
}
