package main

import (
	"context"
	"fmt"
	"path/filepath"
)

// measureSSHExec runs commands over one connection, which the client keeps (ControlMaster).
func measureSSHExec(ctx context.Context, b *bench) (t table, err error) {
	s, err := b.sshServers(ctx)
	if err != nil {
		return t, err
	}
	defer s.stop()
	took, cpu := samples{}, samples{}
	n := b.pick(300, 60)
	for round := range b.pick(5, 3) {
		for _, srv := range s.inTurn(round) {
			c, err := srv.measure(func() error { return srv.execs(ctx, n, took) })
			if err != nil {
				return t, fmt.Errorf("%s: %w", srv.name, err)
			}
			cpu.add(srv.name, c.cpu*1000/float64(n))
		}
	}
	t.add("`ssh HOST true`, median", millis, lower, times(1, openssh), took.at(0.5))
	t.add("… 99 of 100", millis, lower, nil, took.at(0.99))
	t.add("… CPU of the server for one", millis, lower, times(0.8, openssh), cpu.median())
	t.note("A client process of its own for each, over a master connection: the start of the client is part of it. The CPU is with the login shell and the command.")
	return t, nil
}

// execs runs n commands over a master connection, which it ends.
func (srv *sshServer) execs(ctx context.Context, n int, took samples) error {
	socket := filepath.Join(srv.dir, "m")
	if err := runClient(ctx, "", srv.ssh(sameCipher, "-M", "-N", "-f", "-S", socket)...); err != nil {
		return err
	}
	var failed error
	for range n {
		began := monotonic()
		if failed = runClient(ctx, "", "ssh", "-F", "/dev/null", "-S", socket, "x", "true"); failed != nil {
			break
		}
		took.add(srv.name, (monotonic()-began).Seconds()*1000)
	}
	if err := runClient(ctx, "", "ssh", "-F", "/dev/null", "-S", socket, "-O", "exit", "x"); err != nil && failed == nil {
		return err
	}
	return failed
}

// measureSSHLogin logs in for each command.
func measureSSHLogin(ctx context.Context, b *bench) (t table, err error) {
	s, err := b.sshServers(ctx)
	if err != nil {
		return t, err
	}
	defer s.stop()
	took, cpu := samples{}, samples{}
	n := b.pick(20, 5)
	for round := range b.pick(5, 3) {
		for _, srv := range s.inTurn(round) {
			c, err := srv.measure(func() error {
				for range n {
					began := monotonic()
					if err := runClient(ctx, "", srv.ssh("", "true")...); err != nil {
						return err
					}
					took.add(srv.name, (monotonic()-began).Seconds()*1000)
				}
				return nil
			})
			if err != nil {
				return t, fmt.Errorf("%s: %w", srv.name, err)
			}
			cpu.add(srv.name, c.cpu*1000/float64(n))
		}
	}
	t.add("`ssh HOST true` with a login, median", millis, lower, times(0.25, openssh), took.at(0.5))
	t.add("… 9 of 10", millis, lower, nil, took.at(0.9))
	t.add("… CPU of the server for one", millis, lower, times(0.8, openssh), cpu.median())
	t.note("An ed25519 key on both sides; the start of the client and its own share of the key exchange are part of it.")
	return t, nil
}
