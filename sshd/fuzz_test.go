package sshd

import (
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/inpod/inpod/config"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// kinds of requests of a session that do something with their payload before anything is started.
func requestKinds() []string {
	return []string{"env", "pty-req", "window-change", "signal", "break", "exec", "subsystem", "auth-agent-req@openssh.com", "shell", "eow@openssh.com"}
}

// FuzzRequests sends a session requests with any payload. Nothing may panic, take much memory, or be taken that is not
// whole.
func FuzzRequests(f *testing.F) {
	for i := range requestKinds() {
		f.Add(uint8(i), []byte{})
		f.Add(uint8(i), ssh.Marshal(struct{ A string }{"TERM"}))
		f.Add(uint8(i), ssh.Marshal(struct{ A, B string }{"LC_ALL", "C"}))
		f.Add(uint8(i), ssh.Marshal(ptyRequest{"vt100", 80, 24, 1 << 31, 0xffffffff, "\x03\x00\x00\x00\x7f\x80\x00\x00\x96\x00\x00"}))
		f.Add(uint8(i), ssh.Marshal(windowSize{1, 2, 3, 0xffffffff}))
		f.Add(uint8(i), []byte{0xff, 0xff, 0xff, 0xff, 1})
	}
	f.Fuzz(func(t *testing.T, kind uint8, payload []byte) {
		me := &account{own: true, uid: os.Getuid(), gid: os.Getgid()}
		ss := newSession(&conn{account: me, grant: &grant{noAgent: true}, cfg: &config.SSH{}, log: slog.New(slog.DiscardHandler)}, nil)
		defer ss.release()
		kinds := requestKinds()
		r := &ssh.Request{Type: kinds[int(kind)%len(kinds)], Payload: payload}
		for range 2 {
			ok := ss.request(r)
			if text, whole := stringOf(payload); ok && (r.Type == "exec" || r.Type == "subsystem") && (!whole || len(text) > len(payload)) {
				t.Errorf("%s of %q is taken", r.Type, payload)
			}
		}
		if len(ss.env) > maxEnv {
			t.Errorf("%d variables", len(ss.env))
		}
		for _, kv := range ss.env {
			if name, _, ok := strings.Cut(kv, "="); !ok || !acceptedEnv(name) || strings.ContainsRune(kv, 0) {
				t.Errorf("%q is taken", kv)
			}
		}
	})
}

// FuzzModes applies any encoded terminal modes.
func FuzzModes(f *testing.F) {
	f.Add(byte(1), uint32(3))
	f.Add(byte(91), uint32(1))
	f.Add(byte(255), uint32(0xffffffff))
	f.Fuzz(func(t *testing.T, op byte, v uint32) {
		var tio unix.Termios
		applyMode(&tio, op, v)
	})
}

// FuzzForwards reads any payload of a forwarding and holds it against the lists.
func FuzzForwards(f *testing.F) {
	f.Add([]byte{}, "127.0.0.1:*", "/run/*")
	f.Add(ssh.Marshal(struct {
		Host string
		Port uint32
	}{"localhost", 80}), "*.example.com:1-80", "/a/b")
	f.Fuzz(func(t *testing.T, payload []byte, pattern, path string) {
		var r struct {
			Host string
			Port uint32
		}
		if ssh.Unmarshal(payload, &r) != nil {
			return
		}
		list := []string{pattern, path}
		if permitted(nil, r.Host, r.Port) || permittedPath(nil, r.Host) {
			t.Error("what no list names is permitted")
		}
		if permitted(list, r.Host, r.Port) && r.Port > 0xffff && !strings.HasSuffix(pattern, ":*") && !strings.HasSuffix(path, ":*") {
			t.Errorf("port %d is permitted by %q", r.Port, list)
		}
		if permittedPath(list, r.Host) && (!strings.HasPrefix(r.Host, "/") || strings.Contains(r.Host, "/../")) {
			t.Errorf("the path %q is permitted by %q", r.Host, list)
		}
		a, _ := netip.ParseAddr(r.Host)
		allowsFrom(strings.Split(pattern, ","), a)
	})
}

// FuzzHashes compares a password with what might be a hash. It never takes for ever, and never says yes by accident.
func FuzzHashes(f *testing.F) {
	for _, h := range []string{
		"$6$rounds=1000$salt$x", "$5$salt$", "$6$$", "$y$j/.$salt$",
		"$y$$$", "$2b$04$abcdefghijklmnopqrstuu", "$6$rounds=999999999$a$b", "$6$rounds=-1$a$", "!", "",
	} {
		f.Add("password", h)
	}
	f.Fuzz(func(t *testing.T, password, hash string) {
		began := time.Now()
		ok, err := verify([]byte(password), hash)
		if ok && err != nil {
			t.Errorf("%q: yes, and %v", hash, err)
		}
		if d := time.Since(began); d > 20*time.Second {
			t.Errorf("%q takes %s", hash, d)
		}
	})
}
