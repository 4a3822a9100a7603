package sshd

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"
)

func (s *server) connections() []Connection {
	s.t.Helper()
	var list []Connection
	if err := json.Unmarshal([]byte(s.tell("connections")), &list); err != nil {
		s.t.Fatal(err)
	}
	return list
}

func TestListAndKill(t *testing.T) {
	s := start(t, defaults(t))
	c := s.dial()
	ss, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if err := ss.RequestPty("xterm", 24, 80, nil); err != nil {
		t.Fatal(err)
	}
	if err := ss.Start("sleep 1000"); err != nil {
		t.Fatal(err)
	}
	var list []Connection
	if !within(patience, func() bool {
		list = s.connections()
		return len(list) == 1 && len(list[0].Sessions) == 1 && list[0].Sessions[0].PID > 0
	}) {
		t.Fatalf("%+v", list)
	}
	l := list[0]
	if l.User != me() || l.Method != "publickey" || l.Sessions[0].Kind != "exec" || l.Sessions[0].Command != "sleep 1000" || !strings.HasPrefix(l.Sessions[0].TTY, "/dev/pts/") {
		t.Errorf("%+v", l)
	}
	if got := s.tell("kill 999"); got != "killed false" {
		t.Error(got)
	}
	if got := s.tell(fmt.Sprintf("kill %d", l.ID)); got != "killed true" {
		t.Error(got)
	}
	if err := c.Wait(); err == nil {
		t.Error("the connection ended in order")
	}
	if !within(patience, func() bool {
		_, err := os.Stat(fmt.Sprintf("/proc/%d", l.Sessions[0].PID))
		return os.IsNotExist(err) && len(s.connections()) == 0
	}) {
		t.Error("something is left")
	}
}

func TestDrain(t *testing.T) {
	s := start(t, defaults(t))
	c := s.dial()
	ss, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if err := ss.RequestPty("xterm", 24, 80, ssh.TerminalModes{ssh.ECHO: 0}); err != nil {
		t.Fatal(err)
	}
	in, _ := ss.StdinPipe()
	out, _ := ss.StdoutPipe()
	if err := ss.Start("echo ready; read x; echo end $x"); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	if l, err := lines.ReadString('\n'); err != nil || l != "ready\r\n" {
		t.Fatalf("%q, %v", l, err)
	}
	if got := s.tell("drain 300s"); got != "draining" {
		t.Fatal(got)
	}
	for {
		l, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(l, "this pod is going down") {
			break
		}
	}
	if _, err := c.NewSession(); err == nil {
		t.Error("a new session is taken")
	}
	if !within(patience, func() bool { return refused(s.addr) }) {
		t.Error("it still listens")
	}
	// The open one goes on, and the drain ends with it.
	_, _ = io.WriteString(in, "well\n")
	rest, _ := io.ReadAll(lines)
	if string(rest) != "end well\r\n" || ss.Wait() != nil {
		t.Errorf("%q", rest)
	}
	if got := s.line(); got != "drained <nil>" {
		t.Error(got)
	}
}

func TestDrainDeadline(t *testing.T) {
	s := start(t, defaults(t))
	ss, err := s.dial().NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if err := ss.Start("sleep 1000"); err != nil {
		t.Fatal(err)
	}
	if got := s.tell("drain 100ms"); got != "draining" {
		t.Fatal(got)
	}
	if got := s.line(); !strings.HasPrefix(got, "drained 1 ssh sessions are open") {
		t.Error(got)
	}
}

// A session goes on with the settings of its login when they are replaced.
func TestReloadKeepsSessions(t *testing.T) {
	conf := defaults(t)
	s := start(t, conf)
	c := s.dial()
	next := conf.SSH
	_, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		t.Fatal(err)
	}
	next.Listen = ":" + port // taken, but by the listener that goes
	next.PermitLocalForward = nil
	if got := s.tell("apply " + marshal(t, next)); !strings.HasPrefix(got, "applied <nil>") {
		t.Fatal(got)
	}
	next.Listen = "localhost:0"
	if got := s.tell("apply " + marshal(t, next)); !strings.HasPrefix(got, "applied <nil>") || strings.HasSuffix(got, s.addr) {
		t.Fatal(got)
	}
	ss, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := ss.Output("echo still"); err != nil || string(out) != "still\n" {
		t.Errorf("%q, %v", out, err)
	}
	next.Listen = "192.0.2.1:22" // TEST-NET-1: nobody has it
	if got := s.tell("apply " + marshal(t, next)); !strings.Contains(got, "cannot listen") {
		t.Error(got)
	}
}

// In ten seconds even a client on a busy machine answers, or logs in.
const enough = 10 * time.Second

