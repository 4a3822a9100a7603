package supervisor

import (
	"os"
	"runtime"
	"syscall"

	sys "golang.org/x/sys/unix"
)

// The main program has the agent's own terminal. It must be in the terminal's foreground: otherwise reading from it
// would stop the program, and Ctrl-C would go to the agent, which takes it as a wish to end, and not to the program,
// which may take it otherwise (a shell, a notebook, a Python prompt).

// inForeground tells whether f is the controlling terminal and this process is in its foreground.
func inForeground(f *os.File) bool {
	group, err := sys.IoctlGetInt(int(f.Fd()), sys.TIOCGPGRP)
	return err == nil && group == sys.Getpgrp()
}

// takeForeground brings this process back to the foreground, so that Ctrl-C reaches it. The kernel answers to that
// with SIGTTOU unless the thread blocks it.
func takeForeground(f *os.File) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var block, old sys.Sigset_t
	block.Val[0] = 1 << (uint(syscall.SIGTTOU) - 1)
	if err := sys.PthreadSigmask(sys.SIG_BLOCK, &block, &old); err != nil {
		return err
	}
	err := sys.IoctlSetPointerInt(int(f.Fd()), sys.TIOCSPGRP, sys.Getpgrp())
	_ = sys.PthreadSigmask(sys.SIG_SETMASK, &old, nil)
	return err
}
