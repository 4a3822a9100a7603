package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/inpod/inpod/agent"
	"github.com/spf13/cobra"
)

// The exit codes of the command line itself.
const (
	exitFailed = 1
	exitUsage  = 2
)

// app is what every command needs of the world.
type app struct {
	argv0                 string
	stdin, stdout, stderr *os.File
	env                   []string
	runAgent              agent.RunFunc
}

// exitCode is the error of a command that has already said what there was to say.
type exitCode int

func (e exitCode) Error() string { return "exit code " + strconv.Itoa(int(e)) }

func exit(code int) error {
	if code == 0 {
		return nil
	}
	return exitCode(code)
}

// fail tells an error, unless it has been told, and returns the exit code for it.
func (a *app) fail(err error) error {
	if code := exitCode(0); errors.As(err, &code) {
		return code
	}
	fmt.Fprintf(a.stderr, "inpod: %v\n", err)
	return exitCode(exitFailed)
}

// print writes what others go on with: a file that is cut off must not pass for a whole one.
func (a *app) print(text string) error {
	if _, err := a.stdout.WriteString(text); err != nil && text != "" {
		if wrapped, ok := errors.AsType[*os.PathError](err); ok {
			err = wrapped.Err
		}
		return a.fail(fmt.Errorf("cannot write to standard output: %w", err))
	}
	return nil
}

func (a *app) getenv(name string) string {
	value := ""
	for _, kv := range a.env {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			value = v
		}
	}
	return value
}

// envMap is the environment as ini expansion wants it.
func (a *app) envMap() map[string]string {
	m := map[string]string{}
	for _, kv := range a.env {
		if k, v, ok := strings.Cut(kv, "="); ok {
			m[k] = v
		}
	}
	return m
}

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "inpod",
		Short: "The runtime inside an ML pod",
		Long: "inpod runs the programs of a pod under supervision, answers for their health, and takes the pod down without\n" +
			"losing a request. Start it as the container's first process: inpod run.",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.AddCommand(newRun(a), newCheck(a), newCtl(a), newDrain(a), newReady(a), newRoutes(a), newInstall(a), newVersion(a))
	return root
}

func newVersion(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print version, commit, Go version and platform",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			fmt.Fprintf(a.stdout, "inpod %s (commit %s, %s, %s/%s)\n", version, commit(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return nil
		},
	}
}

// commit is the revision that the go command recorded; "unknown" in a build without version control.
func commit() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	revision, dirty := "unknown", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value[:min(12, len(s.Value))]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "-dirty"
		}
	}
	return revision + dirty
}

func newRun(a *app) *cobra.Command {
	var opts agent.Options
	cmd := &cobra.Command{
		Use:   "run [--config FILE] [-c FILE] [-- COMMAND ARGS…]",
		Short: "Run the agent",
		Long: "run starts the agent and stays in the foreground. With a command after --, that command is the main program:\n" +
			"its exit ends the agent with its exit code. SIGTERM drains and stops, SIGHUP reloads, SIGUSR2 reopens log files.",
		Args: afterDash,
		RunE: func(_ *cobra.Command, args []string) error {
			opts.Main, opts.Env, opts.Version, opts.Commit = args, a.env, version, commit()
			return exit(a.runAgent(context.Background(), opts))
		},
	}
	a.configFlag(cmd, &opts.ConfigFile)
	cmd.Flags().StringVarP(&opts.SupervisordConf, "configuration", "c", "", "supervisord.conf to read besides supervisor.include")
	return cmd
}

// afterDash accepts arguments only behind --, so that a flag of the command is never taken for one of ours.
func afterDash(cmd *cobra.Command, args []string) error {
	if n := cmd.ArgsLenAtDash(); len(args) > 0 && n != 0 {
		return fmt.Errorf("unexpected argument %q: put -- before the command to run", args[0])
	}
	return nil
}

func (a *app) configFlag(cmd *cobra.Command, to *string) {
	cmd.Flags().StringVar(to, "config", a.getenv("INPOD_CONFIG"), "inpod.yaml to read instead of /etc/inpod/inpod.yaml (environment: INPOD_CONFIG)")
	cmd.Flags().Lookup("config").DefValue = ""
}

func newCheck(a *app) *cobra.Command {
	var opts agent.CheckOptions
	cmd := &cobra.Command{
		Use:   "check [--strict] [--config FILE] [-c FILE]",
		Short: "Load everything, print the effective configuration and every error, start nothing",
		Long: "check prints the effective configuration on standard output, and every problem as file:line: message on standard\n" +
			"error. It exits with 1 when there are errors.",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			opts.Env = a.env
			report := agent.Check(opts)
			unwritten := a.print(report.Effective)
			for _, w := range report.Warnings {
				fmt.Fprintf(a.stderr, "warning: %s\n", w)
			}
			for _, p := range report.Problems {
				fmt.Fprintf(a.stderr, "error: %s\n", p)
			}
			if len(report.Problems) > 0 {
				return exitCode(exitFailed)
			}
			return unwritten
		},
	}
	a.configFlag(cmd, &opts.ConfigFile)
	cmd.Flags().StringVarP(&opts.SupervisordConf, "configuration", "c", "", "supervisord.conf to read besides supervisor.include")
	cmd.Flags().BoolVar(&opts.Strict, "strict", false, "take warnings, such as unknown ini keys, for errors")
	return cmd
}
