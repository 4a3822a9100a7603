// Command testprog is every program that the end-to-end tests and the benchmarks put under a
// supervisor: the first argument says which. It is built static, so that it runs in an empty root.
package main

import (
	"fmt"
	"os"
	"sort"
)

// roles are the programs by name. Each returns the exit code.
func roles() map[string]func(args []string) int {
	return map[string]func([]string) int{
		"run":       run,       // run [NAME=VALUE…]: prints, waits, exits as told
		"env":       env,       // env FILE: says what it was given, then waits
		"listen":    listen,    // listen FILE [MODE]: an event listener
		"cat":       cat,       // cat: stdin to stdout, by line
		"daemonize": daemonize, // daemonize PIDFILE: leaves a daemon behind and exits
		"hold":      hold,      // hold DURATION: exits at once, a child holds stdout open
		"tree":      tree,      // tree: waits; a child and a grandchild wait as well
		"spew":      spew,      // spew BYTES: lines of 100 bytes
		"noeol":     noeol,     // noeol TEXT: a line without end, then waits
		"closeout":  closeout,  // closeout: closes stdout and stderr, then waits
		"flap":      flap,      // flap FILE N [DURATION [CODE]]: the first N runs end, the next one stays
		"comm":      comm,      // comm TEXT…: communication events
		"gate":      gate,      // gate ADDR DIR: /ready answers 200 once DIR/ready exists, /live until DIR/dead exists, /slow once DIR/slow-ends exists
		"mark":      mark,      // mark FILE NAME: appends NAME to FILE at SIGTERM
		"first":     first,     // first: writes one byte and exits
		"orphans":   orphans,   // orphans N: leaves N short-lived orphans, then exits
		"execs":     execs,     // execs N: a supervised program that exits with the code it was told
		"exit":      exit,      // exit CODE
		"kill":      killSelf,  // kill SIGNAL: dies of it
		"tty":       tty,       // tty: on a terminal, says what comes of keys and window sizes
		"pod":       pod,       // pod FILE CMD…: PID 1 of a pod with a shared PID namespace
		"neighbour": neighbour, // neighbour FILE: a process of another container
		"upstream":  upstream,  // upstream ADDR: an HTTP server that does as each request says
	}
}

func main() { os.Exit(dispatch()) }

func dispatch() int {
	all := roles()
	if len(os.Args) > 1 {
		if f, ok := all[os.Args[1]]; ok {
			return f(os.Args[2:])
		}
	}
	var names []string
	for n := range all {
		names = append(names, n)
	}
	sort.Strings(names)
	fmt.Fprintln(os.Stderr, "usage: testprog ROLE [ARGS…]; roles:", names)
	return 64
}
