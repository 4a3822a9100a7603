package ini

import (
	"slices"
	"strings"
)

// KeyDoc declares one key: the parser takes its default and its section from here, and the
// reference manual is made of the same rows.
type KeyDoc struct {
	Name     string
	Sections []string // the kinds of sections that it may stand in
	Type     string   // as the manual names it
	Default  string   // "" = none
	Doc      string   // one sentence
	Origin   string   // who introduced it: Supervisor, Ochinchina or Inpod
}

// The values of KeyDoc.Origin.
const (
	Supervisor = "supervisor"
	Ochinchina = "ochinchina"
	Inpod      = "inpod"
)

// Keys lists every key that is understood, by section as the manual has them.
func Keys() []KeyDoc { return slices.Concat(serverKeys(), processKeys(), beyondKeys()) }

// The kinds of sections. program stands for [program-default] too.
const (
	kSupervisord = "supervisord"
	kUnix        = "unix_http_server"
	kInet        = "inet_http_server"
	kCtl         = "supervisorctl"
	kInclude     = "include"
	kGroup       = "group"
	kProgram     = "program"
	kListener    = "eventlistener"
	kFastCGI     = "fcgi-program"
	kRPC         = "rpcinterface"
)

func serverKeys() []KeyDoc {
	sup, unix, inet, ctl := []string{kSupervisord}, []string{kUnix}, []string{kInet}, []string{kCtl}
	both := []string{kUnix, kInet}
	return []KeyDoc{
		{"logfile", sup, "path", "", "The agent's own log file; without it the agent logs to its standard output.", Supervisor},
		{"logfile_maxbytes", sup, "bytes", "50MB", "Size at which the log file is rotated; 0 never rotates.", Supervisor},
		{"logfile_backups", sup, "integer", "10", "How many rotated log files are kept.", Supervisor},
		{"loglevel", sup, "level", "info", "critical, error, warn, info, debug, trace or blather.", Supervisor},
		{"pidfile", sup, "path", "", "Where the agent writes its process id.", Supervisor},
		{"umask", sup, "octal", "022", "The umask of the agent.", Supervisor},
		{"nodaemon", sup, "boolean", "false", "Accepted; the agent always stays in the foreground.", Supervisor},
		{"silent", sup, "boolean", "false", "Nothing of the log goes to standard output.", Supervisor},
		{"minfds", sup, "integer", "1024", "File descriptors that must be available.", Supervisor},
		{"minprocs", sup, "integer", "200", "Processes that must be available.", Supervisor},
		{"nocleanup", sup, "boolean", "false", "Leave AUTO log files of an earlier run where they are.", Supervisor},
		{"childlogdir", sup, "directory", "the temporary directory", "Where AUTO log files are made.", Supervisor},
		{"user", sup, "user", "", "The user that the agent changes to before it starts programs.", Supervisor},
		{"directory", sup, "directory", "", "The directory that the agent changes to.", Supervisor},
		{"strip_ansi", sup, "boolean", "false", "Take ANSI escape sequences out of the programs' log files.", Supervisor},
		{"environment", sup, "pairs", "", "KEY=\"value\" pairs for every program.", Supervisor},
		{"identifier", sup, "text", "supervisor", "The name of this agent in events and in AUTO log files.", Supervisor},

		{"file", unix, "path", "", "Path of the unix socket that the control interface listens on.", Supervisor},
		{"chmod", unix, "octal", "0700", "Mode of that socket.", Supervisor},
		{"chown", unix, "user:group", "", "Owner of that socket.", Supervisor},
		{"port", inet, "host:port", "", "TCP address of the control interface; *:9001 or 9001 is every address.", Supervisor},
		{"username", both, "text", "", "User name that clients must send.", Supervisor},
		{"password", both, "text", "", "Its password, plain or {SHA} with a hex digest.", Supervisor},
		{"nodename", inet, "text", "", "Accepted; the console shows one node.", Ochinchina},
		{"remotes", inet, "text", "", "Accepted; the console shows one node.", Ochinchina},

		{"serverurl", ctl, "url", "http://localhost:9001", "Where the control client finds the agent.", Supervisor},
		{"username", ctl, "text", "", "User name to send.", Supervisor},
		{"password", ctl, "text", "", "Password to send.", Supervisor},
		{"prompt", ctl, "text", "supervisor", "Prompt of the interactive client.", Supervisor},
		{"history_file", ctl, "path", "", "Where the interactive client keeps its history.", Supervisor},

		{"files", []string{kInclude}, "globs", "", "Files to read too, separated by spaces, relative to the file with the [include].", Supervisor},
		{"supervisor.rpcinterface_factory", []string{kRPC}, "factory", "", "Supervisor's own interface is built in; others are Python code and are left out with a warning.", Supervisor},
		{"programs", []string{kGroup}, "list", "", "Names of the programs in this group, separated by commas.", Supervisor},
		{"priority", []string{kGroup}, "integer", "999", "Groups with a lower priority start first and stop last.", Supervisor},
	}
}

// keyTable finds rows by kind and name.
type keyTable map[string]map[string]KeyDoc

func newKeyTable() keyTable {
	t := keyTable{}
	for _, k := range Keys() {
		for _, kind := range k.Sections {
			if t[kind] == nil {
				t[kind] = map[string]KeyDoc{}
			}
			t[kind][strings.ToLower(k.Name)] = k
		}
	}
	return t
}

// suggest names the key of a kind that a wrong one was meant to be, or "".
func (t keyTable) suggest(kind, wrong string) string {
	names := make([]string, 0, len(t[kind]))
	for lower := range t[kind] {
		names = append(names, lower)
	}
	slices.Sort(names)
	if lower := nearest(strings.ToLower(wrong), names); lower != "" {
		return t[kind][lower].Name
	}
	return ""
}

// nearest is the candidate with the fewest edits, if they are few for its length.
func nearest(wrong string, candidates []string) string {
	best, least := "", 3
	if len(wrong) > 64 {
		return ""
	}
	for _, c := range candidates {
		if d := edits(wrong, c); d < least && d*3 <= len(c) {
			best, least = c, d
		}
	}
	return best
}

// edits counts insertions, deletions, replacements and swaps of neighbours between a and b.
func edits(a, b string) int {
	prev2, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], prev2[j-2]+1)
			}
		}
		prev2, prev, cur = prev, cur, prev2
	}
	return prev[len(b)]
}
