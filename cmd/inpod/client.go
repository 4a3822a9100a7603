package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/inpod/inpod/agent"
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
		Long: "ctl does what supervisorctl does, with the same words and exit codes, and has the actions drain, phase, routes and sessions. Without\n" +
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
		var err error
		if opts.ServerURL, err = a.controlURL(""); err != nil {
			return opts, err
		}
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

// settings are those of the agent of this container. A config file that cannot be read must not keep a user from
// asking the agent that runs: what the environment says is taken then, or where that is bad too the defaults.
func (a *app) settings(file string) *config.Config {
	if file == "" {
		file = a.getenv("INPOD_CONFIG")
	}
	cfg, err := config.Load(config.Options{File: file, Env: a.env, UID: os.Getuid()})
	for _, env := range [][]string{a.env, {"XDG_RUNTIME_DIR=" + a.getenv("XDG_RUNTIME_DIR")}} {
		if err != nil {
			cfg, err = config.Parse("", nil, config.Options{Env: env, UID: os.Getuid()})
		}
	}
	if err != nil {
		panic("BUG: the defaults are bad: " + err.Error())
	}
	return cfg
}

// controlURL is the control socket of the agent of this container.
func (a *app) controlURL(file string) (string, error) {
	cfg := a.settings(file)
	paths := cfg.SocketPaths()
	if len(paths) == 0 {
		return "", fmt.Errorf("there is no control socket: admin.socket is off (%s); name a server with -s or -c", cfg.Origin("admin.socket"))
	}
	return "unix://" + ctl.ControlSocket(paths), nil
}

// agentAPI is how the commands of hooks reach the agent: the control socket, or where there is none admin.listen, with
// the token of admin.token_file if this user may read it.
func (a *app) agentAPI(file string) (ctl.AdminAPI, error) {
	cfg := a.settings(file)
	socket := ctl.ControlSocket(cfg.SocketPaths())
	if _, err := os.Lstat(socket); err != nil {
		if url := adminURL(cfg.Admin.Listen); url != "" {
			token, _ := os.ReadFile(cfg.Admin.TokenFile) // the agent says what is missing
			return ctl.DialAdmin(url, strings.TrimSpace(string(token))), nil
		}
	}
	if socket == "" {
		return nil, errors.New("the agent cannot be reached: admin.socket and admin.listen are off")
	}
	return ctl.Dial("unix://"+socket, "", "")
}

// adminURL is a listen address as a client of the same container writes it; "" when there is none to know.
func adminURL(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil || port == "0" {
		return "" // off, or any port
	}
	switch host {
	case "", "0.0.0.0":
		host = "127.0.0.1"
	case "::":
		host = "::1"
	}
	return "http://" + net.JoinHostPort(host, port)
}

// exitInterrupted is the shell's code for a command that SIGINT ended.
const exitInterrupted = 128 + int(syscall.SIGINT)

// waiting runs a command that may wait: Ctrl-C ends it, and timeout when that is set.
func (a *app) waiting(timeout time.Duration, do func(ctx context.Context) error) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	limited := ctx
	if timeout > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	err := do(limited)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return exitCode(exitInterrupted)
	}
	return a.fail(err)
}

func newDrain(a *app) *cobra.Command {
	var file string
	var wait bool
	var timeout, join time.Duration
	cmd := &cobra.Command{
		Use:   "drain [--wait | --join 5s] [--timeout 90s]",
		Short: "Take the pod out of service, as SIGTERM does (for preStop hooks)",
		Long: "drain begins what SIGTERM begins: not ready, drain.delay, no new connections, requests in flight end, programs are\n" +
			"stopped, the agent ends. With --wait it returns when nothing is in flight any more, or at drain.deadline; programs\n" +
			"are signalled after that. So as a preStop hook it keeps the container, or another one of the pod, until its last\n" +
			"request is answered. The SIGTERM that follows changes nothing. With --join it begins nothing: it waits as long as that\n" +
			"for a drain which somebody else begins, and for its end as --wait does; when none begins, it does nothing. That is\n" +
			"for the hook of another container, which the kubelet also runs when a probe of that container alone has failed.\n" +
			"It exits with 0, with 1 when the agent cannot be asked or --timeout is over (the drain goes on then), with 130 on Ctrl-C.\n" +
			"Where there is no control socket it asks admin.listen, with the token of admin.token_file.",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return a.waiting(timeout, func(ctx context.Context) error {
				server, err := a.agentAPI(file)
				if err != nil {
					return err
				}
				if join > 0 {
					begun, err := drainBegun(ctx, server, join)
					if !begun || err != nil {
						return err
					}
				}
				return ctl.Drain(ctx, server, wait || join > 0)
			})
		},
	}
	a.configFlag(cmd, &file)
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until nothing is in flight any more")
	cmd.Flags().DurationVar(&join, "join", 0, "begin no drain: wait this long for one to begin, and then for its end; 0: begin one")
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "give up waiting after this time; 0 waits for ever")
	return cmd
}

// drainBegun asks for the phase until it is that of a drain, or within is over.
func drainBegun(ctx context.Context, server ctl.AdminAPI, within time.Duration) (bool, error) {
	over := time.After(within)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		phase, err := ctl.Phase(ctx, server)
		if err != nil || phase == agent.PhaseDraining.String() || phase == agent.PhaseStopping.String() {
			return true, err
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-over:
			return false, nil
		case <-tick.C:
		}
	}
}

func newReady(a *app) *cobra.Command {
	var file string
	var wait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "ready [--wait] [--timeout 60s]",
		Short: "Exit with 0 when the agent is ready, else with 1 (for startup hooks)",
		Long: "ready asks the control socket, or where there is none admin.listen, for what /readyz says, and prints the checks that\n" +
			"fail. It exits with 0 when the agent is ready, with 1 when it is not or does not answer, with 130 on Ctrl-C.",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return a.waiting(timeout, func(ctx context.Context) error {
				server, err := a.agentAPI(file)
				if err != nil {
					return err
				}
				ready, detail, err := ctl.Ready(ctx, server, wait)
				if !ready && detail != "" && !errors.Is(ctx.Err(), context.Canceled) {
					fmt.Fprintln(a.stderr, strings.TrimSpace(detail))
				}
				if err == nil && !ready {
					return exitCode(exitFailed)
				}
				return err
			})
		},
	}
	a.configFlag(cmd, &file)
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until the agent is ready")
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "give up after this time; 0 waits for ever")
	return cmd
}
