package sshd

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// as runs f with the rights of u, and of nobody else, on a thread of its own that ends afterwards: what a user asks for
// by name, such as a socket to connect to, must be judged by the kernel as that user's. f must not start goroutines, and
// whatever it waits for it waits for on this thread.
func as(u *account, f func() error) error {
	if u.own {
		return f()
	}
	c := make(chan error, 1)
	var run func()
	run = func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if unix.Gettid() == os.Getpid() {
			// The main thread must not change and cannot end: keep it busy while another goroutine gets another thread.
			done := make(chan struct{})
			go func() { defer close(done); run() }()
			<-done
			runtime.UnlockOSThread()
			return
		}
		if err := become(u); err != nil {
			c <- err
			return
		}
		c <- f()
	}
	go run()
	return <-c
}

// become changes the calling thread alone: these are the bare system calls, not those of package syscall, which change
// every thread. Only the effective identity is the user's. It is what the kernel judges files and sockets by, and what it
// tells other sides; it takes root's capabilities from the effective set too (capabilities(7)). Whoever may signal or trace
// a thread is judged by the other two: with those of the user, the user could stop the agent by its thread.
func become(u *account) error {
	groups := make([]uint32, 0, len(u.groups)+1)
	for _, g := range u.groups {
		groups = append(groups, uint32(g))
	}
	if len(groups) == 0 {
		groups = append(groups, uint32(u.gid))
	}
	const keep = ^uintptr(0)
	_, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(&groups[0])), 0)
	if errno == 0 {
		_, _, errno = unix.RawSyscall(unix.SYS_SETRESGID, keep, uintptr(u.gid), keep)
	}
	if errno == 0 {
		_, _, errno = unix.RawSyscall(unix.SYS_SETRESUID, keep, uintptr(u.uid), keep)
	}
	if errno != 0 {
		return fmt.Errorf("cannot become user %q: %w", u.name, errno)
	}
	return nil
}
