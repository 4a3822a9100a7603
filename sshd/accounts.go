package sshd

import (
	"bytes"
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/inpod/inpod/config"
)

// account is who somebody logs in as.
type account struct {
	name, home, shell string
	uid, gid          int
	groups            []int
	own               bool            // runs as the agent does
	virtual           *config.SSHUser // nil for a user of the container
}

// noShell tells whether the account has none that runs commands. Where the image lacks an ordinary one there is another; one
// that somebody gave to a user for what it does not allow is not made up for.
func (a *account) noShell() bool {
	switch filepath.Base(a.shell) {
	case "nologin", "false":
		return true
	case "sh", "bash", "dash", "ash", "ksh", "mksh", "zsh", "csh", "tcsh", "fish", ".":
		return false
	}
	return !a.own && !executable(a.shell)
}

func executable(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0
}

// accounts reads the users of the container.
type accounts struct {
	passwd, group, shadow string
	uid, gid              int
	mayBecome             bool // the agent can become somebody else
	env                   map[string]string
}

const maxUsers = 4 << 20 // bytes of /etc/passwd and /etc/group

func newAccounts(opts Options) accounts {
	env := map[string]string{}
	for _, kv := range opts.Env {
		if k, v, ok := strings.Cut(kv, "="); ok {
			env[k] = v
		}
	}
	return accounts{
		passwd: cmp.Or(opts.Passwd, "/etc/passwd"), group: cmp.Or(opts.Group, "/etc/group"), shadow: cmp.Or(opts.Shadow, "/etc/shadow"),
		uid: os.Geteuid(), gid: os.Getegid(), mayBecome: os.Geteuid() == 0 && maySetID(), env: env,
	}
}

// maySetID tells whether root still has CAP_SETGID (6) and CAP_SETUID (7).
func maySetID() bool {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return true // it will be seen when it is tried
	}
	_, rest, ok := bytes.Cut(status, []byte("CapEff:"))
	if !ok {
		return true
	}
	hex, _, _ := bytes.Cut(rest, []byte("\n"))
	caps, err := strconv.ParseUint(strings.TrimSpace(string(hex)), 16, 64)
	return err == nil && caps&(1<<6) != 0 && caps&(1<<7) != 0
}

// lookup finds a user of the container that the agent can serve: any as root, else only the one that it runs as.
func (a accounts) lookup(name string) (*account, bool) {
	for _, u := range a.all() {
		if u.name == name {
			if !u.own && !a.mayBecome {
				return nil, false
			}
			u.groups = a.groupsOf(u)
			return u, true
		}
	}
	if own := a.own(); own.name == name || a.uid != 0 && name == strconv.Itoa(a.uid) || a.uid != 0 && own.name != "" && name == a.env["USER"] {
		return own, true
	}
	return nil, false
}

// own is the account that the agent runs as. An image need not know its user: Kubernetes and OpenShift give numbers
// that are not in /etc/passwd.
func (a accounts) own() *account {
	for _, u := range a.all() {
		if u.own {
			return u
		}
	}
	u := &account{
		uid: a.uid, gid: a.gid, own: true, name: cmp.Or(a.env["USER"], a.env["LOGNAME"]),
		home: cmp.Or(a.env["HOME"], "/"), shell: a.env["SHELL"],
	}
	if u.name == "" {
		u.name = strconv.Itoa(a.uid)
		if a.uid == 0 {
			u.name = "root"
		}
	}
	return u
}

// all reads passwd(5).
func (a accounts) all() []*account {
	data, _, err := readBounded(a.passwd, maxUsers)
	if err != nil {
		return nil
	}
	var list []*account
	for line := range strings.Lines(string(data)) {
		f := strings.Split(strings.TrimRight(line, "\r\n"), ":")
		if len(f) < 7 || f[0] == "" || strings.HasPrefix(f[0], "#") {
			continue
		}
		uid, uerr := strconv.ParseUint(f[2], 10, 32)
		gid, gerr := strconv.ParseUint(f[3], 10, 32)
		if uerr != nil || gerr != nil {
			continue
		}
		u := &account{
			name: f[0], uid: int(uid), gid: int(gid), home: cmp.Or(f[5], "/"), shell: f[6], own: int(uid) == a.uid,
		}
		if u.own && u.uid != 0 && u.noShell() {
			// A container that runs as nobody or www-data: whoever gave it a key wants to log in to it.
			u.shell = ""
		}
		list = append(list, u)
	}
	return list
}

// groupsOf reads group(5): the groups that name the user, and its own first.
func (a accounts) groupsOf(u *account) []int {
	groups := []int{u.gid}
	data, _, err := readBounded(a.group, maxUsers)
	if err != nil {
		return groups
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Split(strings.TrimRight(line, "\r\n"), ":")
		if len(f) < 4 || !slices.Contains(strings.Split(f[3], ","), u.name) {
			continue
		}
		if gid, err := strconv.ParseUint(f[2], 10, 32); err == nil && !slices.Contains(groups, int(gid)) {
			groups = append(groups, int(gid))
		}
	}
	return groups
}

// shellOf is the shell to run: the account's, or what the image has. It is "" where the image has none.
func shellOf(u *account) string {
	for _, sh := range []string{u.shell, "/bin/bash", "/bin/sh"} {
		if sh != "" && executable(sh) {
			return sh
		}
	}
	return ""
}
