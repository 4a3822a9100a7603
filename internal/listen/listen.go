// Package listen opens listeners whose port another listener of ours may still have. A reload that goes from 127.0.0.1:80 to :80
// needs the second before it may give up the first. Enter with Instead, or with TCP where there are many.
package listen

import (
	"context"
	"errors"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// TCP listens on addr as net.Listen does. Where its port is taken by one of ours, it listens beside that one, which the caller
// closes then: connections go to the more precise of the two addresses meanwhile, and none is refused. Ours are descriptors of
// listening sockets. A port that somebody else has is EADDRINUSE, as ever.
//
// Linux lets two sockets of one user have a port when both have SO_REUSEPORT at the time of the second bind (socket(7)). It is
// taken back at once: whoever comes later without it, which is nearly everybody, is told that the port is taken.
func TCP(addr string, ours ...int) (net.Listener, error) {
	ln, err := net.Listen("tcp", addr)
	if len(ours) == 0 || !errors.Is(err, syscall.EADDRINUSE) {
		return ln, err
	}
	for _, fd := range ours {
		_ = share(fd, 1) // one that cannot is in the way, and the bind says so
		defer func() { _ = share(fd, 0) }()
	}
	var serr error
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		cerr := raw.Control(func(fd uintptr) { serr = share(int(fd), 1) })
		return errors.Join(cerr, serr)
	}}
	beside, berr := config.Listen(context.Background(), "tcp", addr)
	if berr != nil {
		return nil, err
	}
	Descriptor(beside, func(fd int) { _ = share(fd, 0) })
	return beside, nil
}

// Instead listens on an address in place of old, which the caller closes then, and which may be nil or closed already.
func Instead(old net.Listener, addr string) (ln net.Listener, err error) {
	open := false
	Descriptor(old, func(fd int) {
		open = true
		ln, err = TCP(addr, fd)
	})
	if !open {
		return TCP(addr)
	}
	return ln, err
}

// Descriptor calls f with the descriptor of a listener, which is valid until f returns. It does not where that is closed.
func Descriptor(ln net.Listener, f func(fd int)) {
	t, ok := ln.(*net.TCPListener)
	if !ok {
		return
	}
	if raw, err := t.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { f(int(fd)) })
	}
}

func share(fd, on int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, on) }
