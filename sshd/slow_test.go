package sshd

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// A client that reads nothing for a while loses nothing: neither what it has no room for yet, nor what the terminal still
// holds when the command has long ended.
func TestSlowReaderOfATerminal(t *testing.T) {
	s := start(t, defaults(t))
	const window = 64 << 15 // of a channel of x/crypto's client
	data := bytes.Repeat([]byte("0123456789abcde\n"), (window+10<<10)/16)
	write(t, s.dir+"/data", string(data))
	ch, reqs, err := s.dial().OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	pty := ptyRequest{Term: "xterm", Columns: 80, Rows: 24, Modes: "\x46\x00\x00\x00\x00\x00"} // OPOST is off
	if ok, err := ch.SendRequest("pty-req", true, ssh.Marshal(pty)); !ok || err != nil {
		t.Fatal(ok, err)
	}
	command := fmt.Sprintf("cd %s; echo $$ >pid.new; mv pid.new pid; exec cat data", s.dir)
	if ok, err := ch.SendRequest("exec", true, ssh.Marshal(struct{ C string }{command})); !ok || err != nil {
		t.Fatal(ok, err)
	}
	go ssh.DiscardRequests(reqs)
	if !within(patience, func() bool {
		pid, err := os.ReadFile(s.dir + "/pid")
		if err != nil {
			return false
		}
		_, err = os.Stat("/proc/" + strings.TrimSpace(string(pid)))
		return os.IsNotExist(err)
	}) {
		t.Fatal("the command does not end: more is left than a terminal holds")
	}
	<-time.After(3 * held) // that is how long it takes to be seen
	got, err := io.ReadAll(ch)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes of %d, %v", len(got), len(data), err)
	}
}

// Whether there is a home is for the user to say, not for root.
func TestHomeThatCannotBeEntered(t *testing.T) {
	conf := defaults(t)
	missing := filepath.Join(conf.Etc, "home") // of me
	if err := os.Remove(missing); err != nil {
		t.Fatal(err)
	}
	const id = 64351
	if os.Getuid() == 0 {
		closed := filepath.Join(conf.Etc, "closed")
		if err := os.Mkdir(closed, 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, conf.Passwd, read(t, conf.Passwd)+fmt.Sprintf("them:x:%d:%d::%s:/bin/sh\n", id, id, closed))
	}
	s := start(t, conf)
	out, errs, code := s.run("", "--", "pwd")
	if want := "Could not chdir to home directory " + missing + ": no such file or directory\n"; out != "/\n" || errs != want || code != 0 {
		t.Errorf("status %d, %q, %q", code, out, errs)
	}
	if os.Getuid() != 0 {
		return
	}
	out, errs, code = s.run("", "-l", "them", "--", "pwd")
	if out != "/\n" || !strings.HasPrefix(errs, "Could not chdir to home directory ") || !strings.Contains(errs, "permission denied") || code != 0 {
		t.Errorf("status %d, %q, %q", code, out, errs)
	}
}
