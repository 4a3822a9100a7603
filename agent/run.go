package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/inpod/inpod/config"
	"github.com/inpod/inpod/internal/proc"
	"github.com/inpod/inpod/metrics"
	"github.com/inpod/inpod/proxy"
	"github.com/inpod/inpod/sshd"
	"github.com/inpod/inpod/supervisor/output"
)

// The exit codes of the agent where no program's own is used.
const (
	exitOK       = 0
	exitFailed   = 1 // an essential program ended
	exitNotBegun = 2 // nothing was started: bad configuration, a busy port; as supervisord's
)

// agent is one run. Its fields are set while it starts and then only read, but for the atomics.
type agent struct {
	opts    Options
	src     source
	began   time.Time
	stderr  io.Writer
	log     *slog.Logger
	logs    *logs
	mainLog *output.MainLog
	hub     *output.Hub
	reaper  *proc.Reaper
	proxy   *proxy.Proxy
	ssh     *sshd.Server
	servers *servers
	phase   phases
	reload  *reloader
	kills   *killWatch
	metrics *metricsHandler
	prep    *preparation // of the programs' start
	users   *userStep    // nil where the settings have none

	processors *processors

	settings   atomic.Pointer[config.Config]
	current    atomic.Pointer[generation]
	restarting atomic.Bool // all programs are being stopped, to be started again
	commands   chan command
	drained    chan struct{} // closed when nothing is in flight any more, or nobody waits for that; programs still run
	ended      chan struct{} // closed when the main loop has left; commands are not taken any more
	cleanup    []func()      // in the order in which things were set up; run backwards
}

// Run is `inpod run`: it starts everything, serves until a signal, a control call, or the main or an essential
// program ends it, and returns the exit code. Call it once in a process; ctx's end is a drain as SIGTERM's.
func Run(ctx context.Context, opts Options) int {
	a := &agent{opts: opts.withDefaults(), began: time.Now(), commands: make(chan command), drained: make(chan struct{}), ended: make(chan struct{})}
	a.stderr = a.opts.Stderr
	a.src = source{
		configFile: a.opts.ConfigFile, supervisordConf: a.opts.SupervisordConf,
		env: a.opts.Env, mainProgram: a.opts.Main, flags: a.opts.Flags,
	}
	defer a.undo()
	signals := notifySignals()
	defer signals.stop()
	first, err := a.loadFirst()
	if err == nil {
		err = a.start(first)
	}
	if err != nil {
		fmt.Fprintf(a.stderr, "inpod: cannot start:\n%s\n", err)
		return exitNotBegun
	}
	code := a.loop(ctx, first, signals)
	a.finish()
	a.log.Info("ended", "code", code)
	return code
}

// loadFirst makes the users of the settings, whom programs may name, and loads everything.
func (a *agent) loadFirst() (*loaded, error) {
	if cfg, err := a.src.settings(); err == nil {
		a.makeUsers(cfg)
	} // load says what is wrong
	l, err := a.src.load()
	if err != nil && a.users != nil {
		for _, item := range a.users.items() {
			if item.State == itemFailed {
				err = errors.Join(err, fmt.Errorf("cannot make the user %q: %s", item.Name, item.Detail))
			}
		}
	}
	return l, err
}

func (o Options) withDefaults() Options {
	if o.Env == nil {
		o.Env = os.Environ()
	}
	if o.Stdout == nil {
		o.Stdout = os.Stdout
	}
	if o.Stderr == nil {
		o.Stderr = os.Stderr
	}
	// [supervisord] directory= changes the directory, and the files are read again after that.
	for _, path := range []*string{&o.ConfigFile, &o.SupervisordConf} {
		if *path == "" {
			continue
		}
		if abs, err := filepath.Abs(*path); err == nil {
			*path = abs
		}
	}
	return o
}

// undo takes back what start did, last first.
func (a *agent) undo() {
	for i := len(a.cleanup) - 1; i >= 0; i-- {
		a.cleanup[i]()
	}
	a.cleanup = nil
}

func (a *agent) onExit(f func()) { a.cleanup = append(a.cleanup, f) }

// start sets up everything that must be there before the first program, and nothing else: listeners are bound, so
// that a busy port is an error while nothing runs yet, but what answers on them is made while programs start.
func (a *agent) start(l *loaded) error {
	for _, step := range []func(*loaded) error{a.startLog, a.startHost, a.startReaper, a.startSource, a.startListeners, a.startPreparation} {
		if err := step(l); err != nil {
			return err
		}
	}
	return nil
}

