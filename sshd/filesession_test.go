package sshd

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// scpSide is a server, and a directory of its client's.
type scpSide struct {
	*server
	home, local string
}

// scpSides are two servers that differ in who serves scp: ours, and the one of the machine, which a script stands before.
func scpSides(t *testing.T) (ours, theirs *scpSide) {
	t.Helper()
	side := func(wrap bool) *scpSide {
		conf := defaults(t)
		if wrap {
			bin := filepath.Join(conf.Etc, "bin")
			if err := os.Mkdir(bin, 0o755); err != nil {
				t.Fatal(err)
			}
			write(t, bin+"/scp", "#!/bin/sh\nexec /usr/bin/scp \"$@\"\n")
			if err := os.Chmod(bin+"/scp", 0o755); err != nil {
				t.Fatal(err)
			}
			conf.Env[0] = "PATH=" + bin + ":" + os.Getenv("PATH")
		}
		return &scpSide{server: start(t, conf), home: filepath.Join(conf.Etc, "home"), local: filepath.Join(conf.Etc, "local")}
	}
	return side(false), side(true)
}

// reset makes the same files on both sides, as they are before each copy.
func (s *scpSide) reset(t *testing.T) {
	t.Helper()
	for _, dir := range []string{s.home, s.local} {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		for _, d := range []string{"dir/sub", "down"} {
			if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		for name, mode := range map[string]os.FileMode{
			"a.txt": 0o644, "b.txt": 0o600, ".hidden.txt": 0o644, "with space": 0o644, "quo'te": 0o644, "star*": 0o644, "starry": 0o644,
			"$HOME": 0o644, "read-only": 0o444, "dir/x": 0o755, "dir/sub/y": 0o640, "-dash": 0o644, "ünicode": 0o644,
		} {
			file := filepath.Join(dir, name)
			write(t, file, "of "+name+strings.Repeat("\n", len(name)))
			if err := os.Chmod(file, mode); err != nil {
				t.Fatal(err)
			}
			old := time.Unix(1_000_000_000, 0)
			if err := os.Chtimes(file, old, old); err != nil {
				t.Fatal(err)
			}
		}
		for name, target := range map[string]string{"link": "a.txt", "dangling": "nowhere"} {
			if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// copy runs the client and returns what it says and what there is afterwards. HOST: stands for the server.
func (s *scpSide) copy(t *testing.T, args []string) map[string]string {
	t.Helper()
	argv := append(s.options(), "-O", "-q", "-P", s.port())
	for _, a := range args {
		argv = append(argv, strings.Replace(a, "HOST:", me()+"@127.0.0.1:", 1))
	}
	cmd := exec.CommandContext(t.Context(), "scp", argv...)
	cmd.Dir, cmd.Env = s.local, append(os.Environ(), "LC_ALL=C")
	said, err := cmd.CombinedOutput()
	got := map[string]string{"status": fmt.Sprint(err), "said": strings.ReplaceAll(string(said), s.dir, "DIR")}
	for _, dir := range []string{s.home, s.local} {
		err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			st, err := d.Info()
			if err != nil {
				return err
			}
			what := st.Mode().String()
			if st.Mode().IsRegular() {
				text, err := os.ReadFile(p)
				if err != nil {
					return err
				}
				what += fmt.Sprintf(" old %v %q", st.ModTime().Unix() == 1_000_000_000, text)
			}
			got[strings.TrimPrefix(p, s.dir)] = what
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return got
}

// ownSCPs counts those that the server has begun itself. Their ends may be logged when the client has long gone.
func (s *scpSide) ownSCPs() (n int) {
	for line := range strings.Lines(s.log.String()) {
		if strings.Contains(line, `"msg":"session",`) && strings.Contains(line, `"kind":"scp"`) {
			n++
		}
	}
	return n
}

// What OpenSSH's client copies with the old protocol ends the same, word for word, whoever serves it, and what a shell
// must expand a shell expands.
func TestOwnSCPDoesAsTheOther(t *testing.T) {
	ours, theirs := scpSides(t)
	for _, tt := range []struct {
		args string // separated by |
		own  bool
	}{
		{"HOST:a.txt|down", true},
		{"HOST:*.txt|down", false},
		{"HOST:'*.txt'|down", true},
		{"HOST:'star*'|down", true},
		{`HOST:star\*|down`, true},
		{"HOST:star*|down", false},
		{"HOST:{a,b}.txt|down", false},
		{"HOST:[ab].txt|down", false},
		{"HOST:~/a.txt|down", true},
		{"HOST:~|-r|down", true},
		{"HOST:$HOME/a.txt|down", false},
		{`HOST:\$HOME|down`, true},
		{"HOST:'$HOME'|down", true},
		{`HOST:"$HOME/a.txt"|down`, false},
		{"HOST:`echo a.txt`|down", false},
		{"HOST:$(echo a.txt)|down", false},
		{"HOST:a.txt b.txt|down", true}, // two, to the far side
		{`HOST:with\ space|down`, true},
		{`HOST:"with space"|down`, true},
		{"HOST:'with space'|down", true},
		{`HOST:quo\'te|down`, true},
		{`HOST:"quo'te"|down`, true},
		{"HOST:ünicode|down", true},
		{"HOST:./-dash|down", true},
		{"HOST:-dash|down", true},
		{"HOST:.//dir/../a.txt|down", true},
		{"HOST:nothing|HOST:b.txt|down", true},
		{"HOST:dir|down", true},
		{"HOST:dir|HOST:a.txt|down", true},
		{"-r|HOST:dir|down", true},
		{"-rp|HOST:dir|down", true},
		{"-p|HOST:read-only|down", true},
		{"HOST:read-only|down", true},
		{"HOST:link|down", true},
		{"HOST:dangling|down", true},
		{"HOST:a.txt|nowhere/x", true},
		{"HOST:a.txt; echo more|down", false},
		{"a.txt|HOST:new", true},
		{"a.txt|HOST:", true},
		{"a.txt|HOST:~/new", true},
		{"a.txt|HOST:$HOME/new", false},
		{`a.txt|HOST:a\ new\ one`, true},
		{"a.txt|HOST:'$new*'", true},
		{"a.txt|HOST:dir", true},
		{"a.txt|HOST:dir/", true},
		{"a.txt|HOST:nowhere/", true},
		{"a.txt|HOST:nowhere/x", true},
		{"a.txt|HOST:b.txt/x", true},
		{"a.txt|HOST:dir/sub/y", true},
		{"a.txt|HOST:read-only", true},
		{"a.txt|HOST:dangling", true},
		{"a.txt|b.txt|HOST:dir", true},
		{"a.txt|b.txt|HOST:starry", true},
		{"a.txt|b.txt|HOST:nowhere", true},
		{"-p|read-only|HOST:new", true},
		{"read-only|HOST:new", true},
		{"-r|dir|HOST:new", true},
		{"-rp|dir|HOST:dir", true},
		{"-r|dir|HOST:a.txt", true},
		{"dir|HOST:new", true},
		{"nothing|a.txt|HOST:dir", true},
		{"with space|star*|$HOME|HOST:dir", true},
	} {
		t.Run(tt.args, func(t *testing.T) {
			var got [2]map[string]string
			before := ours.ownSCPs()
			for i, s := range []*scpSide{ours, theirs} {
				s.reset(t)
				got[i] = s.copy(t, strings.Split(tt.args, "|"))
			}
			if d := cmp.Diff(got[1], got[0]); d != "" {
				t.Errorf("theirs (-) and ours (+):\n%s", d)
			}
			if own := ours.ownSCPs() > before; own != tt.own {
				t.Errorf("ours served it: %v, want %v; it said %q", own, tt.own, got[0]["said"])
			}
		})
	}
	if theirs.ownSCPs() > 0 {
		t.Error("a script that stands before scp is passed over")
	}
	if !ours.logged(`"msg":"transfer"`) {
		t.Error("no transfer is logged")
	}
}
