package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// listen is an event listener (supervisord.org/events.html): each event becomes one line of FILE,
// "unix-ms<TAB>header<TAB>payload". MODE says how it answers: ok (default), fail, unknown (a bad result line),
// exit (after the first event), slow.
func listen(args []string) int {
	f, err := os.OpenFile(args[0], os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer f.Close()
	mode := "ok"
	if len(args) > 1 {
		mode = args[1]
	}
	in := bufio.NewReader(os.Stdin)
	failed := map[string]bool{}
	for {
		fmt.Print("READY\n")
		header, err := in.ReadString('\n')
		if err != nil {
			return 0
		}
		header = strings.TrimSpace(header)
		n := 0
		serial := ""
		for _, kv := range strings.Fields(header) {
			k, v, _ := strings.Cut(kv, ":")
			if k == "len" {
				_, _ = fmt.Sscan(v, &n)
			}
			if k == "serial" {
				serial = v
			}
		}
		payload := make([]byte, n)
		if _, err := io.ReadFull(in, payload); err != nil {
			return 1
		}
		fmt.Fprintf(f, "%d\t%s\t%q\n", time.Now().UnixMilli(), header, payload)
		switch {
		case mode == "fail" && !failed[serial]:
			// refuse each event once: it must come again
			failed[serial] = true
			fmt.Print("RESULT 4\nFAIL")
		case mode == "unknown":
			fmt.Print("NONSENSE\n")
			_, _ = io.Copy(io.Discard, in)
			return 0
		case mode == "exit":
			fmt.Print("RESULT 2\nOK")
			return 0
		case mode == "slow":
			time.Sleep(200 * time.Millisecond)
			fmt.Print("RESULT 2\nOK")
		default:
			fmt.Print("RESULT 2\nOK")
		}
	}
}
