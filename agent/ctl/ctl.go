package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"

	"github.com/inpod/inpod/supervisor"
)

// The exit statuses of supervisorctl, which are those of LSB init scripts.
const (
	exitGeneric         = 1
	exitInvalidArgs     = 2
	exitUnimplemented   = 3
	exitRefused         = 4 // "insufficient privileges" in LSB; supervisorctl uses it for a refused connection
	exitNotInstalled    = 5
	exitNotRunning      = 7
	exitStatusStopped   = 3 // of status alone
	exitStatusUnknown   = 4 // of status alone
	exitInterrupted     = 130
	apiVersion          = "3.0"
	defaultTail         = 1600 // bytes
	pressCtrlC          = "==> Press Ctrl-C to exit <=="
	defaultPrompt       = "supervisor"
	namespace           = "supervisor."
	followStdout        = "stdout"
	followStderr        = "stderr"
	unauthorizedMessage = "Server requires authentication"
)

// Options says which server to talk to and where to write.
type Options struct {
	ServerURL          string // unix:///path or http://host:port
	Username, Password string // no login is sent while both are empty
	Prompt             string // "supervisor" when empty
	HistoryFile        string // kept between sessions when set
	// Interactive asks before a shutdown, and for a password when the server wants one.
	Interactive bool
	// Own adds the actions that only inpod has to supervisorctl's.
	Own    bool
	Stdin  *os.File
	Stdout io.Writer
	Stderr io.Writer
	// Dial makes the Server for a URL; "open" and a login call it again. A scheme it does not know is a *URLError.
	Dial func(serverURL, username, password string) (Server, error)
}

// Controller runs actions one after another and keeps the worst of their exit statuses, as
// supervisorctl does. It is for one goroutine.
type Controller struct {
	opts   Options
	status int
	stdin  *lineReader
	term   *terminal // only in a shell on a terminal
	server Server    // made by connect, for the present URL and login
}

// New makes a Controller.
func New(opts Options) *Controller {
	if opts.Prompt == "" {
		opts.Prompt = defaultPrompt
	}
	return &Controller{opts: opts, stdin: newLineReader(opts.Stdin)}
}

// Do runs one action line, "stop web:*" say, and returns the exit status. The end of ctx stands for
// Ctrl-C: it ends tail -f and fg with success, and anything else with 130.
func (c *Controller) Do(ctx context.Context, line string) int {
	c.onecmd(ctx, line)
	return c.status
}

func (c *Controller) output(text string) {
	// A reader that went away ends the client by SIGPIPE on standard output; nothing else is to be done here.
	_, _ = io.WriteString(c.opts.Stdout, text+"\n")
}

func (c *Controller) outputf(format string, args ...any) { c.output(fmt.Sprintf(format, args...)) }

// fail prints text and notes the exit status.
func (c *Controller) fail(status int, text string) {
	c.output(text)
	c.status = status
}

// noteCode keeps the exit status of one result. ignored is the code that this action does not mind.
func (c *Controller) noteCode(code, ignored supervisor.FaultCode) {
	switch code {
	case ignored, supervisor.Success:
	case supervisor.SpawnError, supervisor.AbnormalTermination, supervisor.NotRunning:
		c.status = exitNotRunning
	default:
		c.status = exitGeneric
	}
}

// onecmd parses and runs a line; quit is true when the shell is to end.
func (c *Controller) onecmd(ctx context.Context, line string) (quit bool) {
	line = strings.TrimSpace(line)
	if line == "" {
		return false
	}
	name, arg := splitLine(line)
	run := c.action(name)
	if run == nil {
		c.fail(exitGeneric, "*** Unknown syntax: "+unknownLine(line))
		return false
	}
	quit, err := run(ctx, arg)
	if err == nil {
		return quit
	}
	if ctx.Err() != nil {
		c.status = exitInterrupted
		return true
	}
	var proto *HTTPError
	if errors.As(err, &proto) && proto.Status == http.StatusUnauthorized {
		c.output(unauthorizedMessage)
		if c.opts.Interactive {
			if lerr := c.login(ctx); lerr == nil {
				return c.onecmd(ctx, line)
			} else {
				err = lerr
			}
		}
	}
	c.fail(exitGeneric, errorText(err))
	return false
}

