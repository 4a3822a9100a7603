package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/inpod/inpod/e2e/lab"
)

// measureSSHMemory tells what a server takes when nobody is there, and for each client that is logged in and runs a command.
func measureSSHMemory(ctx context.Context, b *bench) (t table, err error) {
	s, err := b.sshServers(ctx)
	if err != nil {
		return t, err
	}
	defer s.stop()
	idle, idlePart, each, eachPart := samples{}, samples{}, samples{}, samples{}
	n := b.pick(40, 10)
	for round := range b.pick(3, 1) {
		for _, srv := range s.inTurn(round) {
			low, high, err := srv.sessions(ctx, n)
			if err != nil {
				return t, fmt.Errorf("%s: %w", srv.name, err)
			}
			if round == 0 {
				idle.add(srv.name, low.rss/1e6)
				idlePart.add(srv.name, low.pss/1e6)
			}
			each.add(srv.name, (high.rss-low.rss)/float64(n)/1e3)
			eachPart.add(srv.name, (high.pss-low.pss)/float64(n)/1e3)
		}
	}
	t.add("RSS with SSH on and nobody there", mega, lower, nil, idle.median())
	t.add("… PSS", mega, lower, nil, idlePart.median())
	t.add(fmt.Sprintf("RSS for each of %d logins with a command", n), kilo, lower, times(0.5, openssh), each.median())
	t.add("… PSS", kilo, lower, nil, eachPart.median())
	t.note("Of the server's own processes, without shells and commands; sshd has one and more for each login, whose RSS counts what they share each time. PSS divides that. inpod's includes its supervisor and its proxy.")
	return t, nil
}

// serverMemory is that of a server's own processes, in bytes.
type serverMemory struct{ rss, pss float64 }

// sessions tells the memory before and while n clients run a command.
func (srv *sshServer) sessions(ctx context.Context, n int) (low, high serverMemory, err error) {
	if low, err = srv.memory(); err != nil {
		return low, high, err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	var ends []func() error
	defer func() {
		for _, end := range ends {
			err = errors.Join(err, end())
		}
		cancel()
		if !lab.Until(20*time.Second, func() bool { _, below, err := srv.usage(); return err != nil || below == 0 }) {
			err = errors.Join(err, errors.New("sessions remain"))
		}
	}()
	for range n {
		argv := srv.ssh("", "cat")
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
		in, err := cmd.StdinPipe()
		if err != nil {
			return low, high, err
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			return low, high, err
		}
		if err := cmd.Start(); err != nil {
			return low, high, err
		}
		ends = append(ends, func() error { return errors.Join(in.Close(), cmd.Wait()) })
		if _, err := io.WriteString(in, "here\n"); err != nil {
			return low, high, err
		}
		if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
			return low, high, fmt.Errorf("a session does not answer: %w", err)
		}
	}
	high, err = srv.memory()
	return low, high, err
}

// memory adds up the processes that run the server's program.
func (srv *sshServer) memory() (m serverMemory, err error) {
	program, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", srv.daemon.PID()))
	if err != nil {
		return m, err
	}
	_, pids, err := srv.processes()
	if err != nil {
		return m, err
	}
	for _, pid := range pids {
		if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err != nil || exe != program {
			continue
		}
		rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			continue // it has ended
		}
		m.rss += kilobytes(rollup, "Rss:")
		m.pss += kilobytes(rollup, "Pss:")
	}
	return m, nil
}
