package ini

import (
	"os"
	"os/user"
	"strconv"
	"strings"
)

// accounts answers for users and groups from /etc/passwd and /etc/group, read when first asked.
// Neither file has to exist.
type accounts struct {
	passwd, group string // paths
	planned       map[string]int
	loaded        bool
	byName        map[string]account
	byUID         map[int]account
	groups        map[string]int
	gids          map[int]bool
	members       map[string][]int // by user name
}

type account struct {
	name     string
	uid, gid int
	home     string
}

func (a *accounts) load() {
	if a.loaded {
		return
	}
	a.loaded = true
	a.byName, a.byUID = map[string]account{}, map[int]account{}
	a.groups, a.gids, a.members = map[string]int{}, map[int]bool{}, map[string][]int{}
	for _, f := range records(a.passwd, 7) {
		uid, err1 := strconv.Atoi(f[2])
		gid, err2 := strconv.Atoi(f[3])
		if err1 != nil || err2 != nil {
			continue
		}
		acc := account{f[0], uid, gid, f[5]}
		if _, ok := a.byName[acc.name]; !ok {
			a.byName[acc.name] = acc
		}
		if _, ok := a.byUID[uid]; !ok {
			a.byUID[uid] = acc
		}
	}
	for _, f := range records(a.group, 4) {
		gid, err := strconv.Atoi(f[2])
		if err != nil {
			continue
		}
		if _, ok := a.groups[f[0]]; !ok {
			a.groups[f[0]] = gid
		}
		a.gids[gid] = true
		for m := range strings.SplitSeq(f[3], ",") {
			a.members[m] = append(a.members[m], gid)
		}
	}
}

// records reads a colon-separated file; one that is absent has none.
func records(path string, fields int) [][]string {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var out [][]string
	for line := range strings.Lines(string(data)) {
		if f := strings.Split(strings.TrimSpace(line), ":"); len(f) >= fields && f[0] != "" {
			out = append(out, f)
		}
	}
	return out
}

// user finds a name or a number. A number needs no entry: then its group is -1.
func (a *accounts) user(s string) (account, bool) {
	a.load()
	if n, err := pyInt(s, 10); err == nil {
		if n < 0 || n >= 1<<32-1 {
			return account{}, false
		}
		if acc, ok := a.byUID[int(n)]; ok {
			return acc, true
		}
		return account{uid: int(n), gid: -1}, true
	}
	if acc, ok := a.byName[s]; ok {
		return acc, true
	}
	// Directories other than the files, where the binary was built to ask them.
	if u, err := user.Lookup(s); err == nil {
		uid, err1 := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		if err1 == nil && err2 == nil {
			return account{u.Username, uid, gid, u.HomeDir}, true
		}
	}
	if uid, ok := a.planned[s]; ok {
		return account{name: s, uid: uid, gid: -1}, true
	}
	return account{}, false
}

func (a *accounts) groupID(s string) (int, bool) {
	a.load()
	if n, err := pyInt(s, 10); err == nil {
		return int(n), n >= 0 && n < 1<<32-1
	}
	gid, ok := a.groups[s]
	return gid, ok
}

// userGroup reads user or user:group.
func (a *accounts) userGroup(s string) (uid, gid int, ok bool) {
	name, group, both := strings.Cut(s, ":")
	acc, ok := a.user(name)
	if !ok {
		return -1, -1, false
	}
	if !both {
		return acc.uid, -1, true
	}
	gid, ok = a.groupID(group)
	return acc.uid, gid, ok
}

// supplementary lists the groups that a process of the user has: its own first, as
// Supervisor sets them.
func (a *accounts) supplementary(acc account, gid int) []int {
	a.load()
	if gid < 0 {
		return nil
	}
	groups := []int{gid}
	if acc.name == "" {
		return groups
	}
	return append(groups, a.members[acc.name]...)
}

// expandUser is Python's os.path.expanduser.
func (l *loader) expandUser(path string) string {
	if !strings.HasPrefix(path, "~") {
		return path
	}
	name, rest, slash := strings.Cut(path[1:], "/")
	home := ""
	l.users.load()
	if name == "" {
		var ok bool
		if home, ok = l.env["ENV_HOME"]; !ok {
			home = l.users.byUID[os.Getuid()].home
		}
	} else {
		home = l.users.byName[name].home
	}
	if home == "" {
		return path
	}
	home = strings.TrimRight(home, "/")
	if slash {
		rest = "/" + rest
	}
	if home+rest == "" {
		return "/"
	}
	return home + rest
}
