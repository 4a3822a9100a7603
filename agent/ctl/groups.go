package ctl

import (
	"context"
	"slices"
	"strings"

	"github.com/inpod/inpod/supervisor"
)

// changes is the answer of reloadConfig: group names.
type changes struct{ added, changed, removed []string }

func (c *Controller) reloadConfig(ctx context.Context) (changes, error) {
	v, err := c.call(ctx, "reloadConfig")
	if err != nil {
		return changes{}, err
	}
	// The answer is [[added, changed, removed]].
	outer, _ := v.([]any)
	if len(outer) == 0 {
		return changes{}, &valueError{"IndexError", "list index out of range"}
	}
	lists, _ := outer[0].([]any)
	if len(lists) != 3 {
		return changes{}, &valueError{"ValueError", "not enough values to unpack (expected 3)"}
	}
	return changes{asStrings(lists[0]), asStrings(lists[1]), asStrings(lists[2])}, nil
}

func (c *Controller) reread(ctx context.Context, arg string) error {
	if arg != "" {
		return c.noArguments("reread")
	}
	found, err := c.reloadConfig(ctx)
	if fault, ok := asFault(err); ok {
		switch fault.Code {
		case supervisor.ShutdownState:
			c.fail(exitGeneric, "ERROR: supervisor shutting down")
			return nil
		case supervisor.CantReread:
			c.fail(exitGeneric, "ERROR: "+fault.Text)
			return nil
		}
	}
	if err != nil {
		return err
	}
	said := map[string]string{}
	for _, kind := range []struct {
		names []string
		word  string
	}{{found.added, "available"}, {found.changed, "changed"}, {found.removed, "disappeared"}} {
		for _, name := range kind.names {
			said[name] = kind.word
		}
	}
	if len(said) == 0 {
		c.output("No config updates to processes")
		return nil
	}
	names := make([]string, 0, len(said))
	for name := range said {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		c.output(name + ": " + said[name])
	}
	return nil
}

func (c *Controller) update(ctx context.Context, arg string) error {
	found, err := c.reloadConfig(ctx)
	switch {
	case faultCode(err) == supervisor.ShutdownState:
		c.fail(exitGeneric, "ERROR: already shutting down")
		return nil
	case err != nil:
		return err
	}
	wanted := strings.Fields(arg)
	if hasAll(wanted) {
		wanted = nil
	}
	if err := c.checkGroups(ctx, wanted, found.added); err != nil {
		return err
	}
	skip := func(group string) bool { return len(wanted) > 0 && !slices.Contains(wanted, group) }
	for _, group := range found.removed {
		if skip(group) {
			continue
		}
		if err := c.dropGroup(ctx, group); err != nil {
			return err
		}
	}
	for _, group := range found.changed {
		if skip(group) {
			continue
		}
		if _, err := c.call(ctx, "stopProcessGroup", group); err != nil {
			return err
		}
		c.output(group + ": stopped")
		if _, err := c.call(ctx, "removeProcessGroup", group); err != nil {
			return err
		}
		if _, err := c.call(ctx, "addProcessGroup", group); err != nil {
			return err
		}
		c.output(group + ": updated process group")
	}
	for _, group := range found.added {
		if skip(group) {
			continue
		}
		if _, err := c.call(ctx, "addProcessGroup", group); err != nil {
			return err
		}
		c.output(group + ": added process group")
	}
	return nil
}

// checkGroups tells which of the wanted groups neither run nor are about to.
func (c *Controller) checkGroups(ctx context.Context, wanted, added []string) error {
	if len(wanted) == 0 {
		return nil
	}
	v, err := c.call(ctx, "getAllProcessInfo")
	if err != nil {
		return err
	}
	known := slices.Clone(added)
	for _, info := range asRecords(v) {
		known = append(known, info.str("group"))
	}
	for i, group := range wanted {
		if !slices.Contains(known, group) && !slices.Contains(wanted[:i], group) {
			c.fail(exitGeneric, "ERROR: no such group: "+group)
		}
	}
	return nil
}

// dropGroup stops a group that is no longer configured and removes it, unless some of it will not stop.
func (c *Controller) dropGroup(ctx context.Context, group string) error {
	v, err := c.call(ctx, "stopProcessGroup", group)
	if err != nil {
		return err
	}
	c.output(group + ": stopped")
	for _, r := range asRecords(v) {
		if r.code() == supervisor.Failed {
			c.fail(exitGeneric, group+": has problems; not removing")
			return nil
		}
	}
	if _, err := c.call(ctx, "removeProcessGroup", group); err != nil {
		return err
	}
	c.output(group + ": removed process group")
	return nil
}

func (c *Controller) add(ctx context.Context, arg string) error {
	for _, name := range strings.Fields(arg) {
		_, err := c.call(ctx, "addProcessGroup", name)
		switch faultCode(err) {
		case supervisor.ShutdownState:
			c.fail(exitGeneric, "ERROR: shutting down")
			continue
		case supervisor.AlreadyAdded: // no failure for supervisorctl either
			c.output("ERROR: process group already active")
			continue
		case supervisor.BadName:
			c.fail(exitGeneric, "ERROR: no such process/group: "+name)
			continue
		}
		if err != nil {
			return err
		}
		c.output(name + ": added process group")
	}
	return nil
}

func (c *Controller) remove(ctx context.Context, arg string) error {
	for _, name := range strings.Fields(arg) {
		_, err := c.call(ctx, "removeProcessGroup", name)
		switch faultCode(err) {
		case supervisor.StillRunning:
			c.fail(exitGeneric, "ERROR: process/group still running: "+name)
			continue
		case supervisor.BadName:
			c.fail(exitGeneric, "ERROR: no such process/group: "+name)
			continue
		}
		if err != nil {
			return err
		}
		c.output(name + ": removed process group")
	}
	return nil
}
