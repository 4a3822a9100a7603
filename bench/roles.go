package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// roles are the programs that the measurements need; the first argument says which.
func roles() map[string]func([]string) int {
	return map[string]func([]string) int{
		"role-init":  roleInit,
		"role-stamp": roleStamp,
		"role-write": roleWrite,
		"role-proxy": roleProxy,
	}
}

// roleInit is the first process of a new PID namespace: it gives the namespace a /proc, writes the time to a file
// and becomes the init under test. argv: FILE INIT ARGS…
func roleInit(args []string) int {
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		fmt.Fprintf(os.Stderr, "cannot mount /proc: %v\n", err)
		return 1
	}
	if err := os.WriteFile(args[0], strconv.AppendInt(nil, int64(monotonic()), 10), 0o644); err != nil {
		fmt.Fprintf(os.Stderr, "cannot write the time: %v\n", err)
		return 1
	}
	// The time of the last moment: the file must be made before, and there is room for all digits.
	f, err := os.OpenFile(args[0], os.O_WRONLY, 0)
	if err != nil {
		fmt.Fprintf(os.Stderr, "cannot write the time: %v\n", err)
		return 1
	}
	env := os.Environ()
	_, _ = f.Write(strconv.AppendInt(nil, int64(monotonic()), 10))
	err = syscall.Exec(args[1], args[1:], env)
	fmt.Fprintf(os.Stderr, "cannot execute %q: %v\n", args[1], err)
	return 1
}

// roleWrite writes TOTAL bytes to stdout as lines of 100 bytes, BLOCK bytes at a time, and the seconds that took to
// FILE. argv: FILE TOTAL BLOCK
func roleWrite(args []string) int {
	total, _ := strconv.Atoi(args[1])
	size, _ := strconv.Atoi(args[2])
	text := strings.Repeat("2026-01-02 03:04:05 INFO worker: a line as programs write it. ", 2)[:99] + "\n"
	block := bytes.Repeat([]byte(text), size/len(text))
	began := monotonic()
	for left := total; left > 0; left -= len(block) {
		if _, err := os.Stdout.Write(block); err != nil {
			return 1
		}
	}
	took := monotonic() - began
	if err := os.WriteFile(args[0], []byte(fmt.Sprint(took.Seconds())), 0o644); err != nil {
		return 1
	}
	return 0
}
