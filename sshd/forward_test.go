package sshd

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// echoServer answers with what it gets, once the client has ended its side.
func echoServer(t *testing.T, network, addr string) net.Listener {
	t.Helper()
	ln, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b, _ := io.ReadAll(c)
				_, _ = c.Write(append([]byte("echo "), b...))
			}()
		}
	}()
	return ln
}

// talk sends a text, ends its side and returns the answer.
func talk(t *testing.T, c net.Conn, text string) string {
	t.Helper()
	defer c.Close()
	if _, err := io.WriteString(c, text); err != nil {
		return err.Error()
	}
	if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		return err.Error()
	}
	b, err := io.ReadAll(c)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func TestLocalForward(t *testing.T) {
	conf := defaults(t)
	sock := filepath.Join(conf.Etc, "echo.sock")
	conf.SSH.PermitLocalForward = []string{"127.0.0.1:*", "localhost:*", conf.Etc + "/*.sock"}
	s := start(t, conf)
	tcp := echoServer(t, "tcp", "127.0.0.1:0")
	unix := echoServer(t, "unix", sock)
	c := s.dial()
	for _, a := range []net.Addr{tcp.Addr(), unix.Addr()} {
		out, err := c.Dial(a.Network(), a.String())
		if err != nil {
			t.Errorf("%s: %v", a, err)
			continue
		}
		if got := talk(t, out, strings.Repeat("x", 1<<20)); len(got) != 1<<20+5 {
			t.Errorf("%s: %d bytes", a, len(got))
		}
	}
	if out, errs, code := s.run("hello", "-W", tcp.Addr().String()); out != "echo hello" || code != 0 {
		t.Errorf("-W: %q, %q, %d", out, errs, code)
	}
	for _, target := range []string{"127.0.0.2:22", "[::1]:22", "10.0.0.1:80", "0.0.0.0:80", "2130706433:80", "example.com:80"} {
		if target == "127.0.0.2:22" || target == "[::1]:22" {
			continue // of the loopback, which localhost stands for
		}
		if _, err := c.Dial("tcp", target); err == nil || !strings.Contains(err.Error(), "prohibited") {
			t.Errorf("%s: %v, want it prohibited", target, err)
		}
	}
	if _, err := c.Dial("unix", "/run/inpod/inpod.sock"); err == nil || !strings.Contains(err.Error(), "prohibited") {
		t.Errorf("another socket: %v, want it prohibited", err)
	}
	if _, err := c.Dial("unix", conf.Etc+"/../"+filepath.Base(conf.Etc)+"/echo.sock"); err == nil {
		t.Error("a path with .. is permitted")
	}
	if !s.logged("forwarding refused") {
		t.Error("nothing is logged")
	}
}

func TestRemoteForward(t *testing.T) {
	conf := defaults(t)
	conf.SSH.PermitRemoteForward = []string{"127.0.0.1:*", conf.Etc + "/*.sock"}
	s := start(t, conf)
	c := s.dial()
	serve := func(ln net.Listener) {
		go func() {
			for {
				in, err := ln.Accept()
				if err != nil {
					return
				}
				b, _ := io.ReadAll(in)
				_, _ = in.Write(append([]byte("client "), b...))
				_ = in.Close()
			}
		}()
	}
	tcp, err := c.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	unix, err := c.ListenUnix(conf.Etc + "/r.sock")
	if err != nil {
		t.Fatal(err)
	}
	for _, ln := range []net.Listener{tcp, unix} {
		serve(ln)
		out, err := net.Dial(ln.Addr().Network(), ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if got := talk(t, out, "x"); got != "client x" {
			t.Errorf("%s: %q", ln.Addr(), got)
		}
	}
	st, err := os.Stat(conf.Etc + "/r.sock")
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, %v", st.Mode(), err)
	}
	if _, err := c.ListenUnix(conf.Etc + "/r.sock"); err == nil {
		t.Error("a socket that is there was replaced")
	}
	if _, err := c.ListenUnix("/tmp/elsewhere.sock"); err == nil {
		t.Error("another socket is permitted")
	}
	if _, err := c.Listen("tcp", "10.0.0.1:0"); err == nil {
		t.Error("another address is permitted")
	}
	// Every interface was asked for, and the loopback is permitted: that is what the client gets.
	if ln, err := c.Listen("tcp", "0.0.0.0:0"); err != nil {
		t.Errorf("every interface: %v", err)
	} else if !s.logged("127.0.0.1:" + fmt.Sprint(ln.Addr().(*net.TCPAddr).Port)) {
		t.Errorf("it listens elsewhere than on the loopback")
	}
	addr := tcp.Addr().String()
	if err := tcp.Close(); err != nil {
		t.Errorf("cancel: %v", err)
	}
	if !within(patience, func() bool { return refused(addr) }) {
		t.Error("a cancelled forwarding still listens")
	}
	_ = c.Close()
	if !within(patience, func() bool { _, err := os.Stat(conf.Etc + "/r.sock"); return os.IsNotExist(err) }) {
		t.Error("the socket is left behind")
	}
}

// refused tells whether nobody listens. Somebody else may have got the port at once.
func refused(addr string) bool {
	c, err := net.Dial("tcp", addr)
	if err == nil {
		_ = c.Close()
	}
	return err != nil
}

func TestRemoteForwardIsOffByDefault(t *testing.T) {
	s := start(t, defaults(t))
	if _, err := s.dial().Listen("tcp", "127.0.0.1:0"); err == nil {
		t.Error("it is permitted")
	}
}

