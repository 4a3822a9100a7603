package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const wrkBinary = "/usr/bin/wrk"

// wrkScript prints the summary for a program to read. It runs when the load is over and costs the load nothing.
const wrkScript = `done = function(s, l, r)
  io.write(string.format("\nBENCH %d %d %d %d %d %d %d %d %d %d %d\n", s.requests, s.duration, s.bytes, l.mean, l:percentile(50), l:percentile(99),
    s.errors.connect, s.errors.read, s.errors.write, s.errors.status, s.errors.timeout))
end
`

// load is what wrk measured.
type load struct {
	requests, seconds, bytes float64
	p50, p99                 float64       // µs
	cpu                      time.Duration // its own
}

// wrk puts load on a server for some seconds. Anything but a full success is an error: a refused request is cheap.
func (b *bench) wrk(ctx context.Context, addr, path string, size, conns, secs int) (l load, err error) {
	script := filepath.Join(b.tmp, "wrk.lua")
	if err := os.WriteFile(script, []byte(wrkScript), 0o644); err != nil {
		return l, fmt.Errorf("cannot write the script: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(secs+15)*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, wrkBinary, "-t", fmt.Sprint(min(2, conns)), "-c", fmt.Sprint(conns), "-d", fmt.Sprintf("%ds", secs),
		"--timeout", "5s", "-s", script, "http://"+addr+path)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return l, fmt.Errorf("cannot run wrk: %w: %.300s", err, out)
	}
	_, line, found := strings.Cut(string(out), "\nBENCH ")
	var micro, mean float64
	var connect, read, write, status, timeout int
	n, err := fmt.Sscan(line, &l.requests, &micro, &l.bytes, &mean, &l.p50, &l.p99, &connect, &read, &write, &status, &timeout)
	if !found || err != nil {
		return l, fmt.Errorf("cannot read what wrk wrote (%d fields): %w: %.300s", n, err, out)
	}
	l.seconds, l.cpu = micro/1e6, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime()
	if connect+read+write+status+timeout > 0 {
		return l, fmt.Errorf("of %.0f requests failed: %d to connect, %d to read, %d to write, %d by status, %d by time",
			l.requests, connect, read, write, status, timeout)
	}
	if l.requests == 0 || l.bytes < l.requests*float64(size) {
		return l, fmt.Errorf("%.0f answers had %.0f bytes, want %d each", l.requests, l.bytes, size)
	}
	// wrk does not count what never ends: a connection that stands still shows in how many are in use (Little's law).
	if used := l.requests * mean / micro; used < 0.5*float64(conns) && conns > 1 {
		return l, fmt.Errorf("%.1f of %d connections were in use: some stand still", used, conns)
	}
	return l, nil
}

const (
	smallSize  = 1024
	mediumSize = 64 << 10
	largeSize  = 1 << 20
)

// files is an nginx that answers in the three sizes: / from memory, the others with sendfile.
func (b *bench) files(ctx context.Context) (*proxy, error) {
	dir, err := b.dir()
	if err != nil {
		return nil, err
	}
	for name, size := range map[string]int{"64k": mediumSize, "1m": largeSize} {
		if err := os.WriteFile(filepath.Join(dir, name), bytes.Repeat([]byte("x"), size), 0o644); err != nil {
			return nil, fmt.Errorf("cannot write a file to serve: %w", err)
		}
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	conf := filepath.Join(dir, "conf")
	text := nginxHead(1) + fmt.Sprintf("open_file_cache max=10;\nserver {\n listen %s backlog=4096;\n root %s;\n location = / { return 200 \"%s\"; }\n}\n}\n",
		addr, dir, strings.Repeat("x", smallSize))
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return nil, fmt.Errorf("cannot write the configuration of nginx: %w", err)
	}
	return startProxy(ctx, nginx, dir, addr, nginxArgv(dir, conf), nil)
}

// loads is the samples of several wrk runs.
type loads struct {
	up                           *proxy // whose CPU is known too
	rate, through, cpu, p50, p99 samples
	foreign                      float64 // the highest share of the machine's CPU that others took in a turn
}

func newLoads(up *proxy) *loads {
	return &loads{up: up, rate: samples{}, through: samples{}, cpu: samples{}, p50: samples{}, p99: samples{}}
}

// loadTurns loads every proxy in its turns. The first comes after a trial.
func (b *bench) loadTurns(ctx context.Context, all stand, path string, size, conns int, to *loads) error {
	tried := map[string]bool{}
	return all.turns(ctx, b.pick(5, 1), func(p *proxy) error {
		if !tried[p.name] {
			tried[p.name] = true
			if err := trial(ctx, p, path, size, conns); err != nil {
				return err
			}
		}
		return b.loadOnce(ctx, p, path, size, conns, to)
	})
}

