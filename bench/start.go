package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// firstByte is a program that says it is there without the help of its supervisor: it writes to a FIFO.
const firstByte = "echo >$FIFO; exec sleep infinity"

// fifo is the bench's end of one.
type fifo struct {
	path string
	f    *os.File
}

func newFifo(dir string) (*fifo, error) {
	q := &fifo{path: filepath.Join(dir, "fifo")}
	if err := unix.Mkfifo(q.path, 0o600); err != nil {
		return nil, fmt.Errorf("cannot make a FIFO: %w", err)
	}
	var err error
	// Open for writing too, so that it never ends.
	q.f, err = os.OpenFile(q.path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open the FIFO: %w", err)
	}
	return q, nil
}

// read waits for the next bytes and returns when they came.
func (q *fifo) read(limit time.Duration) (time.Duration, error) {
	if err := q.f.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return 0, err
	}
	var buf [1]byte
	_, err := q.f.Read(buf[:])
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("the program did not start within %s", limit)
	}
	return monotonic(), err
}

// measureInit runs each init as PID 1 of a PID namespace of its own, many times in turns.
func measureInit(ctx context.Context, b *bench) (table, error) {
	var t table
	took := samples{}
	for i := range b.pick(31, 7) {
		for _, name := range []string{direct, "tini", "dumb-init", s6, ours, ourIni, python} {
			if name == python && i >= b.pick(9, 2) {
				continue // a second each
			}
			d, err := b.initOnce(ctx, name, 1)
			if err != nil {
				return t, fmt.Errorf("%s: %w", name, err)
			}
			took.add(name, d.Seconds()*1e3)
		}
	}
	t.add("median", millis, lower, below(20), took.median())
	t.add("p90", millis, lower, nil, took.at(0.9))
	t.note("The program is `sh -c 'echo >FIFO; exec sleep infinity'`; direct is the shell as PID 1 itself. inpod is `inpod run -- sh -c …`; \"inpod, ini\" reads it from a file, as supervisord does.")
	return t, nil
}

// initOnce is the time from the init's exec to the first program's first byte; the ini has n programs.
func (b *bench) initOnce(ctx context.Context, name string, n int) (took time.Duration, err error) {
	dir, err := b.dir()
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	q, err := newFifo(dir)
	if err != nil {
		return 0, err
	}
	defer q.f.Close()
	argv, err := b.initArgv(name, dir, n)
	if err != nil {
		return 0, err
	}
	stamp := filepath.Join(dir, "stamp")
	p, err := b.asPID1(ctx, dir, append([]string{stamp}, argv...), "FIFO="+q.path)
	if err != nil {
		return 0, err
	}
	defer p.stop()
	at, err := q.read(20 * time.Second)
	if err != nil {
		return 0, fmt.Errorf("%w; it said: %.300s", err, p.said())
	}
	data, err := os.ReadFile(stamp)
	if err != nil {
		return 0, fmt.Errorf("cannot read the time: %w", err)
	}
	begun, err := strconv.ParseInt(string(data), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("cannot read the time: %w", err)
	}
	return at - time.Duration(begun), nil
}

// initArgv is the command line of an init, with what it needs in dir.
func (b *bench) initArgv(name, dir string, n int) ([]string, error) {
	sh := []string{"/bin/sh", "-c", firstByte}
	switch name {
	case "tini":
		return append([]string{"/usr/bin/tini", "--"}, sh...), nil
	case "dumb-init":
		return append([]string{"/usr/bin/dumb-init", "--"}, sh...), nil
	case s6:
		scan := filepath.Join(dir, "scan")
		return []string{"/usr/bin/s6-svscan", scan}, s6Services(scan, n, firstByte)
	case ours:
		return append([]string{b.bins.Inpod, "run", "--"}, sh...), nil
	case ourIni, python:
		conf := filepath.Join(dir, "s.ini")
		text := header
		for i := range n {
			text += fmt.Sprintf("[program:p%d]\ncommand=/bin/sh -c %q\n", i, firstByte)
		}
		return b.argv(name, conf), os.WriteFile(conf, []byte(text), 0o644)
	}
	return sh, nil
}

// namespace is an init in a PID namespace: when it ends, the kernel ends all that is in there.
type namespace struct {
	cmd *exec.Cmd
	out bytes.Buffer
}

// asPID1 runs role-init with args in a new PID and mount namespace.
func (b *bench) asPID1(ctx context.Context, dir string, args []string, env ...string) (*namespace, error) {
	p := &namespace{cmd: exec.CommandContext(ctx, b.self, append([]string{"role-init"}, args...)...)}
	p.cmd.Dir, p.cmd.Env = dir, append(b.env(dir), env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	p.cmd.WaitDelay = time.Second
	// Unshareflags makes the mounts private too: /proc in there must not become the machine's.
	attr := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID, Unshareflags: unix.CLONE_NEWNS, Setpgid: true}
	if os.Getuid() != 0 {
		attr.Cloneflags |= unix.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	p.cmd.SysProcAttr = attr
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start a PID namespace: %w", err)
	}
	return p, nil
}

// stop kills the init and so everything in its namespace.
func (p *namespace) stop() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait() // killed: its status says nothing
}

// said is the output; only of use when the init is stopped.
func (p *namespace) said() string {
	p.stop()
	return p.out.String()
}

// measureFew is a pod's usual case.
func measureFew(ctx context.Context, b *bench) (table, error) {
	var t table
	took, rss, private := samples{}, samples{}, samples{}
	for range b.pick(9, 2) {
		for _, name := range []string{ourIni, s6, python} {
			d, err := b.initOnce(ctx, name, 3)
			if err != nil {
				return t, fmt.Errorf("%s: %w", name, err)
			}
			took.add(name, d.Seconds()*1e3)
		}
	}
	for range b.pick(3, 1) {
		for _, name := range []string{ourIni, s6, python} {
			var m manyOf
			s, err := b.startMany(name, 3)
			if err != nil {
				return t, err
			}
			pause(ctx, 3*time.Second) // startsecs is over
			err = b.idle(ctx, s, name, 2*time.Second, &m)
			s.stop()
			if err != nil {
				return t, fmt.Errorf("%s: %w", name, err)
			}
			rss.add(name, m.rss/1e6)
			private.add(name, m.private/1e6)
		}
	}
	t.add("exec of the supervisor to the first program's first byte", millis, lower, below(20), took.median())
	t.add("RSS", mega, lower, below(15), rss.median())
	t.add("private part of it", mega, lower, nil, private.median())
	t.note("As PID 1 for the time, with three programs in an ini; s6-svscan's memory is that of itself and one supervisor process a service.")
	return t, nil
}
