package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/inpod/inpod/e2e/lab"
)

// SSH over IPv6, where the agent listens on every address, on one, and where a client still comes over IPv4.
func TestSSHOverIPv6(t *testing.T) {
	t.Parallel()
	if ln, err := net.Listen("tcp", "[::1]:0"); err != nil {
		t.Skipf("this machine has no IPv6: %v", err)
	} else {
		ln.Close()
	}
	for _, host := range []string{"::", "::1"} {
		t.Run("["+host+"]", func(t *testing.T) {
			t.Parallel()
			s := prepareSSH(t, "")
			s.env = append(s.env, "INPOD_SSH_LISTEN=["+host+"]:"+s.port)
			s.write("keys", s.read(t, s.key+".pub"))
			s.write("client/config", "Host box other\n HostName ::1\n"+s.read(t, s.conf))
			s.begin(t)
			if !s.says(`"ssh is on"`, "["+host+"]:"+s.port) || !s.says(`"made a host key"`, "ed25519") {
				t.Fatal("the agent does not serve ssh")
			}
			sixLogins(t, s, host == "::")
			sixForwards(t, s)
			if host == "::" {
				sixClients(t, s)
			}
		})
	}
}

func sixLogins(t *testing.T, s *sshSide, both bool) {
	out := s.must(t, "", s.ssh("box", "echo $SSH_CONNECTION; echo $SSH_CLIENT")...)
	if want := `^::1 (\d+) ::1 ` + s.port + "\n" + `::1 (\d+) ` + s.port + "\n$"; !regexp.MustCompile(want).MatchString(out) {
		t.Errorf("got %q, want %s", out, want)
	}
	if !s.says(`"login"`, `"from":"[::1]:`, s.user) {
		t.Error("the address is not logged")
	}
	four := s.run(t, "", s.ssh("-o", "HostName=127.0.0.1", "box", "echo $SSH_CLIENT")...)
	if (four.code == 0) != both || both && (!strings.HasPrefix(four.out, "127.0.0.1 ") || !s.says(`"login"`, `"from":"127.0.0.1:`)) {
		t.Errorf("over IPv4: %+v", four)
	}
	key := s.read(t, s.key+".pub")
	for _, tt := range []struct {
		from      string
		six, four bool
	}{
		{"::1", true, false},
		{"0:0:0:0:0:0:0:1", true, false},
		{"::/64", true, false},
		{"2001:db8::/32", false, false},
		{"!::1,*", false, true},
		{"127.0.0.1", false, true},
		{"127.0.0.0/8,fd00::/8", false, true},
		{"::ffff:127.0.0.1", false, true},
	} {
		s.write("keys", `from="`+tt.from+`" `+key)
		for address, want := range map[string]bool{"::1": tt.six, "127.0.0.1": tt.four} {
			if address == "127.0.0.1" && !both {
				continue
			}
			if e := s.run(t, "", s.ssh("-o", "HostName="+address, "box", "echo in")...); (e.out == "in\n") != want {
				t.Errorf("from=%q, %s: %+v, want it let in: %t", tt.from, address, e, want)
			}
		}
	}
	s.write("keys", key)
}

func sixForwards(t *testing.T, s *sshSide) {
	ln, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	echo := serveEcho(t, ln)
	text := strings.Repeat("over six ", 50_000)
	if e := s.run(t, text, s.ssh("-W", "[::1]:"+echo, "box")...); e.out != text {
		t.Errorf("-W: code %d, %d bytes of %d, %s", e.code, len(e.out), len(text), e.errs)
	}
	if e := s.run(t, text, s.ssh("-W", "[2001:db8::1]:80", "box")...); e.code == 0 || !s.says(`"forwarding refused"`, "[2001:db8::1]:80") {
		t.Errorf("-W to what is not permitted: %+v", e)
	}
	if e := s.run(t, "", s.ssh("-J", s.user+"@[0:0:0:0:0:0:0:1]:"+s.port, "box", "echo $SSH_CLIENT; exit 5")...); e.code != 5 || !strings.HasPrefix(e.out, "::1 ") {
		t.Errorf("-J: %+v", e)
	}
	local := fmt.Sprint(freePort(t))
	s.background(t, s.ssh("-N", "-L", "[::1]:"+local+":[::1]:"+echo, "box")...)
	if !lab.Until(patience, func() bool { return echoed("tcp", "[::1]:"+local, text) }) {
		t.Error("-L: nothing comes back")
	}
}

// sixClients are those that write an address in a way of their own.
func sixClients(t *testing.T, s *sshSide) {
	if out := s.must(t, "", "ssh-keyscan", "-T", "60", "-6", "-t", "ed25519", "-p", s.port, "::1"); !strings.HasPrefix(out, "[::1]:"+s.port+" ssh-ed25519 ") {
		t.Errorf("ssh-keyscan: %s", out)
	}
	copied := s.path("client/six")
	s.must(t, "", "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", copied)
	s.must(t, "", "ssh-copy-id", "-f", "-F", s.conf, "-o", "IdentityFile="+s.key, "-i", copied+".pub", "box")
	if keys := s.read(t, filepath.Join(s.home, ".ssh/authorized_keys")); keys != s.read(t, copied+".pub") {
		t.Errorf("ssh-copy-id: %q", keys)
	}
	small := s.path("client/config")
	to := s.there("box", "six-")
	same := func(name string) {
		t.Helper()
		if data, err := os.ReadFile(to + name); err != nil || string(data) != s.read(t, small) {
			t.Errorf("%s: what was sent is not the same: %v", name, err)
		}
	}
	s.must(t, "", "scp", "-F", s.conf, small, s.user+"@[::1]:"+to+"scp")
	same("scp")
	s.must(t, "put "+small+" "+to+"sftp\n", "sftp", "-F", s.conf, "-b", "-", s.user+"@[::1]")
	same("sftp")
	s.must(t, "", "rsync", "-e", "ssh -F "+s.conf, small, s.user+"@[::1]:"+to+"rsync")
	same("rsync")
	s.must(t, "", "curl", "-sSk", "--user", s.user+":", "--key", s.key, "--pubkey", s.key+".pub", "-T", small, "sftp://[::1]:"+s.port+to+"curl")
	same("curl")
	s.must(t, "", "rclone", "--config", "/dev/null", "--sftp-host", "[::1]", "--sftp-port", s.port, "--sftp-user", s.user, "--sftp-key-file", s.key,
		"copyto", small, ":sftp:"+to+"rclone")
	same("rclone")
}
