package sshd

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A thread that is a user has the user's rights and no more, says so to the other side of a socket, and is not the user's to
// signal.
func TestAsUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root becomes somebody else")
	}
	const id = 64341
	dir, err := os.MkdirTemp("/tmp", "as") // a way that the user can go
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/secret", "root's")
	ln, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if err := os.Chmod(dir+"/socket", 0o777); err != nil {
		t.Fatal(err)
	}
	u := &account{name: "them", uid: id, gid: id}
	tid, signalled := make(chan int), make(chan struct{})
	go func() {
		defer close(signalled)
		kill := exec.Command("/bin/sh", "-c", fmt.Sprintf("kill -0 %d", <-tid))
		kill.Env = []string{"LC_ALL=C"}
		kill.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: id, Gid: id}}
		if out, err := kill.CombinedOutput(); err == nil || !strings.Contains(strings.ToLower(string(out)), "not permitted") {
			t.Errorf("the user may signal the thread: %v, %s", err, out)
		}
	}()
	if err := as(u, func() error {
		tid <- unix.Gettid()
		<-signalled
		if _, err := os.ReadFile(dir + "/secret"); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("a file of root's: %v", err)
		}
		if err := os.WriteFile(dir+"/new", nil, 0o600); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("a directory of root's: %v", err)
		}
		hdr, caps := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, [2]unix.CapUserData{}
		if err := unix.Capget(&hdr, &caps[0]); err != nil || caps[0].Effective != 0 || caps[1].Effective != 0 {
			t.Errorf("capabilities %x %x, %v", caps[0].Effective, caps[1].Effective, err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	c, err := dialUnix(u, dir+"/socket")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	far, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	raw, err := far.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err != nil || cred.Uid != id || cred.Gid != id {
			t.Errorf("the other side is %+v, %v", cred, err)
		}
	})
}
