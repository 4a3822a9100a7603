package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/inpod/inpod/e2e/lab"
)

// manyOf is what one start of many programs showed.
type manyOf struct {
	started, running time.Duration
	cpu, switched    float64 // idle: percent, switches a second
	rss, private     float64
}

const sleeper = "sleep" // the name that the programs have after their exec

func manyIni(n int) string {
	return fmt.Sprintf(`
[program:many]
command=/bin/sleep infinity
process_name=%%(process_num)04d
numprocs=%d
redirect_stderr=true
stdout_logfile=%%(here)s/%%(process_num)d.log
`, n)
}

// measureMany starts 1,000 programs at once, and looks at the supervisor while they sleep.
func measureMany(ctx context.Context, b *bench) (table, error) {
	var t table
	n, repeats, idle := b.pick(1000, 200), b.pick(3, 1), time.Duration(b.pick(30, 5))*time.Second
	started, running, cpu, switched, rss, private := samples{}, samples{}, samples{}, samples{}, samples{}, samples{}
	for i := range repeats {
		for _, name := range []string{ours, s6, python} {
			if name != ours && i > 0 {
				continue // Python takes most of a minute
			}
			look := time.Duration(0)
			if i == 0 {
				look = idle
			}
			m, err := b.many(ctx, name, n, look)
			if err != nil {
				return t, fmt.Errorf("%s: %w", name, err)
			}
			started.add(name, m.started.Seconds())
			if name != s6 {
				running.add(name, m.running.Seconds())
			}
			if look > 0 {
				cpu.add(name, m.cpu)
				switched.add(name, m.switched)
				rss.add(name, m.rss/1e6)
				private.add(name, m.private/1e6)
			}
		}
	}
	t.add(fmt.Sprintf("until the last of %d has been started", n), seconds, lower, below(3), started.median())
	t.add("until the last is RUNNING (startsecs is 1 s)", seconds, lower, nil, running.median())
	t.add(fmt.Sprintf("CPU of the idle supervisor, over %s", idle), percent, lower, below(0.5), cpu.median())
	t.add("context switches of the idle supervisor", perSec, lower, nil, switched.median())
	t.add("RSS", mega, lower, below(60), rss.median())
	t.add("private part of it", mega, lower, nil, private.median())
	t.note("Each program is `sleep infinity` with a log file. s6-svscan has a supervisor process for each service; all of them are counted.")
	t.note("Started means that the kernel shows the program after its exec; its times have a resolution of 10 ms.")
	return t, nil
}

// many does one start; idle 0 looks at nothing but the start.
func (b *bench) many(ctx context.Context, name string, n int, idle time.Duration) (m manyOf, err error) {
	s, err := b.startMany(name, n)
	if err != nil {
		return m, err
	}
	defer s.stop()
	begun, _ := startTime(s.PID())
	var last time.Duration
	look := time.NewTicker(150 * time.Millisecond) // a look costs some milliseconds of CPU itself
	defer look.Stop()
	for end := time.Now().Add(2 * time.Minute); ; {
		var have int
		if have, last = programs(s.Daemon, sleeper); have == n {
			break
		}
		if time.Now().After(end) || s.Exited() {
			return m, fmt.Errorf("only %d of %d programs were started; it said: %.300s", have, n, s.Output())
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return m, ctx.Err()
		}
	}
	m.started = last - begun
	mark := map[string]string{ours: `"msg":"running"`, python: "entered RUNNING state"}[name]
	if mark != "" {
		if !lab.Until(time.Minute, func() bool { return s.logged(mark) == n }) {
			return m, fmt.Errorf("only %d of %d programs are RUNNING", s.logged(mark), n)
		}
		m.running = monotonic() - s.began
	}
	if idle == 0 {
		return m, nil
	}
	return m, b.idle(ctx, s, name, idle, &m)
}

// idle measures a supervisor that has nothing to do.
func (b *bench) idle(ctx context.Context, s *server, name string, d time.Duration, m *manyOf) error {
	pids := []int{s.PID()}
	if name == s6 {
		pids = append(pids, lab.Children(s.PID())...)
	}
	total := func() (cpu time.Duration, switched float64) {
		for _, pid := range pids {
			if u, err := lab.ReadUsage(pid); err == nil {
				cpu += u.CPU
			}
			switched += switches(pid)
		}
		return cpu, switched
	}
	pause(ctx, 3*time.Second) // what the start left to do
	cpu, switched := total()
	pause(ctx, d)
	cpu2, switched2 := total()
	m.cpu = (cpu2 - cpu).Seconds() / d.Seconds() * 100
	m.switched = (switched2 - switched) / d.Seconds()
	for _, pid := range pids {
		mem, err := memoryOf(pid)
		if err != nil {
			return err
		}
		m.rss += mem.rss
		m.private += mem.private
	}
	return ctx.Err()
}

// pause lets time pass: here it is time itself that is measured.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// startMany starts n sleeping programs, as services of s6-svscan too.
func (b *bench) startMany(name string, n int) (*server, error) {
	if name != s6 {
		return b.start(name, manyIni(n))
	}
	dir, err := b.dir()
	if err != nil {
		return nil, err
	}
	scan := filepath.Join(dir, "scan")
	if err := s6Services(scan, n, "exec sleep infinity"); err != nil {
		return nil, err
	}
	d, err := lab.Start(dir, b.env(dir), "s6-svscan", "-c", "2000", scan)
	if err != nil {
		return nil, err
	}
	return &server{Daemon: d}, nil
}

// s6Services makes a scan directory with n services of the same script.
func s6Services(scan string, n int, script string) error {
	for i := range n {
		svc := filepath.Join(scan, fmt.Sprint(i))
		if err := os.MkdirAll(svc, 0o755); err != nil {
			return fmt.Errorf("cannot make a service: %w", err)
		}
		if err := os.WriteFile(filepath.Join(svc, "run"), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			return fmt.Errorf("cannot write a service: %w", err)
		}
	}
	return nil
}
