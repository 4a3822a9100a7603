package ini

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func splitCases() []string {
	return []string{
		"", " ", "a", "a b", " a  b\tc\nd\re ", `'a b' c`, `"a b" c`, `a"b"c'd'e`, `""`, `'' ""`, `a '' b`, `a\ b`, `\`, `a\`, `"a\"`,
		`"a\"b"`, `"a\\b"`, `"a\nb"`, `'a\nb'`, `a\nb`, `"`, `'`, `"a' b`, `a#b #c`, `$HOME ~ * ?`, `sh -c 'echo "it'"'"'s"'`, "é 你好\u00a0x",
		"a\vb\fc", "a\x1cb", `--x="1 2" --y='3'`, `\"a\"`, `a;b&&c|d`, "'a\nb'", `"\$x"`, "\\\n", `"'"`, `'"'`,
	}
}

func environmentCases() []string {
	return []string{
		"", "A=1", "A=1,", "A=1,B=2", `A="1,2",B='3'`, `A = 1 , B = 2`, "A=1 B=2", "A=1,,B=2", "A", "A=", "A=,B=1", "=1", `A="x`, `A=x"y z"`,
		`A="",B=''`, "A=1#2\n,B=3", "#x\nA=1", "A=50%,B=2", "A=é,B=2", "A=a*b", `"A"="b"`, `A='it"s'`, `A="'x'"`, "A=/a.b+c-d:(e)", "A=1;B=2",
		"A=1\nB=2", "A==1", `A="\""`, "A=\\x", "A=1,B", "É=1", "A=b#c\nd,E=f", "A=\u00a01", `A="1"B="2"`, "A=1\v,B=2", "A=''x,B=1", "A=x''y,B=1",
	}
}

// TestSplitAsPython compares with the module that Supervisor splits command and environment with.
func TestSplitAsPython(t *testing.T) {
	const script = `
import json, shlex, sys
from supervisor.datatypes import dict_of_key_value_pairs
split, env = json.load(sys.stdin)
def tried(f, s):
    try:
        return f(s)
    except ValueError:
        return 'refused'
print(json.dumps([[tried(shlex.split, s) for s in split], [tried(dict_of_key_value_pairs, s) for s in env]]))`
	in, err := json.Marshal([][]string{splitCases(), environmentCases()})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/usr/bin/python3", "-W", "ignore", "-c", script)
	cmd.Stdin = strings.NewReader(string(in))
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var want [2][]any
	if err := json.Unmarshal(out, &want); err != nil {
		t.Fatal(err)
	}
	for i, s := range splitCases() {
		words, err := Split(s)
		compare(t, "Split", s, words, err, want[0][i])
	}
	for i, s := range environmentCases() {
		env, _, err := parseEnvironment(s)
		compare(t, "parseEnvironment", s, env, err, want[1][i])
	}
}

func compare(t *testing.T, what, in string, got any, err error, want any) {
	t.Helper()
	if err != nil {
		got = "refused"
	}
	data, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	var plain any
	if err := json.Unmarshal(data, &plain); err != nil {
		t.Fatal(err)
	}
	if list, ok := want.([]any); ok && len(list) == 0 {
		want = nil
	}
	if diff := cmp.Diff(want, plain); diff != "" {
		t.Errorf("%s(%q) (-Python +inpod):\n%s", what, in, diff)
	}
}

// TestExpandAsPython compares with Python's % operator.
func TestExpandAsPython(t *testing.T) {
	formats := strings.Split(`a%%b|%(n)d|%(n)+d|%(n) d|%(n)#x|%(n)#X|%(n)#o|%(n)-5dx|%(n)05d|%(n)-05dx|%(n).4d|%(n)7.4d|%(n)07.4d|%(n)e|%(n)g|%(n)#g|%(n)c|`+
		`%(s)05s|%(s)+s|%(s)#s|%(s) s|%(s)5.2s|%(s).s|%(s)c|%(t)c|%(n)s|%(n)5s|%(n).1s|%(n)r|%(n)X|%(n)f|%(n)F|%(n)G|%(n)a|%(s)a|%(s)r|%(q)r|%(n)i|`+
		`%(n)u|%(n)#d|%(n).d|%(n)+s|%(n)08.2f|%(n)+x|%(n)#08x|%(n)08x|%(a(b))s|%(n)ld|%(n)hd|%(n)Ld|%(n)lld|%(s)d|%(n)y|%(n)|%(n)5|%(n|%|%%%|% %|%5%|%(n)%|`+
		`%(m)d|%(m)05d|%(m)x|%(m)#x|%(m)s|%(m)6.3d|%(m) d|%(none)s|%c|%(n)*d|%(s)20s|%(s)-20s!|%(n)é|%()s|%(m).1f|%(z).0d|%(z)d`, "|")
	const script = `
import json, sys
names = {'n': 42, 'm': -42, 'z': 0, 's': 'été', 't': 'x', 'q': "it's", 'a(b)': 'nested'}
def tried(f):
    try:
        return f % names
    except Exception:
        return 'refused'
print(json.dumps([tried(f) for f in json.load(sys.stdin)]))`
	in, err := json.Marshal(formats)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/usr/bin/python3", "-c", script)
	cmd.Stdin = strings.NewReader(string(in))
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	if err := json.Unmarshal(out, &want); err != nil {
		t.Fatal(err)
	}
	e := expansions{vars: map[string]any{"n": 42, "m": -42, "z": 0, "s": "été", "t": "x", "q": "it's", "a(b)": "nested"}}
	for i, f := range formats {
		got, err := e.expand(f)
		if err != nil {
			got = "refused"
		}
		if got != want[i] {
			t.Errorf("expand(%q) = %q (%v), want %q as Python", f, got, err, want[i])
		}
	}
}
