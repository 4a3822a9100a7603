package proc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"
)

// RunOptions bounds a Run. Its zero value means the defaults.
type RunOptions struct {
	Input     []byte        // written to the command's standard input when Spec.Stdin is nil
	MaxOutput int           // bytes kept of its output, from the start; 64 KiB by default
	WaitDelay time.Duration // how long to read on after its end while something else holds its output; 1 s by default
	Grace     time.Duration // from SIGTERM to SIGKILL when ctx ends; 2 s by default
}

// hopeless is how long Run waits for the end of a command that got SIGKILL: only the kernel can delay it then.
const hopeless = 5 * time.Second

// ErrStuck is returned by Run for a command that did not end after SIGKILL.
var ErrStuck = errors.New("it did not end after SIGKILL")

// Run starts a short command, waits for its end and returns what it wrote. Standard output and error are captured
// together where spec leaves them nil. A non-zero exit is no error: look at the Status. When ctx ends, the
// command's process group gets SIGTERM and then SIGKILL, and the error wraps the context's cause.
func (r *Reaper) Run(ctx context.Context, spec Spec, opt RunOptions) (Status, []byte, error) {
	opt = opt.withDefaults()
	if err := context.Cause(ctx); err != nil {
		return Status{}, nil, fmt.Errorf("cannot run %q: %w", spec.Path, err)
	}
	out, err := capture(&spec, opt)
	if err != nil {
		return Status{}, nil, fmt.Errorf("cannot run %q: %w", spec.Path, err)
	}
	in, err := feed(&spec, opt)
	if err != nil {
		out.start()
		out.stop(0)
		return Status{}, nil, fmt.Errorf("cannot run %q: %w", spec.Path, err)
	}
	p, err := r.Start(spec)
	out.start()
	in.start(opt.Input)
	if err != nil {
		in.stop()
		out.stop(0)
		return Status{}, nil, err
	}
	err = p.await(ctx, opt.Grace)
	in.stop()
	output := out.stop(opt.WaitDelay)
	if err != nil {
		err = fmt.Errorf("cannot finish %q: %w", spec.Path, err)
	}
	return p.Status(), output, err
}

func (o RunOptions) withDefaults() RunOptions {
	if o.MaxOutput <= 0 {
		o.MaxOutput = 64 << 10
	}
	if o.WaitDelay <= 0 {
		o.WaitDelay = time.Second
	}
	if o.Grace <= 0 {
		o.Grace = 2 * time.Second
	}
	return o
}

// await waits for the end of p and forces it when ctx ends first.
func (p *Process) await(ctx context.Context, grace time.Duration) error {
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
	}
	cause := context.Cause(ctx)
	_ = p.SignalGroup(syscall.SIGTERM)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
	}
	// Also after its end in time: what it left in its group must not outlive the deadline.
	_ = p.SignalGroup(syscall.SIGKILL)
	timer.Reset(hopeless)
	select {
	case <-p.done:
		return cause
	case <-timer.C:
		return errors.Join(cause, ErrStuck)
	}
}

// output reads a command's output through a pipe, so that nothing grows beyond its cap and nothing blocks for
// longer than the delay given to stop.
type output struct {
	read, write *os.File
	max         int
	buf         bytes.Buffer
	done        chan struct{}
}

func capture(spec *Spec, opt RunOptions) (*output, error) {
	o := &output{max: opt.MaxOutput, done: make(chan struct{})}
	if spec.Stdout != nil && spec.Stderr != nil {
		return o, nil
	}
	var err error
	if o.read, o.write, err = os.Pipe(); err != nil {
		return nil, err
	}
	if spec.Stdout == nil {
		spec.Stdout = o.write
	}
	if spec.Stderr == nil {
		spec.Stderr = o.write
	}
	return o, nil
}

func (o *output) start() {
	if o.read == nil {
		close(o.done)
		return
	}
	o.write.Close()
	go func() {
		defer close(o.done)
		buf := make([]byte, 4096)
		for {
			n, err := o.read.Read(buf)
			o.keep(buf[:n])
			if errors.Is(err, os.ErrDeadlineExceeded) {
				o.rest(buf)
			}
			if err != nil {
				return
			}
		}
	}()
}

// keep takes what there is room for. The rest is read and dropped, so that the writer never blocks.
func (o *output) keep(p []byte) { o.buf.Write(p[:min(len(p), o.max-o.buf.Len())]) }

// rest takes what is in the pipe without waiting for more. On a busy machine the time to read may be over before this
// goroutine has read what the command wrote in time.
func (o *output) rest(buf []byte) {
	_ = o.read.SetReadDeadline(time.Time{})
	conn, err := o.read.SyscallConn()
	if err != nil {
		return
	}
	for o.buf.Len() < o.max {
		n := 0
		_ = conn.Read(func(fd uintptr) bool {
			n, _ = syscall.Read(int(fd), buf)
			return true
		})
		if n <= 0 {
			return
		}
		o.keep(buf[:n])
	}
}

func (o *output) stop(delay time.Duration) []byte {
	if o.read == nil {
		return nil
	}
	_ = o.read.SetReadDeadline(time.Now().Add(delay))
	<-o.done
	o.read.Close()
	return o.buf.Bytes()
}

// input writes to a command's standard input.
type input struct {
	read, write *os.File
	done        chan struct{}
}

func feed(spec *Spec, opt RunOptions) (*input, error) {
	in := &input{done: make(chan struct{})}
	if spec.Stdin != nil || len(opt.Input) == 0 {
		return in, nil
	}
	var err error
	if in.read, in.write, err = os.Pipe(); err != nil {
		return nil, err
	}
	spec.Stdin = in.read
	return in, nil
}

func (in *input) start(data []byte) {
	if in.write == nil {
		close(in.done)
		return
	}
	in.read.Close()
	go func() {
		defer close(in.done)
		_, _ = io.Copy(in.write, bytes.NewReader(data)) // EPIPE: the command did not want it
		in.write.Close()
	}()
}

func (in *input) stop() {
	if in.write != nil {
		_ = in.write.SetWriteDeadline(time.Now())
	}
	<-in.done
}
