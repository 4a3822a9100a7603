package sshd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// defaultPath is for containers that set none: that of Debian's /etc/profile for root.
	defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

	profileTime = 5 * time.Second // that /etc/profile may take
	maxProfile  = 1 << 20         // bytes of an environment
)

// environment is what the session's process begins with. Later ones win: the container's own, /etc/environment,
// /etc/profile, the user's, the client's, the key's, SSH's.
func (ss *session) environment(j job, shell string) []string {
	c := ss.c
	u := c.account
	env := c.s.profiles.environment(u, shell)
	set := func(k, v string) { env = setValue(env, k, v) }
	for _, kv := range ss.env {
		k, v, _ := strings.Cut(kv, "=")
		set(k, v)
	}
	for _, kv := range c.grant.env {
		k, v, _ := strings.Cut(kv, "=")
		set(k, v)
	}
	from, fromPort := hostPort(c.ssh.RemoteAddr())
	to, toPort := hostPort(c.ssh.LocalAddr())
	set("SSH_CLIENT", from+" "+fromPort+" "+toPort)
	set("SSH_CONNECTION", from+" "+fromPort+" "+to+" "+toPort)
	if ss.term != nil {
		set("SSH_TTY", ss.term.name)
		if ss.termType != "" {
			set("TERM", ss.termType)
		}
	}
	if j.asked != "" {
		set("SSH_ORIGINAL_COMMAND", j.asked)
	}
	if ss.agent != nil {
		set("SSH_AUTH_SOCK", ss.agent.path)
	}
	if ss.x11 != nil {
		set("DISPLAY", ss.x11.display)
		set("XAUTHORITY", ss.x11.authority)
	}
	return env
}

func hostPort(a net.Addr) (host, port string) {
	host, port, err := net.SplitHostPort(a.String())
	if err != nil {
		return "UNKNOWN", "65535" // sshd's words for what is no address
	}
	return host, port
}

// userEnv is what a login sets by itself.
func userEnv(env []string, u *account, shell string) []string {
	env = setValue(env, "HOME", u.home)
	env = setValue(env, "USER", u.name)
	env = setValue(env, "LOGNAME", u.name)
	env = setValue(env, "SHELL", cmp.Or(shell, u.shell))
	if valueOf(env, "PATH") == "" {
		env = setValue(env, "PATH", defaultPath)
	}
	return env
}

// profiles finds out what /etc/profile does to the environment. A login shell runs it by itself; for commands
// (ssh host env) it is run once for each user, by itself and with its output thrown away, and what it set is kept until
// one of its files changes: what it prints would get into rsync's protocol, and what it costs would be paid every time.
type profiles struct {
	log     *slog.Logger
	base    []string
	etc     string
	spawner Spawner

	mu   sync.Mutex
	kept map[string]*profile // by user, shell and home
}

// profile is the environment of one user.
type profile struct {
	mu    sync.Mutex // held while it is being made
	print uint64     // of the files that it was made from
	env   []string
}

func newProfiles(log *slog.Logger, opts Options) *profiles {
	return &profiles{log: log, base: opts.Env, etc: cmp.Or(opts.EtcDir, "/etc"), spawner: opts.Spawner, kept: map[string]*profile{}}
}

// environment returns a copy that the caller may change.
func (p *profiles) environment(u *account, shell string) []string {
	key := fmt.Sprintf("%d %s %s %s", u.uid, u.name, shell, u.home)
	p.mu.Lock()
	made := p.kept[key]
	if made == nil {
		made = &profile{}
		p.kept[key] = made
	}
	p.mu.Unlock()
	made.mu.Lock()
	defer made.mu.Unlock()
	if print := p.fingerprint(); made.env == nil || made.print != print {
		made.env, made.print = p.make(u, shell), print
	}
	return slices.Clone(made.env)
}

// fingerprint changes when a file does that the environment is made of.
func (p *profiles) fingerprint() uint64 {
	h := fnv.New64a()
	files, _ := filepath.Glob(filepath.Join(p.etc, "profile.d", "*")) // the pattern is good
	for _, f := range append(files, filepath.Join(p.etc, "profile"), filepath.Join(p.etc, "environment")) {
		if st, err := os.Stat(f); err == nil {
			fmt.Fprintln(h, f, st.Size(), st.ModTime().UnixNano())
		}
	}
	return h.Sum64()
}

