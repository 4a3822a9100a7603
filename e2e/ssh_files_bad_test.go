package e2e

import (
	"io"
	"os"
	"strings"
	"testing"

	"github.com/inpod/inpod/e2e/lab"
)

// What is wrong with files is said in the log, with the file and the reason, and what can go on goes on.
func TestSSHBadFiles(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		prepare func(s *sshSide)
		env     string
		says    []string
		in      bool // a key lets its owner in all the same
	}{
		{
			"a host key that is none", func(s *sshSide) { s.write("host/ssh_host_ed25519_key", "scrambled\n") }, "",
			[]string{"cannot use a host key", "ssh_host_ed25519_key"},
			true,
		},
		{
			"a host key that others can replace", func(s *sshSide) { chmod(t, s.path("host/ssh_host_rsa_key"), 0o666) }, "",
			[]string{"cannot use a host key", "0666", "others can replace it"},
			true,
		},
		{
			"a host key that everybody can read", func(s *sshSide) { chmod(t, s.path("host/ssh_host_rsa_key"), 0o644) }, "",
			[]string{"a host key can be read by everybody", "0644"},
			true,
		},
		{
			"a directory that is none", func(s *sshSide) { s.write("no-directory", "") }, "INPOD_SSH_HOST_KEY_DIR=%DIR%/no-directory",
			[]string{"a host key", "no-directory", "not a directory"},
			true,
		},
		{
			"keys that others can write", func(s *sshSide) { chmod(t, s.path("keys"), 0o666) }, "",
			[]string{"cannot use a file of public keys", "keys", "0666", "everybody can write"},
			false,
		},
		{
			"a line that is no key", func(s *sshSide) { s.write("keys", "ssh-ed25519 nonsense\n"+s.read(t, s.key+".pub")) }, "",
			[]string{"cannot use a line", "keys", `"line":1`},
			true,
		},
		{
			"an empty file of passwords", func(s *sshSide) { s.write("root-passwd", "") }, "INPOD_SSH_PASSWORD_FILE=%DIR%/root-passwd",
			[]string{"ssh.password_file is empty", "stay in force"},
			true,
		},
		{
			"passwords that others could write", func(s *sshSide) {
				s.write("host/passwords", "root:$6$salt$hash\n")
				chmod(t, s.path("host/passwords"), 0o666)
			}, "",
			[]string{"cannot use the passwords that were kept", "0666"},
			true,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := prepareSSH(t, "")
			if tt.env != "" {
				s.env = append(s.env, strings.ReplaceAll(tt.env, "%DIR%", s.dir))
			}
			s.write("keys", s.read(t, s.key+".pub"))
			tt.prepare(s)
			s.begin(t)
			if !s.says(`"ssh is on"`) {
				t.Fatal("the agent does not serve ssh")
			}
			e := s.run(t, "", s.ssh("box", "echo in")...)
			if in := e.out == "in\n"; in != tt.in {
				t.Errorf("let in is %t, want %t: %+v", in, tt.in, e)
			}
			if !s.says(tt.says...) {
				t.Errorf("no line of the log has %q", tt.says)
			}
		})
	}
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// Keys, passwords, users and settings are replaced while a session of OpenSSH's client is open and a master connection
// waits: neither notices, and the next login goes by what is new.
func TestSSHReload(t *testing.T) {
	t.Parallel()
	s := startSSH(t, "")
	client := s.master(t)
	in, out, cmd := s.background(t, s.ssh("box", "echo begun; cat; exit 9")...)
	if !lab.Until(patience, func() bool { return strings.Contains(out.String(), "begun") }) {
		t.Fatal("no session")
	}
	another := s.path("client/another")
	s.must(t, "", "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", another)
	s.write("client/another-config", strings.ReplaceAll(s.read(t, s.conf), s.key+"\n", another+"\n"))
	login := func(conf, host string) ended { return s.run(t, "", "ssh", "-F", conf, host, "echo in") }
	if e := login(s.path("client/another-config"), "box"); e.code != 255 {
		t.Errorf("a key that nobody knows: %+v", e)
	}
	// The other key, and not the first one any more; a user who was not there; no forwarding any more.
	s.write("jail/file", "in the jail")
	s.write("keys", s.read(t, another+".pub"))
	s.write("inpod.yaml", strings.ReplaceAll("ssh:\n  permit_local_forward: []\n  users: [{name: airlock, root: DIR/jail, authorized_keys: [DIR/keys]}]\n", "DIR", s.dir))
	s.until("the reload", func() bool {
		_, body := s.get("/api/v1/config") // keys alone may have been one reload before
		return strings.Contains(body, "airlock")
	})
	if e := login(s.path("client/another-config"), "box"); e.out != "in\n" {
		t.Errorf("the new key: %+v", e)
	}
	if e := login(s.conf, "box"); e.code != 255 {
		t.Errorf("the old key: %+v", e)
	}
	if got := s.must(t, "", "sftp", "-q", "-F", s.path("client/another-config"), "airlock:/file", s.path("client/got")); s.read(t, s.path("client/got")) != "in the jail" {
		t.Errorf("the new user: %s", got)
	}
	echo := echoServer(t)
	if e := s.run(t, "x", "ssh", "-F", s.path("client/another-config"), "-W", "127.0.0.1:"+echo, "box"); e.code == 0 {
		t.Errorf("a forwarding that is not permitted any more: %+v", e)
	}
	// Those that were there go on as they were.
	if e := s.run(t, "", client("echo still; exit 3")...); e.out != "still\n" || e.code != 3 {
		t.Errorf("on the old connection: %+v", e)
	}
	if _, err := io.WriteString(in, "to the end"); err != nil {
		t.Fatal(err)
	}
	in.Close()
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 9 || out.String() != "begun\nto the end" {
		t.Errorf("the open session ends with %d, %q", code, out.String())
	}
}
