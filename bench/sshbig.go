package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// measureSSHBig sends ten gigabytes each way through a command and through SFTP, and watches the server's memory.
func measureSSHBig(ctx context.Context, b *bench) (t table, err error) {
	s, err := b.sshServers(ctx)
	if err != nil {
		return t, err
	}
	defer s.stop()
	size := int64(b.pick(10<<30, 512<<20))
	sparse := filepath.Join(s.dir, "sparse")
	if err := os.WriteFile(sparse, nil, 0o600); err != nil {
		return t, fmt.Errorf("cannot make a large file: %w", err)
	}
	if err := os.Truncate(sparse, size); err != nil {
		return t, fmt.Errorf("cannot make a large file: %w", err)
	}
	before, peak := samples{}, samples{}
	for _, srv := range s.all {
		m, err := srv.memory()
		if err != nil {
			return t, err
		}
		before.add(srv.name, m.rss/1e6)
	}
	for _, way := range []struct {
		what string
		do   func(*sshServer) error
	}{
		{"out of a command", func(srv *sshServer) error {
			return pour(ctx, 0, srv.ssh(sameCipher, fmt.Sprintf("head -c %d /dev/zero", size))...)
		}},
		{"into a command", func(srv *sshServer) error { return pour(ctx, size, srv.ssh(sameCipher, "cat > /dev/null")...) }},
		{"SFTP get", func(srv *sshServer) error {
			return runClient(ctx, "get "+sparse+" /dev/null\n", srv.sftp(sameCipher)...)
		}},
		{"SFTP put", func(srv *sshServer) error {
			return runClient(ctx, "put "+sparse+" /dev/null\n", srv.sftp(sameCipher)...)
		}},
	} {
		speed := samples{}
		for _, srv := range s.all {
			stop := srv.watch(peak)
			c, err := srv.measure(func() error { return way.do(srv) })
			if err := errors.Join(err, stop()); err != nil {
				return t, fmt.Errorf("%s, %s: %w", srv.name, way.what, err)
			}
			speed.add(srv.name, float64(size)/c.wall/1e6)
		}
		t.add(fmt.Sprintf("%d MiB %s", size>>20, way.what), megaRate, higher, times(0.95, openssh), speed.median())
	}
	t.add("RSS before", mega, lower, nil, before.median())
	t.add("… the most during all of it", mega, lower, nil, peak.at(1))
	t.note("Of the server's own processes, every tenth of a second. The files are sparse, and what arrives is thrown away.")
	return t, nil
}

// pour runs a client, gives it so many zeros and throws away what it writes.
func pour(ctx context.Context, size int64, argv ...string) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	zero, err := os.Open("/dev/zero")
	if err != nil {
		return err
	}
	defer zero.Close()
	cmd.Stdin = io.LimitReader(zero, size)
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", argv[0], err)
	}
	return nil
}

// watch notes the server's memory until it is stopped.
func (srv *sshServer) watch(into samples) (stop func() error) {
	end, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			m, err := srv.memory()
			if err != nil {
				ended <- err
				return
			}
			into.add(srv.name, m.rss/1e6)
			select {
			case <-end:
				ended <- nil
				return
			case <-tick.C:
			}
		}
	}()
	return func() error { close(end); return <-ended }
}
