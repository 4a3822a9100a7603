package main

import (
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"
	"unsafe"
)

func sid() int {
	r, _, _ := syscall.RawSyscall(syscall.SYS_GETSID, 0, 0, 0)
	return int(r)
}

// sigaction is struct kernel_sigaction of amd64 and arm64.
type sigaction struct {
	handler, flags, restorer uintptr
	mask                     uint64
}

// resetAndRaise gives a signal its default action back, behind the Go runtime's, and sends it to the process.
func resetAndRaise(s syscall.Signal) {
	signal.Reset(s)
	if s != syscall.SIGKILL {
		var sa sigaction
		_, _, _ = syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(&sa)), 0, 8, 0, 0)
	}
	_ = syscall.Kill(os.Getpid(), s)
}

// child starts this program in another role.
func child(session bool, stdout *os.File, role ...string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		self = os.Args[0]
	}
	cmd := exec.Command(self, role...)
	cmd.Stdout = stdout
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: session}
	if err := cmd.Start(); err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(66)
	}
	return cmd
}

func sleepForever() int {
	time.Sleep(wait)
	return 0
}
