package sshd

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// named is what a login is told of its client.
type named struct {
	ssh.ConnMetadata
	user string
}

func (n named) User() string { return n.user }

// everybody is a login on a server that knows users of every kind; the last name is nobody's.
func everybody(t *testing.T) (*login, []string) {
	t.Helper()
	conf := defaults(t)
	kinds := []string{me(), "keys", "password", "nologin", "nothing", "missing"}
	hash, err := shaCrypt([]byte("the password"), "$6$rounds=20000$salt$")
	if err != nil {
		t.Fatal(err)
	}
	passwd, passwords := read(t, conf.Passwd), me()+":"+hash+"\npassword:"+hash+"\nnologin:"+hash+"\n"
	for i, name := range kinds[1:5] {
		shell, uid := "/bin/sh", 60001+i
		if name == "nologin" {
			shell = "/usr/sbin/nologin"
		}
		home := filepath.Join(conf.Etc, "home", name)
		passwd += fmt.Sprintf("%s:x:%d:%d::%s:%s\n", name, uid, uid, home, shell)
		if err := os.MkdirAll(home+"/.ssh", 0o755); err != nil {
			t.Fatal(err)
		}
		if name == "keys" || name == "nologin" {
			write(t, home+"/.ssh/authorized_keys", read(t, conf.Etc+"/id.pub"))
			if err := os.Chmod(home+"/.ssh/authorized_keys", 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(t, conf.Passwd, passwd)
	write(t, conf.SSH.PasswordFile, passwords)
	conf.SSH.AuthorizedKeys = append(conf.SSH.AuthorizedKeys, "%h/.ssh/authorized_keys")
	s := New(Options{Log: slog.New(slog.DiscardHandler), Passwd: conf.Passwd, Shadow: conf.Shadow, EtcDir: conf.Etc})
	s.passwords.use(conf.SSH.HostKeyDir, conf.SSH.PasswordFile, me())
	s.passwords.wait()
	near, far := net.Pipe()
	t.Cleanup(func() { near.Close(); far.Close() })
	return &login{s: s, wire: newPeer(near), cfg: &conf.SSH, ctx: context.Background(), log: s.log}, kinds
}

// quickest measures f for each kind in turns, and takes the least of each: what the machine does besides only adds to it.
func quickest(kinds []string, n int, clock func() time.Duration, f func(kind string)) map[string]time.Duration {
	out := map[string]time.Duration{}
	for range n {
		for _, kind := range kinds {
			began := clock()
			f(kind)
			if d := clock() - began; out[kind] == 0 || d < out[kind] {
				out[kind] = d
			}
		}
	}
	return out
}

// cpuTime is what this process has had of the processors, which does not depend on who else wants them.
func cpuTime() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u) // cannot fail
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// alike tells whether no time is away from that of the name that is nobody's by more than a quarter. It looks again, as
// the machine may be busy with something else, and takes the least of all; a difference that is always there is always
// found.
func alike(t *testing.T, what string, measure func() map[string]time.Duration) {
	t.Helper()
	got := map[string]time.Duration{}
	for range 10 {
		for kind, d := range measure() {
			if got[kind] == 0 || d < got[kind] {
				got[kind] = d
			}
		}
		same := true
		for _, d := range got {
			ratio := float64(d) / float64(got["missing"])
			same = same && ratio < 1.25 && ratio > 0.8
		}
		if same {
			t.Logf("%s: %v", what, got)
			return
		}
	}
	t.Errorf("%s: the time tells who there is: %v", what, got)
}

// The time of a refusal is the same whether a user is there or not, has a password, a key or neither.
func TestTimeTellsNoNames(t *testing.T) {
	l, kinds := everybody(t)
	alike(t, "a wrong password", func() map[string]time.Duration {
		return quickest(kinds, 9, cpuTime, func(kind string) {
			if _, err := l.check(named{user: kind}, []byte("wrong")); err != errDenied { //nolint:errorlint // the same for all
				t.Errorf("%s: %v", kind, err)
			}
		})
	})
	pub, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	alike(t, "a wrong key", func() map[string]time.Duration {
		return quickest(kinds, 60, func() time.Duration { return time.Since(start) }, func(kind string) {
			if _, err := l.publicKey(named{user: kind}, key); err != errDenied { //nolint:errorlint // the same for all
				t.Errorf("%s: %v", kind, err)
			}
		})
	})
	if _, err := l.check(named{user: "password"}, []byte("the password")); os.Getuid() == 0 && err != nil {
		t.Errorf("the right password: %v", err)
	}
	if _, err := l.check(named{user: "missing"}, []byte("the password")); err == nil || !strings.Contains(err.Error(), "denied") {
		t.Errorf("somebody else's password: %v", err)
	}
}