func TestKeepAlive(t *testing.T) {
	t.Parallel()
	conf := defaults(t)
	conf.SSH.ClientAliveInterval, conf.SSH.ClientAliveCount = enough/10, 9
	s := start(t, conf)
	alive := s.dial()
	// A client that has lost its network: it answers nothing any more.
	link, far := net.Pipe()
	out, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cut := make(chan struct{})
	go func() { _, _ = io.Copy(out, far) }()
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := out.Read(buf)
			if err != nil {
				return
			}
			select {
			case <-cut:
			default:
				_, _ = far.Write(buf[:n])
			}
		}
	}()
	key, err := ssh.ParsePrivateKey([]byte(read(t, s.key)))
	if err != nil {
		t.Fatal(err)
	}
	_, _, _, err = ssh.NewClientConn(link, s.addr, &ssh.ClientConfig{User: me(), Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, HostKeyCallback: ssh.InsecureIgnoreHostKey()})
	if err != nil {
		t.Fatal(err)
	}
	close(cut)
	if !s.logged("the client does not answer") {
		t.Error("it is not noticed")
	}
	if !within(patience, func() bool { return len(s.connections()) == 1 }) {
		t.Errorf("%+v", s.connections())
	}
	if _, err := alive.NewSession(); err != nil {
		t.Errorf("a client that answers: %v", err)
	}
}

func TestIdleTimeout(t *testing.T) {
	t.Parallel()
	conf := defaults(t)
	conf.SSH.ClientAliveInterval, conf.SSH.ClientAliveCount, conf.SSH.IdleTimeout = enough/100, 10_000, enough
	s := start(t, conf)
	ss, err := s.dial().NewSession()
	if err != nil {
		t.Fatal(err)
	}
	out, err := ss.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	over := s.dir + "/over"
	if err := ss.Start("until test -e " + over + "; do echo x; sleep 0.1; done"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { _, _ = io.Copy(io.Discard, out); done <- ss.Wait() }()
	began := time.Now()
	idle := s.dial() // later than the busy one: should that be idle too, its time is over before
	gone := make(chan time.Duration, 1)
	go func() { _ = idle.Wait(); gone <- time.Since(began) }()
	select {
	case d := <-gone: // that it answers does not count
		if d < enough {
			t.Errorf("the idle one ended after %s", d)
		}
	case <-time.After(patience):
		t.Error("the idle one does not end")
	}
	write(t, over, "")
	if err := <-done; err != nil {
		t.Errorf("the busy one: %v", err)
	}
}

// Connections that say nothing keep nobody out.
func TestFlood(t *testing.T) {
	conf := defaults(t)
	conf.SSH.MaxUnauthenticated = 20
	s := start(t, conf)
	const n = 300
	for i := range n {
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if i%2 == 0 {
			_, _ = io.WriteString(c, "SSH-2.0-flood\r\n")
		}
	}
	for range 5 {
		if out, errs, code := s.run("", "--", "echo in"); out != "in\n" || code != 0 {
			t.Errorf("%q, %q, status %d", out, errs, code)
		}
	}
}

func TestLoginGrace(t *testing.T) {
	t.Parallel()
	conf := defaults(t)
	conf.SSH.LoginGrace = enough
	s := start(t, conf)
	in := s.dial()
	var all []net.Conn
	says := []string{"", "SSH-2.0-", "SSH-2.0-OpenSSH_9.2\r\n", "SSH-2.0-x\r\n\x00\x00\x00", "GET / HTTP/1.1\r\n\r\n", strings.Repeat("x", 100_000)}
	for _, say := range says {
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = io.WriteString(c, say)
		all = append(all, c)
	}
	for i, c := range all {
		_ = c.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, c); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Errorf("%.20q: it is still open", says[i])
		}
	}
	// The one that logged in came before those whose time is over.
	if _, err := in.NewSession(); err != nil {
		t.Errorf("after the login: %v", err)
	}
}

func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoor()
		a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
		var waits []time.Duration
		try := func(a netip.Addr) time.Duration {
			began := time.Now()
			if err := d.await(t.Context(), a); err != nil {
				t.Error(err)
			}
			return time.Since(began)
		}
		for range 9 {
			waits = append(waits, try(a))
			d.failed(a, "root")
		}
		want := "[0s 0s 0s 1s 1s 2s 4s 8s 15s]"
		if got := fmt.Sprint(waits); got != want {
			t.Errorf("waits %s, want %s", got, want)
		}
		if w := try(b); w != 0 {
			t.Errorf("another address waits %s", w)
		}
		// Somebody's own password gives no further guesses at another's; his own slips are forgotten.
		for range 3 {
			d.failed(a, "guest")
			d.right(a, "guest")
		}
		if w := try(a); w == 0 {
			t.Error("no wait after the right password of another user")
		}
		d.right(a, "root")
		if w := try(a); w != 0 {
			t.Errorf("after the right password: %s", w)
		}
		six := netip.MustParseAddr("2001:db8::1")
		for range 4 {
			d.failed(six, "root")
		}
		if w := try(netip.MustParseAddr("2001:db8::2")); w == 0 {
			t.Error("another address of the same /64 does not wait")
		}
		time.Sleep(forgetAfter)
		if w := try(six); w != 0 {
			t.Errorf("long after: %s", w)
		}
	})
}

// Many connections of an address share one queue.
func TestBackoffIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoor()
		a := netip.MustParseAddr("10.0.0.1")
		for range 10 {
			d.failed(a, "root")
		}
		refused := 0
		c := make(chan error, 100)
		for range 100 {
			go func() { c <- d.await(t.Context(), a) }()
		}
		for range 100 {
			if <-c != nil {
				refused++
			}
		}
		if refused < 90 {
			t.Errorf("%d of 100 were refused, the others wait in vain", refused)
		}
	})
}
