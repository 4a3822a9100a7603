package scp

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"
)

func TestPlain(t *testing.T) {
	for command, want := range map[string]bool{
		"scp -t d": true, "scp -r -p -d -t -- '/a b/c'": true, `scp -f a\ b "c d" 'e'"'"'f'`: true, "scp -f ~/a ~": true, "scp -f ''": true,
		"scp -f 'a$*?[]{};|&<>()#!`\\~'": true, "scp -f ü": true, "scp -f a=b": true, "scp -f a,b:c@d+e%f": true, "scp -f \\*": true,
		"scp -f *": false, "scp -f a?": false, "scp -f [a]": false, "scp -f {a,b}": false, "scp -f $A": false, `scp -f "$A"`: false,
		"scp -f `a`": false, `scp -f "\a"`: false, `scp -f "a!b"`: false, "scp -f ~me": false, "scp -f a~": false, "scp -f a^b": false,
		"scp -f a#b": false, "scp -f =ls": false, "scp -f a;b": false, "scp -f a\nb": false, "scp -f a\\": false, "scp -f 'a": false,
		"scp -f a\\\nb": false, "scp -f a&": false, "scp -f a|b": false, "scp -f <a": false, "scp -f (a)": false, "scp -f !a": false,
	} {
		if got := Plain(command); got != want {
			t.Errorf("Plain(%q) = %v, want %v", command, got, want)
		}
	}
}

// FuzzPlain asks the shells: what is plain has the words that Parse finds.
func FuzzPlain(f *testing.F) {
	for _, s := range []string{"'a b'\\ c", "~ ~/x", `"a'b"`, "a=b", "''", "\x80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, rest string) {
		command := "scp -f " + rest
		if strings.Contains(rest, "\x00") || !Plain(command) {
			return
		}
		args, ok := Parse(command, "/home/me")
		if !ok {
			return
		}
		want := strings.Join(args, "\x00") + "\x00"
		for _, shell := range []string{"sh", "bash"} {
			cmd := exec.Command(shell, "-c", `scp() { printf '%s\0' "$@"; }; `+command)
			cmd.Env = []string{"HOME=/home/me", "LC_ALL=C", "PATH=/usr/bin:/bin"}
			got, err := cmd.Output()
			if err != nil || !bytes.Equal(got, []byte(want)) {
				t.Errorf("%s makes %q of %q (%v); Parse: %q", shell, got, command, err, want)
			}
		}
	})
}
