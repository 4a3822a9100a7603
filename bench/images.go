package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// imageParts are measured in real containers.
func imageParts() []part {
	return []part{{"image-init", "As PID 1 of a container, in the same image", python, measureImageInit}}
}

// inits is the image with all of them; inpod comes in as a file, so that it is the one under test.
const inits = `FROM debian:12-slim
RUN apt-get update && apt-get install -y --no-install-recommends tini dumb-init s6 supervisor && rm -rf /var/lib/apt/lists/*
`

// measureImageInit starts a container with each init many times, in turns, and looks at its memory when its program
// has been running for some seconds.
func measureImageInit(ctx context.Context, b *bench) (t table, err error) {
	d, stop, err := startDocker(ctx)
	if err != nil {
		return t, err
	}
	defer stop()
	image, err := d.initsImage(ctx, b)
	if err != nil {
		return t, err
	}
	took, rss, pss, all := samples{}, samples{}, samples{}, samples{}
	for i := range b.pick(21, 3) {
		for _, name := range []string{direct, "tini", "dumb-init", s6, ours, ourIni, python} {
			m, err := d.initOnce(ctx, b, image, name, i < b.pick(3, 1))
			if err != nil {
				return t, fmt.Errorf("%s: %w", name, err)
			}
			took.add(name, m.took.Seconds()*1e3)
			if m.rss > 0 {
				rss.add(name, m.rss/1e6)
				pss.add(name, m.pss/1e6)
				all.add(name, m.all/1e6)
			}
		}
	}
	t.add("the init's exec to its program's first byte, median", millis, lower, below(20), took.median())
	t.add("the same, p90", millis, lower, nil, took.at(0.9))
	for _, of := range []samples{rss, pss, all} {
		delete(of, direct) // is the program itself
	}
	t.add("RSS of PID 1", mega, lower, below(15), rss.median())
	t.add("PSS of PID 1", mega, lower, nil, pss.median())
	t.add("PSS of PID 1 and of all that it runs beside the program", mega, lower, nil, all.median())
	t.note("A container each time, made by docker from one image; the clock starts in the container just before the exec of the init, so docker itself is not in it. " +
		"The program is `sh -c 'echo >FIFO; exec sleep infinity'`. s6-svscan runs an s6-supervise for each service.")
	return t, nil
}

// dockerHost is a daemon and its client.
type dockerHost struct{ client string }

// startDocker uses the dockerd that runs, or starts one for as long as stop is not called.
func startDocker(ctx context.Context) (d *dockerHost, stop func(), err error) {
	stop = func() {}
	client, err := exec.CommandContext(ctx, "hack/dockerd.sh", "client").Output()
	if err != nil {
		return nil, stop, fmt.Errorf("cannot find the docker client: %w", err)
	}
	cmd := exec.CommandContext(ctx, "hack/dockerd.sh", "start")
	var said bytes.Buffer
	cmd.Stderr = &said
	host, err := cmd.Output()
	var exit *exec.ExitError
	switch {
	case err == nil:
		stop = func() { _ = exec.Command("hack/dockerd.sh", "stop").Run() } // it says by itself what fails
	case !errors.As(err, &exit) || exit.ExitCode() != 3: // 3: it ran already
		return nil, stop, fmt.Errorf("cannot start dockerd: %w: %s", err, said.String())
	}
	return &dockerHost{strings.TrimSpace(string(client))}, stop, os.Setenv("DOCKER_HOST", strings.TrimSpace(string(host)))
}

func (d *dockerHost) run(ctx context.Context, args ...string) (string, error) {
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, d.client, args...)
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("cannot docker %s: %w: %.500s", args[0], err, said.String())
	}
	return strings.TrimSpace(string(out)), nil
}

