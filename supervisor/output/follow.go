package output

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"
)

// followPeriod is how often a followed file is looked at, as Supervisor does. A period works where inotify does not
// (network and overlay file systems) and costs nothing while nobody follows.
const followPeriod = 100 * time.Millisecond

// truncated is what a client reads when the file shrank below it, in Supervisor's words.
const truncated = "==> File truncated <==\n"

// Follow gives the last head bytes of a file to emit, and then what is added, until ctx ends (then it returns nil) or
// emit returns an error. It goes on through rotation, with what was still unread in the old file, and through
// truncation, which it announces. The first open has to succeed.
func Follow(ctx context.Context, path string, head int64, emit func([]byte) error) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("cannot follow a log: %w", err)
	}
	defer func() { _ = f.Close() }()
	fi, err := f.Stat()
	if err != nil {
		return fmt.Errorf("cannot follow a log: %w", err)
	}
	pos := max(0, fi.Size()-head)
	buf := make([]byte, 32<<10)
	tick := time.NewTicker(followPeriod)
	defer tick.Stop()
	for {
		if pos, err = followOnce(ctx, f, pos, buf, emit); err != nil || ctx.Err() != nil {
			return err
		}
		if next := rotated(f, path); next != nil {
			// What came between the last look and the rename.
			if _, err = followOnce(ctx, f, pos, buf, emit); err != nil {
				_ = next.Close()
				return err
			}
			_ = f.Close()
			f, pos = next, 0
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// followOnce emits what is in f beyond pos and returns the new position.
func followOnce(ctx context.Context, f *os.File, pos int64, buf []byte, emit func([]byte) error) (int64, error) {
	fi, err := f.Stat()
	if err != nil {
		return pos, fmt.Errorf("cannot follow a log: %w", err)
	}
	if fi.Size() < pos {
		if err := emit([]byte(truncated)); err != nil {
			return pos, err
		}
		pos = 0
	}
	for ctx.Err() == nil {
		n, err := f.ReadAt(buf, pos)
		if n > 0 {
			pos += int64(n)
			if err := emit(buf[:n]); err != nil {
				return pos, err
			}
		}
		if err == io.EOF || n == 0 {
			return pos, nil
		}
		if err != nil {
			return pos, fmt.Errorf("cannot follow a log: %w", err)
		}
	}
	return pos, nil
}

// rotated opens path when it is another file than f by now.
func rotated(f *os.File, path string) *os.File {
	now, err := os.Stat(path)
	if err != nil {
		return nil
	}
	if was, err := f.Stat(); err != nil || os.SameFile(was, now) {
		return nil
	}
	next, err := os.Open(path)
	if err != nil {
		return nil
	}
	return next
}
