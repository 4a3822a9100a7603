package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCheckTellsEverything: inpod check names every problem at once, each with file and line, and starts nothing.
func TestCheckTellsEverything(t *testing.T) {
	t.Parallel()
	bad := `[supervisord]
loglevel=loud
[program:a]
command=sleep 1
startsecs=soon
autorestart=sometimes
[program:b]
autostart=maybe
[group:g]
programs=a,nobody
[eventlistener:l]
command=cat
events=NO_SUCH
`
	yaml := `admin: {listen: "no-port"}
unknown_key: 1
drain:
  delay: soon
  dead_line: 1s
proxy:
  routes:
  - {listen: ":8080"}
`
	binary := string(make([]byte, 4096)) + "\xff\xfe\x01"
	huge := "[program:a]\ncommand=sleep 1\n" + strings.Repeat("; a comment that goes on and on\n", 10<<20/32) + "startsecs=late\n"
	for _, tc := range []struct {
		name  string
		files map[string]string
		args  []string
		want  []string
	}{
		{
			"ini",
			map[string]string{"bad.ini": bad},
			[]string{"-c", "bad.ini"},
			[]string{"bad.ini:2", "bad.ini:5", "bad.ini:6", "bad.ini:7", "bad.ini:8", "bad.ini:10", "bad.ini:13"},
		},
		{
			"yaml",
			map[string]string{"bad.yaml": yaml},
			[]string{"--config", "bad.yaml"},
			[]string{"bad.yaml:1", "bad.yaml:2", "bad.yaml:4", "bad.yaml:5", "bad.yaml:8"},
		},
		{
			"both",
			map[string]string{"bad.ini": bad, "bad.yaml": yaml},
			[]string{"--config", "bad.yaml", "-c", "bad.ini"},
			[]string{"bad.ini:2", "bad.ini:13", "bad.yaml:2"},
		},
		{"empty ini", map[string]string{"e.ini": ""}, []string{"-c", "e.ini"}, []string{"e.ini"}},
		{"binary ini", map[string]string{"b.ini": binary}, []string{"-c", "b.ini"}, []string{"b.ini"}},
		{"binary yaml", map[string]string{"b.yaml": binary}, []string{"--config", "b.yaml"}, []string{"b.yaml"}},
		{"missing ini", nil, []string{"-c", "no.ini"}, []string{"no.ini"}},
		{"missing yaml", nil, []string{"--config", "no.yaml"}, []string{"no.yaml"}},
		{"directory", map[string]string{"d/x": ""}, []string{"-c", "d"}, []string{"d"}},
		{"10 MB ini", map[string]string{"h.ini": huge}, []string{"-c", "h.ini"}, []string{"h.ini"}},
		{"10 MB yaml", map[string]string{"h.yaml": "log: {level: " + strings.Repeat("x", 10<<20) + "}\n"}, []string{"--config", "h.yaml"}, []string{"h.yaml"}},
		{
			"loop",
			map[string]string{"l.ini": "[supervisord]\n[program:a]\ncommand=sleep 1\ndepends_on=b\n[program:b]\ncommand=sleep 1\ndepends_on=a\n"},
			[]string{"-c", "l.ini"},
			[]string{"l.ini:4"},
		},
		{
			"contradiction",
			map[string]string{"c.ini": "[supervisord]\n[program:a]\ncommand=sleep 1\nstopasgroup=true\nkillasgroup=false\noneshot=true\nautorestart=true\n"},
			[]string{"-c", "c.ini"},
			[]string{"c.ini:5", "c.ini:7"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			a := prepare(t, setup{files: tc.files})
			a.env = withoutVar(a.env, "INPOD_ADMIN_LISTEN") // a variable takes the place of what the file says
			out, code := a.cli(append([]string{"check"}, tc.args...)...)
			if code != 1 {
				t.Errorf("exit code: got %d, want 1; it says:\n%s", code, tailOf(out, 2000))
			}
			for _, w := range tc.want {
				if !strings.Contains(out, w) {
					t.Errorf("no word of %s in:\n%s", w, tailOf(out, 3000))
				}
			}
			if len(out) > 64<<10 {
				t.Errorf("the answer has %d bytes", len(out))
			}
			if strings.Contains(out, "panic:") || strings.Contains(out, "goroutine ") {
				t.Errorf("crashed:\n%s", tailOf(out, 3000))
			}
		})
	}
	t.Run("unreadable", func(t *testing.T) {
		t.Parallel()
		if os.Getuid() == 0 {
			// Root reads everything: a file that is a dangling link is as unreadable for it.
			a := prepare(t, setup{})
			if err := os.Symlink("/nowhere/at/all", filepath.Join(a.dir, "u.ini")); err != nil {
				t.Fatal(err)
			}
			if out, code := a.cli("check", "-c", "u.ini"); code != 1 || !strings.Contains(out, "u.ini") {
				t.Errorf("got exit %d %q", code, out)
			}
			return
		}
		a := prepare(t, setup{files: map[string]string{"u.ini": "[supervisord]\n"}})
		if err := os.Chmod(a.path("u.ini"), 0); err != nil {
			t.Fatal(err)
		}
		if out, code := a.cli("check", "-c", "u.ini"); code != 1 || !strings.Contains(out, "u.ini") {
			t.Errorf("got exit %d %q", code, out)
		}
	})
}

func TestCheckOfGoodFiles(t *testing.T) {
	t.Parallel()
	a := prepare(t, setup{files: map[string]string{
		"good.ini":  "[supervisord]\n[program:a]\ncommand=sleep 1\nno_such_key=1\n",
		"good.yaml": fmt.Sprintf("drain: {delay: 5s}\nproxy: {routes: [{listen: ':%d', upstream: '127.0.0.1:1'}]}\n", 18080),
	}})
	args := []string{"check", "--config", "good.yaml", "-c", "good.ini"}
	out, code := a.cli(args...)
	if code != 0 || !strings.Contains(out, "good.ini:4") || !strings.Contains(out, "delay: 5s") {
		t.Errorf("got exit %d, want 0, the warning for good.ini:4 and the effective config:\n%s", code, out)
	}
	if out, code := a.cli(append(args, "--strict")...); code != 1 || !strings.Contains(out, "good.ini:4") {
		t.Errorf("--strict: got exit %d, want 1 for the unknown key:\n%s", code, out)
	}
}