// startLog opens the main log, takes over stdout and stderr and makes the logger.
func (a *agent) startLog(l *loaded) error {
	a.settings.Store(l.cfg)
	sv := &l.ini.Supervisord
	var err error
	if a.mainLog, err = output.OpenMainLog(sv.Logfile, sv.LogfileMaxbytes, sv.LogfileBackups); err != nil {
		return err
	}
	a.onExit(func() { _ = a.mainLog.Close() })
	a.logs = &logs{mainLog: a.mainLog}
	a.logs.apply(l.cfg.Log, sv.Loglevel)
	a.log = a.logs.logger()
	a.phase.log = a.log
	a.hub, err = output.NewHub(output.HubOptions{
		Stdout: a.opts.Stdout, Stderr: a.opts.Stderr, Ident: sv.Identifier, Logger: a.log,
	})
	if err != nil {
		return fmt.Errorf("cannot take over standard output: %w", err)
	}
	a.onExit(func() { _ = a.hub.Close() })
	if !sv.Silent {
		a.logs.stdout = a.hub.Stdout()
		a.logs.apply(l.cfg.Log, sv.Loglevel)
	}
	if a.opts.Flags != nil && !sv.Nodaemon {
		a.log.Info("staying in the foreground: there is no daemon mode", "want", "nodaemon=true or -n")
	}
	return nil
}

// startHost applies [supervisord]'s settings of the process itself.
func (a *agent) startHost(l *loaded) error {
	// A small heap that is collected often suits an agent: it must leave the memory to the workload.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
	if err := prepareHost(&l.ini.Supervisord, a.log); err != nil {
		return err
	}
	a.onExit(writePidfile(l.ini.Supervisord.Pidfile, a.log))
	return nil
}

func (a *agent) startReaper(*loaded) error {
	var err error
	if a.reaper, err = proc.New(a.log.With("part", "reaper")); err != nil {
		return err
	}
	a.onExit(func() { _ = a.reaper.Close() })
	return nil
}

func (a *agent) startListeners(l *loaded) error {
	a.servers = newServers(a.log)
	a.onExit(a.servers.close)
	if err := a.servers.listenAdmin(l.cfg); err != nil {
		return err
	}
	if err := a.servers.listenPrograms(l.ini); err != nil {
		return err
	}
	a.processors = newProcessors(func() int64 { return a.proxy.Connections() })
	a.onExit(a.processors.close)
	a.proxy = proxy.New(proxy.Options{Log: a.log, NewCheck: a.newCheck, Loops: a.processors.cores, Client: a.processors.serve})
	a.onExit(a.proxy.Close)
	if err := a.proxy.Apply(l.cfg.Proxy); err != nil {
		return err
	}
	a.ssh = sshd.New(a.sshOptions())
	a.onExit(a.ssh.Close)
	return a.ssh.Apply(a.sshSettings(l))
}

func (a *agent) startPreparation(l *loaded) error {
	a.prep = a.newPreparation(l)
	return nil
}

// startRest is what can wait until the first programs are on their way.
func (a *agent) startRest(l *loaded) {
	for _, w := range l.warnings() {
		a.log.Warn("configuration", "warning", w)
	}
	limitMemory()
	a.metrics = newMetricsHandler(a)
	a.reload = newReloader(a, l)
	a.servers.serveAdmin(a.adminHandler(false), a.adminHandler(true))
	a.reload.start()
	a.prep.start()
	a.kills = watchKills(a.log, killsOfTheContainer)
	a.log.Info("started", "version", a.opts.Version, "pid", os.Getpid(), "socket", a.servers.controlPath,
		"admin", a.servers.adminAddr(), "ssh", cmp.Or(a.ssh.Addr(), config.Off), "programs", a.current.Load().programs, "took", time.Since(a.began).String())
	trimCode()
}

func (a *agent) uptime() time.Duration { return time.Since(a.began) }

// limitMemory keeps the agent's garbage from growing at the workload's expense, unless GOMEMLIMIT says otherwise.
func limitMemory() {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	self, _ := os.ReadFile("/proc/self/cgroup") // absent: the root is read
	if n, ok := metrics.OwnMemoryLimit(metrics.ReadCgroup(metrics.CgroupRoot, string(self)).MemoryLimit); ok {
		debug.SetMemoryLimit(n)
	}
}

// restGrace is how long what outlived its program may take to end, killGrace how long SIGKILL may take.
const (
	restGrace = 5 * time.Second
	killGrace = 5 * time.Second
)

// finish ends what is left when the programs have been stopped.
func (a *agent) finish() {
	if a.reload != nil { // else the first programs could not even be listed
		a.reload.stop()
		a.kills.close()
	}
	a.prep.close()
	a.proxy.Close()
	a.ssh.Close()
	ctx, cancel := context.WithTimeoutCause(context.Background(), restGrace+killGrace, errors.New("too slow"))
	defer cancel()
	if err := a.reaper.StopRest(ctx, restGrace); err != nil {
		a.log.Warn("processes are left", "error", err)
	}
	a.servers.close()
}