func TestAgentForward(t *testing.T) {
	s := start(t, defaults(t))
	// ssh-agent of the client's side.
	sock := filepath.Join(t.TempDir(), "a")
	keyring := agent.NewKeyring()
	key, err := ssh.ParseRawPrivateKey([]byte(read(t, s.key)))
	if err != nil {
		t.Fatal(err)
	}
	if err := keyring.Add(agent.AddedKey{PrivateKey: key, Comment: "the forwarded key"}); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { _ = agent.ServeAgent(keyring, c) }()
		}
	}()
	cmd := s.ssh("-A", "--", "ssh-add -l; echo $SSH_AUTH_SOCK")
	cmd.Env = append(os.Environ(), "SSH_AUTH_SOCK="+sock)
	out, err := cmd.CombinedOutput()
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if err != nil || len(lines) != 2 || !strings.Contains(lines[0], "the forwarded key") {
		t.Fatalf("%v\n%s", err, out)
	}
	// It goes when the client has been told of the end, or just after.
	if !within(patience, func() bool { _, err := os.Stat(filepath.Dir(lines[1])); return os.IsNotExist(err) }) {
		t.Errorf("%s is left behind", lines[1])
	}
	pub := read(t, s.dir+"/id.pub")
	write(t, s.dir+"/keys", "no-agent-forwarding "+pub)
	cmd = s.ssh("-A", "--", "echo sock=$SSH_AUTH_SOCK")
	cmd.Env = append(os.Environ(), "SSH_AUTH_SOCK="+sock)
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "sock=\n" {
		t.Errorf("no-agent-forwarding: %v, %q", err, out)
	}
}

func TestX11Forward(t *testing.T) {
	s := start(t, defaults(t))
	c := s.dial()
	ss, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer ss.Close()
	cookie := strings.Repeat("ab", 16)
	if ok, err := ss.SendRequest("x11-req", true, ssh.Marshal(x11Request{Protocol: "MIT-MAGIC-COOKIE-1", Cookie: cookie})); err != nil || !ok {
		t.Fatalf("x11-req: %v, %v", ok, err)
	}
	channels := c.HandleChannelOpen("x11")
	out, _ := ss.StdoutPipe()
	if err := ss.Start(`echo $DISPLAY; od -An -tx1 -v $XAUTHORITY | tr -d ' \n'; echo; ls -l $XAUTHORITY | cut -c1-10; p=${DISPLAY#*:}; exec 3<>/dev/tcp/127.0.0.1/$((6000+${p%.*})); echo x >&3; cat <&3`); err != nil {
		t.Fatal(err)
	}
	ch := <-channels
	conn, reqs, err := ch.Accept()
	if err != nil {
		t.Fatal(err)
	}
	go ssh.DiscardRequests(reqs)
	b := make([]byte, 2)
	if _, err := io.ReadFull(conn, b); err != nil || string(b) != "x\n" {
		t.Errorf("from the client's program: %q, %v", b, err)
	}
	_, _ = io.WriteString(conn, "display\n")
	_ = conn.Close()
	all, err := io.ReadAll(out)
	lines := strings.Split(string(all), "\n")
	if err != nil || len(lines) < 4 || !strings.HasPrefix(lines[0], "localhost:") || !strings.Contains(lines[1], cookie) || lines[2] != "-rw-------" || lines[3] != "display" {
		t.Errorf("%v: %q", err, lines)
	}
}

func TestPermitted(t *testing.T) {
	for _, tt := range []struct {
		list []string
		host string
		port uint32
		want bool
	}{
		{nil, "127.0.0.1", 80, false},
		{[]string{"127.0.0.1:*"}, "127.0.0.1", 80, true},
		{[]string{"127.0.0.1:*"}, "::ffff:127.0.0.1", 80, true},
		{[]string{"127.0.0.1:*"}, "127.0.0.2", 80, false},
		{[]string{"127.0.0.1:*"}, "127.1", 80, false},
		{[]string{"127.0.0.1:*"}, "0x7f000001", 80, false},
		{[]string{"127.0.0.1:*"}, "localhost", 80, false},
		{[]string{"localhost:*"}, "LOCALHOST.", 80, true},
		{[]string{"localhost:*"}, "::1", 80, true},
		{[]string{"localhost:80-90"}, "localhost", 91, false},
		{[]string{"localhost:80-90"}, "localhost", 90, true},
		{[]string{"10.0.0.0/8:443"}, "10.200.3.4", 443, true},
		{[]string{"10.0.0.0/8:443"}, "11.0.0.1", 443, false},
		{[]string{"10.0.0.0/8:443"}, "10.evil.example", 443, false},
		{[]string{"[fd00::]/8:*"}, "fd12::1", 1, false}, // brackets go around the whole: config refuses this
		{[]string{"fd00::/8:*"}, "fd12::1", 1, true},
		{[]string{"[::1]:22"}, "::1", 22, true},
		{[]string{"*.example.com:443"}, "a.example.com", 443, true},
		{[]string{"*.example.com:443"}, "example.com", 443, false},
		{[]string{"*.example.com:443"}, "a.example.com.evil.org", 443, false},
		{[]string{"*:*"}, "anything", 1, true},
		{[]string{"/run/*.sock"}, "/run/x.sock", 1, false},
	} {
		if got := permitted(tt.list, tt.host, tt.port); got != tt.want {
			t.Errorf("permitted(%q, %s, %d) = %v, want %v", tt.list, tt.host, tt.port, got, tt.want)
		}
	}
}

// ssh -D, and a jump through the server to itself.
func TestJump(t *testing.T) {
	s := start(t, defaults(t))
	proxy := "ssh " + strings.Join(s.options(), " ") + " -p " + s.port() + " -l " + me() + " -W %h:%p 127.0.0.1"
	if out, errs, code := s.run("", "-o", "ProxyCommand="+proxy, "--", "echo twice"); out != "twice\n" || code != 0 {
		t.Errorf("%q, %q, %d", out, errs, code)
	}
}
