package proc

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestChildrenStartClean starts the test binary with everything wrong that a parent can hand down: ignored and
// blocked signals, open descriptors, a low descriptor limit. What that one starts must see none of it, but the limit.
func TestChildrenStartClean(t *testing.T) {
	self := reexec(t, "dirty").Path
	script := `trap '' HUP INT QUIT PIPE USR1 TERM TSTP CHLD; exec 7</dev/null 9</dev/null; ulimit -S -n 222; exec "$0"`
	cmd := exec.Command(sh, "-c", script, self)
	cmd.Env = append(os.Environ(), modeEnv+"=dirty")
	out, err := outputWithBlocked(cmd, syscall.SIGTERM, syscall.SIGUSR2, syscall.SIGCHLD)
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	got := map[string]string{}
	for line := range strings.Lines(string(out)) {
		k, v, _ := strings.Cut(line, ":")
		got[k] = strings.Join(strings.Fields(v), " ")
	}
	// The C library's own signals: whoever uses its posix_spawn, as make does, hands them down ignored, and nobody
	// can tell it otherwise (signal(7)).
	if mask, err := strconv.ParseUint(got["SigIgn"], 16, 64); err == nil {
		got["SigIgn"] = fmt.Sprintf("%016x", mask&^(1<<31|1<<32))
	}
	for key, want := range map[string]string{
		"SigIgn": "0000000000000000", "SigBlk": "0000000000000000", "fds": "0 1 2 3", "nofile": "222",
	} {
		if got[key] != want {
			t.Errorf("got %s %q, want %q\n%s", key, got[key], want, out)
		}
	}
}

// outputWithBlocked runs cmd from a thread that blocks sigs, which cmd inherits.
func outputWithBlocked(cmd *exec.Cmd, sigs ...syscall.Signal) ([]byte, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var set, old unix.Sigset_t
	for _, sig := range sigs {
		set.Val[0] |= 1 << (sig - 1)
	}
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &set, &old); err != nil {
		return nil, err
	}
	defer unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil)
	return cmd.CombinedOutput()
}

func dirtyMain() int {
	r, err := New(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer r.Close()
	for prefix, argv := range map[string][]string{
		"":        {"/bin/cat", "/proc/self/status"},
		"fds:":    {"/bin/ls", "-x", "/proc/self/fd"},
		"nofile:": {sh, "-c", "ulimit -S -n"},
	} {
		st, out, err := r.Run(context.Background(), NewSpec(argv[0], argv[1:]...), RunOptions{})
		if err != nil || st.Code != 0 {
			fmt.Println(argv, st, err)
			return 1
		}
		fmt.Printf("%s%s", prefix, out)
	}
	return 0
}
