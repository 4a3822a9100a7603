package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"

	"github.com/inpod/inpod/supervisor/ini"
	"golang.org/x/sys/unix"
)

// prepareHost applies what [supervisord] says of the agent's own process, in Supervisor's order: limits, user,
// directory, umask. It runs before anything is listened on or started.
func prepareHost(sv *ini.Supervisord, log *slog.Logger) error {
	if err := raiseLimit("minfds", unix.RLIMIT_NOFILE, sv.Minfds); err != nil {
		return err
	}
	if err := raiseLimit("minprocs", unix.RLIMIT_NPROC, sv.Minprocs); err != nil {
		return err
	}
	if sv.User != "" {
		if err := becomeUser(sv.User); err != nil {
			return err
		}
	} else if os.Getuid() == 0 && os.Getpid() != 1 {
		log.Debug("running as root; [supervisord] user= would change that")
	}
	if sv.Directory != "" {
		if err := os.Chdir(sv.Directory); err != nil {
			return fmt.Errorf("cannot use [supervisord] directory: %w", err)
		}
	}
	if sv.Umask >= 0 {
		syscall.Umask(sv.Umask)
	}
	return nil
}

// raiseLimit sees to it that at least want of a resource may be had. Go raised the soft limit of open files already,
// for the agent alone; programs get what is set here, so an ordinary want leaves theirs as it is.
func raiseLimit(key string, resource, want int) error {
	const ordinary = 1024
	var lim unix.Rlimit
	if err := unix.Getrlimit(resource, &lim); err != nil {
		return fmt.Errorf("cannot read the limit for [supervisord] %s: %w", key, err)
	}
	if want <= 0 || resource == unix.RLIMIT_NOFILE && want <= ordinary && lim.Max >= ordinary || resource != unix.RLIMIT_NOFILE && lim.Cur >= uint64(want) {
		return nil
	}
	if lim.Max < uint64(want) {
		raised := unix.Rlimit{Cur: uint64(want), Max: uint64(want)}
		if err := unix.Setrlimit(resource, &raised); err != nil {
			return fmt.Errorf("[supervisord] %s=%d is more than this container may have (%d); raise the container's limit or lower %s", key, want, lim.Max, key)
		}
		return nil
	}
	lim.Cur = max(uint64(want), min(lim.Cur, 65536))
	if err := syscall.Setrlimit(resource, &syscall.Rlimit{Cur: lim.Cur, Max: lim.Max}); err != nil {
		return fmt.Errorf("cannot raise the limit for [supervisord] %s: %w", key, err)
	}
	return nil
}

// becomeUser gives up root for the user of [supervisord] user=.
func becomeUser(name string) error {
	u, err := user.Lookup(name)
	if err != nil {
		if u, err = user.LookupId(name); err != nil {
			return fmt.Errorf("cannot find user %q of [supervisord] user", name)
		}
	}
	uid, uerr := strconv.Atoi(u.Uid)
	gid, gerr := strconv.Atoi(u.Gid)
	if err := errors.Join(uerr, gerr); err != nil {
		return fmt.Errorf("cannot use user %q of [supervisord] user: %w", name, err)
	}
	if os.Getuid() == uid {
		return nil
	}
	if os.Getuid() != 0 {
		return fmt.Errorf("cannot become user %q of [supervisord] user: not root", name)
	}
	groups := []int{gid}
	ids, err := u.GroupIds()
	if err == nil {
		for _, s := range ids {
			if id, err := strconv.Atoi(s); err == nil && id != gid {
				groups = append(groups, id)
			}
		}
	}
	if err := errors.Join(syscall.Setgroups(groups), syscall.Setgid(gid), syscall.Setuid(uid)); err != nil {
		return fmt.Errorf("cannot become user %q of [supervisord] user: %w", name, err)
	}
	return nil
}

// writePidfile writes [supervisord] pidfile and returns what removes it. As with supervisord, a pidfile that cannot be
// written is no reason not to start.
func writePidfile(path string, log *slog.Logger) (remove func()) {
	if path == "" {
		return func() {}
	}
	pid := strconv.Itoa(os.Getpid())
	if err := os.WriteFile(path, []byte(pid+"\n"), 0o644); err != nil {
		log.Error("cannot write [supervisord] pidfile", "error", err)
		return func() {}
	}
	return func() {
		// Another agent may have written its own meanwhile.
		if b, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(b)) == pid {
			_ = os.Remove(path)
		}
	}
}
