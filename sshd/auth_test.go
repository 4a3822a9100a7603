package sshd

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/inpod/inpod/config"
	"golang.org/x/crypto/ssh"
)

// keygen makes a key pair and returns the path of the private one.
func keygen(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	args = append([]string{"-q", "-t", "ed25519", "-N", "", "-f", path}, args...)
	if out, err := exec.Command("ssh-keygen", args...).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
	return path
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestKeyOptions(t *testing.T) {
	s := start(t, defaults(t))
	pub := read(t, s.dir+"/id.pub")
	// The file is read at each login.
	for _, tt := range []struct {
		name, options string
		args          []string
		out           string
		code          int
	}{
		{"none", "", []string{"--", "echo in"}, "in\n", 0},
		{"from here", `from="10.0.0.0/8,127.0.0.1"`, []string{"--", "echo in"}, "in\n", 0},
		{"from elsewhere", `from="10.0.0.0/8"`, []string{"--", "echo in"}, "", 255},
		{"from not here", `from="127.0.0.*,!127.0.0.1"`, []string{"--", "echo in"}, "", 255},
		{"forced", `command="echo forced \"$SSH_ORIGINAL_COMMAND\""`, []string{"--", "echo in"}, "forced echo in\n", 0},
		{"forced to nothing", `command=""`, []string{"--", "echo in"}, "", 0},
		{"from nowhere", `from=""`, []string{"--", "echo in"}, "", 255},
		{"forced twice", `command="echo 1",command="echo 2"`, []string{"--", "echo in"}, "", 255},
		{"forced, and a shell was asked for", `command="echo forced"`, []string{"-T"}, "forced\n", 0},
		{"expired", `expiry-time="20200101"`, []string{"--", "echo in"}, "", 255},
		{"not expired", `expiry-time="29991231Z"`, []string{"--", "echo in"}, "in\n", 0},
		// The client gives up then, and that with the command's status where the command is quicker.
		{"no terminal", "no-pty", []string{"-tt", "--", "tty; exit 255"}, "", 255},
		{"restricted", "restrict", []string{"-tt", "--", "tty; exit 255"}, "", 255},
		{"restricted, without a terminal", "restrict", []string{"-T", "--", "tty"}, "not a tty\n", 1},
		{"restricted, with a terminal", "restrict,pty", []string{"-tt", "--", "tty -s && echo yes"}, "yes\r\n", 0},
		{"environment", `environment="COLOUR=blue green"`, []string{"--", "echo $COLOUR"}, "blue green\n", 0},
		{"an option that nobody knows", "allow-nothing", []string{"--", "echo in"}, "", 255},
		{"a quote that is not closed", `command="echo`, []string{"--", "echo in"}, "", 255},
		{"no forwarding", "no-port-forwarding", []string{"-W", s.addr}, "", 255},
		{"permitopen elsewhere", `permitopen="127.0.0.1:1"`, []string{"-W", s.addr}, "", 255},
		{"a key that signs", "cert-authority", []string{"--", "echo in"}, "", 255},
	} {
		write(t, s.dir+"/keys", strings.TrimSpace(tt.options+" "+pub))
		out, errs, code := s.run("", tt.args...)
		if out != tt.out || code != tt.code {
			t.Errorf("%s: output %q, status %d; want %q, %d (%s)", tt.name, out, code, tt.out, tt.code, errs)
		}
	}
	write(t, s.dir+"/keys", `permitopen="`+s.addr+`" `+pub)
	if out, errs, _ := s.run("", "-W", s.addr); !strings.HasPrefix(out, serverVersion) {
		t.Errorf("permitopen: %q, %s", out, errs)
	}
}

func TestCertificates(t *testing.T) {
	conf := defaults(t)
	dir := conf.Etc
	ca, other := keygen(t, dir, "ca"), keygen(t, dir, "other")
	conf.SSH.TrustedUserCA = ca + ".pub"
	conf.SSH.AuthorizedKeys = []string{dir + "/none"}
	s := start(t, conf)
	for _, tt := range []struct {
		name string
		ca   string
		args []string
		run  string
		out  string
		ok   bool
	}{
		{"for this user", ca, []string{"-n", me()}, "echo in", "in\n", true},
		{"for another", ca, []string{"-n", "somebody-else"}, "echo in", "", false},
		{"for nobody in particular", ca, nil, "echo in", "", false},
		{"of another authority", other, []string{"-n", me()}, "echo in", "", false},
		{"expired", ca, []string{"-n", me(), "-V", "20200101:20200102"}, "echo in", "", false},
		{"forced", ca, []string{"-n", me(), "-O", "force-command=echo forced"}, "echo in", "forced\n", true},
		{"from elsewhere", ca, []string{"-n", me(), "-O", "source-address=10.0.0.0/8"}, "echo in", "", false},
		{"from here", ca, []string{"-n", me(), "-O", "source-address=127.0.0.0/8"}, "echo in", "in\n", true},
		{"for hosts", ca, []string{"-n", me(), "-h"}, "echo in", "", false},
		{"an option that nobody knows", ca, []string{"-n", me(), "-O", "critical:x@example.com=1"}, "echo in", "", false},
	} {
		args := append([]string{"-q", "-s", tt.ca, "-I", "the key", "-z", "9"}, tt.args...)
		if out, err := exec.Command("ssh-keygen", append(args, s.key+".pub")...).CombinedOutput(); err != nil {
			t.Fatalf("%s: ssh-keygen: %v\n%s", tt.name, err, out)
		}
		out, errs, code := s.run("", "-o", "CertificateFile="+s.key+"-cert.pub", "--", tt.run)
		if out != tt.out || (code == 0) != tt.ok {
			t.Errorf("%s: output %q, status %d; want %q, %v (%s)", tt.name, out, code, tt.out, tt.ok, errs)
		}
	}
	if !s.logged(`"method":"certificate","key":"the key (serial 9, SHA256:`) {
		t.Errorf("the log does not name the certificate")
	}
}

// password logs in with a password through sshpass.
func (s *server) password(user, password string, args ...string) (string, error) {
	argv := []string{"-p", password, "ssh", "-o", "BatchMode=no", "-o", "PreferredAuthentications=password", "-o", "NumberOfPasswordPrompts=1"}
	argv = append(append(argv, s.options()...), "-p", s.port(), "-l", user, "127.0.0.1")
	out, err := exec.Command("sshpass", append(argv, args...)...).Output()
	return string(out), err
}

func TestPasswordFile(t *testing.T) {
	conf := defaults(t)
	file := conf.SSH.PasswordFile
	conf.SSH.AuthorizedKeys, conf.SSH.ListenSet = nil, false // the password alone turns it on
	write(t, file, "root:s3cret: with a colon\n"+me()+":s3cret: with a colon\nnobody:\n")
	s := start(t, conf)
	if out, err := s.password(me(), "s3cret: with a colon", "echo in"); out != "in\n" {
		t.Errorf("the password of the file: %q, %v", out, err)
	}
	if out, err := s.password(me(), "wrong", "echo in"); err == nil {
		t.Errorf("a wrong password: %q", out)
	}
	if !within(patience, func() bool { _, err := os.Stat(file); return os.IsNotExist(err) }) {
		t.Error("the file is still there")
	}
	kept := read(t, conf.SSH.HostKeyDir+"/passwords")
	if strings.Contains(kept, "s3cret") || !strings.Contains(kept, me()+":$6$") {
		t.Errorf("kept: %q", kept)
	}
	s.stop()

	// Without the file, and with an empty one, the password stays.
	for _, text := range []string{"-", "", "\n"} {
		if text != "-" {
			write(t, file, text)
		}
		again := start(t, conf)
		if out, err := again.password(me(), "s3cret: with a colon", "echo in"); out != "in\n" {
			t.Errorf("file %q: %q, %v", text, out, err)
		}
	}
}

func TestShadow(t *testing.T) {
	conf := defaults(t)
	conf.SSH.AuthorizedKeys = []string{conf.Etc + "/none"}
	line := func(hash, expires string) string {
		return fmt.Sprintf("%s:%s:19000:0:99999:7::%s:\n", me(), hash, expires)
	}
	const hash = "$y$j9T$Mdg143W.8SI./kZHxkBGN0$PfIYT/Ei50Wrm1LJeWz.4yySzxM2S0WPqxCVvSDKvE/"
	write(t, conf.Shadow, line(hash, ""))
	s := start(t, conf)
	for _, tt := range []struct {
		name, text, password string
		ok                   bool
	}{
		{"right", line(hash, ""), "geheim: ü", true},
		{"wrong", line(hash, ""), "geheim", false},
		{"empty", line(hash, ""), "", false},
		{"locked", line("!"+hash, ""), "geheim: ü", false},
		{"no password", line("", ""), "", false},
		{"expired", line(hash, "1"), "geheim: ü", false},
		{"not expired", line(hash, "99999"), "geheim: ü", true},
	} {
		write(t, conf.Shadow, tt.text)
		if _, err := s.password(me(), tt.password, "true"); (err == nil) != tt.ok {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.ok)
		}
	}
}