// trial makes a few requests on each of many connections at once and looks at the answers, which wrk does not.
func trial(ctx context.Context, p *proxy, path string, size, conns int) error {
	one := func() error {
		c, err := dial(ctx, p.addr, 10*time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		for i := range 5 {
			n, err := c.whole(path)
			if err != nil {
				return fmt.Errorf("request %d got %d of %d bytes: %w", i, n, size, err)
			}
			if n != int64(size) {
				return fmt.Errorf("request %d got %d bytes, want %d", i, n, size)
			}
		}
		return nil
	}
	ended := make(chan error)
	for range conns {
		go func() { ended <- one() }()
	}
	var failed []error
	for range conns {
		if err := <-ended; err != nil {
			failed = append(failed, err)
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("%d of %d connections failed, one with: %w", len(failed), conns, failed[0])
	}
	return nil
}

// loadOnce is one turn of one proxy.
func (b *bench) loadOnce(ctx context.Context, p *proxy, path string, size, conns int, to *loads) error {
	busy, whole := machineTime()
	before, err := p.cpu()
	if err != nil {
		return err
	}
	upstream, err := to.up.cpu()
	if err != nil {
		return err
	}
	l, err := b.wrk(ctx, p.addr, path, size, conns, b.pick(3, 2))
	if err != nil {
		return err
	}
	after, err := p.cpu()
	if err != nil {
		return err
	}
	upstream2, err := to.up.cpu()
	if err != nil {
		return err
	}
	busy2, whole2 := machineTime()
	known := (after - before) + (upstream2 - upstream) + l.cpu
	to.foreign = max(to.foreign, ((busy2-busy)-known).Seconds()/(whole2-whole).Seconds())
	to.rate.add(p.name, l.requests/l.seconds)
	to.through.add(p.name, l.requests*float64(size)/l.seconds/1e6)
	to.p50.add(p.name, l.p50)
	to.p99.add(p.name, l.p99)
	if p.name != direct {
		to.cpu.add(p.name, float64((after-before).Microseconds())/l.requests)
	}
	return nil
}

// measureSmall is the cost of a request.
func measureSmall(ctx context.Context, b *bench) (table, error) {
	var t table
	up, err := b.files(ctx)
	if err != nil {
		return t, err
	}
	defer up.stop()
	all, err := b.stand(ctx, &t, up.addr, b.proxies(direct))
	if err != nil {
		return t, err
	}
	defer all.stop()
	var failed error
	foreign := 0.0
	for _, conns := range []int{1, 64, 256} {
		to := newLoads(up)
		err := b.loadTurns(ctx, all, "/", smallSize, conns, to)
		r := t.add(fmt.Sprintf("%s: requests in a second", connections(conns)), perSec, higher, times(1, nginx), to.rate.median())
		if conns > 1 { // with one, everybody waits for the upstream
			r.and(times(4, queueProxy))
		}
		t.add("… CPU of the proxy for a request", tenths, lower, times(1, nginx), to.cpu.median())
		t.add("… median", micros, lower, nil, to.p50.median())
		t.add("… p99", micros, lower, nil, to.p99.median())
		foreign = max(foreign, to.foreign)
		failed = errors.Join(failed, err)
	}
	t.note("wrk has 2 threads, 1 for one connection; the upstream is an nginx with one worker. They share the machine's cores with the proxy, so a rate shows what the proxy leaves to them.")
	t.note("%s", peersNote)
	t.note(foreignNote, foreign*100)
	return t, failed
}

// foreignNote tells whether the figures can be trusted.
const foreignNote = "Processes that have no part in this took at most %.0f %% of the machine's CPU in any turn."

func connections(n int) string {
	if n == 1 {
		return "1 connection"
	}
	return fmt.Sprintf("%d connections", n)
}

// measureLarge is the cost of a byte.
func measureLarge(ctx context.Context, b *bench) (table, error) {
	var t table
	up, err := b.files(ctx)
	if err != nil {
		return t, err
	}
	defer up.stop()
	all, err := b.stand(ctx, &t, up.addr, b.proxies(direct))
	if err != nil {
		return t, err
	}
	defer all.stop()
	var failed error
	foreign := 0.0
	for _, k := range []struct {
		what, path  string
		size, conns int
	}{{"64 kB", "/64k", mediumSize, 64}, {"1 MB", "/1m", largeSize, 16}} {
		to := newLoads(up)
		err := b.loadTurns(ctx, all, k.path, k.size, k.conns, to)
		t.add(fmt.Sprintf("%s, %s", k.what, connections(k.conns)), megaRate, higher, nil, to.through.median())
		t.add("… CPU of the proxy for a request", tenths, lower, nil, to.cpu.median())
		t.add("… median", micros, lower, nil, to.p50.median())
		t.add("… p99", micros, lower, nil, to.p99.median())
		foreign = max(foreign, to.foreign)
		failed = errors.Join(failed, err)
	}
	t.note("The upstream is nginx with sendfile. nginx as the proxy buffers, which is its default.")
	t.note(foreignNote, foreign*100)
	return t, failed
}
