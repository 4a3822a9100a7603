package proc

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// host is what this process found when it started: what it may do and what it must undo in children.
type host struct {
	init      bool        // we are PID 1
	subreaper bool        // we were a subreaper already
	ignored   []os.Signal // ignored by whoever started us: children must not inherit that
	masked    bool        // some signals were blocked by whoever started us
	setgroups bool        // we may call setgroups

	childrenFile bool // the kernel has /proc/PID/task/TID/children
}

func readHost() (host, error) {
	h := host{init: os.Getpid() == 1}
	var sub int32
	if err := unix.Prctl(unix.PR_GET_CHILD_SUBREAPER, uintptr(unsafe.Pointer(&sub)), 0, 0, 0); err == nil {
		h.subreaper = sub != 0
	}
	_, err := os.Stat("/proc/thread-self/children")
	h.childrenFile = err == nil
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return h, fmt.Errorf("cannot read what this process may do: %w", err)
	}
	ignored, err := statusMask(status, "SigIgn")
	if err != nil {
		return h, err
	}
	for n := 1; n <= 64; n++ {
		// A handler for these two would make a background read or write of the terminal spin.
		sig := syscall.Signal(n)
		if ignored&(1<<(n-1)) != 0 && sig != syscall.SIGTTIN && sig != syscall.SIGTTOU {
			h.ignored = append(h.ignored, sig)
		}
	}
	caps, err := statusMask(status, "CapEff")
	if err != nil {
		return h, err
	}
	h.setgroups = caps&(1<<unix.CAP_SETGID) != 0
	if deny, err := os.ReadFile("/proc/self/setgroups"); err == nil && bytes.HasPrefix(deny, []byte("deny")) {
		h.setgroups = false // user_namespaces(7)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var set unix.Sigset_t
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, nil, &set); err == nil {
		h.masked = set != unix.Sigset_t{}
	}
	return h, nil
}

func statusMask(status []byte, key string) (uint64, error) {
	for line := range bytes.Lines(status) {
		if v, ok := bytes.CutPrefix(line, []byte(key+":")); ok {
			return strconv.ParseUint(strings.TrimSpace(string(v)), 16, 64)
		}
	}
	return 0, fmt.Errorf("cannot find %s in /proc/self/status", key)
}

// closeOnExec marks every descriptor but the first three, so that children get what their Spec says and no more:
// what we inherited ourselves may lack the mark.
func closeOnExec() error {
	if unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) == nil {
		return nil
	}
	entries, err := os.ReadDir("/proc/self/fd") // Linux before 5.11
	if err != nil {
		return err
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}
