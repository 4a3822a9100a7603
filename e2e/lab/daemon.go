package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// TagVar is put into the environment of everything that Start starts, and so of all its descendants:
// it is how Kill finds what a supervisor left behind, and only that.
const TagVar = "E2E_TAG"

// Daemon is a running supervisor, or any other program that was started with Start.
type Daemon struct {
	Dir  string
	Out  string // the file that holds its stdout and stderr
	tag  string
	cmd  *exec.Cmd
	done chan struct{}
}

// Start runs argv in dir with just this environment. Its output goes to the file daemon.out.
func Start(dir string, env []string, argv ...string) (*Daemon, error) {
	return StartAs(dir, filepath.Join(dir, "daemon.out"), env, argv...)
}

// StartAs is Start with the output in another file.
func StartAs(dir, outFile string, env []string, argv ...string) (*Daemon, error) {
	d := &Daemon{Dir: dir, Out: outFile, done: make(chan struct{})}
	d.tag = dir + "#" + strconv.FormatInt(time.Now().UnixNano(), 36)
	out, err := os.OpenFile(outFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("cannot open the output file: %w", err)
	}
	defer out.Close()
	d.cmd = exec.Command(argv[0], argv[1:]...)
	d.cmd.Dir = dir
	d.cmd.Env = append(append([]string{}, env...), TagVar+"="+d.tag)
	d.cmd.Stdout, d.cmd.Stderr = out, out
	// A group of its own: a signal to the tests' group must not reach it.
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := d.cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start %q: %w", argv[0], err)
	}
	go func() {
		_ = d.cmd.Wait()
		close(d.done)
	}()
	return d, nil
}

// PID is the process id.
func (d *Daemon) PID() int { return d.cmd.Process.Pid }

// Done is closed when the process has exited.
func (d *Daemon) Done() <-chan struct{} { return d.done }

// Exited tells whether the process has exited.
func (d *Daemon) Exited() bool {
	select {
	case <-d.done:
		return true
	default:
		return false
	}
}

// Signal sends a signal to the process alone.
func (d *Daemon) Signal(s syscall.Signal) error { return d.cmd.Process.Signal(s) }

// WaitExit waits for the exit: "exit N" or "signal N", or "still running" when the time is over.
func (d *Daemon) WaitExit(limit time.Duration) string {
	if !d.Exited() { // asked first: a limit of 0 is over at once
		t := time.NewTimer(limit)
		defer t.Stop()
		select {
		case <-d.done:
		case <-t.C:
			return "still running"
		}
	}
	ws, ok := d.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if ok && ws.Signaled() {
		return fmt.Sprintf("signal %d", ws.Signal())
	}
	return fmt.Sprintf("exit %d", d.cmd.ProcessState.ExitCode())
}

// Output is everything that the process wrote so far.
func (d *Daemon) Output() string {
	data, err := os.ReadFile(d.Out)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// killTime is how long it may take until what was killed is gone.
const killTime = 30 * time.Second

// Kill ends the process and every descendant that carries its tag, however it was orphaned.
func (d *Daemon) Kill() {
	_ = d.cmd.Process.Kill()
	Until(killTime, d.Exited)
	Until(killTime, func() bool {
		left := d.Leftovers()
		for _, pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		return len(left) == 0
	})
}

// Leftovers lists the living processes that carry the tag, without the supervisor itself.
func (d *Daemon) Leftovers() []int {
	want := []byte(TagVar + "=" + d.tag + "\x00")
	var out []int
	for _, pid := range pids() {
		if pid == d.PID() && !d.Exited() {
			continue
		}
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err == nil && bytes.Contains(env, want) {
			out = append(out, pid)
		}
	}
	return out
}

// WaitRPC waits until the supervisor answers getState, or has exited.
func (d *Daemon) WaitRPC(ctx context.Context, c *Client, limit time.Duration) error {
	var last error
	ok := Until(limit, func() bool {
		_, last = c.Call(ctx, "supervisor.getState")
		var f *Fault
		if errors.As(last, &f) {
			last = nil // an answer all the same
		}
		return last == nil || d.Exited()
	})
	switch {
	case d.Exited():
		return fmt.Errorf("%w: %s", ErrExited, d.WaitExit(0))
	case !ok:
		return fmt.Errorf("no answer within %s: %w", limit, last)
	}
	return nil
}

// ErrExited is what WaitRPC returns when the supervisor has exited instead of answering.
var ErrExited = errors.New("the supervisor has exited")

func pids() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var out []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			out = append(out, pid)
		}
	}
	return out
}

// Usage is what /proc says about a process.
type Usage struct {
	CPU   time.Duration // user and system
	RSS   int64         // bytes
	State string        // R, S, Z…
	PPID  int
}

// ReadUsage reads /proc/pid/stat.
func ReadUsage(pid int) (Usage, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Usage{}, err
	}
	// The name is in parentheses and may hold spaces: fields are counted after the last one.
	i := bytes.LastIndexByte(data, ')')
	f := strings.Fields(string(data[i+1:]))
	num := func(n int) int64 { v, _ := strconv.ParseInt(f[n], 10, 64); return v }
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux port of Go
	return Usage{
		State: f[0], PPID: int(num(1)),
		CPU: time.Duration(num(11)+num(12)) * tick,
		RSS: num(21) * int64(os.Getpagesize()),
	}, nil
}

// Children lists the direct children of a process.
func Children(pid int) []int {
	var out []int
	for _, p := range pids() {
		if u, err := ReadUsage(p); err == nil && u.PPID == pid {
			out = append(out, p)
		}
	}
	return out
}
