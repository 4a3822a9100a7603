package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// tty is a program on a terminal: it says how large the window is, which signals the keys make and what is typed.
// The line "bye" ends it with exit code 7.
func tty([]string) int {
	sigs := catch(syscall.SIGINT, syscall.SIGQUIT, syscall.SIGWINCH, syscall.SIGTSTP)
	lines := make(chan string)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(os.Stdin); s.Scan(); {
			lines <- s.Text()
		}
	}()
	fmt.Println("tty up", window())
	for {
		select {
		case s := <-sigs:
			fmt.Println("got", nameOf(s), window())
		case line, more := <-lines:
			switch {
			case !more:
				return 8
			case line == "bye":
				return 7
			}
			fmt.Printf("<%s>\n", line)
		}
	}
}

func window() string {
	w, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%dx%d", w.Row, w.Col)
}

// pod is what a pod with shareProcessNamespace has as PID 1: it starts a container beside the agent's, then the agent,
// and goes when the agent has gone. args: FILE, which gets the neighbour's pid and later its fate; then the agent's command.
// The neighbour has a child, and FILE.mark holds what it was asked.
func pod(args []string) int {
	file := args[0]
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	neighbour := child(true, nil, "neighbour", file)
	for {
		if data, _ := os.ReadFile(file + ".pids"); strings.Count(string(data), "\n") == 2 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	cmd := exec.Command(args[1], args[2:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 66
	}
	go func() {
		for range term {
			_ = cmd.Process.Signal(syscall.SIGTERM)
		}
	}()
	_ = cmd.Wait()
	data, _ := os.ReadFile(file + ".pids")
	fate := ""
	for _, f := range strings.Fields(string(data)) {
		pid, _ := strconv.Atoi(f)
		fate += fmt.Sprintf("%v\n", syscall.Kill(pid, 0))
	}
	_ = os.WriteFile(file, []byte(fate), 0o644)
	_ = neighbour.Process.Kill()
	return cmd.ProcessState.ExitCode()
}

// neighbour FILE: two processes that write down every signal they are sent, into FILE.mark.
func neighbour(args []string) int {
	ch := catch(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGCONT, syscall.SIGUSR1, syscall.SIGUSR2)
	if len(args) == 1 {
		child(false, nil, "neighbour", args[0], "child")
	}
	note := func(to, text string) {
		f, err := os.OpenFile(args[0]+to, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err == nil {
			fmt.Fprintln(f, text)
			f.Close()
		}
	}
	note(".pids", strconv.Itoa(os.Getpid()))
	for s := range ch {
		note(".mark", nameOf(s))
	}
	return 0
}
