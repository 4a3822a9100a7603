// Package testport has ports for tests.
//
// Enter at Closed. Nothing but tests imports it, and it knows nothing of ours.
package testport

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// Closed is an address of 127.0.0.1 that refuses connections until the end of the test: the port is taken, so that no other test
// gets it, and nobody listens.
func Closed(t testing.TB) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", at.(*unix.SockaddrInet4).Port)
}
