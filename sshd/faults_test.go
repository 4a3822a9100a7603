package sshd

import (
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// A client that closes a forwarded connection (CLOSE, and not only EOF) has it closed on the other side, also where that
// side says nothing more and does not mind the end of its input.
func TestClosedForwardIsClosed(t *testing.T) {
	s := start(t, defaults(t))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	const n = 8
	got := make(chan string, n)
	var all sync.WaitGroup
	defer all.Wait()
	all.Add(1)
	go func() {
		defer all.Done()
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			all.Add(1)
			go func() {
				defer all.Done()
				b, _ := io.ReadAll(c)
				got <- string(b)
			}()
		}
	}()
	c := s.dial()
	text := strings.Repeat("all of it", 10_000)
	for range n {
		out, err := c.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(out, text); err != nil {
			t.Fatal(err)
		}
		if err := out.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for range n {
		select {
		case b := <-got:
			if b != text {
				t.Errorf("%d bytes came, want %d", len(b), len(text))
			}
		case <-time.After(patience):
			t.Fatal("the end does not come")
		}
	}
	if !within(patience, func() bool { return s.connections()[0].Forwards == 0 }) {
		t.Errorf("%d of %d connections are still open", s.connections()[0].Forwards, n)
	}
	_ = ln.Close()
}

// A key with a forced command cannot be used to signal it (sshd refuses that since 7.9).
func TestForcedCommandIsNotSignalled(t *testing.T) {
	conf := defaults(t)
	write(t, conf.Etc+"/keys", `command="trap 'echo signalled; exit 3' TERM INT; echo up; read x; echo $x" `+read(t, conf.Etc+"/id.pub"))
	s := start(t, conf)
	ss, err := s.dial().NewSession()
	if err != nil {
		t.Fatal(err)
	}
	in, err := ss.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := ss.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := ss.Shell(); err != nil {
		t.Fatal(err)
	}
	if b := make([]byte, 3); true {
		if _, err := io.ReadFull(out, b); err != nil || string(b) != "up\n" {
			t.Fatalf("%q, %v", b, err)
		}
	}
	for _, request := range []struct {
		name    string
		payload []byte
	}{{"signal", str("TERM")}, {"break", u32(0)}} {
		if ok, err := ss.SendRequest(request.name, true, request.payload); ok || err != nil {
			t.Errorf("%s: %v, %v; want it refused", request.name, ok, err)
		}
	}
	if _, err := io.WriteString(in, "not touched\n"); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(out); string(b) != "not touched\n" {
		t.Errorf("%q, %v", b, err)
	}
}

// A subsystem that is not there is refused (RFC 4254, 6.5), so that the client can try something else in the session.
func TestUnknownSubsystemIsRefused(t *testing.T) {
	s := start(t, defaults(t))
	ss, err := s.dial().NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if err := ss.RequestSubsystem("netconf"); err == nil {
		t.Error("it was taken")
	}
	if out, err := ss.Output("echo instead"); err != nil || string(out) != "instead\n" {
		t.Errorf("what came instead: %q, %v", out, err)
	}
	if _, errs, code := s.run("", "-s", "--", "netconf"); code != 255 {
		t.Errorf("status %d, %q", code, errs)
	}
}

// A forced command that runs what was asked for runs an SFTP server where that is asked for, and not the client of that name.
func TestForcedCommandKnowsTheSubsystem(t *testing.T) {
	conf := defaults(t)
	write(t, conf.Etc+"/keys", `command="echo \"$SSH_ORIGINAL_COMMAND\"" `+read(t, conf.Etc+"/id.pub"))
	s := start(t, conf)
	out, _, _ := s.run("", "-s", "--", "sftp")
	if word := strings.TrimSpace(out); word != "internal-sftp" && filepath.Base(word) != "sftp-server" {
		t.Errorf("SSH_ORIGINAL_COMMAND is %q, want internal-sftp or the path of a sftp-server", word)
	} else if _, err := os.Stat(word); err != nil && word != "internal-sftp" {
		t.Error(err)
	}
}

// A name that nobody has leads to no file but its own: somebody who is not logged in could have any file read for keys,
// with a line in the log for each line of it.
func TestNamesLeadToNoOtherFiles(t *testing.T) {
	conf := defaults(t)
	conf.SSH.AuthorizedKeys = append(conf.SSH.AuthorizedKeys, conf.Etc+"/keys.d/%u")
	if err := os.Mkdir(conf.Etc+"/keys.d", 0o755); err != nil {
		t.Fatal(err)
	}
	for dir := conf.Etc; dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) {
		if os.Getuid() == 0 {
			_ = os.Chmod(dir, 0o755) // what nobody may read is not the point
		}
	}
	write(t, conf.Etc+"/other", strings.Repeat("no key at all\n", 1000))
	if err := os.Chmod(conf.Etc+"/other", 0o644); err != nil {
		t.Fatal(err)
	}
	s := start(t, conf)
	key := newSigner(t)
	for _, user := range []string{"../other", strings.Repeat("x", 50_000), ".", ".."} {
		c, err := ssh.Dial("tcp", s.addr, &ssh.ClientConfig{
			User: user, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Auth: []ssh.AuthMethod{ssh.PublicKeys(key)},
		})
		if err == nil {
			_ = c.Close()
			t.Errorf("%.20q got in", user)
		}
	}
	if n := len(s.log.String()); n > 10<<10 {
		t.Errorf("four logins that failed left %d bytes in the log", n)
	}
	for _, text := range []string{"cannot use a line of a file of public keys", "cannot use a file of public keys"} {
		if strings.Contains(s.log.String(), text) {
			t.Errorf("the log says %q", text)
		}
	}
}

