// Package scp is the far side of `scp -O`, the protocol of rcp that scp spoke before it spoke SFTP: a client runs
// `scp -t DIR` to send and `scp -f FILE…` to fetch. It serves images that have no scp, jails, which have no programs at
// all, and everybody else whose command line means the same to every shell: it costs less than a process with pipes.
//
// Enter at Run, with Parse for the command line of a client. It copies nothing by itself between two machines and is
// no client. The protocol is written down in OpenSSH's scp.c only; errors travel as lines that begin with the byte 1.
package scp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"syscall"

	"github.com/inpod/inpod/sshd/files"
)

// Options say what the session may do; the zero value may do nothing.
type Options = files.Options

// The exit codes of scp(1).
const (
	exitOK     = 0
	exitFailed = 1
)

const (
	maxLine    = 64 << 10
	lineBuffer = 16 << 10
	bufferSize = 128 << 10 // of what files are made of, which passes the buffers of the lines by
)

// errFatal ends the conversation: the other side, or the stream, has said so.
var errFatal = errors.New("the other side ended the copy")

// Run serves one scp, whose arguments are those behind its name, with patterns expanded by whoever had the command line.
// It returns when the client is done or ctx is.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, opts Options) int {
	return run(ctx, args, false, stdin, stdout, stderr, opts)
}

// RunPatterns is Run where there is no shell, which would have expanded them.
func RunPatterns(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, opts Options) int {
	return run(ctx, args, true, stdin, stdout, stderr, opts)
}

func run(ctx context.Context, args []string, patterns bool, stdin io.Reader, stdout, stderr io.Writer, opts Options) int {
	c, err := parseArgs(args)
	if err != nil {
		fmt.Fprintf(stderr, "scp: %v\n", err)
		return exitFailed
	}
	c.patterns = patterns
	if closer, ok := stdin.(io.Closer); ok {
		stop := context.AfterFunc(ctx, func() { _ = closer.Close() })
		defer stop()
	}
	err = opts.Identity.Run(func() error {
		tree, err := files.Open(opts)
		if err != nil {
			return err
		}
		defer tree.Close()
		c.tree, c.umask, c.ctxErr = tree, opts.Umask|files.OwnUmask(), ctx.Err
		c.in, c.out, c.log = bufio.NewReaderSize(stdin, lineBuffer), bufio.NewWriterSize(stdout, lineBuffer), stderr
		c.stream = stdin
		if c.sink {
			err = c.receive()
		} else {
			err = c.send()
		}
		return errors.Join(err, c.out.Flush())
	})
	switch {
	case err != nil && !errors.Is(err, errFatal):
		fmt.Fprintf(stderr, "scp: %v\n", err)
		return exitFailed
	case err != nil || c.faults > 0:
		return exitFailed
	}
	return exitOK
}

// copier is one conversation.
type copier struct {
	sink, source, recursive, preserve, wantDir, verbose bool

	paths    []string
	patterns bool // may be in paths

	tree   *files.Tree
	umask  uint32
	stream io.Reader
	in     *bufio.Reader // of stream
	out    *bufio.Writer
	log    io.Writer
	buf    []byte
	faults int
	ctxErr func() error
}

func parseArgs(args []string) (*copier, error) {
	c := &copier{}
	for len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' {
		a := args[0]
		args = args[1:]
		if a == "--" {
			break
		}
		for _, letter := range a[1:] {
			switch letter {
			case 't':
				c.sink = true
			case 'f':
				c.source = true
			case 'r':
				c.recursive = true
			case 'p':
				c.preserve = true
			case 'd':
				c.wantDir = true
			case 'v':
				c.verbose = true
			case 'q', 'B', 'C', '1', '2', '4', '6', 'O', 'T':
			default:
				return nil, fmt.Errorf("unknown option -%c", letter)
			}
		}
	}
	c.paths = args
	switch {
	case c.sink == c.source:
		return nil, errors.New("this scp serves others: it needs -t or -f, which their scp gives it")
	case c.sink && len(args) != 1:
		return nil, errors.New("ambiguous target")
	case len(args) == 0:
		return nil, errors.New("nothing to copy")
	}
	return c, nil
}

