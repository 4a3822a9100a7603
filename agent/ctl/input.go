package ctl

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// lineReader reads lines and stops waiting when ctx ends, without a goroutine left in read(2) that
// would swallow the next line.
type lineReader struct {
	file *os.File
	buf  []byte
	eof  bool
}

func newLineReader(f *os.File) *lineReader { return &lineReader{file: f, eof: f == nil} }

// ReadLine returns the next line without its end; io.EOF after the last one.
func (l *lineReader) ReadLine(ctx context.Context) (string, error) {
	for {
		if i := bytes.IndexByte(l.buf, '\n'); i >= 0 {
			line := string(l.buf[:i])
			l.buf = l.buf[i+1:]
			return line, nil
		}
		if l.eof {
			line := string(l.buf)
			l.buf = nil
			if line == "" {
				return "", io.EOF
			}
			return line, nil
		}
		if err := waitReadable(ctx, l.file); err != nil {
			return "", err
		}
		chunk := make([]byte, 4096)
		n, err := l.file.Read(chunk)
		l.buf = append(l.buf, chunk[:n]...)
		l.eof = err != nil || n == 0
	}
}

// waitReadable returns when f has something to read, or is at its end, or ctx ends.
func waitReadable(ctx context.Context, f *os.File) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("cannot wait for input: %w", err)
	}
	defer r.Close()
	defer w.Close()
	stop := context.AfterFunc(ctx, func() { _, _ = w.Write([]byte{0}) })
	defer stop()
	fds := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLIN}, {Fd: int32(r.Fd()), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, -1)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return fmt.Errorf("cannot wait for input: %w", err)
		}
		return ctx.Err()
	}
}

// ask prints a prompt and reads a line, as Python's input does.
func (c *Controller) ask(ctx context.Context, prompt string) (string, error) {
	_, _ = io.WriteString(c.opts.Stdout, prompt)
	line, err := c.stdin.ReadLine(ctx)
	if err == io.EOF {
		err = &valueError{"EOFError", "EOF when reading a line"}
	}
	return line, err
}

// askSecret is ask without echo on a terminal. Without one the prompt goes to standard error, as getpass does.
func (c *Controller) askSecret(ctx context.Context, prompt string) (string, error) {
	if c.opts.Stdin == nil || !term.IsTerminal(int(c.opts.Stdin.Fd())) {
		_, _ = io.WriteString(c.opts.Stderr, prompt)
		secret, err := c.stdin.ReadLine(ctx)
		_, _ = io.WriteString(c.opts.Stderr, "\n")
		return secret, err
	}
	_, _ = io.WriteString(c.opts.Stdout, prompt)
	secret, err := term.ReadPassword(int(c.opts.Stdin.Fd()))
	c.output("")
	return string(secret), err
}

// terminal is line editing with history and completion for a shell on a terminal.
type terminal struct {
	fd   int
	term *term.Terminal
}

func newTerminal(in *os.File, out io.Writer, prompt string, complete func(line string) []string) *terminal {
	t := &terminal{fd: int(in.Fd())}
	t.term = term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{in, out}, prompt)
	t.term.AutoCompleteCallback = func(line string, pos int, key rune) (string, int, bool) {
		if key != '\t' || pos != len(line) {
			return "", 0, false
		}
		whole := completeLine(line, complete(line))
		return whole, len(whole), true
	}
	return t
}

// readLine holds the terminal in raw mode only while the user edits: actions run in the usual one,
// where Ctrl-C is a signal.
func (t *terminal) readLine() (string, error) {
	old, err := term.MakeRaw(t.fd)
	if err != nil {
		return "", fmt.Errorf("cannot set up the terminal: %w", err)
	}
	defer func() { _ = term.Restore(t.fd, old) }()
	if width, height, err := term.GetSize(t.fd); err == nil && width > 0 {
		_ = t.term.SetSize(width, height)
	}
	return t.term.ReadLine()
}

// completeLine extends line by what all the matches for its last word share.
func completeLine(line string, matches []string) string {
	if len(matches) == 0 {
		return line
	}
	shared := matches[0]
	for _, m := range matches[1:] {
		for !strings.HasPrefix(m, shared) {
			shared = shared[:len(shared)-1]
		}
	}
	if len(matches) == 1 {
		shared += " "
	}
	return line[:strings.LastIndexByte(line, ' ')+1] + shared
}