// A certificate whose authority signed it with SHA-1 is not accepted, as with sshd's CASignatureAlgorithms.
func TestCertificateSignedWithSHA1(t *testing.T) {
	l, kinds := everybody(t)
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	write(t, l.cfg.AuthorizedKeys[0], "cert-authority "+string(ssh.MarshalAuthorizedKey(ca.PublicKey())))
	for algorithm, ok := range map[string]bool{ssh.KeyAlgoRSA: false, ssh.KeyAlgoRSASHA256: true, ssh.KeyAlgoRSASHA512: true} {
		with, err := ssh.NewSignerWithAlgorithms(ca.(ssh.AlgorithmSigner), []string{algorithm})
		if err != nil {
			t.Fatal(err)
		}
		cert := &ssh.Certificate{
			CertType: ssh.UserCert, Key: newSigner(t).PublicKey(), ValidPrincipals: kinds[:1], ValidBefore: ssh.CertTimeInfinity,
		}
		if err := cert.SignCert(rand.Reader, with); err != nil {
			t.Fatal(err)
		}
		if cert.Signature.Format != algorithm {
			t.Fatalf("it is signed with %s", cert.Signature.Format)
		}
		if _, err := l.checkKey(named{user: kinds[0]}, cert); (err == nil) != ok {
			t.Errorf("%s: %v, want %v", algorithm, err, ok)
		}
	}
}

// An account that has expired (chage -E, usermod -e) is closed to keys too, as with sshd.
func TestExpiredAccountAndKeys(t *testing.T) {
	conf := defaults(t)
	s := start(t, conf)
	for _, tt := range []struct {
		line string
		ok   bool
	}{
		{"%s:!:19000:0:99999:7:::", true},
		{"%s:!:19000:0:99999:7::1:", false},
		{"%s:*:19000:0:99999:7::99999:", true},
		{"%s:x", true},
		{"somebody:!:19000:0:99999:7::1:", true},
	} {
		line := tt.line
		if strings.Contains(line, "%s") {
			line = fmt.Sprintf(line, me())
		}
		write(t, conf.Shadow, line+"\n")
		if _, errs, code := s.run("", "--", "true"); (code == 0) != tt.ok {
			t.Errorf("%s: status %d, want %v (%s)", line, code, tt.ok, errs)
		}
	}
}

// A home that is moved (usermod -d) is HOME at the next login.
func TestHomeThatMoves(t *testing.T) {
	conf := defaults(t)
	s := start(t, conf)
	for _, name := range []string{"home", "moved"} {
		home := conf.Etc + "/" + name
		if err := os.MkdirAll(home, 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, conf.Passwd, fmt.Sprintf("%s:x:%d:%d::%s:/bin/bash\n", me(), os.Getuid(), os.Getgid(), home))
		if out, errs, _ := s.run("", "--", "pwd; echo $HOME"); out != home+"\n"+home+"\n" {
			t.Errorf("%q, want %s twice (%s)", out, home, errs)
		}
	}
}

// slowListener takes its time to close, as a socket on a file system that hangs does.
type slowListener struct {
	net.Listener
	closing, go_ chan struct{}
}

func (l *slowListener) Close() error {
	close(l.closing)
	<-l.go_
	return nil
}

// Who looks at a connection does not wait for a listener of it that does not close.
func TestListenerThatDoesNotClose(t *testing.T) {
	c := &conn{ctx: t.Context(), listeners: map[string]net.Listener{}, sessions: map[*session]bool{}}
	for name, drop := range map[string]func(){"cancelled": func() { c.dropListener("x") }, "at the end": c.closeListeners} {
		l := &slowListener{closing: make(chan struct{}), go_: make(chan struct{})}
		if !c.keepListener("x", l) {
			t.Fatal("it is not kept")
		}
		done := make(chan struct{})
		go func() { defer close(done); drop() }()
		<-l.closing
		seen := make(chan int, 1)
		go func() { seen <- c.sessionCount() }()
		select {
		case <-seen:
		case <-time.After(patience):
			t.Errorf("%s: who counts sessions waits for it", name)
		}
		close(l.go_)
		<-done
	}
}
