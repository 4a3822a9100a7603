package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/inpod/inpod/agent"
)

// supervisorVersion is the version of Supervisor that this is compatible with: scripts parse it.
const supervisorVersion = "4.2.5"

const supervisordHelp = `supervisord -- run a set of applications under inpod.

Usage: %s [options]

Options:
-c/--configuration FILENAME -- configuration file path (searches if not given)
-n/--nodaemon -- accepted: it always runs in the foreground
-s/--silent -- no logs to stdout (maps to 'silent=true' in config file)
-h/--help -- print this usage message and exit
-v/--version -- print the version of Supervisor that this is compatible with
-u/--user USER -- run as this user (or numeric uid)
-m/--umask UMASK -- use this umask for subprocesses
-d/--directory DIRECTORY -- directory to chdir to; without a DIRECTORY it is ochinchina's "daemon" flag: accepted, no effect
-l/--logfile FILENAME -- use FILENAME as logfile path
-y/--logfile_maxbytes BYTES -- use BYTES to limit the max size of logfile
-z/--logfile_backups NUM -- number of backups to keep when max bytes reached
-e/--loglevel LEVEL -- use LEVEL as log level (debug,info,warn,error,critical)
-j/--pidfile FILENAME -- write a pid file to FILENAME
-i/--identifier STR -- identifier used for this instance
-q/--childlogdir DIRECTORY -- the log directory for child process logs
-k/--nocleanup --  do not remove old automatic child log files at startup
-a/--minfds NUM -- the minimum number of file descriptors for start success
-t/--strip_ansi -- strip ansi escape codes from process output
--minprocs NUM  -- the minimum number of processes available for start success

"%[1]s ctl ..." is supervisorctl.
`

// supervisord is the agent behind a link of that name, with the flags of Python's supervisord.
func (a *app) supervisord(args []string) int {
	f := agent.SupervisordFlags{}
	var conf *string
	var help, showVersion bool
	rest, err := getopt(dropDaemonFlag(args), supervisordOptions(&f, &conf, &help, &showVersion))
	switch {
	case err != nil:
		return a.usage(err)
	case help:
		fmt.Fprintf(a.stdout, supervisordHelp, a.argv0)
		return 0
	case showVersion, slices.Equal(rest, []string{"version"}):
		fmt.Fprintln(a.stdout, supervisorVersion)
		return 0
	case len(rest) > 0 && rest[0] == "ctl": // ochinchina's supervisord is its own client
		if conf != nil {
			rest = append([]string{"ctl", "-c", *conf}, rest[1:]...)
		}
		return a.supervisorctl(rest[1:])
	case len(rest) > 0:
		return a.usage(fmt.Errorf("positional arguments are not supported: ['%s']", strings.Join(rest, "', '")))
	}
	path := ""
	if conf != nil {
		path = *conf
	} else if path = firstThatExists(a.searchPaths()); path == "" {
		return a.usage(fmt.Errorf("no config file found at default paths (%s); use the -c option to specify a config file "+
			"at a different path", strings.Join(a.searchPaths(), ", ")))
	}
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return a.usage(fmt.Errorf("could not find config file %s", path))
	}
	return a.runAgent(context.Background(), agent.Options{
		ConfigFile: a.getenv("INPOD_CONFIG"), SupervisordConf: path, Env: a.env, Version: version, Commit: commit(), Flags: &f,
	})
}

// dropDaemonFlag takes out -d where no directory can follow: Python's -d DIR needs one, and ochinchina's -d means "run
// as a daemon", which a container's first process must not.
func dropDaemonFlag(args []string) []string {
	var kept []string
	for i, arg := range args {
		last := i+1 == len(args) || strings.HasPrefix(args[i+1], "-") || args[i+1] == "ctl"
		if arg == "--daemon" || arg == "-d" && last {
			continue
		}
		kept = append(kept, arg)
	}
	return kept
}

func supervisordOptions(f *agent.SupervisordFlags, conf **string, help, showVersion *bool) []option {
	return []option{
		{'c', "configuration", true, text(conf)},
		{'n', "nodaemon", false, toggle(&f.Nodaemon)},
		{'s', "silent", false, toggle(&f.Silent)},
		{'h', "help", false, toggle(help)},
		{'?', "", false, toggle(help)},
		{'v', "version", false, toggle(showVersion)},
		{'u', "user", true, text(&f.User)},
		{'m', "umask", true, func(s string) error {
			n, err := strconv.ParseInt(strings.TrimPrefix(s, "0o"), 8, 32)
			if err != nil || n < 0 || n > 0o777 {
				return fmt.Errorf("%s can not be converted to an octal type", s)
			}
			umask := int(n)
			f.Umask = &umask
			return nil
		}},
		{'d', "directory", true, directory(&f.Directory)},
		{'l', "logfile", true, inDirectory(&f.Logfile)},
		{'y', "logfile_maxbytes", true, byteSize(&f.LogfileMaxbytes)},
		{'z', "logfile_backups", true, number(&f.LogfileBackups)},
		{'e', "loglevel", true, func(s string) error {
			level := strings.ToLower(s)
			if !slices.Contains([]string{"critical", "error", "warn", "info", "debug", "trace", "blather"}, level) {
				return fmt.Errorf("bad logging level name '%s'", s)
			}
			f.Loglevel = &level
			return nil
		}},
		{'j', "pidfile", true, inDirectory(&f.Pidfile)},
		{'i', "identifier", true, text(&f.Identifier)},
		{'q', "childlogdir", true, directory(&f.Childlogdir)},
		{'k', "nocleanup", false, toggle(&f.Nocleanup)},
		{'a', "minfds", true, number(&f.Minfds)},
		{'t', "strip_ansi", false, toggle(&f.StripANSI)},
		{0, "minprocs", true, number(&f.Minprocs)},
		{0, "profile_options", true, func(string) error {
			return errors.New("there is no Python profiler in inpod; see /metrics instead")
		}},
	}
}

func number(to **int) func(string) error {
	return func(s string) error {
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 {
			return fmt.Errorf("want a number, not '%s'", s)
		}
		*to = &n
		return nil
	}
}

// byteSize reads 1024, 10KB, 50MB or 1GB.
func byteSize(to **int64) func(string) error {
	return func(s string) error {
		digits, shift := strings.ToLower(s), 0
		for i, unit := range []string{"kb", "mb", "gb"} {
			if d, ok := strings.CutSuffix(digits, unit); ok {
				digits, shift = d, 10*(i+1)
				break
			}
		}
		n, err := strconv.ParseInt(digits, 10, 32)
		if err != nil || n < 0 {
			return fmt.Errorf("want a size such as 1024, 10KB or 50MB, not '%s'", s)
		}
		n <<= shift
		*to = &n
		return nil
	}
}

func directory(to **string) func(string) error {
	return func(s string) error {
		if st, err := os.Stat(s); err != nil || !st.IsDir() {
			return fmt.Errorf("%s is not an existing directory", s)
		}
		*to = &s
		return nil
	}
}

func inDirectory(to **string) func(string) error {
	return func(s string) error {
		if st, err := os.Stat(filepath.Dir(s)); err != nil || !st.IsDir() {
			return fmt.Errorf("the directory named as part of the path %s does not exist", s)
		}
		*to = &s
		return nil
	}
}
