package config

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// User is one entry of users.
type User struct {
	Name   string   `key:"name" required:"true" check:"account" expand:"env" doc:"Name of the user, made at the start when there is none. It may come from the environment, as all keys of users but password_file and password_env: ${DEEPVAC_USER}, or ${DEEPVAC_USER:-desk} for one with a default."`
	UID    string   `key:"uid" default:"" check:"id" expand:"env" doc:"Number of the user. Empty: that of the user who is there, or the first free one from 1000."`
	GID    string   `key:"gid" default:"" check:"id" expand:"env" doc:"Number of the user's own group, which is made with the user's name where no group has it. Empty: the group of that name, or users[].uid."`
	Groups []string `key:"groups" default:"[]" check:"account" expand:"env" doc:"Further groups. One that the image does not have is left out, with a warning."`
	Home   string   `key:"home" default:"" check:"realpath" expand:"env" doc:"Home directory. When it is missing or empty it gets the files of /etc/skel, unless seed fills it. Empty: /home/NAME."`
	Shell  string   `key:"shell" default:"" check:"realpath" expand:"env" doc:"Login shell. Empty: /bin/bash, or /bin/sh where there is none."`

	PasswordFile   string   `key:"password_file" default:"" check:"path" doc:"File with the password, or its crypt(5) hash, alone. The file stays where it is."`
	PasswordEnv    string   `key:"password_env" default:"" check:"variable" doc:"Name of the variable that holds the password, or its hash. An empty variable is no password. The programs get the variable too."`
	AuthorizedKeys []string `key:"authorized_keys" default:"[]" check:"path" doc:"Files of public keys, whose lines are added to ~/.ssh/authorized_keys."`
	Sudo           bool     `key:"sudo" default:"false" doc:"Write /etc/sudoers.d/inpod-NAME, where sudo is installed: the user may run everything as root. A user with a password must type it."`
	Required       bool     `key:"required" default:"false" doc:"A user who cannot be made (no root, /etc is read-only) ends the agent. When false the start goes on; the log, /readyz?verbose and the metrics say so."`
}

// checkUsers applies the rules that concern several keys.
func (c *Config) checkUsers(report reporter) {
	seen := map[string]int{}
	for i, u := range c.Users {
		at := "users[" + strconv.Itoa(i) + "]"
		if first, dup := seen[u.Name]; dup && u.Name != "" {
			report(at+".name", "%q is the name of users[%d] too", clip(u.Name), first)
		}
		seen[u.Name] = i
		if u.PasswordFile != "" && u.PasswordEnv != "" {
			report(at+".password_env", "is set beside password_file; want one of them")
		}
	}
}

// accountName is what useradd(8) takes, and capitals; sudoers and crontabs need no quoting then.
var accountName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`)

func checkAccount(s string) string {
	switch {
	case s == "":
		return "is empty; want a user's name"
	case len(s) > 32:
		return fmt.Sprintf("%q is longer than 32 characters", clip(s))
	case !accountName.MatchString(s):
		return fmt.Sprintf("%q is no name of a user or group: want letters, digits, _, - and ., no digit first", clip(s))
	}
	return ""
}

// maxID is the largest uid and gid; the one above it means "none" to the kernel.
const maxID = 1<<32 - 2

func checkID(s string) string {
	if n, err := strconv.ParseUint(s, 10, 64); s != "" && (err != nil || n > maxID) {
		return fmt.Sprintf("%q is not a number from 0 to %d", clip(s), int64(maxID))
	}
	return ""
}

func checkOwner(s string) string {
	if s == "" {
		return ""
	}
	user, group, both := strings.Cut(s, ":")
	for _, part := range []string{user, group} {
		if msg := checkID(part); part != "" && msg != "" && checkAccount(part) != "" {
			return fmt.Sprintf("%q is not user, user:group or their numbers", clip(s))
		}
	}
	if user == "" || both && group == "" {
		return fmt.Sprintf("%q is not user, user:group or their numbers", clip(s))
	}
	return ""
}

func checkMode(s string) string {
	if n, err := strconv.ParseUint(s, 8, 32); s != "" && (err != nil || n > 0o7777) {
		return fmt.Sprintf("%q is not a mode such as 0750", clip(s))
	}
	return ""
}

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func checkVariable(s string) string {
	if s != "" && !variableName.MatchString(s) {
		return fmt.Sprintf("%q is not the name of a variable", clip(s))
	}
	return ""
}

// checkRealPath takes an absolute path that is no glob.
func checkRealPath(s string) string {
	if s == "" {
		return ""
	}
	if strings.ContainsAny(s, "\x00\n:") {
		return fmt.Sprintf("%q holds a character that no such path may", clip(s))
	}
	if !strings.HasPrefix(s, "/") {
		return fmt.Sprintf("%q is a relative path; want an absolute one", clip(s))
	}
	return ""
}
