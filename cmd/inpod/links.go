package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/inpod/inpod/agent/ctl"
)

// usage tells a wrong command line in the words of Supervisor's tools.
func (a *app) usage(err error) int {
	fmt.Fprintf(a.stderr, "Error: %v\nFor help, use %s -h\n", err, a.argv0)
	return exitUsage
}

const supervisorctlHelp = `supervisorctl -- control applications run by inpod or supervisord from the cmd line.

Usage: %s [options] [action [arguments]]

Options:
%s
Without -s and without a configuration file the server is the agent of this container.
Use the action "help" to find out about available actions; without an action a shell is started.
`

// supervisorctl is the control client behind a link of that name: it finds its server as supervisorctl does, and
// falls back to the agent of this container where that would try localhost:9001.
func (a *app) supervisorctl(args []string) int {
	f, err := clientFlags(args)
	switch {
	case err != nil:
		return a.usage(err)
	case f.help:
		fmt.Fprintf(a.stdout, supervisorctlHelp, a.argv0, ctlUsage)
		return 0
	}
	opts, err := a.clientOptions(f, firstThatExists(a.searchPaths()))
	if err != nil {
		return a.usage(err)
	}
	return a.client(opts, f)
}

// searchPaths is where Supervisor's tools look for supervisord.conf, in their order.
func (a *app) searchPaths() []string {
	here := filepath.Dir(filepath.Dir(a.self()))
	return []string{
		filepath.Join(here, "etc", "supervisord.conf"), filepath.Join(here, "supervisord.conf"),
		"supervisord.conf", "etc/supervisord.conf", "/etc/supervisord.conf", "/etc/supervisor/supervisord.conf",
	}
}

// self is the path of the link that we were called through: a bare name was found in PATH.
func (a *app) self() string {
	if strings.Contains(a.argv0, "/") {
		return a.argv0
	}
	for _, dir := range filepath.SplitList(a.getenv("PATH")) {
		path := filepath.Join(dir, a.argv0)
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return path
		}
	}
	return a.argv0
}

func firstThatExists(paths []string) string {
	for _, path := range paths {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return ""
}

const shutdownHelp = `Usage: shutdown [-h|-r|-P|-H] [TIME] [MESSAGE]
Stops the inpod agent of this container at once. -r does no more than that: whether the container starts again
is for the platform to say. TIME and MESSAGE are accepted and not used.`

// shutdown stands in for /sbin/shutdown in containers, where the machine that can be shut down is the agent. When
// it starts again is the platform's affair, so -r does what -h does. Time and message are taken and not used.
func (a *app) shutdown(args []string) int {
	var help, cancel, warn, ignored bool
	var options []option
	for _, short := range []byte("hrHPfFnatTyD") {
		options = append(options, option{short: short, set: toggle(&ignored)})
	}
	for _, long := range []string{"halt", "poweroff", "reboot", "no-wall", "show"} {
		options = append(options, option{long: long, set: toggle(&ignored)})
	}
	options = append(options, option{short: 'c', set: toggle(&cancel)}, option{short: 'k', set: toggle(&warn)},
		option{long: "help", set: toggle(&help)})
	_, err := getopt(args, options)
	switch {
	case err != nil:
		fmt.Fprintf(a.stderr, "shutdown: %v\n", err)
		return exitUsage
	case help:
		fmt.Fprintln(a.stdout, shutdownHelp)
		return 0
	case cancel:
		fmt.Fprintln(a.stderr, "shutdown: cannot cancel: a shutdown is never put off here")
		return exitFailed
	case warn:
		return 0
	}
	url, err := a.controlURL("")
	if err != nil {
		fmt.Fprintf(a.stderr, "shutdown: %v\n", err)
		return exitFailed
	}
	opts := ctl.Options{ServerURL: url, Stdin: a.stdin, Stdout: a.stdout, Stderr: a.stderr, Dial: ctl.Dial}
	return ctl.New(opts).Do(context.Background(), "shutdown")
}
