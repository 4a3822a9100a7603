package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// shell is the beginning of a command that was written as one line.
const shell = "/bin/sh"

// Hook is one entry of hooks.
type Hook struct {
	Name       string        `key:"name" required:"true" check:"hookname" doc:"What the hook is called in the log, in /readyz?verbose and in metrics."`
	Command    []string      `key:"command" required:"true" line:"shell" expand:"env" doc:"What runs: a list of words, in which ${NAME} is a variable, or one line for /bin/sh -c. Where there is no /bin/sh the line is split into words."`
	IfExists   string        `key:"if_exists" default:"" check:"realpath" expand:"env" doc:"Run only when this path exists."`
	Background bool          `key:"background" default:"false" doc:"Do not wait for its end. It is ended with the programs when the agent stops."`
	OnError    string        `key:"on_error" default:"fail" enum:"fail|continue" doc:"What an exit code other than 0, a signal or a timeout does: fail ends the agent, so that no program is started; continue goes on. Nothing waits for a hook in the background, so it never ends the agent."`
	Timeout    time.Duration `key:"timeout" default:"0s" check:"notnegative" doc:"After so long the hook is ended (SIGTERM, 5 s later SIGKILL), which is an error. 0s: never."`
	User       string        `key:"user" default:"" check:"owner" expand:"env" doc:"User to run as, or user:group. Empty: the agent's. Another one needs root."`
	Directory  string        `key:"directory" default:"" check:"realpath" expand:"env" doc:"Working directory. Empty: the agent's."`
}

// Line returns the line of a command that was written as one, and "" otherwise.
func (h Hook) Line() string {
	if len(h.Command) == 3 && h.Command[0] == shell && h.Command[1] == "-c" {
		return h.Command[2]
	}
	return ""
}

// checkHooks applies the rules that concern several keys.
func (c *Config) checkHooks(report reporter) {
	seen := map[string]int{}
	for i, h := range c.Hooks {
		at := "hooks[" + strconv.Itoa(i) + "]"
		if first, dup := seen[h.Name]; dup && h.Name != "" {
			report(at+".name", "%q is the name of hooks[%d] too", clip(h.Name), first)
		}
		seen[h.Name] = i
		line := len(h.Command) == 3 && h.Command[0] == shell && h.Command[1] == "-c"
		switch {
		case len(h.Command) == 0, h.Command[0] == "", line && strings.TrimSpace(h.Command[2]) == "":
			report(at+".command", "is empty; want a list of words, or one line")
		case strings.Contains(strings.Join(h.Command, ""), "\x00"):
			report(at+".command", "holds a NUL byte")
		}
	}
}

func checkHookName(s string) string {
	if s == "" {
		return "is empty; want a name"
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f }) || len(s) > 64 {
		return fmt.Sprintf("%q is no name for a hook: want at most 64 characters without spaces", clip(s))
	}
	return ""
}
