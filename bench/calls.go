package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/inpod/inpod/e2e/lab"
)

// measureRPC asks for all programs over the unix socket, one question after the other on one connection.
func measureRPC(ctx context.Context, b *bench) (table, error) {
	var t table
	rate, median, slow, cpu := samples{}, samples{}, samples{}, samples{}
	programs := manyIni(100)
	for range b.pick(3, 1) {
		for _, name := range both() {
			if err := b.rpcOnce(ctx, name, programs, rate, median, slow, cpu); err != nil {
				return t, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	t.add("calls in a second", perSec, higher, nil, rate.median())
	t.add("median of a call", micros, lower, nil, median.median())
	t.add("p99 of a call", micros, lower, nil, slow.median())
	t.add("CPU of the supervisor for a call", micros, lower, nil, cpu.median())
	t.note("The same client for both; it reads the answer and does not parse it.")
	return t, nil
}

func (b *bench) rpcOnce(ctx context.Context, name, programs string, rate, median, slow, cpu samples) error {
	s, err := b.startReady(ctx, name, programs)
	if err != nil {
		return err
	}
	defer s.stop()
	if err := s.awaitState(ctx, "many", "RUNNING", 30*time.Second); err != nil {
		return err
	}
	const body = "<?xml version='1.0'?><methodCall><methodName>supervisor.getAllProcessInfo</methodName><params></params></methodCall>"
	before, err := lab.ReadUsage(s.PID())
	if err != nil {
		return err
	}
	calls := samples{}
	began := time.Now()
	for length := time.Duration(b.pick(4, 1)) * time.Second; time.Since(began) < length; {
		at := time.Now()
		status, data, err := s.client.Post(ctx, "/RPC2", []byte(body))
		if err != nil || status != http.StatusOK || strings.Count(string(data), "statename") != 100 {
			return fmt.Errorf("got status %d and %d bytes: %w", status, len(data), err)
		}
		calls.add(name, float64(time.Since(at).Microseconds()))
	}
	took := time.Since(began).Seconds()
	after, err := lab.ReadUsage(s.PID())
	if err != nil {
		return err
	}
	n := float64(len(calls[name]))
	rate.add(name, n/took)
	median.add(name, calls.median()[name])
	slow.add(name, calls.at(0.99)[name])
	cpu.add(name, float64((after.CPU-before.CPU).Microseconds())/n)
	return nil
}

// measureRestart looks at what a user waits for.
func measureRestart(ctx context.Context, b *bench) (table, error) {
	var t table
	killed, asked := samples{}, samples{}
	for range b.pick(3, 1) {
		for _, name := range both() {
			if err := b.restartOnce(ctx, name, killed, asked); err != nil {
				return t, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	t.add("killed after a second, until it runs again", millis, lower, nil, killed.median())
	t.add("… p90", millis, lower, nil, killed.at(0.9))
	t.add("stopProcess and startProcess, each waited for, until it runs again", millis, lower, nil, asked.median())
	t.add("… p90", millis, lower, nil, asked.at(0.9))
	t.note("It runs when its first byte is here, which it sends without the supervisor.")
	return t, nil
}

func (b *bench) restartOnce(ctx context.Context, name string, killed, asked samples) error {
	dir, err := b.dir()
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	q, err := newFifo(dir)
	if err != nil {
		return err
	}
	defer q.f.Close()
	s, err := b.startReady(ctx, name, fmt.Sprintf("[program:p]\ncommand=/bin/sh -c %q\nenvironment=FIFO=%q\nautorestart=true\nstartsecs=0\n", firstByte, q.path))
	if err != nil {
		return err
	}
	defer s.stop()
	if _, err := q.read(20 * time.Second); err != nil {
		return err
	}
	for range b.pick(10, 3) {
		pause(ctx, 1100*time.Millisecond)
		pids := s.Leftovers()
		if len(pids) != 1 {
			return fmt.Errorf("got %d programs, want one", len(pids))
		}
		begun := monotonic()
		if err := syscall.Kill(pids[0], syscall.SIGKILL); err != nil {
			return err
		}
		at, err := q.read(20 * time.Second)
		if err != nil {
			return err
		}
		killed.add(name, (at-begun).Seconds()*1e3)
	}
	for range b.pick(5, 2) {
		begun := monotonic()
		for _, method := range []string{"stopProcess", "startProcess"} {
			if _, err := s.client.Call(ctx, "supervisor."+method, "p", true); err != nil {
				return err
			}
		}
		answered := monotonic()
		at, err := q.read(20 * time.Second)
		if err != nil {
			return err
		}
		asked.add(name, (max(at, answered)-begun).Seconds()*1e3)
	}
	return ctx.Err()
}
