package sshd

import (
	"log/slog"
	"os"
	"syscall"
	"time"
)

// Options is what a Server needs of the world.
type Options struct {
	Log     *slog.Logger
	Spawner Spawner
	// Env is the environment of the container's first process, as os.Environ gives it: what sessions begin with.
	Env []string
	// MOTD returns what a terminal shows after login, with \n at the ends of lines; nil shows nothing.
	MOTD func() string
	// Settled, if there is one, is called some seconds after the last client has left, and after what is made at the start:
	// memory can be given back then.
	Settled func()
	// Connected, if there is one, is told how many clients are logged in when that changes. It must not call the server.
	Connected func(n int)
	// Moved, if there is one, is told of each read from a client, and when it was; it must cost nothing.
	Moved func(at time.Time)
	// Passwd, Group and Shadow are the files of those names; empty means those in /etc.
	Passwd, Group, Shadow string
	// EtcDir is where profile and environment are; empty means /etc.
	EtcDir string
}

// Unchanged as Command.UID or GID keeps what the agent has.
const Unchanged = -1

// Command is a process to start.
type Command struct {
	Path      string
	Argv, Env []string
	Dir       string

	Stdin, Stdout, Stderr *os.File // nil is /dev/null

	TTY      bool  // Stdin is the controlling terminal of the new session; otherwise that has none
	UID, GID int   // Unchanged = the agent's
	Groups   []int // supplementary groups; nil = the agent's when UID is unchanged
}

// Spawner starts processes and waits for their ends.
type Spawner interface {
	// Start starts a command. The error says what cannot be started and why, for the user to read.
	Start(Command) (Process, error)
}

// Process is a process that was started.
type Process interface {
	PID() int
	// Done is closed when the process has ended; Exit is valid then.
	Done() <-chan struct{}
	Exit() Exit
	// SignalGroup sends a signal to the process group.
	SignalGroup(syscall.Signal) error
}

// Exit is how a process ended.
type Exit struct {
	Code   int            // valid when Signal is 0
	Signal syscall.Signal // that ended it, or 0
	Core   bool           // a core was dumped
}

// Connection is one login, for people to see.
type Connection struct {
	ID       uint64    `json:"id"`
	User     string    `json:"user"`
	From     string    `json:"from"`
	Client   string    `json:"client"` // the identification that the client sent
	Method   string    `json:"method"` // how it logged in: publickey, password or certificate
	Since    time.Time `json:"since"`
	Idle     float64   `json:"idle_seconds"`
	Sessions []Session `json:"sessions"`
	Forwards int       `json:"forwards"` // connections that are being forwarded
	Received uint64    `json:"received_bytes"`
	Sent     uint64    `json:"sent_bytes"`
}

// Session is one channel on which something runs.
type Session struct {
	Kind    string    `json:"kind"` // shell, exec, sftp or scp
	Command string    `json:"command,omitempty"`
	TTY     string    `json:"tty,omitempty"`
	PID     int       `json:"pid,omitempty"`
	Since   time.Time `json:"since"`
}