// initsImage makes the image, and debian:12-slim before it where that one is not there.
func (d *dockerHost) initsImage(ctx context.Context, b *bench) (string, error) {
	for _, args := range [][]string{{"make", "--no-print-directory", "build"}, {"hack/images.sh", "base"}} {
		if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
			return "", fmt.Errorf("cannot %s: %w: %.500s", strings.Join(args, " "), err, out)
		}
	}
	dir, err := b.dir()
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(inits), 0o644); err != nil {
		return "", fmt.Errorf("cannot write the Dockerfile: %w", err)
	}
	const image = "inpod-bench/inits"
	_, err = d.run(ctx, "build", "-q", "-t", image, dir)
	return image, err
}

// initRun is what one container showed; the memory is zero where nobody looked.
type initRun struct {
	took          time.Duration
	rss, pss, all float64
}

func (d *dockerHost) initOnce(ctx context.Context, b *bench, image, name string, look bool) (m initRun, err error) {
	dir, err := b.dir()
	if err != nil {
		return m, err
	}
	defer os.RemoveAll(dir)
	q, err := newFifo(dir)
	if err != nil {
		return m, err
	}
	defer q.f.Close()
	argv, err := b.initArgv(name, dir, 1)
	if err != nil {
		return m, err
	}
	// The directories are the same inside, so that the same command lines and files do.
	args := []string{"run", "-d", "--network", "none", "-v", dir + ":" + dir, "-v", b.self + ":/bench:ro", "-v", b.bins.Inpod + ":" + b.bins.Inpod + ":ro"}
	for _, e := range append(b.env(dir), "FIFO="+q.path) {
		args = append(args, "-e", e)
	}
	args = append(args, "--entrypoint", "/bench", image, "role-stamp", dir+"/stamp")
	id, err := d.run(ctx, slices.Concat(args, argv)...)
	if err != nil {
		return m, err
	}
	defer func() {
		if _, gone := d.run(context.WithoutCancel(ctx), "rm", "-f", "-v", id); gone != nil && err == nil {
			err = gone
		}
	}()
	at, err := q.read(30 * time.Second)
	if err != nil {
		said, _ := exec.CommandContext(ctx, d.client, "logs", id).CombinedOutput() // for the message only
		return m, fmt.Errorf("%w; it said: %.300s", err, said)
	}
	data, err := os.ReadFile(dir + "/stamp")
	if err != nil {
		return m, fmt.Errorf("cannot read the time: %w", err)
	}
	begun, err := strconv.ParseInt(string(data), 10, 64)
	if err != nil {
		return m, fmt.Errorf("cannot read the time: %w", err)
	}
	m.took = at - time.Duration(begun)
	if look {
		pause(ctx, 3*time.Second) // startsecs is over
		err = d.memory(ctx, id, &m)
	}
	return m, err
}

// memory adds up the container's processes, without the program.
func (d *dockerHost) memory(ctx context.Context, id string, m *initRun) error {
	first, err := d.run(ctx, "inspect", "-f", "{{.State.Pid}}", id)
	if err != nil {
		return err
	}
	list, err := d.run(ctx, "top", id, "-eo", "pid,comm")
	if err != nil {
		return err
	}
	for line := range strings.Lines(list) {
		f := strings.Fields(line)
		if len(f) != 2 || f[0] == "PID" || f[1] == sleeper && f[0] != first {
			continue
		}
		pid, err := strconv.Atoi(f[0])
		if err != nil {
			return fmt.Errorf("cannot read %q of docker top: %w", line, err)
		}
		has, err := memoryOf(pid)
		if err != nil {
			return fmt.Errorf("cannot read the memory of %s: %w", f[1], err)
		}
		if m.all += has.pss; f[0] == first {
			m.rss, m.pss = has.rss, has.pss
		}
	}
	return nil
}

// roleStamp writes the time to a file and becomes the init. argv: FILE INIT ARGS…
func roleStamp(args []string) int {
	f, err := os.OpenFile(args[0], os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		fmt.Fprintf(os.Stderr, "cannot write the time: %v\n", err)
		return 1
	}
	env := os.Environ()
	_, _ = f.Write(strconv.AppendInt(nil, int64(monotonic()), 10)) // missing: it is seen by whoever reads it
	err = syscall.Exec(args[1], args[1:], env)
	fmt.Fprintf(os.Stderr, "cannot execute %q: %v\n", args[1], err)
	return 1
}