// Parse takes the command line apart that a client wants to be run, as a shell would do it: quotes, backslashes and the
// tilde of the own home. Patterns are for RunPatterns. Not ok is a command that is no scp in server mode, or needs a
// real shell.
func Parse(command, home string) (args []string, ok bool) {
	var word strings.Builder
	begun, quote := false, byte(0)
	for i := 0; i < len(command); i++ {
		ch := command[i]
		switch {
		case quote == 0 && (ch == ' ' || ch == '\t'):
			if begun {
				args, begun = append(args, word.String()), false
				word.Reset()
			}
			continue
		case ch == quote:
			quote = 0
			continue
		case quote == 0 && !begun && ch == '~':
			if end := i + 1; end < len(command) && !strings.ContainsRune(" \t/", rune(command[end])) {
				return nil, false // somebody else's home
			}
			word.WriteString(strings.TrimSuffix(home, "/"))
			if begun = true; word.Len() > 0 || strings.HasPrefix(command[i+1:], "/") {
				continue
			}
			ch = '/'
		case quote == 0 && (ch == '\'' || ch == '"'):
			quote, begun = ch, true
			continue
		case quote != '\'' && ch == '\\':
			if i++; i == len(command) {
				return nil, false
			}
			if quote == '"' && !strings.ContainsRune("\\\"$`", rune(command[i])) {
				word.WriteByte('\\')
			}
			ch = command[i]
		case quote != '\'' && (ch == '$' || ch == '`'), quote == 0 && strings.IndexByte(";&|<>(){}\n!#", ch) >= 0:
			return nil, false
		}
		begun = true
		word.WriteByte(ch)
	}
	if begun {
		args = append(args, word.String())
	}
	if quote != 0 || len(args) < 2 || args[0] != "scp" && !strings.HasSuffix(args[0], "/scp") {
		return nil, false
	}
	if _, err := parseArgs(args[1:]); err != nil {
		return nil, false
	}
	return args[1:], true
}

// named is the fault of what was to be done with a file; the name is that which the other side knows.
func named(path, what string, err error) error {
	if err == nil {
		return nil
	}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return &fs.PathError{Path: path + what, Err: err}
}

// fault tells the other side of an error and goes on.
func (c *copier) fault(err error) error {
	c.faults++
	_, werr := fmt.Fprintf(c.out, "\x01scp: %s\n", strings.ReplaceAll(sentence(err), "\n", " "))
	return errors.Join(werr, c.out.Flush())
}

// sentence is an error in scp's words: the name first.
func sentence(err error) string {
	var pe *fs.PathError
	if !errors.As(err, &pe) {
		return err.Error()
	}
	why := pe.Err.Error()
	var no syscall.Errno
	switch {
	case errors.Is(pe.Err, syscall.EDQUOT):
		why = "the quota is used up"
	case errors.As(pe.Err, &no) && why != "":
		why = strings.ToUpper(why[:1]) + why[1:] // as strerror(3) has it, and whoever reads scp's messages
	}
	return pe.Path + ": " + why
}

func (c *copier) ok() error {
	err := c.out.WriteByte(0)
	return errors.Join(err, c.out.Flush())
}

// response reads the answer to what was sent: whether it was taken. The client has shown its fault by itself.
func (c *copier) response() (taken bool, err error) {
	if err := c.out.Flush(); err != nil {
		return false, err
	}
	b, err := c.in.ReadByte()
	if err != nil {
		return false, cut(err)
	}
	if b == 0 {
		return true, nil
	}
	if _, err := c.line(b); err != nil {
		return false, err
	}
	if c.faults++; b != 1 {
		return false, errFatal
	}
	return false, nil
}

// line reads the rest of a line that begins with the byte, without its end.
func (c *copier) line(first byte) (string, error) {
	line := []byte{first}
	for len(line) < maxLine {
		b, err := c.in.ReadByte()
		if err != nil {
			return "", cut(err)
		}
		if b == '\n' {
			return string(line), nil
		}
		line = append(line, b)
	}
	return "", errors.New("cannot read a line: it is too long")
}

func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: %w", errFatal, io.ErrUnexpectedEOF)
	}
	return err
}
