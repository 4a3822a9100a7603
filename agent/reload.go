package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inpod/inpod/config"
	"github.com/inpod/inpod/supervisor"
	"github.com/inpod/inpod/supervisor/ini"
)

// reloader reads the configuration again when it is asked to or a file changes. A configuration with any error
// changes nothing.
type reloader struct {
	a        *agent
	log      *slog.Logger
	asks     chan string   // reasons; holds one, which stands for all that come meanwhile
	replaced chan struct{} // holds one: what is in force is another
	quit     chan struct{}
	done     chan struct{}

	good, bad atomic.Uint64 // reloads
	ended     sync.Once

	doing sync.Mutex // held during a reload; guards now and what it changes

	mu     sync.Mutex
	loaded *loaded   // what is in force
	at     time.Time // of the last reload; zero before the first
	err    error     // of the last reload
}

func newReloader(a *agent, l *loaded) *reloader {
	return &reloader{
		a: a, log: a.log.With("part", "reload"), loaded: l,
		asks: make(chan string, 1), replaced: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{}),
	}
}

// start begins to watch.
func (r *reloader) start() { go r.loop() }

func (r *reloader) stop() {
	r.ended.Do(func() { close(r.quit) })
	<-r.done
}

// request asks for a reload and does not wait for it.
func (r *reloader) request(reason string) {
	select {
	case r.asks <- reason:
	default: // one is waiting already, and will read what is there then
	}
}

func (r *reloader) loop() {
	defer close(r.done)
	w := newWatch(r.log)
	defer w.close()
	for followed := (*loaded)(nil); ; {
		if l := r.inForce(); l != followed {
			followed = l
			w.follow(l.files, l.globs, l.print)
			if w.differs() {
				r.request("a file has changed")
			}
		}
		select {
		case <-r.quit:
			return
		case <-r.replaced:
		case reason := <-r.asks:
			_ = r.now(reason) // it has been logged
		case <-w.changed():
			if w.differs() {
				_ = r.now("a file has changed")
			}
		}
	}
}

func (r *reloader) inForce() *loaded {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.loaded
}

// last tells of the last reload.
func (r *reloader) last() (time.Time, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.at, r.err
}

// now reloads and returns what is wrong; it has been logged and counted then.
func (r *reloader) now(reason string) error {
	r.doing.Lock()
	defer r.doing.Unlock()
	r.log.Info("reading the configuration again", "reason", reason)
	old := r.inForce()
	next, err := r.a.src.loadAgain(old)
	if err == nil {
		err = r.apply(old, next)
	}
	if err != nil {
		r.failed(err)
		return err
	}
	r.replace(next)
	r.a.rewriteFiles(next.cfg)
	r.programs(old.ini, next)
	return nil
}

// restart loads everything for a new generation. It was good a moment ago; should it be bad now, or an address be
// taken, what was in force stays.
func (r *reloader) restart() *loaded {
	r.doing.Lock()
	defer r.doing.Unlock()
	old := r.inForce()
	next, err := r.a.src.loadAgain(old)
	if err == nil {
		err = r.apply(old, next)
		if err == nil {
			if err = r.a.servers.listenPrograms(next.ini); err != nil {
				err = errors.Join(err, r.apply(next, old), r.a.servers.listenPrograms(old.ini))
			}
		}
	}
	if err != nil {
		r.failed(err)
		return old
	}
	r.replace(next)
	r.a.rewriteFiles(next.cfg) // the watch has seen their texts with this
	return next
}

// apply changes what the settings say, first what may fail.
func (r *reloader) apply(old, next *loaded) error {
	a := r.a
	if err := a.proxy.Apply(next.cfg.Proxy); err != nil {
		return err
	}
	err := a.ssh.Apply(a.sshSettings(next))
	if err == nil {
		err = a.servers.rebind(next.cfg.Admin.Listen, a.adminHandler(false))
		if err != nil {
			err = errors.Join(err, a.ssh.Apply(a.sshSettings(old)))
		}
	}
	if err != nil {
		return errors.Join(err, a.proxy.Apply(old.cfg.Proxy))
	}
	if slices.Compare(old.cfg.SocketPaths(), next.cfg.SocketPaths()) != 0 {
		r.log.Warn("admin.socket has changed; that takes effect when the agent is started again")
	}
	if !reflect.DeepEqual(old.cfg.Models, next.cfg.Models) {
		r.log.Warn("models have changed; that takes effect when the agent is started again")
	}
	r.once(old.cfg, next.cfg)
	return nil
}