// Without any credential there is no server, or one that refuses everybody.
func TestNoCredential(t *testing.T) {
	conf := defaults(t)
	conf.SSH.AuthorizedKeys = []string{conf.Etc + "/none"}
	conf.SSH.ListenSet = false
	s := start(t, conf)
	if s.addr != "" {
		t.Fatalf("it listens on %q", s.addr)
	}
	conf.SSH.ListenSet = true
	apply := func(c config.SSH) {
		t.Helper()
		answer := s.tell("apply " + marshal(t, c))
		addr, ok := strings.CutPrefix(answer, "applied <nil>")
		if !ok {
			t.Fatal(answer)
		}
		s.addr = strings.TrimSpace(addr)
	}
	apply(conf.SSH)
	if out, _, code := s.run("", "--", "echo in"); code != 255 || out != "" {
		t.Errorf("without a credential: %q, status %d", out, code)
	}
	// A key that comes later lets in without another port.
	before := s.addr
	conf.SSH.AuthorizedKeys = []string{conf.Etc + "/keys"}
	apply(conf.SSH)
	if out, errs, code := s.run("", "--", "echo in"); code != 0 || out != "in\n" || s.addr != before {
		t.Errorf("with a key: %q, status %d, %s, address %s, before %s", out, code, errs, s.addr, before)
	}
	conf.SSH.EnvKeys = read(t, conf.Etc+"/id.pub")
	conf.SSH.AuthorizedKeys = nil
	apply(conf.SSH)
	if out, errs, code := s.run("", "--", "echo in"); code != 0 || out != "in\n" {
		t.Errorf("with a key of the environment: %q, status %d, %s", out, code, errs)
	}
	conf.SSH.Listen = config.Off
	apply(conf.SSH)
	if s.addr != "" {
		t.Errorf("off: it listens on %q", s.addr)
	}
}

