package sshd

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// others is a server with users who have these shells, and what logs in as one of them.
func others(t *testing.T, shells map[string]string) (as func(user string, args ...string) (string, error), s *server) {
	t.Helper()
	conf := defaults(t)
	list, uid := read(t, conf.Passwd), 64400
	for user, shell := range shells {
		home := filepath.Join(conf.Etc, "home-"+user)
		if err := os.Mkdir(home, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(home, uid, 64499); err != nil {
			t.Fatal(err)
		}
		list += fmt.Sprintf("%s:x:%d:64499::%s:%s\n", user, uid, home, shell)
		uid++
	}
	write(t, conf.Passwd, list)
	for dir := conf.Etc; dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s = start(t, conf)
	return func(user string, args ...string) (string, error) {
		argv := append(s.options(), "-p", s.port(), "-l", user)
		out, err := exec.Command("ssh", append(append(argv, "127.0.0.1"), args...)...).CombinedOutput()
		return string(out), err
	}, s
}

// A shell that somebody was given for what it forbids, and that is missing, is not replaced by one that forbids nothing; an
// ordinary one is.
func TestMissingShell(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root serves other users")
	}
	as, s := others(t, map[string]string{"git": "/nowhere/git-shell", "null": "/dev/null", "fish": "/nowhere/fish", "none": "", "bash": "/nowhere/bash"})
	for user, ok := range map[string]bool{"git": false, "null": false, "fish": true, "none": true, "bash": true} {
		if out, err := as(user, "echo in"); (err == nil && out == "in\n") != ok || !ok && !strings.Contains(out, "not available") {
			t.Errorf("%s: %q, %v; want in %v", user, out, err, ok)
		}
		if out, err := s.sftp(user, "ls\n"); (err == nil) != ok {
			t.Errorf("%s, sftp: %q, %v; want in %v", user, out, err, ok)
		}
	}
}

// Nobody of the user's group can write to the user's terminal: what is written there can be made to look like anything.
func TestTerminalAndTheGroup(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root serves other users")
	}
	as, _ := others(t, map[string]string{"them": "/bin/sh"})
	out, err := as("them", "-tt", "stat -c '%u %g %a' $(tty); echo x >$(tty)")
	if err != nil {
		t.Fatalf("%v, %q", err, out)
	}
	var uid, gid, mode int
	if _, err := fmt.Sscanf(out, "%d %d %o", &uid, &gid, &mode); err != nil {
		t.Fatalf("%v, %q", err, out)
	}
	if uid != 64400 || gid == 64499 && mode&0o020 != 0 || mode&0o002 != 0 || !strings.Contains(out, "x\r\n") {
		t.Errorf("the terminal: owner %d, group %d, mode %o, %q", uid, gid, mode, out)
	}
}
