package ctl

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/inpod/inpod/supervisor"
)

func (c *Controller) showStatus(ctx context.Context, arg string) error {
	up, err := c.upcheck(ctx)
	if err != nil {
		return err
	}
	if !up {
		c.status = exitStatusUnknown
		return nil
	}
	v, err := c.call(ctx, "getAllProcessInfo")
	if err != nil {
		return err
	}
	infos := asRecords(v)
	if names := strings.Fields(arg); len(names) > 0 && !hasAll(names) {
		infos = c.pick(infos, names)
	}
	c.table(infos)
	for _, info := range infos {
		switch supervisor.State(info.num("state")) {
		case supervisor.Stopped, supervisor.Exited, supervisor.Fatal, supervisor.Unknown:
			c.status = exitStatusStopped
		}
	}
	return nil
}

// pick returns what the names mean, in the order of the names, and tells which mean nothing.
func (c *Controller) pick(infos []record, names []string) []record {
	var picked []record
	for _, name := range names {
		group, process, whole := splitName(name)
		found := false
		for _, info := range infos {
			if info.str("group") == group && (whole || info.str("name") == process) {
				found = true
				picked = append(picked, info)
			}
		}
		switch {
		case found:
		case whole:
			c.fail(exitStatusUnknown, group+": ERROR (no such group)")
		default:
			c.fail(exitStatusUnknown, name+": ERROR (no such process)")
		}
	}
	return picked
}

func (c *Controller) table(infos []record) {
	width := 30
	for _, info := range infos {
		width = max(width, utf8.RuneCountInString(info.name()))
	}
	for _, info := range infos {
		c.outputf("%-*s%-10s%s", width+3, info.name(), info.str("statename"), info.str("description"))
	}
}

func (c *Controller) pid(ctx context.Context, arg string) error {
	if up, err := c.upcheck(ctx); !up {
		return err
	}
	names := strings.Fields(arg)
	switch {
	case len(names) == 0:
		v, err := c.call(ctx, "getPID")
		if err != nil {
			return err
		}
		c.output(fmt.Sprint(v))
		return nil
	case hasAll(names):
		v, err := c.call(ctx, "getAllProcessInfo")
		if err != nil {
			return err
		}
		for _, info := range asRecords(v) {
			c.output(strconv.Itoa(info.num("pid")))
		}
		return nil
	}
	for _, name := range names {
		v, err := c.call(ctx, "getProcessInfo", name)
		switch {
		case faultCode(err) == supervisor.BadName:
			c.fail(exitGeneric, "No such process "+name)
			continue
		case err != nil:
			return err
		}
		pid := asRecord(v).num("pid")
		c.output(strconv.Itoa(pid))
		if pid == 0 {
			c.status = exitNotRunning
		}
	}
	return nil
}

func (c *Controller) avail(ctx context.Context, arg string) error {
	if arg != "" {
		return c.noArguments("avail")
	}
	v, err := c.call(ctx, "getAllConfigInfo")
	switch {
	case faultCode(err) == supervisor.ShutdownState:
		c.fail(exitGeneric, "ERROR: supervisor shutting down")
		return nil
	case err != nil:
		return err
	}
	for _, info := range asRecords(v) {
		use, start := "avail", "manual"
		if info.truth("inuse") {
			use = "in use"
		}
		if info.truth("autostart") {
			start = "auto"
		}
		c.outputf("%-32s %-9s %-9s %d:%d", info.name(), use, start, info.num("group_prio"), info.num("process_prio"))
	}
	return nil
}

// noArguments refuses the argument of an action that takes none.
func (c *Controller) noArguments(action string) error {
	c.fail(exitGeneric, "Error: "+action+" accepts no arguments")
	c.output(helpOf(action))
	return nil
}

func (c *Controller) version(ctx context.Context, arg string) error {
	if arg != "" {
		return c.noArguments("version")
	}
	if up, err := c.upcheck(ctx); !up {
		return err
	}
	v, err := c.call(ctx, "getSupervisorVersion")
	if err != nil {
		return err
	}
	c.output(fmt.Sprint(v))
	return nil
}
