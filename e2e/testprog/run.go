package main

import (
	"fmt"
	"os"
	"os/signal"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// catch is called before anything is printed, so that what the test reads means: signals are handled.
func catch(sigs ...os.Signal) chan os.Signal {
	ch := make(chan os.Signal, 8)
	signal.Notify(ch, sigs...)
	return ch
}

// wait is "for ever": a test that forgets its programs does not leave them for long.
const wait = 10 * time.Minute

// run's arguments: out=TEXT, err=TEXT (printed with a newline), for=DURATION, code=N, sig=NAME (how it dies),
// ignore=TERM,INT, catch=USR1 (prints "got NAME"), once (the first of these ends it), slow=DURATION (between SIGTERM and the
// exit), hold=FILE (SIGTERM is obeyed when FILE is there), term=N (exit code at SIGTERM).
func run(args []string) int {
	opt := map[string]string{}
	for _, a := range args {
		k, v, _ := strings.Cut(a, "=")
		opt[k] = v
	}
	dur := wait
	if v, ok := opt["for"]; ok {
		dur, _ = time.ParseDuration(v)
	}
	for _, name := range split(opt["ignore"]) {
		signal.Ignore(signals[name])
	}
	caught := []os.Signal{}
	for _, name := range split(opt["catch"]) {
		caught = append(caught, signals[name])
	}
	for _, name := range []string{"slow", "hold", "term"} {
		if _, ok := opt[name]; ok {
			caught = append(caught, syscall.SIGTERM)
		}
	}
	ch := make(chan os.Signal, 8)
	if len(caught) > 0 {
		ch = catch(caught...)
	}
	if v, ok := opt["out"]; ok {
		fmt.Println(v)
	}
	if v, ok := opt["err"]; ok {
		fmt.Fprintln(os.Stderr, v)
	}
	end := time.After(dur)
	for {
		select {
		case s := <-ch:
			if s == syscall.SIGTERM {
				d, _ := time.ParseDuration(opt["slow"])
				time.Sleep(d)
				for file := opt["hold"]; file != ""; time.Sleep(10 * time.Millisecond) {
					if _, err := os.Stat(file); err == nil {
						break
					}
				}
				n, _ := strconv.Atoi(opt["term"])
				return n
			}
			fmt.Println("got", nameOf(s))
			if _, ok := opt["once"]; ok {
				return 0
			}
		case <-end:
			if v, ok := opt["sig"]; ok {
				return killSelf([]string{v})
			}
			n, _ := strconv.Atoi(opt["code"])
			return n
		}
	}
}

var signals = map[string]syscall.Signal{
	"HUP": syscall.SIGHUP, "INT": syscall.SIGINT, "QUIT": syscall.SIGQUIT, "KILL": syscall.SIGKILL,
	"USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2, "TERM": syscall.SIGTERM, "SEGV": syscall.SIGSEGV,
	"ABRT": syscall.SIGABRT, "PIPE": syscall.SIGPIPE, "WINCH": syscall.SIGWINCH,
	"TSTP": syscall.SIGTSTP, "CONT": syscall.SIGCONT,
}

func nameOf(s os.Signal) string {
	for n, v := range signals {
		if v == s {
			return n
		}
	}
	return s.String()
}

func split(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

func exit(args []string) int {
	n, _ := strconv.Atoi(args[0])
	return n
}

// killSelf dies of the signal itself: Go's runtime would turn SIGSEGV and SIGABRT into exit 2, so the
// default action is what a child of the shell has; prctl is not needed for the rest.
func killSelf(args []string) int {
	s, ok := signals[args[0]]
	if !ok {
		n, _ := strconv.Atoi(args[0])
		s = syscall.Signal(n)
	}
	resetAndRaise(s)
	time.Sleep(wait)
	return 65
}

func env(args []string) int {
	ch := catch(syscall.SIGTERM)
	wd, _ := os.Getwd()
	mask := syscall.Umask(0)
	syscall.Umask(mask)
	groups, _ := os.Getgroups()
	sort.Ints(groups)
	pgid, _ := syscall.Getpgid(0)
	nice, _ := syscall.Getpriority(syscall.PRIO_PROCESS, 0)
	var b strings.Builder
	vars := os.Environ()
	sort.Strings(vars)
	for _, v := range vars {
		if strings.HasPrefix(v, "INPOD_") || strings.HasPrefix(v, "E2E_") {
			continue // the harness's own: they differ between the two sides
		}
		fmt.Fprintf(&b, "env %q\n", v)
	}
	fmt.Fprintf(&b, "argv %q\n", os.Args[1:])
	fmt.Fprintf(&b, "cwd %s\numask %03o\nuid %d euid %d gid %d groups %v\n", wd, mask, os.Getuid(), os.Geteuid(), os.Getgid(), groups)
	fmt.Fprintf(&b, "own group %v\nown session %v\n", pgid == os.Getpid(), sid() == os.Getpid())
	fmt.Fprintf(&b, "nice %d\n", 20-nice)
	fmt.Fprintf(&b, "fds %s\n", fdKinds())
	if err := os.WriteFile(args[0]+".tmp", []byte(b.String()), 0o666); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := os.Rename(args[0]+".tmp", args[0]); err != nil {
		return 1
	}
	<-ch
	return 0
}

// fdKinds lists what is open: a leaked descriptor shows here. What Go's own runtime opens (epoll, eventfd, cgroup files) is left out.
func fdKinds() string {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err.Error()
	}
	var out []string
	for _, e := range entries {
		to, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil || strings.Contains(to, "anon_inode") || strings.HasPrefix(to, "/proc/") || strings.HasPrefix(to, "/sys/") {
			continue
		}
		kind, _, _ := strings.Cut(to, ":")
		out = append(out, e.Name()+"="+kind)
	}
	return strings.Join(out, " ")
}
