package agent

import (
	"context"
	"os"

	"github.com/inpod/inpod/config"
	"github.com/inpod/inpod/supervisor/ini"
)

// Options says how one agent is started. The zero value is `inpod run` without flags.
type Options struct {
	// ConfigFile is inpod.yaml. Empty means /etc/inpod/inpod.yaml, which may be absent; a file named here may not.
	ConfigFile string
	// SupervisordConf is the main supervisord.conf (-c). Empty means that only supervisor.include is read.
	SupervisordConf string
	// Main is the main program: its exit ends the agent with its exit code. Empty means none.
	Main []string

	// Env is the environment, as os.Environ gives it; nil means os.Environ().
	Env []string
	// Stdout takes the agent's own log and, line by line, the output of programs that log to /dev/stdout.
	// Nil means os.Stdout; Stderr likewise.
	Stdout, Stderr *os.File

	Version   string // shown by /metrics and /api/v1/phase
	Commit    string
	StripANSI bool // supervisord -t
	// Flags are those of a link named supervisord; nil when called otherwise.
	Flags *SupervisordFlags
}

// CheckOptions says what Check loads. The fields mean what they mean in Options.
type CheckOptions struct {
	ConfigFile      string
	SupervisordConf string
	Env             []string
	// Strict turns unknown ini keys and other warnings into problems.
	Strict bool
}

// Report is what Check found.
type Report struct {
	// Config is the effective config, defaults and environment included; nil when it has problems.
	Config *config.Config
	// Programs is the effective ini config; nil when it has problems.
	Programs *ini.Config
	// Effective is the effective config as YAML, secrets masked; empty when Config is nil.
	Effective string
	// Problems holds every error, as "file:line: what is wrong", in the order of the files. Any means exit 1.
	Problems []string
	// Warnings are in the same form and change no exit code.
	Warnings []string
}

// RunFunc and CheckFunc are the shapes of Run and Check, for callers that want to replace them in tests.
type (
	RunFunc   func(ctx context.Context, opts Options) int
	CheckFunc func(opts CheckOptions) *Report
)
