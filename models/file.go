package models

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// fileSource is a file of another file system, or a directory with everything below it. Symbolic links below it are followed.
type fileSource struct {
	path string
	u    *unit
}

func (s *fileSource) list(ctx context.Context, _ *stamp) (*listing, error) {
	st, err := os.Stat(s.path)
	if err != nil {
		return nil, final(err)
	}
	l, sum := &listing{}, sha256.New()
	add := func(path, name string, unpack int) error {
		st, err := os.Stat(path)
		if err != nil {
			return final(err)
		}
		if !st.Mode().IsRegular() {
			return finalf("%s is neither a file nor a directory", path)
		}
		tag := fmt.Sprintf("%d-%d", st.Size(), st.ModTime().UnixNano())
		fmt.Fprintf(sum, "%s %q\n", tag, name)
		l.files = append(l.files, file{name: name, size: st.Size(), unpack: unpack, open: func(ctx context.Context, from int64, had string) (*body, error) {
			return openFile(ctx, path, tag, from, had)
		}})
		return nil
	}
	if !st.IsDir() {
		err = add(s.path, lastName(s.path), s.u.rule())
		if err == nil {
			l.files[0].sha256 = s.u.sha256
		}
	} else if s.u.sha256 != "" {
		err = finalf("sha256 is given, but %s is a directory", s.path)
	} else {
		from, aerr := s.apart()
		if aerr != nil {
			return nil, final(aerr)
		}
		err = filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
			if err != nil || ctx.Err() != nil {
				return final(err)
			}
			if d.IsDir() {
				return nil
			}
			name, err := filepath.Rel(from, path)
			if err != nil {
				return final(err)
			}
			if st, err := os.Stat(path); err == nil && st.IsDir() {
				return finalf("%s is a link to a directory, which is not followed", path)
			}
			return add(path, name, unpackNever)
		})
	}
	if err == nil {
		err = ctx.Err()
	}
	l.version = hex.EncodeToString(sum.Sum(nil))
	return l, err
}

// apart returns the directory without symbolic links. It fails where that and the model's are in each other: the next copy
// would have this one in it.
func (s *fileSource) apart() (string, error) {
	from, err := filepath.EvalSymlinks(s.path)
	if err != nil {
		return "", err
	}
	to := filepath.Clean(s.u.to)
	for dir, rest := to, ""; ; dir, rest = filepath.Dir(dir), filepath.Join(filepath.Base(dir), rest) {
		if real, err := filepath.EvalSymlinks(dir); err == nil { // what is behind it is yet to be made
			to = filepath.Join(real, rest)
			break
		} else if dir == filepath.Dir(dir) {
			break
		}
	}
	within := func(path, dir string) bool {
		return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
	}
	if within(to, from) || within(from, to) {
		return "", fmt.Errorf("%s lies in %s, or that in it, which it is to be a copy of; set models[].to to another directory", s.u.to, s.path)
	}
	return from, nil
}

func openFile(ctx context.Context, path, tag string, from int64, had string) (*body, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, final(err)
	}
	st, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, final(err)
	}
	if had != tag || from > st.Size() {
		from = 0
	}
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		_ = f.Close()
		return nil, final(err)
	}
	r := struct {
		io.Reader
		io.Closer
	}{contextReader{ctx, f}, f}
	return &body{ReadCloser: r, from: from, total: st.Size(), tag: tag, version: tag}, nil
}
