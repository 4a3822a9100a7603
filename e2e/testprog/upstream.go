package main

import (
	"fmt"
	"os"
	"syscall"

	"github.com/inpod/inpod/e2e/traffic"
)

// upstream is a traffic.Server in a process of its own. SIGTERM ends it.
func upstream(args []string) int {
	s, err := traffic.Listen(args[0])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ch := catch(syscall.SIGTERM)
	go s.Serve()
	<-ch
	s.Close()
	for _, f := range s.Faults() {
		fmt.Fprintln(os.Stderr, f)
	}
	return len(s.Faults())
}
