package xmlrpc

import (
	"context"
	"log/slog"
	"time"

	"github.com/inpod/inpod/supervisor"
)

// Supervisor is what the handler controls. Errors are *supervisor.Fault where the client should see them; any other
// is FAILED. Waits end with ctx.
type Supervisor interface {
	StartProcess(ctx context.Context, name string, wait bool) error
	StartGroup(ctx context.Context, group string, wait bool) ([]supervisor.ProcessStatus, error)
	StartAll(ctx context.Context, wait bool) ([]supervisor.ProcessStatus, error)
	StopProcess(ctx context.Context, name string, wait bool) error
	StopGroup(ctx context.Context, group string, wait bool) ([]supervisor.ProcessStatus, error)
	StopAll(ctx context.Context, wait bool) ([]supervisor.ProcessStatus, error)
	SignalProcess(name, sig string) error
	SignalGroup(group, sig string) ([]supervisor.ProcessStatus, error)
	SignalAll(sig string) ([]supervisor.ProcessStatus, error)
	ProcessInfo(name string) (supervisor.ProcessInfo, error)
	AllProcessInfo() []supervisor.ProcessInfo
	AllConfigInfo() []supervisor.ConfigInfo
	Reread() (added, changed, removed []string, err error)
	AddGroup(name string) error
	RemoveGroup(name string) error
	LogPath(name, stream string) (string, error)
	ReadLog(name, stream string, offset, length int64) (string, error)
	TailLog(name, stream string, offset, length int64) (string, int64, bool, error)
	ClearLogs(name string) error
	ClearAllLogs() ([]supervisor.ProcessStatus, error)
	SendStdin(name, chars string) error
	SendCommEvent(typ, data string) error
}

// MainLog is the agent's own log.
type MainLog interface {
	Path() string // "" when it is in memory
	Read(offset, length int64) ([]byte, error)
	Clear() error
	Follow(ctx context.Context, head int64, emit func([]byte) error) error
}

// The states of supervisord (supervisord.org/api.html#supervisor.rpcinterface.SupervisorNamespaceRPCInterface.getState).
const (
	StateFatal      = 2
	StateRunning    = 1
	StateRestarting = 0
	StateShutdown   = -1
)

// Options are what a handler needs. Supervisor is required.
type Options struct {
	Supervisor     Supervisor
	Identification string     // "supervisor" when empty
	PID            func() int // the agent's
	State          func() (code int, name string)
	Shutdown       func()       // begins the shutdown and returns
	Restart        func() error // begins a restart and returns; the error is what is wrong with the files
	MainLog        MainLog
	// Follow follows a log file for /logtail.
	Follow func(ctx context.Context, path string, head int64, emit func([]byte) error) error
	// Username asks for basic authentication with Password, plain or as {SHA} and the hex SHA-1. With a password and no user
	// name nobody gets in.
	Username, Password string
	Logger             *slog.Logger
}

// The limits that keep a client from holding more than its share.
const (
	maxBody      = 8 << 20
	bodyTimeout  = 30 * time.Second // for the whole body of a call
	writeTimeout = 60 * time.Second // for a response, and for one piece of a followed log
	tailHead     = 1024             // how much of a log comes first
)
