package supervisor

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long files must be left alone before a program is restarted for them: an installation writes many.
const settle = 500 * time.Millisecond

// watcher restarts programs whose binary or files change. It costs nothing until a program wants it.
type watcher struct {
	sup    *Supervisor
	active atomic.Int32 // programs whose files are watched now

	mu    sync.Mutex
	notes map[*process]context.CancelFunc
	ended bool
	work  sync.WaitGroup
}

func newWatcher(s *Supervisor) *watcher {
	return &watcher{sup: s, notes: map[*process]context.CancelFunc{}}
}

// run ends all watches when ctx does.
func (w *watcher) run(ctx context.Context) {
	<-ctx.Done()
	w.mu.Lock()
	w.ended = true
	for _, cancel := range w.notes {
		cancel()
	}
	w.mu.Unlock()
	w.work.Wait()
}

func (w *watcher) add(p *process) {
	if !p.cfg.RestartOnBinaryChange && p.cfg.WatchDir == "" {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.notes[p] = cancel
	w.work.Go(func() {
		guard(p.log, "watch", func() {
			if err := w.watch(ctx, p); err != nil {
				p.log.Error("cannot watch the program's files", "error", err)
			}
		})
	})
}

func (w *watcher) remove(p *process) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if cancel, ok := w.notes[p]; ok {
		cancel()
		delete(w.notes, p)
	}
}

// watch follows the files of one program until ctx ends.
func (w *watcher) watch(ctx context.Context, p *process) error {
	n, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	defer n.Close()
	binary := ""
	if p.cfg.RestartOnBinaryChange {
		if binary, err = p.command(); err != nil {
			return err
		}
		if binary, err = filepath.Abs(binary); err != nil {
			return err
		}
		// The directory, since a new binary is moved over the old one.
		if err := n.Add(filepath.Dir(binary)); err != nil {
			return err
		}
	}
	if dir := p.cfg.WatchDir; dir != "" {
		if err := addTree(n, dir); err != nil {
			return err
		}
	}
	w.active.Add(1)
	defer w.active.Add(-1)
	timer := time.NewTimer(0)
	<-timer.C
	binaryChanged := false
	for {
		select {
		case e := <-n.Events:
			switch {
			case binary != "" && e.Name == binary && !e.Has(fsnotify.Chmod) && !e.Has(fsnotify.Remove):
				binaryChanged = true
			case p.watches(n, e):
			default:
				continue
			}
			timer.Reset(settle)
		case err := <-n.Errors:
			p.log.Warn("some changes of files may have been missed", "error", err)
		case <-timer.C:
			p.filesChanged(ctx, binaryChanged)
			binaryChanged = false
		case <-ctx.Done():
			return nil
		}
	}
}

// watches tells whether a change concerns the files that the program named. New directories are watched, too.
func (p *process) watches(n *fsnotify.Watcher, e fsnotify.Event) bool {
	rel, err := filepath.Rel(p.cfg.WatchDir, e.Name)
	if p.cfg.WatchDir == "" || err != nil || !filepath.IsLocal(rel) || e.Op == fsnotify.Chmod {
		return false
	}
	if e.Has(fsnotify.Create) {
		_ = addTree(n, e.Name)
	}
	pattern := p.cfg.WatchPattern
	if pattern == "" {
		pattern = "*"
	}
	ok, err := filepath.Match(pattern, filepath.Base(e.Name))
	return ok && err == nil
}

func addTree(n *fsnotify.Watcher, dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if path == dir {
				return err
			}
			return nil // it went away meanwhile
		}
		if d.IsDir() {
			return n.Add(path)
		}
		return nil
	})
}

// filesChanged does what the program wants when its files changed: a command, a signal, or a restart.
func (p *process) filesChanged(ctx context.Context, binary bool) {
	key, command, sig := "restart_cmd_when_file_changed", p.cfg.FileChangeCmd, p.cfg.FileChangeSignal
	if binary {
		key, command, sig = "restart_cmd_when_binary_changed", p.cfg.BinaryChangeCmd, p.cfg.BinaryChangeSignal
	}
	p.log.Info("files changed", "binary", binary)
	if command != "" {
		if err := p.hook(ctx, key, command); err != nil {
			p.log.Error("cannot restart by command", "error", err)
		}
		return
	}
	_ = p.ask(ctx, func() {
		if p.m.state != Running && p.m.state != Starting || p.run == nil || p.run.child == nil {
			return
		}
		if sig == 0 {
			p.step(input{kind: inRestart})
			return
		}
		if err := p.run.child.Signal(sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			p.log.Warn("cannot signal", "error", err)
		}
	})
}
