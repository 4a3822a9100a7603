package models

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// What is in a work directory.
const (
	partName  = "part"  // the file that is being fetched
	newName   = "new"   // the model as it grows; what is moved into its place
	oldName   = "old"   // what it replaces
	stateName = "state" // workState
	ownedName = "owned" // says that what is around the work directory is inpod's to replace
)

// work is the directory beside the model's in which it is put together. Only the holder of its lock uses it; it outlives
// the agent, so that the next one goes on.
type work struct {
	dir   string
	root  *os.Root
	lock  *os.File
	state workState
	bytes int64 // that were put into the new model
}

// workState is what the next agent must know.
type workState struct {
	Source  string     `json:"source"`  // fingerprint of what the settings say
	Version string     `json:"version"` // of the listing
	Part    *partState `json:"part,omitempty"`
	// Mixed tells that new holds what came out of archives. Where it does not, each file in it is whole.
	Mixed bool `json:"mixed,omitempty"`
}

// partState is what a partial file is of.
type partState struct {
	Name    string `json:"name"`
	Tag     string `json:"tag,omitempty"`
	Version string `json:"version,omitempty"`
	Total   int64  `json:"total"`
}

// fingerprint changes with what the settings say of the unit's content. A query is left out: it may be signed anew.
func (u *unit) fingerprint() string {
	at, _, _ := strings.Cut(u.url, "?")
	sum := sha256.Sum256([]byte(strings.Join([]string{at, u.sha256, u.model.Unpack, u.model.Path}, "\x00")))
	return hex.EncodeToString(sum[:])
}

// openWork makes the work directory, or goes on with what an earlier agent left there. Another agent that has it now, of
// a pod with the same volume, is waited for.
func (u *unit) openWork(ctx context.Context, p *place) (*work, error) {
	if err := os.MkdirAll(filepath.Dir(p.to), 0o755); err != nil {
		return nil, final(p.explain(err))
	}
	w := &work{dir: p.work}
	if err := u.acquire(ctx, w, p); err != nil {
		return nil, err
	}
	if p.changed() {
		_ = os.Remove(w.dir) // we may have made it, and nobody else has it
		w.close()
		return nil, errQuicker
	}
	var err error
	if w.root, err = os.OpenRoot(w.dir); err != nil {
		w.close()
		return nil, final(p.explain(err))
	}
	if b, err := w.root.ReadFile(stateName); err == nil {
		_ = json.Unmarshal(b, &w.state) // a torn one is as good as none
	}
	return w, nil
}

// errQuicker tells that another process has put the model there while its lock was waited for.
var errQuicker = errors.New("another process was quicker")

// lockPeriod is the time between two looks at a lock that another process has.
const lockPeriod = 500 * time.Millisecond

// acquire makes the directory and locks it. It is removed by its last holder, so after a wait it may be another one.
func (u *unit) acquire(ctx context.Context, w *work, p *place) error {
	for said := false; ; {
		if err := os.Mkdir(w.dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return final(p.explain(err))
		}
		var err error
		if w.lock, err = os.OpenFile(w.dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			return final(p.explain(err))
		}
		err = unix.Flock(int(w.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil || !errors.Is(err, unix.EWOULDBLOCK) { // a file system without locks has none to wait for
			here, err := os.Lstat(w.dir)
			mine, merr := w.lock.Stat()
			if err == nil && merr == nil && os.SameFile(here, mine) {
				return nil
			}
		} else if !said {
			said = true
			u.set(stateFetching, "another process is fetching it")
			u.log.Info("another process is fetching the model; waiting for it", "lock", w.dir)
		}
		w.close()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lockPeriod):
		}
	}
}

// close gives the lock back and leaves everything as it is.
func (w *work) close() {
	if w.root != nil {
		_ = w.root.Close()
		w.root = nil
	}
	if w.lock != nil {
		_ = w.lock.Close()
		w.lock = nil
	}
}

// remove takes the directory away.
func (w *work) remove() error { return os.RemoveAll(w.dir) }

// suits makes the directory fit the listing: what is of another one is thrown away.
func (w *work) suits(u *unit, l *listing) error {
	s := &w.state
	same := s.Source == u.fingerprint() && (l.version == "" || s.Version == l.version)
	if !same {
		s.Part = nil
		if err := w.root.RemoveAll(partName); err != nil {
			return err
		}
	}
	if !same || s.Mixed {
		if err := w.root.RemoveAll(newName); err != nil {
			return err
		}
		s.Mixed = false
	}
	s.Source, s.Version = u.fingerprint(), l.version
	if err := w.save(); err != nil {
		return err
	}
	return w.root.MkdirAll(newName, 0o755)
}

// save writes the state, whole or not at all.
func (w *work) save() error {
	b, err := json.Marshal(&w.state)
	if err != nil {
		panic("BUG: models: " + err.Error())
	}
	if err := w.root.WriteFile(stateName+".tmp", b, 0o600); err != nil {
		return err
	}
	return w.root.Rename(stateName+".tmp", stateName)
}

// space fails when the file system has less than n bytes for us.
func (w *work) space(n int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(w.dir, &st); err != nil || n <= 0 {
		return nil // what cannot be known is found out
	}
	if free := int64(st.Bavail) * st.Bsize; free < n {
		return fmt.Errorf("the file system of %s has %s free, and %s are still to come", filepath.Dir(w.dir), bytesText(free), bytesText(n))
	}
	return nil
}
