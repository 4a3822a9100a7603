package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func cat([]string) int {
	fmt.Println("up")
	s := bufio.NewScanner(os.Stdin)
	for s.Scan() {
		fmt.Printf("<%s>\n", s.Text())
	}
	fmt.Println("eof")
	return 0
}

func daemonize(args []string) int {
	c := child(true, nil, "run")
	if err := os.WriteFile(args[0], []byte(strconv.Itoa(c.Process.Pid)), 0o644); err != nil {
		return 1
	}
	fmt.Println("daemon left behind")
	return 0
}

func hold(args []string) int {
	fmt.Println("parent leaves")
	child(true, os.Stdout, "run", "for="+args[0])
	return 0
}

// tree FILE [away] makes a child and a grandchild, both waiting, in its group; with "away" the grandchild has a
// session of its own. Their pids go to FILE.
func tree(args []string) int {
	if args[len(args)-1] == "middle" {
		g := child(len(args) == 3, nil, "run")
		_ = os.WriteFile(args[0], []byte(fmt.Sprintf("%d\n%d\n", os.Getpid(), g.Process.Pid)), 0o644)
		return sleepForever()
	}
	_ = os.Remove(args[0])
	child(false, nil, append(append([]string{"tree"}, args...), "middle")...)
	fmt.Println("tree up")
	return sleepForever()
}

func spew(args []string) int {
	total, _ := strconv.ParseInt(args[0], 10, 64)
	w := bufio.NewWriterSize(os.Stdout, 64<<10)
	line := strings.Repeat("x", 88)
	for n := int64(0); n*100 < total; n++ {
		fmt.Fprintf(w, "%011d%s\n", n, line)
	}
	if err := w.Flush(); err != nil {
		return 1
	}
	return 0
}

func noeol(args []string) int {
	fmt.Print(strings.Join(args, " "))
	return sleepForever()
}

func closeout([]string) int {
	fmt.Println("last words")
	os.Stdout.Close()
	os.Stderr.Close()
	return sleepForever()
}

func flap(args []string) int {
	limit, _ := strconv.Atoi(args[1])
	data, _ := os.ReadFile(args[0])
	n := len(data) + 1
	_ = os.WriteFile(args[0], []byte(strings.Repeat("x", n)), 0o644)
	if n <= limit {
		fmt.Println("failing", n)
		code := 1
		if len(args) > 2 {
			d, _ := time.ParseDuration(args[2])
			time.Sleep(d)
		}
		if len(args) > 3 {
			code, _ = strconv.Atoi(args[3])
		}
		return code
	}
	fmt.Println("staying", n)
	return sleepForever()
}

func comm(args []string) int {
	fmt.Println("before")
	for _, a := range args {
		fmt.Printf("<!--XSUPERVISOR:BEGIN-->%s<!--XSUPERVISOR:END-->", a)
	}
	fmt.Println("after; and a line that is longer than the tokens are")
	return sleepForever()
}

func gate(args []string) int {
	mux := http.NewServeMux()
	exists := func(name string) bool {
		_, err := os.Stat(filepath.Join(args[1], name))
		return err == nil
	}
	answer := func(w http.ResponseWriter, ok bool) {
		if !ok {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		fmt.Fprintln(w, ok)
	}
	mux.HandleFunc("/ready", func(w http.ResponseWriter, _ *http.Request) { answer(w, exists("ready")) })
	mux.HandleFunc("/live", func(w http.ResponseWriter, _ *http.Request) { answer(w, !exists("dead")) })
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello from", os.Getpid()) })
	mux.HandleFunc("/slow", func(w http.ResponseWriter, _ *http.Request) {
		for !exists("slow-ends") {
			time.Sleep(10 * time.Millisecond)
		}
		fmt.Fprintln(w, "slow but sure")
	})
	ln, err := net.Listen("tcp", args[0])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("gate up")
	_ = http.Serve(ln, mux)
	return 1
}

func mark(args []string) int {
	ch := catch(syscall.SIGTERM)
	fmt.Println("up")
	<-ch
	f, err := os.OpenFile(args[0], os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer f.Close()
	fmt.Fprintln(f, args[1])
	return 0
}

func first([]string) int {
	_, _ = os.Stdout.Write([]byte("x"))
	return 0
}

func orphans(args []string) int {
	n, _ := strconv.Atoi(args[0])
	for range n {
		// The middle process leaves at once: its child becomes an orphan, which then ends as well.
		c := child(false, nil, "hold", "1ms")
		_ = c.Wait()
	}
	return 0
}

func execs(args []string) int {
	n, _ := strconv.Atoi(args[0])
	return n % 256
}