func TestModesOfKeyFiles(t *testing.T) {
	conf := defaults(t)
	home := conf.Etc + "/home"
	write(t, conf.Passwd, strings.ReplaceAll(read(t, conf.Passwd), ":"+home+":", ":"+home+"/:"))
	conf.SSH.AuthorizedKeys = []string{"%h/.ssh/authorized_keys"}
	if err := os.Mkdir(home+"/.ssh", 0o700); err != nil {
		t.Fatal(err)
	}
	keys := home + "/.ssh/authorized_keys"
	write(t, keys, read(t, conf.Etc+"/id.pub"))
	s := start(t, conf)
	for _, tt := range []struct {
		path string
		mode os.FileMode
		ok   bool
	}{
		{keys, 0o644, true},
		{keys, 0o666, false},
		{home + "/.ssh", 0o755, true},
		{home + "/.ssh", 0o777, false},
		{home, 0o777, false},
		{home, 0o777 | os.ModeSticky, true},
		{home, 0o775, true}, // the group is the user's own
	} {
		before, err := os.Stat(tt.path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(tt.path, tt.mode); err != nil {
			t.Fatal(err)
		}
		if _, errs, code := s.run("", "--", "true"); (code == 0) != tt.ok {
			t.Errorf("%s with %v: status %d, want %v (%s)", tt.path, tt.mode, code, tt.ok, errs)
		}
		if err := os.Chmod(tt.path, before.Mode()); err != nil {
			t.Fatal(err)
		}
	}
	if !s.logged("everybody can write to it") {
		t.Error("the log does not say why")
	}
}

// Who is not there is refused like who is: with the same words, and not before a time that no hash takes.
func TestUnknownUser(t *testing.T) {
	conf := defaults(t)
	const hash = "$6$pXEgM/TVf7LyLspQ$T2nyPF.A38wMTJFuc2j5VJL/YUKobXjlJ/zU9x2/SCifYe6Qw0iuaqsAAVpd0vGzZgLZIzgm3n6F6kBzI0X0K/"
	write(t, conf.Shadow, me()+":"+hash+":1::::::\n")
	s := start(t, conf)
	for _, user := range []string{me(), "nosuchuser"} {
		said := ""
		began := time.Time{}
		_, err := ssh.Dial("tcp", s.addr, &ssh.ClientConfig{
			User: user, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
			Auth: []ssh.AuthMethod{ssh.PasswordCallback(func() (string, error) { began = time.Now(); return "wrong", nil })},
		})
		if err != nil {
			said = err.Error()
		}
		const want = "ssh: handshake failed: ssh: unable to authenticate, attempted methods [none password], no supported methods remain"
		if took := time.Since(began); said != want || took < refusalTime {
			t.Errorf("%s: %q after %s, want %q after %s", user, said, took, want, refusalTime)
		}
	}
}
