package ctl

import (
	"context"
	"fmt"
	"strings"

	"github.com/inpod/inpod/supervisor"
)

// verb is what start, stop and signal have in common.
type verb struct {
	all, group, one string // the methods
	done            string // "started"
	reasons         map[supervisor.FaultCode]string
	// quoteFailed prints the server's own words for FAILED.
	quoteFailed bool
	ignored     supervisor.FaultCode // no failure for this verb
	noGroup     int                  // the exit status for an unknown group
	after       []any                // the arguments behind the name
}

func startVerb() verb {
	return verb{
		all: "startAllProcesses", group: "startProcessGroup", one: "startProcess", done: "started",
		reasons: map[supervisor.FaultCode]string{
			supervisor.BadName: "no such process", supervisor.NoFile: "no such file",
			supervisor.NotExecutable: "file is not executable", supervisor.AlreadyStarted: "already started",
			supervisor.SpawnError: "spawn error", supervisor.AbnormalTermination: "abnormal termination",
		},
		ignored: supervisor.AlreadyStarted, noGroup: exitInvalidArgs,
	}
}

func stopVerb() verb {
	v := signalVerb("")
	v.all, v.group, v.one, v.done = "stopAllProcesses", "stopProcessGroup", "stopProcess", "stopped"
	v.ignored, v.after = supervisor.NotRunning, nil
	return v
}

func signalVerb(sig string) verb {
	return verb{
		all: "signalAllProcesses", group: "signalProcessGroup", one: "signalProcess", done: "signalled",
		reasons: map[supervisor.FaultCode]string{
			supervisor.BadName: "no such process", supervisor.BadSignal: "bad signal name",
			supervisor.NotRunning: "not running",
		},
		quoteFailed: true, ignored: supervisor.Success, noGroup: exitGeneric,
		after: []any{sig},
	}
}

// result words one result. A code that the verb cannot have is an error, as in supervisorctl.
func (v verb) result(name string, code supervisor.FaultCode, description string) (string, error) {
	if reason, ok := v.reasons[code]; ok {
		return name + ": ERROR (" + reason + ")", nil
	}
	switch {
	case code == supervisor.Success:
		return name + ": " + v.done, nil
	case code == supervisor.Failed && v.quoteFailed:
		return description, nil
	}
	return "", &valueError{"ValueError", fmt.Sprintf("Unknown result code %d for %s", int(code), name)}
}

// apply runs a verb on the processes and groups that names mean.
func (c *Controller) apply(ctx context.Context, v verb, names []string) error {
	if hasAll(names) {
		results, err := c.call(ctx, v.all, v.after...)
		if err != nil {
			return err
		}
		return c.results(v, asRecords(results))
	}
	for _, name := range names {
		group, process, whole := splitName(name)
		var err error
		if whole {
			err = c.applyGroup(ctx, v, group)
		} else {
			err = c.applyOne(ctx, v, name, group, process)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *Controller) applyGroup(ctx context.Context, v verb, group string) error {
	results, err := c.call(ctx, v.group, append([]any{group}, v.after...)...)
	switch {
	case faultCode(err) == supervisor.BadName:
		c.fail(v.noGroup, group+": ERROR (no such group)")
		return nil
	case err != nil:
		return err
	}
	return c.results(v, asRecords(results))
}

func (c *Controller) applyOne(ctx context.Context, v verb, name, group, process string) error {
	_, err := c.call(ctx, v.one, append([]any{name}, v.after...)...)
	fault, ok := asFault(err)
	switch {
	case err == nil:
		fault = &Fault{Code: supervisor.Success}
	case !ok:
		return err
	}
	text, err := v.result(joinName(group, process), fault.Code, fault.Text)
	if err != nil {
		return err
	}
	c.output(text)
	c.noteCode(fault.Code, v.ignored)
	return nil
}

func (c *Controller) results(v verb, results []record) error {
	for _, r := range results {
		text, err := v.result(r.name(), r.code(), r.str("description"))
		if err != nil {
			return err
		}
		c.output(text)
		c.noteCode(r.code(), v.ignored)
	}
	return nil
}

func (c *Controller) start(ctx context.Context, arg string) error {
	if up, err := c.upcheck(ctx); !up {
		return err
	}
	names := strings.Fields(arg)
	if len(names) == 0 {
		c.fail(exitInvalidArgs, "Error: start requires a process name")
		c.output(helpOf("start"))
		return nil
	}
	return c.apply(ctx, startVerb(), names)
}

func (c *Controller) stop(ctx context.Context, arg string) error {
	if up, err := c.upcheck(ctx); !up {
		return err
	}
	names := strings.Fields(arg)
	if len(names) == 0 {
		c.fail(exitGeneric, "Error: stop requires a process name")
		c.output(helpOf("stop"))
		return nil
	}
	return c.apply(ctx, stopVerb(), names)
}

func (c *Controller) restart(ctx context.Context, arg string) error {
	if up, err := c.upcheck(ctx); !up {
		return err
	}
	if strings.TrimSpace(arg) == "" {
		c.fail(exitGeneric, "Error: restart requires a process name")
		c.output(helpOf("restart"))
		return nil
	}
	if err := c.stop(ctx, arg); err != nil {
		return err
	}
	return c.start(ctx, arg)
}

func (c *Controller) signal(ctx context.Context, arg string) error {
	if up, err := c.upcheck(ctx); !up {
		return err
	}
	args := strings.Fields(arg)
	if len(args) < 2 {
		c.fail(exitGeneric, "Error: signal requires a signal name and a process name")
		c.output(helpOf("signal"))
		return nil
	}
	return c.apply(ctx, signalVerb(args[0]), args[1:])
}
