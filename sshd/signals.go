package sshd

import (
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// signalNamed is the signal of a name without SIG (RFC 4254, 6.9); 0 when there is none. Clients may ask for others than
// the RFC has, as name@domain.
func signalNamed(name string) syscall.Signal {
	name, _, _ = strings.Cut(name, "@")
	return unix.SignalNum("SIG" + name)
}

// signalName is the reverse. Names that the RFC does not have get OpenSSH's domain.
func signalName(sig syscall.Signal) string {
	if sig == 0 {
		return ""
	}
	name := strings.TrimPrefix(unix.SignalName(sig), "SIG")
	switch name {
	case "ABRT", "ALRM", "FPE", "HUP", "ILL", "INT", "KILL", "PIPE", "QUIT", "SEGV", "TERM", "USR1", "USR2":
		return name
	}
	return name + "@openssh.com"
}
