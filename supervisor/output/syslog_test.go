package output

import (
	"bufio"
	"fmt"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestSyslogUDP(t *testing.T) {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	h := newHub(t, HubOptions{Now: func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }})
	s := open(t, h, Options{
		Program: "web", Channel: "stderr", Targets: []string{"syslog @udp:" + server.LocalAddr().String()},
		SyslogFacility: "LOG_LOCAL3", SyslogPriority: "warning",
	})
	say(t, s, "one\ntwo")
	end(t, s)
	buf := make([]byte, 1024)
	for _, line := range []string{"one", "two"} {
		_ = server.SetReadDeadline(time.Now().Add(time.Minute))
		n, _, err := server.ReadFrom(buf)
		if err != nil {
			t.Fatal(err)
		}
		want := regexp.MustCompile(`^<156>2026-01-02T03:04:05Z \S+ web: ` + line + `$`)
		if got := string(buf[:n]); !want.MatchString(got) {
			t.Errorf("got %q, want %v", got, want)
		}
	}
}

func TestSyslogTag(t *testing.T) {
	h := newHub(t, HubOptions{Ident: "agent"})
	for _, tc := range []struct {
		name              string
		o                 Options
		wantTag, wantText string
	}{
		{"stdout_syslog", Options{Program: "web", Syslog: true}, "agent", "web "},
		{"stdout_syslog with a tag", Options{Program: "web", Syslog: true, SyslogTag: "shop"}, "shop", ""},
		{"a target", Options{Program: "web", Targets: []string{"syslog"}}, "web", ""},
		{"a target with a tag", Options{Program: "web", Targets: []string{"syslog"}, SyslogTag: "shop"}, "shop", ""},
	} {
		_, targets, err := h.openTargets(&tc.o)
		if err != nil || len(targets) != 1 {
			t.Fatalf("%s: got %d targets, %v; want 1", tc.name, len(targets), err)
		}
		got := targets[0].(*syslogTarget)
		if got.tag != tc.wantTag || got.prefix != tc.wantText {
			t.Errorf("%s: got tag %q and prefix %q, want %q and %q", tc.name, got.tag, got.prefix, tc.wantTag, tc.wantText)
		}
	}
}

func TestSyslogTCPReconnects(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	h := newHub(t, HubOptions{})
	s := open(t, h, Options{Targets: []string{"syslog @tcp:" + server.Addr().String()}})
	read := func(conn net.Conn, want string) {
		t.Helper()
		_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil || !strings.HasSuffix(line, want+"\n") {
			t.Fatalf("got %q, %v; want %q", line, err, want)
		}
	}
	say(t, s, "first\n")
	conn, err := server.Accept()
	if err != nil {
		t.Fatal(err)
	}
	read(conn, "first")
	_ = conn.(*net.TCPConn).SetLinger(0)
	_ = conn.Close()
	next := make(chan net.Conn, 1)
	go func() {
		c, err := server.Accept()
		if err == nil {
			next <- c
		}
	}()
	// The first writes after a reset may be taken by the kernel and lost; a line a while finds the new connection.
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case c := <-next:
			read(c, "again")
			_ = c.Close()
			end(t, s)
			return
		case <-tick.C:
			say(t, s, "again\n")
		case <-t.Context().Done():
			t.Fatal("no second connection")
		}
	}
}

func TestSyslogServerAwayNeverBlocks(t *testing.T) {
	// A port that is taken, so that nobody else gets it, and that nobody listens on.
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	h := newHub(t, HubOptions{})
	s := open(t, h, Options{Targets: []string{fmt.Sprintf("syslog @tcp:127.0.0.1:%d", at.(*unix.SockaddrInet4).Port)}})
	const lines = 3 * syslogQueue
	for range lines {
		say(t, s, "lost\n")
	}
	end(t, s)
	eventually(t, "every line is counted as dropped", func() bool { return h.Stats().SyslogDropped == lines })
}

func TestSyslogAddress(t *testing.T) {
	for value, want := range map[string]string{
		"syslog": " ", "syslog @host": "udp host:514", "syslog @udp:host": "udp host:514", "syslog @tcp:host": "tcp host:6514",
		"syslog @tcp:host:1": "tcp host:1", "SYSLOG  @[::1]:5": "udp [::1]:5",
	} {
		network, addr, err := syslogAddress(value)
		if got := network + " " + addr; err != nil || got != want {
			t.Errorf("%q = %q, %v; want %q", value, got, err, want)
		}
	}
}
