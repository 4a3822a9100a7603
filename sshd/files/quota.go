package files

import (
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Quota limits the bytes of the files below a directory, links counted once, holes as if they were full. All sessions
// of the directory share one. It is counted once and then kept by what the sessions do; what others do there is
// seen when it is counted again, which a new session asks for at most now and then.
type Quota struct {
	root  string
	limit int64
	used  atomic.Int64

	// Names come and go one at a time, or what is removed is another file than was looked at. It is locked before:
	names sync.Mutex
	// One file grows or shrinks at a time, or two sessions would both count the same growth.
	sizes [64]sync.Mutex

	mu    sync.Mutex
	next  time.Time // no count before
	count bool      // one is under way
}

// NewQuota makes the quota of a directory; Open counts what is there.
func NewQuota(root string, limit int64) *Quota { return &Quota{root: root, limit: limit} }

// Used and Left are in bytes. More may be used than the limit, when others put it there.
func (q *Quota) Used() int64 { return q.used.Load() }

// Left is what can still be written.
func (q *Quota) Left() int64 { return max(0, q.limit-q.used.Load()) }

const (
	countAgain = time.Minute
	countShare = 20 // counting may take this fraction of the time
)

// refresh counts what is there when the last count is old. The first one is waited for: nothing is known before it.
func (q *Quota) refresh() error {
	if q == nil {
		return nil
	}
	q.mu.Lock()
	now := time.Now()
	if now.Before(q.next) || q.count {
		q.mu.Unlock()
		return nil
	}
	first := q.next.IsZero()
	if q.count = true; first {
		defer q.mu.Unlock() // others wait for the first count too
	} else {
		q.mu.Unlock()
	}
	// On a goroutine of its own it is done with the rights of the process, not with the session's.
	done := make(chan error, 1)
	go func() { done <- q.recount(first) }()
	if first {
		return <-done
	}
	return nil
}

// recount counts. The first time the lock is held for it.
func (q *Quota) recount(first bool) error {
	began, before := time.Now(), q.used.Load()
	sum, err := size(q.root)
	if !first {
		q.mu.Lock()
		defer q.mu.Unlock()
	}
	q.count = false
	if err != nil {
		return fmt.Errorf("cannot count what is below %s: %w", q.root, err)
	}
	q.next = time.Now().Add(max(countAgain, countShare*time.Since(began)))
	q.used.CompareAndSwap(before, sum) // while files are written, a count is wrong when it is done
	return nil
}

// size sums the files below a directory. What vanishes while it looks is not there.
func size(root string) (sum int64, err error) {
	type inode struct{ dev, ino uint64 }
	seen := map[inode]bool{}
	dir, err := os.OpenRoot(root)
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	err = fs.WalkDir(dir.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Nlink > 1 {
			id := inode{uint64(st.Dev), st.Ino}
			if seen[id] {
				return nil
			}
			seen[id] = true
		}
		sum += info.Size()
		return nil
	})
	return sum, err
}

// reserve takes n bytes, or none. What does not grow is never too much, also where others have used more than the limit.
func (q *Quota) reserve(n int64) error {
	for {
		used := q.used.Load()
		if n > 0 && n > q.limit-used {
			return syscall.EDQUOT
		}
		if q.used.CompareAndSwap(used, used+n) {
			return nil
		}
	}
}

func (q *Quota) release(n int64) { q.used.Add(-n) }

// create runs open, which may make a file.
func (q *Quota) create(open func() (*os.File, error)) (*os.File, error) {
	if q != nil {
		q.names.Lock()
		defer q.names.Unlock()
	}
	return open()
}

func (q *Quota) lock(ino uint64) *sync.Mutex {
	mu := &q.sizes[ino%uint64(len(q.sizes))]
	mu.Lock()
	return mu
}

// unlinked runs remove, which takes the name away from what it stands for, and gives its bytes back when it was the
// last name.
func (q *Quota) unlinked(dir int, name string, remove func() error) error {
	if q == nil {
		return remove()
	}
	q.names.Lock()
	defer q.names.Unlock()
	// Held by a handle the file can be asked how many names are left, whoever else removes at the same time.
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return remove()
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return remove()
	}
	defer q.lock(st.Ino).Unlock()
	if err := remove(); err != nil {
		return err
	}
	if unix.Fstat(fd, &st) == nil && st.Nlink == 0 {
		q.release(st.Size)
	}
	return nil
}
