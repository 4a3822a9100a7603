package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/inpod/inpod/internal/proc"
	"github.com/inpod/inpod/supervisor/ini"
	"github.com/inpod/inpod/supervisor/output"
	sys "golang.org/x/sys/unix"
)

// stream is what a process needs of output.Stream.
type stream interface {
	Drain(context.Context) error
	Clear() error
	Reopen() error
}

// defaultPath is where commands are looked for without a PATH, as Supervisor does.
const defaultPath = "/bin:/usr/bin:/usr/local/bin"

// command finds the file to execute. Its error texts are Supervisor's.
func (p *process) command() (string, error) {
	if len(p.cfg.Argv) == 0 {
		if strings.TrimSpace(p.cfg.Command) == "" {
			return "", errors.New("command is empty")
		}
		return "", fmt.Errorf("can't parse command %s: No closing quotation", pyRepr(p.cfg.Command))
	}
	return p.lookPath(p.cfg.Argv[0])
}

// lookPath finds a command where the program's own environment says.
func (p *process) lookPath(file string) (string, error) {
	path, ok := p.cfg.Environment["PATH"]
	if !ok {
		path = p.sup.path
	}
	return proc.LookPath(file, path)
}

// spec is what the program and the commands that serve it are started with alike.
func (p *process) spec(file string, argv []string) proc.Spec {
	spec := proc.NewSpec(file)
	spec.Argv, spec.Dir, spec.Env, spec.Umask = argv, p.cfg.Directory, p.environment(), p.cfg.Umask
	return spec
}

// startSpawn spawns in a goroutine of its own: an execve from a dead network disk, or a hook, must not keep the
// owner from hearing a stop.
func (p *process) startSpawn() {
	ctx, cancel := context.WithCancel(context.Background())
	p.abandon = cancel
	go func() {
		r, err := (*run)(nil), errCrashed
		guard(p.log, "spawn", func() { r, err = p.spawn(ctx) })
		p.post(func() { p.spawned(r, err) })
	}()
}

func (p *process) spawned(r *run, err error) {
	p.abandon()
	p.abandon = nil
	if err != nil {
		p.step(input{kind: inSpawnFailed, text: err.Error()})
		return
	}
	p.run, p.hooked, p.rest = r, false, rest{}
	if r.child == nil {
		p.log.Warn("cannot start the process", "detail", strings.TrimSpace(r.failed))
		p.step(input{kind: inSpawned})
		p.ended(proc.Status{Code: 127})
		return
	}
	p.step(input{kind: inSpawned, pid: r.child.PID()})
	p.startReadiness()
}

