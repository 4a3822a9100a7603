package sshd

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/inpod/inpod/config"
)

// sftp runs OpenSSH's sftp with a batch.
func (s *server) sftp(user, batch string) (string, error) {
	argv := append(s.options(), "-b", "-", "-P", s.port(), user+"@127.0.0.1")
	cmd := exec.Command("sftp", argv...)
	cmd.Stdin = strings.NewReader(batch)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestVirtualUser(t *testing.T) {
	conf := defaults(t)
	root := filepath.Join(conf.Etc, "jail")
	if err := os.MkdirAll(root+"/in", 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, root+"/file", "in the jail")
	if err := os.Symlink("/etc/passwd", root+"/link"); err != nil {
		t.Fatal(err)
	}
	conf.SSH.Users = []config.SSHUser{
		{
			Name: "airlock", AuthorizedKeys: []string{conf.Etc + "/id.pub"}, PasswordFile: conf.Etc + "/airlock", Root: root,
			Access: "read-only", SFTPOnly: true, Paths: []config.SSHPath{{Path: "/in", Access: "read-write"}},
		},
		{Name: "guest", AuthorizedKeys: []string{conf.Etc + "/id.pub"}, Access: "read-write"},
	}
	write(t, conf.Etc+"/airlock", "the password\n")
	s := start(t, conf)
	got := filepath.Join(conf.Etc, "got")
	if out, err := s.sftp("airlock", "get file "+got+"\nput "+conf.Etc+"/id.pub in/new\n"); err != nil || read(t, got) != "in the jail" {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := os.Stat(root + "/in/new"); err != nil {
		t.Error(err)
	}
	for _, batch := range []string{"put " + got + " new", "get /etc/passwd " + got, "get link " + got, "rm file", "get ../../etc/passwd " + got} {
		if out, err := s.sftp("airlock", batch+"\n"); err == nil {
			t.Errorf("%s: no error\n%s", batch, out)
		}
	}
	if !s.logged(`"msg":"transfer"`) || !s.logged(`"path":"/in/new","direction":"write"`) {
		t.Error("the transfer is not logged")
	}
	as := func(user string, args ...string) ([]byte, error) {
		return exec.Command("ssh", append(append(s.options(), "-p", s.port(), "-l", user, "127.0.0.1"), args...)...).CombinedOutput()
	}
	if out, err := as("airlock", "id"); err == nil || !strings.Contains(string(out), "only files") {
		t.Errorf("a command: %v, %s", err, out)
	}
	if out, err := as("guest", "echo in as $USER"); err != nil || string(out) != "in as guest\n" {
		t.Errorf("guest: %v, %s", err, out)
	}
	if out, err := exec.Command("ssh", append(append([]string{"-W", s.addr}, s.options()...), "-p", s.port(), "-l", "airlock", "127.0.0.1")...).CombinedOutput(); err == nil {
		t.Errorf("forwarding: %s", out)
	}
	if out, err := s.password("airlock", "wrong", "true"); err == nil {
		t.Errorf("a wrong password: %s", out)
	}
	if out, err := s.password("airlock", "the password", "id"); err == nil || strings.Contains(out, "uid") {
		t.Errorf("a command, with the password: %s", out)
	}
}

// Root serves every user of the container, with its identity and its groups; somebody else serves himself.
func TestUsersOfTheContainer(t *testing.T) {
	conf := defaults(t)
	const uid, gid, extra = 64321, 64322, 64323
	home := filepath.Join(conf.Etc, "theirs")
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	conf.Group = filepath.Join(conf.Etc, "group")
	write(t, conf.Group, fmt.Sprintf("them:x:%d:\nextra:x:%d:x,them\nothers:x:64324:x\n", gid, extra))
	write(t, conf.Passwd, read(t, conf.Passwd)+fmt.Sprintf("them:x:%d:%d::%s:/bin/sh\nlocked:x:64330:64330::/:/usr/sbin/nologin\n", uid, gid, home))
	for path := conf.Etc; path != "/tmp" && path != "/"; path = filepath.Dir(path) {
		if os.Getuid() == 0 {
			_ = os.Chmod(path, 0o755) // so that they can get home
		}
	}
	if os.Getuid() == 0 {
		if err := os.Chown(home, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	s := start(t, conf)
	as := func(user string, args ...string) (string, error) {
		argv := append(s.options(), "-p", s.port(), "-l", user)
		out, err := exec.Command("ssh", append(append(argv, "127.0.0.1"), args...)...).CombinedOutput()
		return string(out), err
	}
	out, err := as("them", "id -u; id -g; id -G; pwd; echo $USER $HOME; umask >/dev/null; touch made; ps -o tty= $$")
	if os.Getuid() != 0 {
		if err == nil {
			t.Errorf("another user got in: %s", out)
		}
		return
	}
	if want := fmt.Sprintf("%d\n%d\n%d %d\n%s\nthem %s\n?\n", uid, gid, gid, extra, home, home); err != nil || strings.ReplaceAll(out, "? ", "?") != strings.ReplaceAll(want, "? ", "?") && !strings.HasPrefix(out, strings.TrimSuffix(want, "?\n")) {
		t.Errorf("%v\n%q\nwant %q", err, out, want)
	}
	// A terminal that is theirs.
	cmd := exec.Command("ssh", append(append([]string{"-tt"}, s.options()...), "-p", s.port(), "-l", "them", "127.0.0.1", "stat -c %u $(tty); echo x >$(tty)")...)
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != fmt.Sprintf("%d\r\nx\r\n", uid) {
		t.Errorf("terminal: %v, %q", err, out)
	}
	if out, err := s.sftp("them", "put "+s.dir+"/id.pub up\nls -n up\n"); err != nil || !strings.Contains(out, fmt.Sprint(uid)) {
		t.Errorf("sftp: %v\n%s", err, out)
	}
	if out, err := s.sftp("them", "get "+s.key+" x\n"); err == nil {
		t.Errorf("sftp read a file of root's: %s", out)
	}
	if out, err := as("locked", "id"); err == nil {
		t.Errorf("locked: %s", out)
	}
	if out, err := s.sftp("locked", "ls\n"); err == nil {
		t.Errorf("locked, sftp: %s", out)
	}
	if out, err := as("nosuchuser", "id"); err == nil {
		t.Errorf("nosuchuser: %s", out)
	}
}
