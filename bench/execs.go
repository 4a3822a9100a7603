package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/inpod/inpod/e2e/lab"
)

// measureExecs starts and ends short programs as PID 1 while others leave orphans behind all the time, and asks for
// each exit status.
func measureExecs(ctx context.Context, b *bench) (table, error) {
	var t table
	rate, lost, zombies := samples{}, samples{}, samples{}
	n := map[string]int{ours: b.pick(40, 4), python: b.pick(8, 1)}
	const procs = 250
	for _, name := range both() {
		s, err := b.execsOnce(ctx, name, procs, n[name])
		if err != nil {
			return t, fmt.Errorf("%s: %w", name, err)
		}
		rate.add(name, s.rate)
		lost.add(name, float64(s.wrong))
		zombies.add(name, float64(s.zombies))
	}
	t.add("programs started, ended and asked for in a second", perSec, higher, nil, rate.median())
	t.add("exit statuses lost or wrong", count, lower, below(0), lost.median())
	t.add("zombies left", count, lower, below(0), zombies.median())
	t.note("%d programs under inpod and %d under Python, %d at a time, each with an exit status of its own; beside them two programs that leave orphans without end.",
		procs*n[ours], procs*n[python], procs)
	return t, nil
}

type execsOf struct {
	rate           float64
	wrong, zombies int
}

func (b *bench) execsOnce(ctx context.Context, name string, procs, rounds int) (out execsOf, err error) {
	dir, err := b.dir()
	if err != nil {
		return out, err
	}
	defer os.RemoveAll(dir)
	conf := filepath.Join(dir, "s.ini")
	text := header + fmt.Sprintf(`
[program:noise]
command=/bin/sh -c "while :; do (sleep 0.01 & ) ; sleep 0.02; done"
process_name=%%(process_num)d
numprocs=2
stdout_logfile=NONE
stderr_logfile=NONE
[program:w]
command=/bin/sh -c "exit %%(process_num)d"
process_name=%%(process_num)d
numprocs=%d
startsecs=0
autostart=false
autorestart=false
stdout_logfile=NONE
stderr_logfile=NONE
`, procs)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return out, err
	}
	p, err := b.asPID1(ctx, dir, append([]string{filepath.Join(dir, "stamp")}, b.argv(name, conf)...))
	if err != nil {
		return out, err
	}
	defer p.stop()
	s := &server{client: lab.NewClient("unix://"+dir+"/s.sock", "", "", true)}
	defer s.client.Close()
	if !lab.Until(20*time.Second, func() bool { _, err = s.infos(ctx); return err == nil }) {
		return out, fmt.Errorf("no answer: %w; it said: %.300s", err, p.said())
	}
	began := time.Now()
	for range rounds {
		if _, err := s.client.Call(ctx, "supervisor.startProcessGroup", "w", false); err != nil {
			return out, err
		}
		if err := s.awaitState(ctx, "w", "EXITED", 60*time.Second); err != nil {
			return out, err
		}
		list, err := s.infos(ctx)
		if err != nil {
			return out, err
		}
		for _, e := range list {
			if m, ok := e.(map[string]any); ok && m["group"] == "w" && fmt.Sprint(m["exitstatus"]) != fmt.Sprint(m["name"]) {
				out.wrong++
			}
		}
	}
	out.rate = float64(procs*rounds) / time.Since(began).Seconds()
	if _, err := s.client.Call(ctx, "supervisor.stopProcessGroup", "noise", true); err != nil {
		return out, err
	}
	// What just ended is a zombie for a moment; what stays one is lost.
	lab.Until(3*time.Second, func() bool { out.zombies = zombies(p.cmd); return out.zombies == 0 })
	return out, nil
}

// zombies counts the dead children that the init of a namespace has not reaped.
func zombies(init *exec.Cmd) int {
	n := 0
	for _, pid := range lab.Children(init.Process.Pid) {
		if u, err := lab.ReadUsage(pid); err == nil && u.State == "Z" {
			n++
		}
	}
	return n
}
