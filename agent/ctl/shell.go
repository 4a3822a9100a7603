package ctl

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"

	"golang.org/x/term"
)

// Shell shows the status, then reads actions until the end of the input, quit or Ctrl-C. On a
// terminal it edits lines; from a pipe it prints the prompts all the same, as supervisorctl does.
// The exit status of a shell is always 0, whatever its actions said.
func (c *Controller) Shell(ctx context.Context) int {
	c.opts.Interactive = true
	if c.opts.Stdin != nil && term.IsTerminal(int(c.opts.Stdin.Fd())) {
		c.term = newTerminal(c.opts.Stdin, c.opts.Stdout, c.prompt(), func(line string) []string {
			return c.Complete(ctx, line)
		})
		c.loadHistory()
		defer func() { c.term = nil }()
	}
	line := "status"
	for {
		if c.run(ctx, line) {
			return 0
		}
		var err error
		line, err = c.readAction(ctx)
		switch {
		case errors.Is(err, io.EOF):
			line = "EOF"
		case err != nil:
			c.output("")
			return 0
		}
	}
}

func (c *Controller) prompt() string { return c.opts.Prompt + "> " }

// run does one action of a shell. Ctrl-C ends tail -f and fg, else the shell.
func (c *Controller) run(ctx context.Context, line string) (quit bool) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt)
	defer stop()
	quit = c.onecmd(ctx, line)
	if quit && ctx.Err() != nil {
		c.output("")
	}
	return quit
}

func (c *Controller) readAction(ctx context.Context) (string, error) {
	if c.term == nil {
		_, _ = io.WriteString(c.opts.Stdout, c.prompt())
		ctx, stop := signal.NotifyContext(ctx, os.Interrupt)
		defer stop()
		return c.stdin.ReadLine(ctx)
	}
	line, err := c.term.readLine()
	if err == nil && strings.TrimSpace(line) != "" {
		c.keepHistory(line)
	}
	return line, err
}

// loadHistory makes the lines of the history file those that the arrow keys bring back. A history
// that cannot be read is none.
func (c *Controller) loadHistory() {
	if c.opts.HistoryFile == "" {
		return
	}
	data, err := os.ReadFile(c.opts.HistoryFile)
	if err != nil {
		return
	}
	for line := range strings.Lines(string(data)) {
		c.term.term.History.Add(strings.TrimSuffix(line, "\n"))
	}
}

func (c *Controller) keepHistory(line string) {
	if c.opts.HistoryFile == "" {
		return
	}
	f, err := os.OpenFile(c.opts.HistoryFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	_, _ = f.WriteString(line + "\n")
}

// actionNames are the actions in the order of help.
func (c *Controller) actionNames() []string {
	names := []string{
		"add", "avail", "clear", "exit", "fg", "help", "maintail", "open", "pid", "quit", "reload", "remove",
		"reread", "restart", "shutdown", "signal", "start", "status", "stop", "tail", "update", "version",
	}
	if c.opts.Own {
		names = append(names, "drain", "phase", "routes", "sessions")
	}
	return names
}

// Complete returns what the last word of line may become: an action, a group or a process.
func (c *Controller) Complete(ctx context.Context, line string) []string {
	words := strings.Fields(line)
	text := ""
	if len(words) > 0 && !strings.HasSuffix(line, " ") {
		text = words[len(words)-1]
	}
	var all []string
	switch {
	case len(words) == 0, len(words) == 1 && text != "", words[0] == "help":
		all = c.actionNames()
	case slices.Contains([]string{"add", "remove", "update"}, words[0]):
		for _, info := range c.processes(ctx) {
			all = append(all, info.str("group"))
		}
	case slices.Contains([]string{"clear", "fg", "pid", "restart", "signal", "start", "status", "stop", "tail"}, words[0]):
		for _, info := range c.processes(ctx) {
			if info.str("group") != info.str("name") || strings.Contains(text, ":") {
				all = append(all, info.str("group")+":"+info.str("name"), info.str("group")+":*")
			} else {
				all = append(all, info.str("name"))
			}
		}
	}
	slices.Sort(all)
	all = slices.Compact(all)
	return slices.DeleteFunc(all, func(s string) bool { return !strings.HasPrefix(s, text) })
}

// processes is for completion: without an answer there is nothing to complete.
func (c *Controller) processes(ctx context.Context) []record {
	v, err := c.call(ctx, "getAllProcessInfo")
	if err != nil {
		return nil
	}
	return asRecords(v)
}
