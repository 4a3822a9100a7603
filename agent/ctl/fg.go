package ctl

import (
	"context"
	"strings"
	"sync"

	"github.com/inpod/inpod/supervisor"
)

// fg shows what a process writes and sends it what the user types, until Ctrl-C, the end of the
// input, or the end of the process, which is noticed after a line has been sent.
func (c *Controller) fg(ctx context.Context, arg string) error {
	if up, err := c.upcheck(ctx); !up {
		return err
	}
	name, ok := c.oneName(arg)
	if !ok {
		return nil
	}
	v, err := c.call(ctx, "getProcessInfo", name)
	fault, isFault := asFault(err)
	switch {
	case isFault && fault.Code == supervisor.BadName:
		c.fail(exitGeneric, "ERROR: bad process name supplied")
		return nil
	case isFault:
		c.output("ERROR: " + fault.Error())
		return nil
	case err != nil:
		return err
	}
	if supervisor.State(asRecord(v).num("state")) != supervisor.Running {
		c.fail(exitGeneric, "ERROR: process not running")
		return nil
	}
	c.output(pressCtrlC)

	streams, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	for _, channel := range []string{followStdout, followStderr} {
		running.Go(func() { c.stream(streams, "/logtail/"+name+"/"+channel) })
	}
	err = c.feed(ctx, name)
	c.output("Exiting foreground")
	stop()
	running.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (c *Controller) oneName(arg string) (string, bool) {
	names := strings.Fields(arg)
	switch len(names) {
	case 0:
		c.fail(exitGeneric, "ERROR: no process name supplied")
		c.output(helpOf("fg"))
		return "", false
	case 1:
		return names[0], true
	}
	c.fail(exitGeneric, "ERROR: too many process names supplied")
	return "", false
}

// feed sends lines to the process; the end of the input is no error.
func (c *Controller) feed(ctx context.Context, name string) error {
	for {
		line, err := c.stdin.ReadLine(ctx)
		if err != nil {
			return nil
		}
		_, err = c.call(ctx, "sendProcessStdin", name, line+"\n")
		if fault, ok := asFault(err); ok {
			if fault.Code == supervisor.NotRunning {
				c.output("Process got killed")
			} else {
				c.output("ERROR: " + fault.Error())
			}
			return nil
		}
		if err != nil {
			return err
		}
		v, err := c.call(ctx, "getProcessInfo", name)
		if err != nil {
			return err
		}
		if supervisor.State(asRecord(v).num("state")) != supervisor.Running {
			c.output("Process got killed")
			return nil
		}
	}
}