// splitLine takes the action's name, which ends where no letter, digit or _ is, from the rest.
func splitLine(line string) (name, arg string) {
	if line[0] == '?' {
		line = "help " + line[1:]
	}
	i := strings.IndexFunc(line, func(r rune) bool {
		return !(r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z')
	})
	if i < 0 {
		i = len(line)
	}
	return line[:i], strings.TrimSpace(line[i:])
}

func unknownLine(line string) string {
	if line[0] == '?' {
		return "help " + line[1:]
	}
	return line
}

func (c *Controller) login(ctx context.Context) error {
	user, err := c.ask(ctx, "Username:")
	if err != nil {
		return err
	}
	password, err := c.askSecret(ctx, "Password:")
	if err != nil {
		return err
	}
	c.output("")
	c.opts.Username, c.opts.Password, c.server = user, password, nil
	return nil
}

type actionFunc func(ctx context.Context, arg string) (quit bool, err error)

// action finds what a name does; nil means that there is no such action.
func (c *Controller) action(name string) actionFunc {
	plain := func(f func(context.Context, string) error) actionFunc {
		return func(ctx context.Context, arg string) (bool, error) { return false, f(ctx, arg) }
	}
	if c.opts.Own {
		switch name {
		case "drain":
			return plain(c.drain)
		case "phase":
			return plain(c.phase)
		case "routes":
			return plain(c.routes)
		case "sessions":
			return plain(c.sessions)
		}
	}
	switch name {
	case "add":
		return plain(c.add)
	case "avail":
		return plain(c.avail)
	case "clear":
		return plain(c.clear)
	case "exit", "quit", "EOF":
		return func(context.Context, string) (bool, error) { c.output(""); return true, nil }
	case "fg":
		return plain(c.fg)
	case "help":
		return func(_ context.Context, arg string) (bool, error) { c.help(arg); return false, nil }
	case "maintail":
		return plain(c.maintail)
	case "open":
		return plain(c.open)
	case "pid":
		return plain(c.pid)
	case "reload":
		return plain(c.reload)
	case "remove":
		return plain(c.remove)
	case "reread":
		return plain(c.reread)
	case "restart":
		return plain(c.restart)
	case "shutdown":
		return plain(c.shutdown)
	case "signal":
		return plain(c.signal)
	case "start":
		return plain(c.start)
	case "status":
		return plain(c.showStatus)
	case "stop":
		return plain(c.stop)
	case "tail":
		return plain(c.tail)
	case "update":
		return plain(c.update)
	case "version":
		return plain(c.version)
	}
	return nil
}

func (c *Controller) connect() (Server, error) {
	if c.server != nil {
		return c.server, nil
	}
	server, err := c.opts.Dial(c.opts.ServerURL, c.opts.Username, c.opts.Password)
	if err != nil {
		return nil, err
	}
	c.server = server
	return server, nil
}

// call runs one method of the supervisor namespace.
func (c *Controller) call(ctx context.Context, method string, args ...any) (any, error) {
	server, err := c.connect()
	if err != nil {
		return nil, err
	}
	return server.Call(ctx, namespace+method, args...)
}

// upcheck tells whether a server that we understand answers; when none does, it says so.
func (c *Controller) upcheck(ctx context.Context) (bool, error) {
	v, err := c.call(ctx, "getVersion")
	var fault *Fault
	switch {
	case err == nil:
		if api, _ := v.(string); api != apiVersion {
			c.fail(exitNotInstalled, fmt.Sprintf("Sorry, this version of supervisorctl expects to talk to a server with "+
				"API version %s, but the remote version is %s.", apiVersion, api))
			return false, nil
		}
		return true, nil
	case errors.As(err, &fault):
		if fault.Code == supervisor.UnknownMethod {
			c.fail(exitUnimplemented, "Sorry, supervisord responded but did not recognize the supervisor namespace commands "+
				"that supervisorctl uses to control it.  Please check that the [rpcinterface:supervisor] section is enabled "+
				"in the configuration file (see sample.conf).")
			return false, nil
		}
		return false, err
	case errors.Is(err, syscall.ECONNREFUSED):
		c.fail(exitRefused, c.opts.ServerURL+" refused connection")
		return false, nil
	case errors.Is(err, syscall.ENOENT):
		c.fail(exitNotRunning, c.opts.ServerURL+" no such file")
		return false, nil
	}
	return false, err
}

func asFault(err error) (*Fault, bool) {
	var fault *Fault
	ok := errors.As(err, &fault)
	return fault, ok
}

// faultCode is the code of err when it is a fault, else 0.
func faultCode(err error) supervisor.FaultCode {
	if fault, ok := asFault(err); ok {
		return fault.Code
	}
	return 0
}

// splitName takes "group:process" apart. whole means every process of the group ("group:*" or "group:").
func splitName(name string) (group, process string, whole bool) {
	group, process, found := strings.Cut(name, ":")
	if !found {
		return name, name, false
	}
	return group, process, process == "" || process == "*"
}

func joinName(group, process string) string {
	if group == process {
		return process
	}
	return group + ":" + process
}

func hasAll(names []string) bool {
	for _, n := range names {
		if n == "all" {
			return true
		}
	}
	return false
}
