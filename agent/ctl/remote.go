package ctl

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"syscall"

	"github.com/inpod/inpod/supervisor"
)

func (c *Controller) shutdown(ctx context.Context, arg string) error {
	if arg != "" {
		return c.noArguments("shutdown")
	}
	if sure, err := c.sure(ctx, "Really shut the remote supervisord process down y/N? "); !sure {
		return err
	}
	_, err := c.call(ctx, "shutdown")
	switch {
	case err == nil:
		c.output("Shut down")
	case faultCode(err) == supervisor.ShutdownState: // what was asked for happens, so this is no failure
		c.output("ERROR: already shutting down")
	case errors.Is(err, syscall.ECONNREFUSED):
		c.fail(exitGeneric, "ERROR: "+c.opts.ServerURL+" refused connection (already shut down?)")
	case errors.Is(err, syscall.ENOENT):
		c.fail(exitGeneric, "ERROR: "+c.opts.ServerURL+" no such file (already shut down?)")
	default:
		return err
	}
	return nil
}

func (c *Controller) reload(ctx context.Context, arg string) error {
	if arg != "" {
		return c.noArguments("reload")
	}
	if sure, err := c.sure(ctx, "Really restart the remote supervisord process y/N? "); !sure {
		return err
	}
	_, err := c.call(ctx, "restart")
	fault, ok := asFault(err)
	switch {
	case err == nil:
		c.output("Restarted supervisord")
	case ok && fault.Code == supervisor.ShutdownState:
		c.fail(exitGeneric, "ERROR: already shutting down")
	case ok && fault.Code == supervisor.CantReread: // supervisord would end by it
		c.fail(exitGeneric, "ERROR: "+fault.Text)
	default:
		return err
	}
	return nil
}

// sure asks back in a shell, and only there.
func (c *Controller) sure(ctx context.Context, question string) (bool, error) {
	if !c.opts.Interactive {
		return true, nil
	}
	answer, err := c.ask(ctx, question)
	return err == nil && strings.HasPrefix(strings.ToLower(answer), "y"), err
}

func (c *Controller) open(ctx context.Context, arg string) error {
	u, err := url.Parse(arg)
	if err != nil || u.Scheme != "http" && u.Scheme != "unix" {
		c.fail(exitGeneric, "ERROR: url must be http:// or unix://")
		return nil
	}
	c.opts.ServerURL, c.server = arg, nil
	before := c.status
	err = c.showStatus(ctx, "")
	c.status = before
	return err
}
