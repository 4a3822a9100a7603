// Command inpod-injector puts inpod into pods: as the admission webhook of a cluster (serve), into manifests (inject,
// check), and as the init container that takes a port over (redirect). The work is in the package injector.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the build: -ldflags "-X main.version=v1.2.3".
var version = "dev"

const (
	exitFailed = 1
	exitUsage  = 2
)

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

// failure is the error of a command that has begun to work; the others are mistakes on the command line.
type failure struct{ error }

func (f failure) Unwrap() error { return f.error }

// errTold is the error of a command that has said what there was to say.
var errTold = errors.New("told")

func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	_, failed := errors.AsType[failure](err)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errTold):
		return exitFailed
	case failed:
		fmt.Fprintf(stderr, "inpod-injector: %v\n", err)
		return exitFailed
	}
	fmt.Fprintf(stderr, "inpod-injector: %v (see inpod-injector --help)\n", err)
	return exitUsage
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "inpod-injector",
		Short: "Put inpod into pods",
		Long: "inpod-injector puts inpod into pods whose images know nothing of it: in a cluster as an admission webhook, in\n" +
			"manifests before they are applied, and in the pod as the init container that takes a port over.",
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.AddCommand(newServe(), newInject(), newCheck(), newRedirect(), newVersion())
	for _, cmd := range root.Commands() {
		cmd.SilenceUsage = true
		if work := cmd.RunE; work != nil {
			cmd.RunE = func(cmd *cobra.Command, args []string) error {
				if err := work(cmd, args); err != nil {
					return failure{err}
				}
				return nil
			}
		}
	}
	return root
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print version, commit, Go version and platform",
		Args:  cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) {
			commit := "unknown"
			if info, ok := debug.ReadBuildInfo(); ok {
				for _, s := range info.Settings {
					if s.Key == "vcs.revision" {
						commit = s.Value[:min(12, len(s.Value))]
					}
				}
			}
			fmt.Fprintf(cmd.OutOrStdout(), "inpod-injector %s (commit %s, %s, %s/%s)\n", version, commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
		},
	}
}
