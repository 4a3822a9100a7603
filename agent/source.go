package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/inpod/inpod/internal/proc"
)

// sourceTime is how long one file of supervisor.source may take, sourceMost how large the environment may become.
const (
	sourceTime = 10 * time.Second
	sourceMost = 1 << 20
)

// startSource takes over what the shell files of supervisor.source set. Everything that is started later has it: hooks,
// programs, sessions. A file that fails is a warning: a container must not be lost to its profile.
func (a *agent) startSource(l *loaded) error {
	for _, file := range l.cfg.Supervisor.Source {
		if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
			a.log.Info("a file of supervisor.source is not there", "file", file)
			continue
		}
		env, err := a.sourced(file)
		if err != nil {
			a.log.Warn("cannot take over what a file of supervisor.source sets", "file", file, "error", err)
			continue
		}
		a.opts.Env = env
	}
	return nil
}

// sourced runs a file in a shell and returns the environment behind it.
func (a *agent) sourced(file string) ([]string, error) {
	shell := "/bin/bash"
	if _, err := os.Stat(shell); err != nil {
		shell = "/bin/sh"
	}
	cat, err := proc.LookPath("cat", cmp.Or(proc.PathOf(a.opts.Env), "/usr/bin:/bin"))
	if err != nil {
		return nil, err
	}
	spec := proc.NewSpec(shell)
	// By its path: the file may set another PATH, or none.
	spec.Argv = []string{shell, "-c", `exec 2>/dev/null; . "$0" >/dev/null; exec '` + strings.ReplaceAll(cat, "'", `'\''`) + `' /proc/self/environ`, file}
	spec.Env = a.opts.Env
	ctx, cancel := context.WithTimeoutCause(context.Background(), sourceTime, errors.New("it takes too long"))
	defer cancel()
	status, out, err := a.reaper.Run(ctx, spec, proc.RunOptions{MaxOutput: sourceMost})
	if err != nil {
		return nil, err
	}
	if status.Shell() != 0 || len(out) == 0 {
		return nil, fmt.Errorf("it ended with %s and left no environment behind", status)
	}
	var env []string
	path := ""
	for kv := range strings.SplitSeq(string(out), "\x00") {
		switch name, value, ok := strings.Cut(kv, "="); {
		case !ok, name == "_", name == "SHLVL", name == "PWD", name == "OLDPWD":
		case name == "PATH":
			path = value
		default:
			env = append(env, kv)
		}
	}
	if path = keepPath(a.opts.Env, path); path != "" {
		env = append(env, "PATH="+path)
	}
	return env, nil
}

// keepPath puts the container's directories in front that a profile has dropped: Debian's starts PATH from nothing.
func keepPath(env []string, after string) string {
	dirs := filepath.SplitList(after)
	lost := slices.DeleteFunc(filepath.SplitList(proc.PathOf(env)), func(dir string) bool { return slices.Contains(dirs, dir) })
	return strings.Join(append(lost, dirs...), string(filepath.ListSeparator))
}
