package proc

import (
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Unchanged is the value of Spec.UID, Spec.GID and Spec.Umask that keeps what the agent itself has.
const Unchanged = -1

// Spec says how to start a process. Use [NewSpec], or set UID, GID and Umask to [Unchanged] where they
// are not meant: their zero values are root and a umask of 0.
type Spec struct {
	Path string   // the file to execute; LookPath finds it
	Argv []string // with argv[0]; nil = just Path
	Env  []string // key=value; nil = no environment at all
	Dir  string   // "" = the agent's

	// Stdin, Stdout and Stderr are the child's first three descriptors; nil is /dev/null.
	Stdin, Stdout, Stderr *os.File
	// ExtraFiles become descriptors 3, 4, …
	ExtraFiles []*os.File

	UID, GID int   // Unchanged = the agent's
	Groups   []int // supplementary groups; only used when UID or GID is set and the agent may set them
	Umask    int   // Unchanged = the agent's
	Nice     *int  // absolute, -20 to 19; nil = the agent's

	// OOMScoreAdj is the oom_score_adj that the child begins with, -1000 to 1000. A refusal by the kernel (less than
	// the agent was started with needs CAP_SYS_RESOURCE) is logged and does not stop the start.
	OOMScoreAdj *int

	// TTY starts a new session with Stdin as its controlling terminal.
	TTY bool

	// Session starts a new session without a controlling terminal: the agent's own is out of reach.
	Session bool

	// Foreground makes the new process group that of the terminal's foreground; Stdin is that terminal, and it is the
	// agent's own controlling one.
	Foreground bool
}

// NewSpec returns the Spec of path with args, running as the agent's own user with its umask.
func NewSpec(path string, args ...string) Spec {
	return Spec{
		Path: path, Argv: append([]string{path}, args...),
		UID: Unchanged, GID: Unchanged, Umask: Unchanged,
	}
}

// Status is how a process ended.
type Status struct {
	Code   int            // the exit code, -1 when a signal ended it
	Signal syscall.Signal // the signal that ended it, else 0
	Core   bool           // a core was dumped

	User, System time.Duration // CPU time of it and of the children it waited for
	MaxRSS       int64         // bytes
}

// Exited tells whether the process ended by itself, and not by a signal.
func (s Status) Exited() bool { return s.Signal == 0 }

// Shell returns the status as a shell says it: the code, or 128 + the signal.
func (s Status) Shell() int {
	if s.Signal != 0 {
		return 128 + int(s.Signal)
	}
	return s.Code
}

// String says it in Supervisor's words: "exit status 3", "terminated by SIGKILL", "terminated by SIGSEGV (core dumped)".
func (s Status) String() string {
	if s.Signal == 0 {
		return "exit status " + strconv.Itoa(s.Code)
	}
	name := unix.SignalName(s.Signal)
	if name == "" {
		name = "signal " + strconv.Itoa(int(s.Signal))
	}
	if s.Core {
		name += " (core dumped)"
	}
	return "terminated by " + name
}

func newStatus(ws syscall.WaitStatus, ru *syscall.Rusage) Status {
	s := Status{
		User:   time.Duration(ru.Utime.Nano()),
		System: time.Duration(ru.Stime.Nano()),
		MaxRSS: int64(ru.Maxrss) << 10,
	}
	if ws.Signaled() {
		s.Code, s.Signal, s.Core = -1, ws.Signal(), ws.CoreDump()
	} else {
		s.Code = ws.ExitStatus()
	}
	return s
}

// Stats counts what a Reaper did since New.
type Stats struct {
	Spawned       uint64 // processes started
	SpawnFailures uint64 // starts that failed
	Reaped        uint64 // ends of processes that were started here
	Orphans       uint64 // ends of processes that were adopted
	Running       int    // started here and not reaped yet
}
