package proc

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
)

// forkExec starts a child that has its oom_score_adj from its first instruction on. The value is inherited over fork,
// and nothing between fork and execve can write a file, so this process takes it on for the moment of the fork
// (proc(5): anybody may raise it, and lower it again to what it was given by someone with the right to).
func (r *Reaper) forkExec(spec Spec, argv []string, attr *syscall.ProcAttr) (pid int, err error) {
	if spec.OOMScoreAdj == nil {
		r.adjMu.RLock()
		defer r.adjMu.RUnlock()
		return syscall.ForkExec(spec.Path, argv, attr)
	}
	r.adjMu.Lock()
	defer r.adjMu.Unlock()
	const own = "/proc/self/oom_score_adj"
	want := strconv.Itoa(*spec.OOMScoreAdj)
	before, err := os.ReadFile(own)
	if err == nil {
		err = os.WriteFile(own, []byte(want), 0)
	}
	inherited := err == nil
	pid, err = syscall.ForkExec(spec.Path, argv, attr)
	if inherited {
		if err := os.WriteFile(own, bytes.TrimSpace(before), 0); err != nil {
			r.log.Error("cannot take back the agent's own oom_score_adj", "oom_score_adj", want, "error", err)
		}
		return pid, err
	}
	if err == nil {
		// A process that has changed its user may not write its own files in /proc, but those of its children, once
		// they have executed something.
		if err := os.WriteFile("/proc/"+strconv.Itoa(pid)+"/oom_score_adj", []byte(want), 0); err != nil {
			r.log.Warn("cannot set oom_score_adj", "pid", pid, "oom_score_adj", want, "error", err)
		}
	}
	return pid, err
}
