package ini

import "syscall"

// Config is everything one supervisord.conf and its includes say, with every default filled in
// and every %(…)s expanded. It is immutable once Load has returned it.
type Config struct {
	Supervisord Supervisord
	// UnixServers and InetServers are the [unix_http_server] and [inet_http_server] sections.
	UnixServers []UnixServer
	InetServers []InetServer
	// Ctl is [supervisorctl], for the control client.
	Ctl Ctl
	// Groups holds programs ([program:x] without a group makes a group of its own), [group:x],
	// [eventlistener:x] and [fcgi-program:x], by priority and then by name, as Supervisor orders them.
	Groups []Group
	// Files lists every file that was read, the main file first and .env files too, made absolute: what a watcher has to watch.
	Files []string
	// Globs lists the [include] patterns and the patterns given to Load, made absolute: a new file that matches is new config.
	Globs []string
	// Warnings are the problems that do not stop a start: unknown keys, globs that match nothing, deprecated values.
	Warnings []Problem
}

// Supervisord is the [supervisord] section. Strings are empty where the key is absent.
type Supervisord struct {
	Logfile         string // "" = the agent's own output only
	LogfileMaxbytes int64  // bytes; 0 = never rotate
	LogfileBackups  int
	Loglevel        string // critical, error, warn, info, debug, trace, blather
	Pidfile         string
	Umask           int // -1 when absent
	Nodaemon        bool
	Silent          bool
	Minfds          int
	Minprocs        int
	Nocleanup       bool
	Childlogdir     string
	User            string
	Directory       string
	StripANSI       bool
	Environment     map[string]string
	Identifier      string // "supervisor" by default
}

// UnixServer is a [unix_http_server].
type UnixServer struct {
	File     string
	Chmod    uint32 // 0700 by default
	UID, GID int    // -1 = unchanged
	Username string
	Password string // plain, or {SHA}hex as in Supervisor's manual
}

// InetServer is an [inet_http_server].
type InetServer struct {
	Host     string // "" = every address
	Port     int
	Username string
	Password string
}

// Ctl is [supervisorctl].
type Ctl struct {
	ServerURL, Username, Password, Prompt, HistoryFile string
}

// GroupKind tells what section made a group.
type GroupKind int

// The kinds of groups.
const (
	KindProgram  GroupKind = iota // [program:x] outside any [group:…]
	KindGroup                     // [group:x]
	KindListener                  // [eventlistener:x]
	KindFastCGI                   // [fcgi-program:x]
)

// Group is what start, stop, add and remove act on.
type Group struct {
	Name     string
	Priority int
	Kind     GroupKind
	Programs []Program
	// For KindListener only.
	BufferSize    int
	Events        []string
	ResultHandler string
	// For KindFastCGI only: unix:///path or tcp://host:port.
	Socket               string
	SocketOwner          string
	SocketMode           uint32
	SocketBacklog        int
	SocketUID, SocketGID int
}

// AutoRestart is the autorestart key.
type AutoRestart int

// The values of autorestart.
const (
	RestartUnexpected AutoRestart = iota
	RestartNever
	RestartAlways
)

// Program is one process to be: numprocs=3 makes three of them.
type Program struct {
	Name  string // process_name, expanded
	Group string // the group that it is in
	// Section and File:Line say where it was written, for messages.
	Section string
	File    string
	Line    int

	Command        string   // as written, expanded
	Argv           []string // Command split as a shell would, nothing expanded by a shell; nil when CommandError is set
	CommandError   string   // why Command cannot be run, in Supervisor's words: a spawn error at each start, as there
	Directory      string   // "" = unchanged
	Umask          int      // -1 = unchanged
	Priority       int
	Autostart      bool
	Autorestart    AutoRestart
	Startsecs      int
	Startretries   int
	ExitCodes      []int
	StopSignals    []syscall.Signal // more than one: sent in turn, stopwaitsecs apart (ochinchina)
	Stopwaitsecs   int
	Stopasgroup    bool
	Killasgroup    bool
	User           string            // as written: name, uid, or user:group (ochinchina)
	UID            int               // -1 = unchanged
	GID            int               // the group written, else the user's own; -1 = unchanged (no user, or a number that /etc/passwd does not know)
	Groups         []int             // the supplementary groups to set with User, GID first; nil = unchanged
	Environment    map[string]string // [supervisord] environment, above it envFiles=, above them environment=
	ServerURL      string            // "" = the agent's own (AUTO too), or a URL
	RedirectStderr bool
	Stdout, Stderr Log

	// Beyond Supervisor (DESIGN §4).
	DependsOn    []string
	Readiness    *Check
	Liveness     *Check
	Essential    bool
	Oneshot      bool
	Backoff      string // "" (linear, Supervisor's) or "exponential"
	RestartPause int    // seconds (ochinchina)
	Format       string // "" (as the program wrote it), "raw" (with name prefix), "json"
	OOMScoreAdj  *int
	Nice         *int
	MemoryLimit  int64   // bytes; 0 = none
	CPULimit     float64 // cores; 0 = none
	Cron         string  // "" = none; robfig/cron with an optional seconds field
	// Restart when files change (ochinchina).
	RestartOnBinaryChange                bool
	WatchDir, WatchPattern               string
	BinaryChangeCmd, FileChangeCmd       string
	BinaryChangeSignal, FileChangeSignal syscall.Signal // 0 = restart by stop and start
	PreStartHook, PreStopHook            string
}

// Log is where one stream of a program goes.
type Log struct {
	// File is the value of stdout_logfile or stderr_logfile: "" for NONE, "AUTO", or a path; a comma list keeps
	// the first target here.
	File string
	// Also holds the other targets of a comma list (ochinchina): paths, /dev/stdout, /dev/stderr, "syslog", "syslog @udp:host:port".
	Also            []string
	Maxbytes        int64
	Backups         int
	CaptureMaxbytes int64
	EventsEnabled   bool
	Syslog          bool
	SyslogFacility  string // ochinchina; "" = user
	SyslogPriority  string // ochinchina; "" = info for stdout, err for stderr
	SyslogTag       string // ochinchina; "" = the program's name
}

// Check is readiness_* or liveness_*. Just one of HTTP, TCP, Exec and Log is set.
type Check struct {
	HTTP     string  // http://…, or PORT:/path
	TCP      string  // host:port or port
	Exec     string  // a command line, split as command= is
	Log      string  // readiness only: a regular expression that a line of stdout or stderr must match
	Period   float64 // seconds, default 1 for readiness and 10 for liveness
	Timeout  float64 // seconds, default 1
	Failures int     // default 3; for liveness: how many in a row restart the program
	Delay    float64 // seconds before the first check (ochinchina's liveness_check_initial_delay), default 0
}
