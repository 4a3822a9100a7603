package agent

import (
	"errors"
	"hash/fnv"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long files must be quiet before they are read: editors and kubelet write in several steps.
const settle = 250 * time.Millisecond

// settleMost is how long they may be not quiet: a file that is written all the time must not hold up the others.
const settleMost = 2 * time.Second

// kubeletData is the link that kubelet swaps to change every file of a ConfigMap or Secret at once
// (pkg/volume/util/atomic_writer.go).
const kubeletData = "..data"

// watch tells when files, or files that match globs, may have changed. It watches directories: a file that is
// replaced by a rename is another file, and a link's target has no events in the link's directory.
type watch struct {
	log   *slog.Logger
	fs    *fsnotify.Watcher // nil when the kernel has none left
	dirs  map[string]bool
	files []string
	globs []string
	print uint64 // of what was read last
	out   chan struct{}
	done  chan struct{}
	quit  chan struct{} // closed to end the polling; nil with fs
	set   chan interest
}

// interest is what an event must be about.
type interest struct {
	names map[string]bool // whole paths
	globs []string
}

func newWatch(log *slog.Logger) *watch {
	w := &watch{log: log, dirs: map[string]bool{}, out: make(chan struct{}), done: make(chan struct{}), set: make(chan interest)}
	var err error
	if w.fs, err = fsnotify.NewWatcher(); err != nil {
		log.Warn("cannot watch files; they are looked at from time to time, and SIGHUP reloads at once", "error", err, "period", pollPeriod.String())
		w.startPolling(pollPeriod)
		return w
	}
	go w.loop()
	return w
}

// pollPeriod is how often files are looked at where the kernel tells nothing of them.
const pollPeriod = 5 * time.Second

// startPolling has everything looked at every period. The inotify instances of a node are counted by user, for all its
// containers together: another one's may have used them up.
func (w *watch) startPolling(period time.Duration) {
	w.quit = make(chan struct{})
	go func() {
		defer close(w.done)
		ticker := time.NewTicker(period)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
			case <-w.quit:
				return
			}
			select {
			case w.out <- struct{}{}:
			case <-w.quit:
				return
			}
		}
	}()
}

func (w *watch) close() {
	if w.fs != nil {
		_ = w.fs.Close()
	} else {
		close(w.quit)
	}
	<-w.done
}

// changed gives a value when something of interest happened and then nothing for a moment.
func (w *watch) changed() <-chan struct{} { return w.out }

// loop reads events; it owns the timer and the interest.
func (w *watch) loop() {
	defer close(w.done)
	timer := time.NewTimer(0)
	<-timer.C
	var in interest
	var out chan struct{} // w.out while there is something to tell
	var since time.Time   // of the first event that has not been told
	again := func() {
		if since.IsZero() {
			since = time.Now()
		}
		if time.Since(since) < settleMost {
			timer.Reset(settle)
		}
	}
	for {
		select {
		case ev, ok := <-w.fs.Events:
			if !ok {
				return
			}
			if in.concerns(ev) {
				again()
			}
		case err, ok := <-w.fs.Errors:
			if !ok {
				return
			}
			// Events may be lost (inotify's queue is full): look.
			w.log.Warn("cannot follow every change of files", "error", err)
			again()
		case <-timer.C:
			out, since = w.out, time.Time{}
		case out <- struct{}{}:
			out = nil
		case in = <-w.set:
		}
	}
}

// concerns keeps out what is written beside the configuration all the time, such as a log file in its directory.
func (in *interest) concerns(ev fsnotify.Event) bool {
	if filepath.Base(ev.Name) == kubeletData || in.names[ev.Name] {
		return true
	}
	for _, g := range in.globs {
		if ok, _ := filepath.Match(g, ev.Name); ok { // a bad pattern was refused when it was read
			return true
		}
		// A directory on the way to the glob has come.
		if ev.Has(fsnotify.Create) && strings.HasPrefix(g, ev.Name+string(filepath.Separator)) {
			return true
		}
	}
	return false
}

// follow makes these the files and globs that are watched. print is the fingerprint of what was read: ask differs
// afterwards, for a change between the reading and now has no event.
func (w *watch) follow(files, globs []string, print uint64) {
	w.files, w.globs, w.print = files, globs, print
	if w.fs == nil {
		return
	}
	in := interest{names: map[string]bool{}, globs: globs}
	dirs := map[string]bool{}
	for _, f := range files {
		abs, err := filepath.Abs(f)
		if err != nil {
			continue
		}
		in.names[abs] = true
		in.addParents(dirs, abs)
		if real, err := filepath.EvalSymlinks(abs); err == nil && real != abs {
			in.names[real] = true
			in.addParents(dirs, real)
		}
	}
	for _, g := range globs {
		in.addParents(dirs, g)
	}
	for dir := range dirs {
		// Also one that is watched: it may be another directory of the same name by now.
		if err := w.fs.Add(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			w.log.Warn("cannot watch a directory; SIGHUP reloads", "directory", dir, "error", err)
		}
	}
	for dir := range w.dirs {
		if !dirs[dir] {
			_ = w.fs.Remove(dir) // it may be gone
		}
	}
	w.dirs = dirs
	select {
	case w.set <- in:
	case <-w.done:
	}
}

// addParents adds the nearest directory of path that exists, and path's way below it as names to wait for.
func (in *interest) addParents(dirs map[string]bool, path string) {
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if st, err := os.Stat(dir); err == nil && st.IsDir() {
			dirs[dir] = true
			return
		}
		in.names[dir] = true
		if dir == filepath.Dir(dir) {
			return
		}
	}
}

// differs tells whether what would be read now is not what was read last. Many events change nothing: kubelet
// touches links, editors rewrite the same text. What was made meanwhile, such as a directory on the way to a file, is
// watched from now on.
func (w *watch) differs() bool {
	w.follow(w.files, w.globs, w.print)
	now := fingerprint(w.files, w.globs)
	was := w.print
	w.print = now
	return now != was
}

// fingerprint is a hash over names and contents. It bounds what it reads as the parsers do.
func fingerprint(files, globs []string) uint64 {
	h := fnv.New64a()
	add := func(path string) {
		io.WriteString(h, path+"\x00")
		f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // NONBLOCK: no FIFO is waited for
		if err != nil {
			io.WriteString(h, "absent\x00")
			return
		}
		defer f.Close()
		if st, err := f.Stat(); err == nil && st.Mode().IsRegular() {
			_, _ = io.Copy(h, io.LimitReader(f, 16<<20)) // what cannot be read is refused by the reload
		}
	}
	for _, f := range files {
		add(f)
	}
	for _, g := range globs {
		matches, _ := filepath.Glob(g) // a bad pattern was refused when it was read
		for _, m := range matches {
			add(m)
		}
	}
	return h.Sum64()
}
