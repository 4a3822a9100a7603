package models

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path"
	"path/filepath"
	"time"
)

// stallTime is how long no byte may come before the connection is given up.
const stallTime = time.Minute

// copyBuffer is what is read at a time: each file has one.
const copyBuffer = 256 << 10

// bring fetches one file of the listing and puts it into the new model.
func (u *unit) bring(ctx context.Context, w *work, f *file, st *stamp) error {
	if !w.state.Mixed && f.size >= 0 {
		if st, err := w.root.Lstat(path.Join(newName, f.name)); err == nil && st.Size() == f.size {
			u.done.Add(f.size)
			return final(u.count(w, f.size)) // an earlier attempt brought it
		}
	}
	sum, err := u.fetchPart(ctx, w, f)
	if err != nil {
		if local(err) {
			err = final(err)
		}
		return err
	}
	if st.SHA256 == "" {
		st.SHA256 = sum
	}
	if st.Version == "" {
		st.Version = w.state.Part.Version
	}
	err = u.take(ctx, w, f)
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return final(err) // all of this is between us and our disk
}

// take unpacks the file that was fetched, or moves it as it is.
func (u *unit) take(ctx context.Context, w *work, f *file) error {
	kind, err := u.archiveKind(w, f)
	if err != nil {
		return err
	}
	if kind != "" {
		u.set(stateUnpacking, "unpacking "+f.name)
		w.state.Mixed = true
		if err := w.save(); err != nil {
			return err
		}
		if err := u.unpack(ctx, w, f, kind); err != nil {
			return fmt.Errorf("cannot unpack %s (%s): %w", f.name, kind, err)
		}
		return w.root.Remove(partName)
	}
	if u.model.Path != "" {
		return fmt.Errorf("path is given, but %s is no archive", f.name)
	}
	st, err := w.root.Lstat(partName)
	if err != nil {
		return err
	}
	if err := u.count(w, st.Size()); err != nil {
		return err
	}
	name := path.Join(newName, filepath.ToSlash(f.name))
	if err := w.root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	if err := w.root.Chmod(partName, 0o644); err != nil {
		return err
	}
	return w.root.Rename(partName, name)
}

// worthResuming is the size from which on a partial file outlives the agent.
const worthResuming = 1 << 20

// part is the partial file while it grows.
type part struct {
	*os.File
	size int64
	sum  hash.Hash // of its first size bytes
}

// fetchPart makes the work directory's partial file the whole of f and returns its SHA-256.
func (u *unit) fetchPart(ctx context.Context, w *work, f *file) (string, error) {
	p, err := u.openPart(ctx, w, f)
	if err != nil {
		return "", err
	}
	defer p.Close()
	resumed := p.size
	if s := w.state.Part; s == nil || s.Total < 0 || p.size != s.Total {
		if resumed, err = u.rest(ctx, w, f, p); err != nil {
			return "", err
		}
	} else {
		u.done.Add(p.size)
	}
	sum := hex.EncodeToString(p.sum.Sum(nil))
	if f.sha256 == "" || sum == f.sha256 {
		return sum, nil
	}
	w.state.Part = nil
	if err := errors.Join(w.save(), w.root.Remove(partName)); err != nil {
		return "", err
	}
	err = fmt.Errorf("the SHA-256 of %s is %s (%d bytes), want %s", f.name, sum, p.size, f.sha256)
	if resumed > 0 {
		return "", fmt.Errorf("%w; it was put together from several answers and is fetched again", err)
	}
	return "", final(err)
}

// openPart opens what there is of f, and sums it up.
func (u *unit) openPart(ctx context.Context, w *work, f *file) (*part, error) {
	file, err := w.root.OpenFile(partName, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	p := &part{File: file, sum: sha256.New()}
	st, err := file.Stat()
	if err == nil {
		p.size = st.Size()
		s := w.state.Part
		if s == nil || s.Name != f.name || s.Tag == "" && f.sha256 == "" || s.Total >= 0 && p.size > s.Total {
			w.state.Part = nil
			err = p.restart()
		}
	}
	if err == nil && p.size > 0 {
		u.set(stateFetching, "reading what is there")
		_, err = io.Copy(p.sum, io.LimitReader(contextReader{ctx, file}, p.size))
		u.set(stateFetching, "")
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return p, nil
}

// restart makes the file empty.
func (p *part) restart() error {
	p.sum.Reset()
	p.size = 0
	if _, err := p.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return p.Truncate(0)
}

// rest fetches what is missing, and returns how much there was to go on from.
func (u *unit) rest(ctx context.Context, w *work, f *file, p *part) (resumed int64, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	tag := ""
	if w.state.Part != nil {
		tag = w.state.Part.Tag
	}
	b, err := f.open(ctx, p.size, tag)
	if err != nil {
		return 0, err
	}
	defer b.Close()
	switch {
	case b.from != p.size:
		u.log.Info("the source sends the file from its beginning", "file", f.name, "had", p.size)
		if err := p.restart(); err != nil {
			return 0, err
		}
	case p.size > 0:
		u.log.Info("going on with a file that was fetched in part", "file", f.name, "at", p.size)
	}
	if f.size >= 0 && b.total >= 0 && b.total != f.size {
		return 0, fmt.Errorf("%s has %d bytes, but %d were announced", f.name, b.total, f.size)
	}
	s := partState{Name: f.name, Tag: b.tag, Version: b.version, Total: b.total}
	if w.state.Part == nil || *w.state.Part != s {
		w.state.Part = &s
		// Of a small file nobody needs to know more than that it is not whole.
		if b.total < 0 || b.total >= worthResuming {
			err = w.save()
		}
		if err != nil {
			return 0, err
		}
	}
	u.done.Add(p.size)
	if f.size < 0 && b.total >= 0 {
		u.total.Store(b.total)
	}
	if err := w.space(b.total - p.size); err != nil {
		return 0, final(err)
	}
	resumed = p.size
	timer := time.AfterFunc(stallTime, func() { cancel(fmt.Errorf("no byte came for %s", stallTime)) })
	defer timer.Stop()
	err = u.pour(p, b, timer)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	if err == nil && b.total >= 0 && p.size != b.total {
		err = fmt.Errorf("%s ended after %d of %d bytes", f.name, p.size, b.total)
	}
	if err == nil && b.total < 0 {
		s.Total = p.size
		w.state.Part = &s
		err = w.save()
	}
	return resumed, err
}

// pour copies the body to the end of the partial file.
func (u *unit) pour(p *part, b *body, alive *time.Timer) error {
	buf := make([]byte, copyBuffer)
	for {
		n, err := b.Read(buf)
		if n > 0 {
			now := time.Now()
			alive.Reset(stallTime)
			if _, werr := p.Write(buf[:n]); werr != nil {
				return werr
			}
			p.sum.Write(buf[:n])
			p.size += int64(n)
			u.done.Add(int64(n))
			u.received.Add(uint64(n))
			u.report(now)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the connection broke off: %w", plainly(err))
		}
	}
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	io.Reader
}

func (r contextReader) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(b)
}
