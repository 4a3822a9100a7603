package sshd

import (
	"io"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/crypto/ssh"
)

// exitSignal is the body of exit-signal (RFC 4254, 6.10).
type exitSignal struct {
	Signal     string
	Core       bool
	Error, Tag string
}

// Whether a core was dumped is said as the kernel says it: of the same command it says the same to anybody.
func TestCoreFlag(t *testing.T) {
	s := start(t, defaults(t))
	c := s.dial()
	dir := filepath.Join(s.dir, "home")
	for _, tt := range []struct {
		command, signal string
		never           bool
	}{
		{"ulimit -c unlimited; kill -SEGV $$", "SEGV", false},
		{"ulimit -c unlimited; kill -ABRT $$", "ABRT", false},
		{"ulimit -c 0; kill -SEGV $$", "SEGV", false}, // a pattern that is a pipe heeds no limit
		{"kill -KILL $$", "KILL", true},
		{"kill -TERM $$", "TERM", true},
	} {
		cmd := exec.Command("/bin/bash", "-c", tt.command)
		cmd.Dir = dir
		_ = cmd.Run()
		want := cmd.ProcessState.Sys().(syscall.WaitStatus)
		if tt.never && want.CoreDump() {
			t.Fatalf("%s: the kernel dumps a core", tt.command)
		}
		ch, reqs, err := c.OpenChannel("session", nil)
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.Copy(io.Discard, ch) }()
		if _, err := ch.SendRequest("exec", true, ssh.Marshal(struct{ C string }{tt.command})); err != nil {
			t.Fatal(err)
		}
		var got exitSignal
		for r := range reqs {
			if r.Type == "exit-signal" {
				if err := ssh.Unmarshal(r.Payload, &got); err != nil {
					t.Error(err)
				}
			}
		}
		if got.Signal != tt.signal || got.Core != want.CoreDump() {
			t.Errorf("%s: got %+v, the kernel says %v, core %t", tt.command, got, want.Signal(), want.CoreDump())
		}
		t.Logf("%s: core %t", tt.command, got.Core)
	}
}