func (p *profiles) make(u *account, shell string) []string {
	env := slices.DeleteFunc(slices.Clone(p.base), func(kv string) bool {
		k, _, _ := strings.Cut(kv, "=")
		return k == "_" || k == "SHLVL" || k == "OLDPWD" || k == "PWD"
	})
	env = mergeEnvironment(env, filepath.Join(p.etc, "environment"))
	env = userEnv(env, u, shell)
	file := filepath.Join(p.etc, "profile")
	if _, err := os.Stat(file); err != nil || shell == "" {
		return env
	}
	after, err := p.run(u, shell, file, env)
	if err != nil {
		p.log.Warn("cannot find out what /etc/profile sets; commands go on without it", "user", u.name, "error", err)
		return env
	}
	path := mergePath(valueOf(env, "PATH"), valueOf(after, "PATH"))
	return userEnv(setValue(after, "PATH", path), u, shell)
}

// mergePath keeps what the container's PATH has and a profile's has not: Debian's /etc/profile starts from nothing, and
// would hide /opt/conda/bin.
func mergePath(container, profile string) string {
	if profile == "" {
		return container
	}
	after := filepath.SplitList(profile)
	var lost []string
	for _, dir := range filepath.SplitList(container) {
		if !slices.Contains(after, dir) && !slices.Contains(lost, dir) {
			lost = append(lost, dir)
		}
	}
	return strings.Join(append(lost, after...), string(filepath.ListSeparator))
}

// run sources the file in the user's shell, where that is of Bourne's kind, and returns the environment afterwards.
func (p *profiles) run(u *account, shell, file string, env []string) ([]string, error) {
	argv := []string{"sh", "-c", `. "$0" >/dev/null 2>&1; exec cat /proc/self/environ`, file}
	if filepath.Base(shell) == "bash" {
		argv = append([]string{"bash", "--noprofile", "--norc"}, argv[1:]...)
	} else {
		shell = "/bin/sh"
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer read.Close()
	cmd := Command{Path: shell, Argv: argv, Env: env, Dir: "/", Stdout: write, UID: Unchanged, GID: Unchanged}
	if !u.own {
		cmd.UID, cmd.GID, cmd.Groups = u.uid, u.gid, u.groups
	}
	proc, err := p.spawner.Start(cmd)
	_ = write.Close()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), profileTime)
	defer cancel()
	_ = read.SetReadDeadline(time.Now().Add(profileTime))
	out, err := io.ReadAll(io.LimitReader(read, maxProfile))
	_ = read.Close()
	select {
	case <-proc.Done():
	case <-ctx.Done():
		_ = proc.SignalGroup(syscall.SIGKILL)
		return nil, errors.New("it takes longer than " + profileTime.String())
	}
	if err != nil {
		return nil, err
	}
	var after []string
	for _, kv := range strings.Split(string(out), "\x00") {
		switch k, _, ok := strings.Cut(kv, "="); {
		case !ok, k == "", k == "_", k == "SHLVL", k == "PWD", k == "OLDPWD":
		default:
			after = append(after, kv)
		}
	}
	if len(after) == 0 {
		return nil, errors.New("it left no environment behind")
	}
	return after, nil
}

// mergeEnvironment reads /etc/environment as pam_env(8) does: NAME=value, perhaps in quotes, perhaps after export.
func mergeEnvironment(env []string, file string) []string {
	data, _, err := readBounded(file, maxProfile)
	if err != nil {
		return env
	}
	for line := range strings.Lines(string(data)) {
		line = strings.TrimPrefix(strings.TrimSpace(line), "export ")
		k, v, ok := strings.Cut(line, "=")
		if !ok || strings.HasPrefix(line, "#") || k == "" || strings.ContainsAny(k, " \t") {
			continue
		}
		if n := len(v); n >= 2 && (v[0] == '"' || v[0] == '\'') && v[n-1] == v[0] {
			v = v[1 : n-1]
		}
		if k == "PATH" {
			v = mergePath(valueOf(env, "PATH"), v)
		}
		env = setValue(env, k, v)
	}
	return env
}

func valueOf(env []string, key string) string {
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, key+"="); ok {
			return v
		}
	}
	return ""
}

// setValue replaces a variable where it stands, or adds it.
func setValue(env []string, key, value string) []string {
	for i, kv := range env {
		if strings.HasPrefix(kv, key+"=") {
			env[i] = key + "=" + value
			return env
		}
	}
	return append(env, key+"="+value)
}
