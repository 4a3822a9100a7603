package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/inpod/inpod/agent/ctl"
	"github.com/inpod/inpod/config"
	"github.com/spf13/cobra"
)

const ctlUsage = `  -c, --configuration FILE   take the server from [supervisorctl] of this supervisord.conf
  -s, --serverurl URL        the server: unix:///path or http://host:port (default: the agent's control socket)
  -u, --username USER        user name for the server
  -p, --password PASSWORD    password for the server
  -r, --history_file FILE    keep the lines of the shell in this file
  -i, --interactive          ask before a shutdown, and for a password
  -h, --help                 print this help
`

func newCtl(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "ctl [flags] [ACTION [ARGS…]]",
		Short: "Control the programs of a running agent, or of any supervisord",
		Long: "ctl does what supervisorctl does, with the same words and exit codes, and has the actions drain and phase. Without\n" +
			"an action it is a shell. inpod ctl help lists the actions.\n\nFlags, before the action:\n" + ctlUsage,
		// The flags are supervisorctl's, read as it reads them: "tail -f web" is an action, not a flag of ours.
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := clientFlags(args)
			switch {
			case err != nil:
				return err
			case f.help:
				return cmd.Help()
			}
			opts, err := a.clientOptions(f, "")
			if err != nil {
				return err
			}
			opts.Own = true
			return exit(a.client(opts, f))
		},
	}
}

// ctlFlags are the flags of supervisorctl.
type ctlFlags struct {
	conf, url, user, password, history *string
	interactive, help                  bool
	args                               []string
}

func clientFlags(args []string) (f ctlFlags, err error) {
	f.args, err = getopt(args, []option{
		{'h', "help", false, toggle(&f.help)},
		{'?', "", false, toggle(&f.help)},
		{'c', "configuration", true, text(&f.conf)},
		{'i', "interactive", false, toggle(&f.interactive)},
		{'s', "serverurl", true, func(s string) error {
			u, err := url.Parse(s)
			if err != nil || u.Scheme == "" || u.Host == "" && u.Path == "" && u.Opaque == "" {
				return fmt.Errorf("value '%s' is not a URL", s)
			}
			f.url = &s
			return nil
		}},
		{'u', "username", true, text(&f.user)},
		{'p', "password", true, text(&f.password)},
		{'r', "history_file", true, text(&f.history)},
	})
	return f, err
}

// clientOptions merges the flags with the [supervisorctl] section of -c or of conf, a file that may be absent.
func (a *app) clientOptions(f ctlFlags, conf string) (ctl.Options, error) {
	opts := ctl.Options{Interactive: f.interactive, Stdin: a.stdin, Stdout: a.stdout, Stderr: a.stderr, Dial: ctl.Dial}
	if f.conf != nil {
		conf = *f.conf
	}
	if conf != "" {
		found, err := opts.ReadConfig(conf, a.envMap())
		switch {
		case f.conf != nil && errors.Is(err, os.ErrNotExist):
			return opts, fmt.Errorf("could not find config file %s", conf)
		case err != nil:
			return opts, err
		case f.conf != nil && !found:
			return opts, errors.New(".ini file does not include supervisorctl section")
		}
	}
	for _, s := range []struct {
		to   *string
		flag *string
	}{{&opts.ServerURL, f.url}, {&opts.Username, f.user}, {&opts.Password, f.password}, {&opts.HistoryFile, f.history}} {
		if s.flag != nil {
			*s.to = *s.flag
		}
	}
	if opts.ServerURL == "" {
		opts.ServerURL = a.controlURL("")
	}
	return opts, nil
}

// client runs the action, or the shell when there is none.
func (a *app) client(opts ctl.Options, f ctlFlags) int {
	c := ctl.New(opts)
	if len(f.args) == 0 {
		return c.Shell(context.Background())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	return c.Do(ctx, strings.Join(f.args, " "))
}

// controlURL is where the agent of this container listens. A config file that cannot be read must not keep a user
// from asking the agent that runs: the defaults are taken then.
func (a *app) controlURL(file string) string {
	if file == "" {
		file = a.getenv("INPOD_CONFIG")
	}
	cfg, err := config.Load(config.Options{File: file, Env: a.env, UID: os.Getuid()})
	if err != nil {
		cfg, err = config.Parse("", nil, config.Options{UID: os.Getuid()})
	}
	if err != nil {
		return "unix://"
	}
	return "unix://" + ctl.ControlSocket(cfg.SocketPaths())
}

// server is the agent's control socket, for the commands of hooks.
func (a *app) server(file string) (ctl.Server, error) { return ctl.Dial(a.controlURL(file), "", "") }

// waiting is the context of a command that may wait: it ends by Ctrl-C, and after timeout when that is set.
func waiting(timeout time.Duration) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	if timeout <= 0 {
		return ctx, stop
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	return limited, func() { cancel(); stop() }
}

func newDrain(a *app) *cobra.Command {
	var file string
	var wait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "drain [--wait] [--timeout 90s]",
		Short: "Take the pod out of service, as SIGTERM does (for preStop hooks)",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			ctx, stop := waiting(timeout)
			defer stop()
			server, err := a.server(file)
			if err == nil {
				err = ctl.Drain(ctx, server, wait)
			}
			if err != nil {
				return a.fail(err)
			}
			return nil
		},
	}
	a.configFlag(cmd, &file)
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until nothing is in flight and the programs are being stopped")
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "give up waiting after this time; 0 waits for ever")
	return cmd
}

func newReady(a *app) *cobra.Command {
	var file string
	var wait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "ready [--wait] [--timeout 60s]",
		Short: "Exit with 0 when the agent is ready, else with 1 (for startup hooks)",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			ctx, stop := waiting(timeout)
			defer stop()
			server, err := a.server(file)
			if err != nil {
				return a.fail(err)
			}
			ready, detail, err := ctl.Ready(ctx, server, wait)
			if !ready && detail != "" {
				fmt.Fprintln(a.stderr, strings.TrimSpace(detail))
			}
			switch {
			case err != nil:
				return a.fail(err)
			case !ready:
				return exitCode(exitFailed)
			}
			return nil
		},
	}
	a.configFlag(cmd, &file)
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until the agent is ready")
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "give up after this time; 0 waits for ever")
	return cmd
}
