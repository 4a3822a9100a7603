package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/inpod/inpod/supervisor"
)

func (c *Controller) tail(ctx context.Context, arg string) error {
	if up, err := c.upcheck(ctx); !up {
		return err
	}
	args := strings.Fields(arg)
	switch {
	case len(args) < 1:
		c.fail(exitGeneric, "Error: too few arguments")
		c.output(helpOf("tail"))
		return nil
	case len(args) > 3:
		c.fail(exitGeneric, "Error: too many arguments")
		c.output(helpOf("tail"))
		return nil
	}
	modifier := ""
	if strings.HasPrefix(args[0], "-") {
		modifier, args = args[0], args[1:]
	}
	if len(args) == 0 {
		c.fail(exitGeneric, "Error: tail requires process name")
		return nil
	}
	name, channel := args[0], followStdout
	if len(args) > 1 {
		channel = strings.ToLower(args[len(args)-1])
		if channel != followStdout && channel != followStderr {
			c.fail(exitGeneric, "Error: bad channel "+pyRepr(channel))
			return nil
		}
	}
	if modifier == "-f" {
		return c.follow(ctx, "/logtail/"+name+"/"+channel)
	}
	n, ok, err := c.tailBytes(modifier)
	if !ok || err != nil {
		return err
	}
	method := "readProcessStdoutLog"
	if channel == followStderr {
		method = "readProcessStderrLog"
	}
	return c.readLog(ctx, name, "no such process name", method, name, -n, 0)
}

// tailBytes reads the N of -N; an empty modifier means the default. ok is false once the user has been told
// that it makes no sense.
func (c *Controller) tailBytes(modifier string) (n int, ok bool, err error) {
	if modifier == "" {
		return defaultTail, true, nil
	}
	n, ok, err = parseBytes(modifier[1:])
	if err == nil && !ok {
		c.fail(exitGeneric, "Error: bad argument "+modifier)
	}
	return n, ok, err
}

// readLog prints the end of a log. badName is the reason for an unknown name; empty where there can be none.
func (c *Controller) readLog(ctx context.Context, name, badName, method string, args ...any) error {
	v, err := c.call(ctx, method, args...)
	reason := ""
	switch faultCode(err) {
	case supervisor.NoFile:
		reason = "no log file"
	case supervisor.Failed:
		reason = "unknown error reading log"
	case supervisor.BadName:
		reason = badName
	}
	switch {
	case reason != "":
		c.fail(exitGeneric, name+": ERROR ("+reason+")")
		return nil
	case err != nil:
		return err
	}
	text, _ := v.(string)
	c.output(text)
	return nil
}

func (c *Controller) maintail(ctx context.Context, arg string) error {
	if up, err := c.upcheck(ctx); !up {
		return err
	}
	args := strings.Fields(arg)
	modifier := ""
	switch {
	case len(args) > 1:
		c.fail(exitGeneric, "Error: too many arguments")
		c.output(helpOf("maintail"))
		return nil
	case len(args) == 1 && !strings.HasPrefix(args[0], "-"):
		c.fail(exitGeneric, "Error: bad argument "+args[0])
		return nil
	case len(args) == 1:
		modifier = args[0]
	}
	if modifier == "-f" {
		return c.follow(ctx, "/mainlogtail")
	}
	n, ok, err := c.tailBytes(modifier)
	if !ok || err != nil {
		return err
	}
	return c.readLog(ctx, "supervisord", "", "readLog", -n, 0)
}

// follow copies a log until Ctrl-C or until the server ends it.
func (c *Controller) follow(ctx context.Context, path string) error {
	c.output(pressCtrlC)
	c.stream(ctx, path)
	if ctx.Err() != nil {
		c.output("")
	}
	return nil
}

// stream copies a log to the output. What goes wrong is told on standard error and is no failure of
// the action: so does supervisorctl.
func (c *Controller) stream(ctx context.Context, path string) {
	err := c.copyStream(ctx, path)
	if err == nil || ctx.Err() != nil {
		return
	}
	var proto *HTTPError
	if errors.As(err, &proto) {
		fmt.Fprintf(c.opts.Stderr, "%s%s Cannot read, status code %d\n", c.opts.ServerURL, path, proto.Status)
		return
	}
	class, text := pyError(err)
	fmt.Fprintf(c.opts.Stderr, "%s%s Cannot connect, error: <class '%s'> (%s)\n", c.opts.ServerURL, path, class, text)
}

func (c *Controller) copyStream(ctx context.Context, path string) error {
	server, err := c.connect()
	if err != nil {
		return err
	}
	body, err := server.Stream(ctx, path)
	if err != nil {
		return err
	}
	defer body.Close()
	// The server's end is no error, however it comes.
	_, _ = io.Copy(c.opts.Stdout, body)
	return nil
}

func (c *Controller) clear(ctx context.Context, arg string) error {
	if up, err := c.upcheck(ctx); !up {
		return err
	}
	names := strings.Fields(arg)
	if len(names) == 0 {
		c.fail(exitGeneric, "Error: clear requires a process name")
		c.output(helpOf("clear"))
		return nil
	}
	v := verb{
		done:    "cleared",
		reasons: map[supervisor.FaultCode]string{supervisor.BadName: "no such process", supervisor.Failed: "failed"},
		one:     "clearProcessLogs",
	}
	if hasAll(names) {
		results, err := c.call(ctx, "clearAllProcessLogs")
		if err != nil {
			return err
		}
		return c.results(v, asRecords(results))
	}
	for _, name := range names {
		group, process, whole := splitName(name)
		if whole {
			process = "None" // clear knows no groups, and this is the name that supervisorctl then prints
		}
		if err := c.applyOne(ctx, v, name, group, process); err != nil {
			return err
		}
	}
	return nil
}
