package scp

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/inpod/inpod/sshd/files"
)

// pathMax is the kernel's PATH_MAX. In a directory that a session is held in, names are opened one by one, so that only this
// ends how deep somebody goes, and our stack with him.
const pathMax = 4096

// clipName is the beginning of a path that is too long to be told.
func clipName(path string) string { return path[:64] + "…" }

// times are those of a T line, for the next file or directory.
type times struct {
	set          bool
	atime, mtime time.Time
}

// receive is -t: it takes what comes into a directory, or into a file of another name.
func (c *copier) receive() error {
	target := c.paths[0]
	if c.wantDir {
		st, err := c.tree.Stat(target)
		if err == nil && !st.IsDir() {
			err = &fs.PathError{Path: target, Err: syscall.ENOTDIR}
		}
		if err != nil {
			return errors.Join(c.fault(err), errFatal)
		}
	}
	if err := c.ok(); err != nil {
		return err
	}
	return c.level(target, false)
}

// level receives what goes into target, until the stream ends or, below the first level, an E line comes.
func (c *copier) level(target string, below bool) error {
	var t times
	for {
		b, err := c.in.ReadByte()
		if errors.Is(err, io.EOF) && !below {
			return nil
		}
		if err != nil {
			return cut(err)
		}
		line, err := c.line(b)
		if err != nil {
			return err
		}
		if c.verbose {
			fmt.Fprintf(c.log, "Sink: %q\n", line)
		}
		switch b {
		case 1, 2:
			if c.faults++; b == 2 {
				return errFatal
			}
			continue // a warning is not answered, and the client has shown it
		case 'E':
			if !below {
				return c.wrong("an E without a D")
			}
			return c.ok()
		case 'T':
			if t, err = parseTimes(line); err != nil {
				return c.wrong(err.Error())
			}
			if err := c.ok(); err != nil {
				return err
			}
			continue
		case 'C', 'D':
			if err := c.entry(target, line, t); err != nil {
				return err
			}
			t = times{}
		default:
			return c.wrong(fmt.Sprintf("an unexpected line %.40q", line))
		}
	}
}

// wrong ends the conversation with who does not speak the protocol.
func (c *copier) wrong(what string) error {
	err := c.fault(errors.New("protocol error: " + what))
	return errors.Join(err, errFatal)
}

func parseTimes(line string) (t times, err error) {
	var m, mu, a, au int64
	if _, err := fmt.Sscanf(line, "T%d %d %d %d", &m, &mu, &a, &au); err != nil || mu < 0 || mu > 999999 || au < 0 || au > 999999 {
		return t, fmt.Errorf("bad times %.60q", line)
	}
	return times{set: true, atime: time.Unix(a, au*1000), mtime: time.Unix(m, mu*1000)}, nil
}

// entry receives one file or directory.
func (c *copier) entry(target, line string, t times) error {
	f := strings.SplitN(line[1:], " ", 3)
	if len(f) != 3 {
		return c.wrong(fmt.Sprintf("a short line %.40q", line))
	}
	mode, err1 := strconv.ParseUint(f[0], 8, 12)
	size, err2 := strconv.ParseInt(f[1], 10, 64)
	name := f[2]
	if err1 != nil || err2 != nil || size < 0 {
		return c.wrong(fmt.Sprintf("a bad line %.40q", line))
	}
	if name == "" || name == "." || name == ".." || strings.Contains(name, "/") {
		return c.wrong(fmt.Sprintf("an unexpected name %.80q", name))
	}
	path := target
	st, err := c.tree.Stat(target)
	if err == nil && st.IsDir() {
		if path = target + "/" + name; target == "/" {
			path = target + name
		}
	}
	if len(path) >= pathMax {
		return c.fault(&fs.PathError{Path: clipName(path), Err: syscall.ENAMETOOLONG})
	}
	if line[0] == 'D' {
		return c.directory(path, uint32(mode), t)
	}
	return c.file(path, uint32(mode), size, t)
}

func (c *copier) directory(path string, mode uint32, t times) error {
	if !c.recursive {
		return c.wrong("a directory without -r")
	}
	st, err := c.tree.Stat(path)
	made := false
	switch {
	case err == nil && !st.IsDir():
		err = &fs.PathError{Path: path, Err: syscall.ENOTDIR}
	case errors.Is(err, fs.ErrNotExist):
		err = c.tree.Mkdir(path, mode|0o700)
		made = err == nil
	}
	if err != nil {
		return c.fault(err) // the client leaves it out
	}
	if err := c.ok(); err != nil {
		return err
	}
	if err := c.level(path, true); err != nil {
		return err
	}
	if c.preserve {
		err = c.tree.Chmod(path, mode, true)
	} else if made && mode&0o700 != 0o700 {
		err = c.tree.Chmod(path, mode&^c.umask, true)
	}
	if t.set {
		err = errors.Join(err, c.tree.Chtimes(path, t.atime, t.mtime, true))
	}
	if err != nil { // E has been answered: it is for our own log, and the exit code
		c.faults++
		fmt.Fprintf(c.log, "scp: %s\n", sentence(err))
	}
	return nil
}

func (c *copier) file(path string, mode uint32, size int64, t times) error {
	readOnly := false // it is to become so, if it is new
	if mode&0o200 == 0 {
		_, err := c.tree.Stat(path)
		readOnly = err != nil
	}
	f, err := c.tree.OpenFile(path, os.O_WRONLY|os.O_CREATE, mode|0o200)
	if err != nil {
		return c.fault(err)
	}
	if err := c.ok(); err != nil {
		f.Abandon(err)
		return err
	}
	// After a fault the rest is read all the same: the client sends it.
	fault, err := c.body(f, size)
	if err != nil {
		f.Abandon(files.ErrCut)
		return err
	}
	fault = named(path, "", fault)
	st, err := f.Stat()
	if fault == nil && err == nil && st.Mode().IsRegular() && st.Size() != size {
		fault = named(path, ": truncate", f.Truncate(size)) // there was a longer one before
	}
	switch {
	case fault != nil:
	case c.preserve:
		fault = named(path, ": set mode", f.Chmod(mode))
	case readOnly:
		fault = named(path, ": set mode", f.Chmod(mode&^c.umask)) // it was made writable for us
	}
	if t.set && fault == nil {
		fault = named(path, ": set times", f.Chtimes(t.atime, t.mtime))
	}
	if err := f.Close(); fault == nil {
		fault = named(path, "", err)
	}
	sent, err := c.response()
	switch {
	case err != nil:
		return err
	case fault != nil:
		return c.fault(fault)
	case !sent:
		return nil // the client has told of its own fault and waits for no answer
	}
	return c.ok()
}

// body reads a file's bytes. The fault is the file's, the error the stream's.
func (c *copier) body(f *files.File, size int64) (fault, err error) {
	if c.buf == nil {
		c.buf = make([]byte, bufferSize)
	}
	for off := int64(0); off < size; {
		part, from := c.buf[:min(int64(len(c.buf)), size-off)], c.stream
		if there := c.in.Buffered(); there > 0 {
			part, from = part[:min(len(part), there)], c.in
		}
		n, err := io.ReadFull(from, part)
		if n > 0 && fault == nil {
			_, fault = f.WriteAt(part[:n], off)
		}
		if off += int64(n); err != nil {
			return fault, cut(err)
		}
		if err := c.ctxErr(); err != nil {
			return fault, err
		}
	}
	return fault, nil
}