// spawn starts the program. Its error is a spawnerr: Supervisor's text, where it has one.
func (p *process) spawn(ctx context.Context) (*run, error) {
	if err := p.hook(ctx, "pre_start_hook", p.cfg.PreStartHook); err != nil {
		p.log.Warn("pre_start_hook failed", "error", err)
	}
	if ctx.Err() != nil {
		return nil, errors.New("stopped before it was started")
	}
	file, err := p.command()
	if err != nil {
		return nil, err
	}
	r := &run{started: make(chan struct{})}
	spec := p.spec(file, p.cfg.Argv)
	spec.Nice, spec.OOMScoreAdj = p.cfg.Nice, p.cfg.OOMScoreAdj
	childEnds, err := p.plumb(r, &spec)
	if err != nil {
		close(r.started)
		p.discard(r, childEnds)
		return nil, p.plumbError(err)
	}
	if p.group.pool != nil {
		p.group.pool.spawned(p.listener(), r.in) // before it can say READY
	}
	said := p.setUser(&spec)
	if said == "" {
		r.child, err = p.sup.opt.Reaper.Start(spec)
		switch {
		case errors.Is(err, syscall.EAGAIN):
			//lint:ignore ST1005 Supervisor's text
			err = fmt.Errorf("Too many processes in process table to spawn '%s'", p.cfg.Name)
		case errors.Is(err, syscall.ENOMEM):
			err = fmt.Errorf("unknown error during fork for '%s': ENOMEM", p.cfg.Name)
		case errors.Is(err, proc.ErrClosed):
		case err != nil:
			said, err = p.execError(err), nil
		}
	}
	close(r.started)
	if err != nil {
		p.discard(r, childEnds)
		return nil, err
	}
	if said != "" {
		// There the child says so on its stderr and exits with 127.
		r.failed = "supervisor: " + said + "\nsupervisor: child process was not spawned\n"
		if spec.Stderr != nil {
			_, _ = spec.Stderr.WriteString(r.failed)
		}
	}
	for _, f := range childEnds {
		_ = f.Close()
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	if r.child != nil {
		r.cgroup = p.sup.cgroups.limit(p, r.child.PID())
	}
	return r, nil
}

// plumb gives the child its first three descriptors. It returns those that are closed once the child has them.
func (p *process) plumb(r *run, spec *proc.Spec) (childEnds []*os.File, err error) {
	if p.main {
		spec.Stdin, spec.Stdout, spec.Stderr = os.Stdin, os.Stdout, os.Stderr
		spec.Foreground = inForeground(os.Stdin)
		r.foreground = spec.Foreground
		return nil, nil
	}
	open := func(channel string, log *ini.Log) (*os.File, error) {
		s, err := p.sup.opt.Hub.Open(p.outputOptions(r, channel, log))
		if err != nil {
			return nil, err
		}
		r.streams = append(r.streams, s)
		childEnds = append(childEnds, s.ChildEnd())
		return s.ChildEnd(), nil
	}
	if spec.Stdout, err = open("stdout", &p.cfg.Stdout); err != nil {
		return childEnds, err
	}
	spec.Stderr = spec.Stdout
	// A listener's stderr would break the protocol on its stdout.
	if !p.cfg.RedirectStderr || p.group.pool != nil {
		if spec.Stderr, err = open("stderr", &p.cfg.Stderr); err != nil {
			return childEnds, err
		}
	}
	if p.group.socket != nil {
		if spec.Stdin, r.release, err = p.group.socket.take(); err != nil {
			return childEnds, err
		}
		return childEnds, nil
	}
	in, child, err := newStdin()
	if err != nil {
		return childEnds, err
	}
	r.in, spec.Stdin = in, child
	return append(childEnds, child), nil
}

func (p *process) outputOptions(r *run, channel string, l *ini.Log) output.Options {
	o := output.Options{
		Program: p.cfg.Name, Channel: channel, Maxbytes: l.Maxbytes, Backups: l.Backups, Syslog: l.Syslog,
		SyslogFacility: l.SyslogFacility, SyslogPriority: l.SyslogPriority, SyslogTag: l.SyslogTag,
		Format: p.cfg.Format, StripANSI: p.sup.stripANSI, CaptureMaxbytes: l.CaptureMaxbytes,
	}
	if l.File != "" {
		o.Targets = append(o.Targets, l.File)
	}
	o.Targets = append(o.Targets, l.Also...)
	if p.group.pool != nil && channel == "stdout" {
		l := p.listener()
		o.OnData = func(b []byte) { p.group.pool.output(l, b) }
		return o
	}
	if l.EventsEnabled {
		o.OnLog = func(b []byte) { p.sup.bus.logged(p.cfg, r.pid(), channel, b) }
	}
	if l.CaptureMaxbytes > 0 {
		o.OnCapture = func(b []byte) { p.sup.bus.captured(p.cfg, r.pid(), channel, b) }
	}
	if c := p.cfg.Readiness; c != nil && c.Log != "" {
		o.OnLine = p.lineWatcher(r)
	}
	return o
}

// discard undoes plumb for a child that never was.
func (p *process) discard(r *run, childEnds []*os.File) {
	for _, f := range childEnds {
		_ = f.Close()
	}
	p.drain(r)
	if r.release != nil {
		r.release()
	}
}

func (p *process) plumbError(err error) error {
	switch {
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return fmt.Errorf("too many open files to spawn '%s'", p.cfg.Name)
	}
	p.log.Error("cannot make the program's output", "error", err)
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return fmt.Errorf("unknown error making dispatchers for '%s': %s", p.cfg.Name, sys.ErrnoName(errno))
	}
	return fmt.Errorf("unknown error making dispatchers for '%s': %w", p.cfg.Name, err)
}

// execError is what Supervisor's child says of a failed chdir or execve.
func (p *process) execError(err error) string {
	p.log.Debug("cannot start", "error", err)
	name := err.Error()
	var errno syscall.Errno
	if errors.As(err, &errno) {
		name = sys.ErrnoName(errno)
	}
	if p.cfg.Directory != "" {
		if st, serr := os.Stat(p.cfg.Directory); serr != nil || !st.IsDir() || sys.Access(p.cfg.Directory, sys.X_OK) != nil {
			return fmt.Sprintf("couldn't chdir to %s: %s", p.cfg.Directory, name)
		}
	}
	if errors.Is(err, syscall.EPERM) && p.cfg.UID >= 0 && p.cfg.UID != os.Geteuid() {
		return fmt.Sprintf("couldn't setuid to %d: %s", p.cfg.UID, name)
	}
	return fmt.Sprintf("couldn't exec %s: %s", p.cfg.Argv[0], name)
}

// environment is the agent's, then what Supervisor adds, then the program's own.
func (p *process) environment() []string {
	set := map[string]string{"SUPERVISOR_ENABLED": "1", "SUPERVISOR_PROCESS_NAME": p.cfg.Name, "SUPERVISOR_GROUP_NAME": p.cfg.Group}
	url := p.cfg.ServerURL
	if url == "" || strings.EqualFold(url, "AUTO") {
		url = p.sup.opt.ServerURL
	}
	if url != "" {
		set["SUPERVISOR_SERVER_URL"] = url
	}
	for k, v := range p.cfg.Environment {
		set[k] = v
	}
	env := make([]string, 0, len(p.sup.opt.Env)+len(set))
	for _, kv := range p.sup.opt.Env {
		if k, _, _ := strings.Cut(kv, "="); !has(set, k) {
			env = append(env, kv)
		}
	}
	for k, v := range set {
		env = append(env, k+"="+v)
	}
	return env
}

func has(m map[string]string, k string) bool { _, ok := m[k]; return ok }
