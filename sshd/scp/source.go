package scp

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/inpod/inpod/sshd/files"
)

// send is -f: it sends what is asked for.
func (c *copier) send() error {
	if _, err := c.response(); err != nil {
		return err
	}
	for _, p := range c.paths {
		for _, name := range c.expand(p) {
			if err := c.one(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// expand is the names that match, in order; a pattern without a match is a name.
func (c *copier) expand(p string) []string {
	if !c.patterns || !strings.ContainsAny(p, "*?[") {
		return []string{p}
	}
	if _, err := c.tree.Lstat(p); err == nil {
		return []string{p}
	}
	found := []string{""}
	if strings.HasPrefix(p, "/") {
		found = []string{"/"}
	}
	for part := range strings.SplitSeq(strings.Trim(p, "/"), "/") {
		var next []string
		for _, dir := range found {
			next = append(next, c.matches(dir, part)...)
		}
		found = next
	}
	if len(found) == 0 {
		return []string{p}
	}
	return found
}

// matches are the entries of dir that a part of a pattern stands for.
func (c *copier) matches(dir, part string) (out []string) {
	if !strings.ContainsAny(part, "*?[") {
		name := path.Join(dir, part)
		if _, err := c.tree.Lstat(name); err != nil {
			return nil
		}
		return []string{name}
	}
	d, err := c.tree.OpenDir(dir)
	if err != nil {
		return nil
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil
	}
	slices.Sort(names)
	for _, n := range names {
		hidden := strings.HasPrefix(n, ".") && !strings.HasPrefix(part, ".")
		if ok, err := path.Match(part, n); err == nil && ok && !hidden {
			out = append(out, path.Join(dir, n))
		}
	}
	return out
}

// one sends a file, or a directory with what is in it. A fault of a file is told and the others go on.
func (c *copier) one(name string) error {
	st, err := c.tree.Stat(name)
	switch {
	case err != nil:
		return c.fault(err)
	case st.IsDir() && c.recursive:
		return c.sendDir(name, st)
	case !st.Mode().IsRegular():
		return c.fault(&fs.PathError{Path: name, Err: errors.New("not a regular file")})
	}
	f, err := c.tree.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return c.fault(err)
	}
	if err := c.sendFile(f, path.Base(name)); err != nil {
		f.Abandon(err)
		return err
	}
	return f.Close()
}

// head sends the times and the line of an entry; not taken is one that the client refuses.
func (c *copier) head(kind byte, st fs.FileInfo, size int64, name string) (taken bool, err error) {
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return false, c.fault(&fs.PathError{Path: name, Err: errors.New("such a file cannot be sent")})
	}
	name = oneLine(name)
	if c.preserve {
		fmt.Fprintf(c.out, "T%d 0 %d 0\n", max(0, sys.Mtim.Sec), max(0, sys.Atim.Sec)) // Flush tells the error
		if taken, err := c.response(); !taken {
			return false, err
		}
	}
	fmt.Fprintf(c.out, "%c%04o %d %s\n", kind, sys.Mode&0o7777, size, name) // Flush tells the error
	return c.response()
}

// oneLine is a name that has no end of line in it: one that has is written as OpenSSH's scp does, with vis(3).
func oneLine(name string) string {
	if !strings.Contains(name, "\n") {
		return name
	}
	var b []byte
	for _, ch := range []byte(name) {
		low := ch & 0x7f
		switch {
		case ch == '\\':
			b = append(b, `\\`...)
		case ch == '\t', ch >= ' ' && ch < 0x7f:
			b = append(b, ch)
		case low == ' ':
			b = append(b, `\240`...)
		default:
			b = append(b, '\\')
			if ch != low {
				b = append(b, 'M')
			}
			if low < ' ' || low == 0x7f {
				b = append(b, '^', low^'@')
			} else {
				b = append(b, '-', low)
			}
		}
	}
	return string(b)
}

// sendFile sends a file of the size that it has at the beginning; one that turns out shorter is filled up, and the
// client is told.
func (c *copier) sendFile(f *files.File, name string) error {
	st, err := f.Stat()
	if err != nil {
		return c.fault(err)
	}
	size := st.Size()
	if taken, err := c.head('C', st, size, name); !taken {
		return err
	}
	if c.buf == nil {
		c.buf = make([]byte, bufferSize)
	}
	var fault error
	for off := int64(0); off < size; {
		part := c.buf[:min(int64(len(c.buf)), size-off)]
		if fault == nil {
			var n int
			if n, fault = f.ReadAt(part, off); n == len(part) {
				fault = nil
			} else {
				clear(part[n:])
			}
		} else {
			clear(part)
		}
		if _, err := c.out.Write(part); err != nil {
			return err
		}
		off += int64(len(part))
		if err := c.ctxErr(); err != nil {
			return err
		}
	}
	if fault != nil {
		if err := c.fault(named(path.Base(name), "", fault)); err != nil {
			return err
		}
	} else if err := c.ok(); err != nil {
		return err
	}
	_, err = c.response()
	return err
}

func (c *copier) sendDir(name string, st fs.FileInfo) error {
	d, err := c.tree.OpenDir(name)
	if err != nil {
		return c.fault(err)
	}
	names, err := d.Readdirnames(-1)
	_ = d.Close() // only read
	if err != nil {
		return c.fault(err)
	}
	slices.Sort(names)
	if taken, err := c.head('D', st, 0, path.Base(name)); !taken {
		return err
	}
	for _, n := range names {
		if err := c.one(strings.TrimSuffix(name, "/") + "/" + n); err != nil {
			return err
		}
	}
	fmt.Fprint(c.out, "E\n") // Flush tells the error
	_, err = c.response()
	return err
}
