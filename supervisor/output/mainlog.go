package output

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
)

// ringSize is what a main log without a file remembers.
const ringSize = 64 << 10

// MainLog keeps the agent's own log where readLog and maintail find it: in a rotating file, or, without a file, the
// last 64 KiB in memory. It is an io.Writer for a slog handler; a Write is one record.
type MainLog struct {
	file *file // nil: the ring

	mu    sync.Mutex
	ring  []byte        // the last bytes, ringSize at most
	start int64         // how many bytes came before ring
	added chan struct{} // closed at the next write when somebody follows
}

// OpenMainLog opens [supervisord] logfile; "" keeps the log in memory.
func OpenMainLog(path string, maxbytes int64, backups int) (*MainLog, error) {
	if path == "" {
		return &MainLog{}, nil
	}
	f, err := newFile(path, maxbytes, backups)
	if err != nil {
		return nil, fmt.Errorf("cannot open logfile of [supervisord]: %w", err)
	}
	return &MainLog{file: f}, nil
}

// Path is the file, or "" when the log is in memory.
func (m *MainLog) Path() string {
	if m.file == nil {
		return ""
	}
	return m.file.path
}

// Write adds one record.
func (m *MainLog) Write(p []byte) (int, error) {
	if m.file != nil {
		return m.file.Write(p)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	// Trimmed only at twice the size, so that a write does not move the whole ring.
	m.ring = append(m.ring, p...)
	if over := len(m.ring) - ringSize; over > ringSize {
		m.start += int64(over)
		m.ring = append(m.ring[:0], m.ring[over:]...)
	}
	if m.added != nil {
		close(m.added)
		m.added = nil
	}
	return len(p), nil
}

// Read is ReadFile on the log; fs.ErrNotExist when the file is gone.
func (m *MainLog) Read(offset, length int64) ([]byte, error) {
	if m.file != nil {
		if _, err := os.Stat(m.file.path); errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		return ReadFile(m.file.path, offset, length)
	}
	if (offset < 0 && length != 0) || length < 0 {
		return nil, ErrBadArguments
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	ring := m.last()
	size := int64(len(ring))
	if offset < 0 {
		offset = max(0, size+offset)
	}
	offset = min(offset, size)
	if length == 0 || length > size-offset {
		length = size - offset
	}
	return append([]byte(nil), ring[offset:offset+length]...), nil
}

// last is what the ring shows: ringSize bytes at most.
func (m *MainLog) last() []byte {
	return m.ring[max(0, len(m.ring)-ringSize):]
}

// Clear empties the log; fs.ErrNotExist when its file is gone.
func (m *MainLog) Clear() error {
	if m.file != nil {
		if _, err := os.Stat(m.file.path); err != nil {
			return err
		}
		return m.file.Clear()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.start += int64(len(m.ring))
	m.ring = nil
	return nil
}

// Reopen opens the file again (SIGUSR2).
func (m *MainLog) Reopen() error {
	if m.file == nil {
		return nil
	}
	return m.file.Reopen()
}

// Close closes the file.
func (m *MainLog) Close() error {
	if m.file == nil {
		return nil
	}
	return m.file.Close()
}

// Follow is Follow on the log.
func (m *MainLog) Follow(ctx context.Context, head int64, emit func([]byte) error) error {
	if m.file != nil {
		return Follow(ctx, m.file.path, head, emit)
	}
	m.mu.Lock()
	end := m.start + int64(len(m.ring))
	pos := max(end-head, end-int64(len(m.last())))
	m.mu.Unlock()
	for ctx.Err() == nil {
		m.mu.Lock()
		pos = max(pos, m.start)
		piece := append([]byte(nil), m.ring[min(pos-m.start, int64(len(m.ring))):]...)
		if len(piece) == 0 && m.added == nil {
			m.added = make(chan struct{})
		}
		added := m.added
		m.mu.Unlock()
		if len(piece) > 0 {
			pos += int64(len(piece))
			if err := emit(piece); err != nil {
				return err
			}
			continue
		}
		select {
		case <-ctx.Done():
		case <-added:
		}
	}
	return nil
}
