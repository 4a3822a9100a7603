package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/inpod/inpod/e2e/lab"
)

// stream is one way to write a lot.
type stream struct {
	what     string
	total    int // bytes
	block    int // of one write
	extra    string
	only     []string // who can do it
	cheapAim bool     // the CPU is to be less than Python's
}

// measureLogs lets a program write as fast as it is read, into a log file of 50 MB with 10 backups.
func measureLogs(ctx context.Context, b *bench) (table, error) {
	var t table
	bytes := b.pick(1000, 100) * 1_000_000
	streams := []stream{
		{"writes of 64 kB", bytes, 64_000, "", both(), true},
		{"lines of 100 bytes, one write each", bytes / 5, 100, "", both(), true},
		{"lines of 100 bytes to NONE", bytes / 5, 100, "none", both(), true},
		{"lines of 100 bytes, `stdout_format=json`", bytes / 5, 6400, "stdout_format=json\n", []string{ours}, false},
	}
	for _, s := range streams {
		rate, cpu, peak := samples{}, samples{}, samples{}
		for range b.pick(3, 1) {
			for _, name := range s.only {
				if err := b.logOnce(ctx, name, s, rate, cpu, peak); err != nil {
					return t, fmt.Errorf("%s: %w", name, err)
				}
			}
		}
		cost := cpu.median()
		var want *aim
		if s.cheapAim {
			want = below(cost[python])
		}
		t.add(s.what, megaRate, higher, nil, rate.median())
		t.add("… CPU of the supervisor for a GB", seconds, lower, want, cost)
		t.add("… its highest RSS", mega, lower, nil, peak.median())
	}
	t.note("The rate is the writer's own: it waits while its pipe is full. The files are on %s.", filesystem(b.tmp))
	t.note("The aim for the CPU is Python's own figure in this run.")
	return t, nil
}

func (b *bench) logOnce(ctx context.Context, name string, s stream, rate, cpu, peak samples) error {
	target := "%(here)s/out.log"
	if s.extra == "none" {
		target = "NONE"
	}
	programs := fmt.Sprintf("[program:w]\ncommand=%s role-write %%(here)s/took %d %d\nautostart=false\nautorestart=false\nstartsecs=0\nredirect_stderr=true\n"+
		"stdout_logfile=%s\nstdout_logfile_maxbytes=50MB\nstdout_logfile_backups=10\n", b.self, s.total, s.block, target)
	if strings.Contains(s.extra, "=") {
		programs += s.extra
	}
	srv, err := b.startReady(ctx, name, programs)
	if err != nil {
		return err
	}
	defer srv.stop()
	before, err := lab.ReadUsage(srv.PID())
	if err != nil {
		return err
	}
	if _, err := srv.client.Call(ctx, "supervisor.startProcess", "w", false); err != nil {
		return err
	}
	// The file is looked for, and not the state: many questions would be part of what is measured.
	took := filepath.Join(srv.Dir, "took")
	var secs float64
	if !lab.Until(2*time.Minute, func() bool {
		data, err := os.ReadFile(took)
		if err != nil || ctx.Err() != nil {
			return ctx.Err() != nil
		}
		secs, _ = strconv.ParseFloat(string(data), 64)
		return secs > 0
	}) {
		return fmt.Errorf("the writer has not come to its end")
	}
	if err := srv.awaitState(ctx, "w", "EXITED", 30*time.Second); err != nil {
		return err
	}
	after, err := lab.ReadUsage(srv.PID())
	if err != nil {
		return err
	}
	m, err := memoryOf(srv.PID())
	if err != nil {
		return err
	}
	rate.add(name, float64(s.total)/secs/1e6)
	cpu.add(name, (after.CPU-before.CPU).Seconds()/(float64(s.total)/1e9))
	peak.add(name, m.peak/1e6)
	return nil
}