// once warns of settings that are used once in the agent's life, before the programs. Files are written again.
func (r *reloader) once(old, next *config.Config) {
	var keys []string
	for _, k := range []struct {
		key       string
		old, next any
	}{
		{"supervisor.source", old.Supervisor.Source, next.Supervisor.Source},
		{"users", old.Users, next.Users},
		{"seed", old.Seed, next.Seed},
		{"hooks", old.Hooks, next.Hooks},
	} {
		if !reflect.DeepEqual(k.old, k.next) {
			keys = append(keys, k.key)
		}
	}
	if len(keys) > 0 {
		r.log.Warn("settings have changed that take effect when the agent is started again", "keys", strings.Join(keys, " "))
	}
}

// fixed warns of keys that have an effect on the agent's own process, and so only at its start.
func (r *reloader) fixed(old, next *ini.Supervisord) {
	var keys []string
	for _, k := range []struct {
		key  string
		same bool
	}{
		{"logfile", old.Logfile == next.Logfile},
		{"logfile_maxbytes", old.LogfileMaxbytes == next.LogfileMaxbytes},
		{"logfile_backups", old.LogfileBackups == next.LogfileBackups},
		{"silent", old.Silent == next.Silent},
		{"pidfile", old.Pidfile == next.Pidfile},
		{"umask", old.Umask == next.Umask},
		{"minfds", old.Minfds == next.Minfds},
		{"minprocs", old.Minprocs == next.Minprocs},
		{"user", old.User == next.User},
		{"directory", old.Directory == next.Directory},
	} {
		if !k.same {
			keys = append(keys, k.key)
		}
	}
	if len(keys) > 0 {
		r.log.Warn("settings of [supervisord] have changed that take effect when the agent is started again", "keys", strings.Join(keys, " "))
	}
}

// replace puts next in force.
func (r *reloader) replace(next *loaded) {
	r.fixed(&r.inForce().ini.Supervisord, &next.ini.Supervisord)
	r.a.settings.Store(next.cfg)
	r.a.logs.apply(next.cfg.Log, next.ini.Supervisord.Loglevel)
	r.good.Add(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.loaded, r.at, r.err = next, time.Now(), nil
	select {
	case r.replaced <- struct{}{}:
	default:
	}
	for _, w := range next.warnings() {
		r.log.Warn("configuration", "warning", w)
	}
}

// failed logs and counts a reload that changed nothing.
func (r *reloader) failed(err error) {
	r.bad.Add(1)
	r.mu.Lock()
	r.at, r.err = time.Now(), err
	r.mu.Unlock()
	for _, line := range lines(err) {
		r.log.Error("the configuration is bad; the old one stays in force", "problem", line)
	}
}

// programs brings the programs to what the files say, where supervisor.auto_update wants it.
func (r *reloader) programs(old *ini.Config, next *loaded) {
	added, changed, removed := next.ini.Diff(old)
	if !next.cfg.Supervisor.AutoUpdate {
		if len(added)+len(changed)+len(removed) > 0 {
			r.log.Info("programs have changed; inpod ctl update makes them so",
				"added", strings.Join(added, " "), "changed", strings.Join(changed, " "), "removed", strings.Join(removed, " "))
		}
		return
	}
	if err := r.update(r.a.current.Load().sup); err != nil {
		r.log.Error("cannot update every program", "error", err)
	}
}

// update is supervisorctl's update.
func (r *reloader) update(sup *supervisor.Supervisor) error {
	added, changed, removed, err := sup.Reread()
	if err != nil {
		return err
	}
	ctx := context.Background() // a stop ends by itself, after stopwaitsecs at the latest
	var errs []error
	remove := func(name string) bool {
		_, err := sup.StopGroup(ctx, name, true)
		if err == nil {
			err = sup.RemoveGroup(name)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("cannot remove %q: %w", name, err))
		}
		return err == nil
	}
	add := func(name string) {
		if err := sup.AddGroup(name); err != nil {
			errs = append(errs, fmt.Errorf("cannot add %q: %w", name, err))
		}
	}
	for _, name := range removed {
		remove(name)
	}
	for _, name := range changed { // one after the other: the next may take long to stop
		if remove(name) {
			add(name)
		}
	}
	for _, name := range added {
		add(name)
	}
	r.log.Info("programs are updated", "added", strings.Join(added, " "), "changed", strings.Join(changed, " "), "removed", strings.Join(removed, " "))
	return errors.Join(errs...)
}
