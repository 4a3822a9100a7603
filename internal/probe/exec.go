package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/inpod/inpod/internal/proc"
)

// Runner runs a command to its end; *proc.Reaper is one.
type Runner interface {
	Run(ctx context.Context, spec proc.Spec, opt proc.RunOptions) (proc.Status, []byte, error)
}

type execCheck struct {
	runner Runner
	spec   proc.Spec
}

// Exec returns a check that is content when the command that spec says ends with 0. spec.Path may be a bare name,
// which is looked up in the PATH of spec.Env at every check.
func Exec(runner Runner, spec proc.Spec) (Check, error) {
	if spec.Path == "" && len(spec.Argv) > 0 {
		spec.Path = spec.Argv[0]
	}
	if spec.Path == "" {
		return nil, fmt.Errorf("cannot check with an empty command")
	}
	if len(spec.Argv) == 0 {
		spec.Argv = []string{spec.Path}
	}
	return &execCheck{runner, spec}, nil
}

func (c *execCheck) String() string { return "exec " + strings.Join(c.spec.Argv, " ") }

// A check is asked again soon: it is not worth patience, and its output only says why it failed.
var bounds = proc.RunOptions{MaxOutput: 4 << 10, WaitDelay: 100 * time.Millisecond, Grace: 100 * time.Millisecond}

// Check runs the command once. When ctx ends first, the command's process group is ended.
func (c *execCheck) Check(ctx context.Context) error {
	spec := c.spec
	file, err := proc.LookPath(spec.Path, pathOf(spec.Env))
	if err != nil {
		return fmt.Errorf("%v: %w", c, err)
	}
	spec.Path = file
	status, output, err := c.runner.Run(ctx, spec, bounds)
	if err != nil && !errors.Is(err, proc.ErrStuck) {
		err = reason(ctx, err)
	}
	if err != nil {
		return fmt.Errorf("%v: %w", c, err)
	}
	if status.Exited() && status.Code == 0 {
		return nil
	}
	if said := lastLine(output); said != "" {
		return fmt.Errorf("%v: %v, want exit status 0: %s", c, status, said)
	}
	return fmt.Errorf("%v: %v, want exit status 0", c, status)
}

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func pathOf(env []string) string {
	for i := len(env) - 1; i >= 0; i-- {
		if v, ok := strings.CutPrefix(env[i], "PATH="); ok {
			return v
		}
	}
	return defaultPath
}

// lastLine returns the last line of a command's output that says something, cut to what fits an error.
func lastLine(output []byte) string {
	output = bytes.TrimSpace(output)
	if i := bytes.LastIndexByte(output, '\n'); i >= 0 {
		output = output[i+1:]
	}
	const most = 200
	if len(output) > most {
		return strings.ToValidUTF8(string(output[:most]), "") + "…"
	}
	return strings.ToValidUTF8(string(output), "�")
}
