package models

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"testing"
)

func TestLocal(t *testing.T) {
	for _, n := range []syscall.Errno{syscall.EPERM, syscall.EACCES} {
		if err := fmt.Errorf("x: %w", &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", n)}); local(err) {
			t.Errorf("%v is our own disk", err)
		}
		if err := fmt.Errorf("x: %w", &fs.PathError{Op: "open", Path: "/f", Err: n}); !local(err) {
			t.Errorf("%v is the network", err)
		}
	}
}
