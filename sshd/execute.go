package sshd

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// held is how long output is read on after the end of a process while another one holds it, before the status is sent.
const held = 200 * time.Millisecond

// execute runs a shell or a command, and returns when it has ended and the client has its output.
func (ss *session) execute(j job) Exit {
	u := ss.c.account
	shell := shellOf(u)
	cmd := Command{Dir: u.home, UID: Unchanged, GID: Unchanged, Env: ss.environment(j, shell)}
	if !u.own {
		cmd.UID, cmd.GID, cmd.Groups = u.uid, u.gid, u.groups
	}
	if err := mayEnter(u, cmd.Dir); err != nil {
		ss.say(fmt.Sprintf("Could not chdir to home directory %s: %v", cmd.Dir, err)) // sshd's words
		cmd.Dir = "/"
	}
	switch {
	case shell == "" && j.kind == kindShell:
		return ss.fail(errors.New(noShell))
	case shell == "":
		// No image needs a shell for a plain command.
		if err := checkNoShell(j.command); err != nil {
			return ss.fail(err)
		}
		cmd.Argv = splitCommand(j.command)
		if len(cmd.Argv) == 0 {
			return Exit{}
		}
		path, err := lookPath(cmd.Argv[0], cmd.Env)
		if err != nil {
			return ss.fail(err)
		}
		cmd.Path = path
	case j.kind == kindShell:
		cmd.Path, cmd.Argv = shell, []string{"-" + filepath.Base(shell)} // a login shell
	default:
		cmd.Path, cmd.Argv = shell, []string{filepath.Base(shell), "-c", j.command}
	}
	if ss.term != nil {
		if j.kind == kindShell {
			ss.welcome()
		}
		return ss.onTerminal(cmd)
	}
	return ss.onPipes(cmd)
}

// mayEnter tells whether u can go to a directory. Root's answer would be another: homes are closed to each other, and closed
// to root on a network file system.
func mayEnter(u *account, dir string) error {
	return as(u, func() error {
		fd, err := unix.Open(dir+"/.", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		return unix.Close(fd)
	})
}

// say tells the user something before the process begins.
func (ss *session) say(text string) {
	if ss.term != nil {
		_, _ = fmt.Fprintf(ss.ch, "%s\r\n", text)
		return
	}
	_, _ = fmt.Fprintf(ss.ch.Stderr(), "%s\n", text)
}

// fail tells why nothing runs.
func (ss *session) fail(err error) Exit {
	ss.log.Warn("cannot start a session", "error", err)
	fmt.Fprintf(ss.ch.Stderr(), "inpod: %v\r\n", err)
	return Exit{Code: exitNoCommand}
}

// begin starts the process and lets signals reach it.
func (ss *session) begin(cmd Command) (Process, error) {
	p, err := ss.c.s.opts.Spawner.Start(cmd)
	if err != nil {
		return nil, err
	}
	ss.mu.Lock()
	ss.process = p
	ss.mu.Unlock()
	return p, nil
}

// onPipes runs a command without a terminal.
func (ss *session) onPipes(cmd Command) Exit {
	var files [6]*os.File
	defer func() {
		for _, f := range files {
			if f != nil {
				_ = f.Close()
			}
		}
	}()
	for i := 0; i < len(files); i += 2 {
		var err error
		if files[i], files[i+1], err = os.Pipe(); err != nil {
			return ss.fail(err)
		}
	}
	in, out, errs := files[1], files[2], files[4]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = files[0], files[3], files[5]
	p, err := ss.begin(cmd)
	for _, i := range []int{0, 3, 5} {
		_ = files[i].Close()
		files[i] = nil
	}
	if err != nil {
		return ss.fail(err)
	}
	defer in.Close() // what is left of the process may hold the other end and not read it
	ss.c.work.Add(1)
	go func() {
		defer ss.c.work.Done()
		ss.c.input(in, ss.ch)
		_ = in.Close()
	}()
	files[1] = nil
	var copies sync.WaitGroup
	copies.Add(2)
	go func() { defer copies.Done(); ss.c.output(ss.ch, out) }()
	go func() { defer copies.Done(); ss.c.output(ss.ch.Stderr(), errs) }()
	copied := make(chan struct{})
	go func() { copies.Wait(); close(copied) }()
	return ss.await(p, copied, func() { _, _ = out.Close(), errs.Close() })
}

// await waits for the end of a process, and then for its output. drop makes reading it end.
func (ss *session) await(p Process, copied chan struct{}, drop func()) Exit {
	select {
	case <-p.Done():
	case <-ss.ended: // its pipes are closed: most commands end then, the others live on, as with sshd
		drop()
		<-copied
		select {
		case <-p.Done():
		case <-time.After(held):
			return Exit{}
		}
		return p.Exit()
	}
	timer := time.NewTimer(held)
	defer timer.Stop()
	select {
	case <-copied:
		return p.Exit()
	case <-ss.ended:
	case <-timer.C:
		// Something that it left behind holds the output. Clients that wait for the status get it; those that wait for
		// the end of the output (ssh) wait on, as with sshd.
		ss.sendStatus(p.Exit())
		select {
		case <-copied:
		case <-ss.ended:
		}
	}
	drop()
	<-copied
	return p.Exit()
}

// onTerminal runs a command on the session's terminal.
func (ss *session) onTerminal(cmd Command) Exit {
	t := ss.term
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.TTY = t.slave, t.slave, t.slave, true
	p, err := ss.begin(cmd)
	_ = t.slave.Close()
	if err != nil {
		return ss.fail(err)
	}
	ss.c.work.Add(1)
	go func() {
		defer ss.c.work.Done()
		ss.c.typed(t, ss.ch)
	}()
	out := &sender{to: ss.ch}
	copied := make(chan struct{})
	go func() { defer close(copied); ss.c.output(out, t.master) }()
	select {
	case <-p.Done():
	case <-ss.ended:
		_ = t.master.Close() // the kernel sends SIGHUP
		<-copied
		select {
		case <-p.Done():
		case <-time.After(held):
			return Exit{}
		}
		return p.Exit()
	}
	ss.drain(t, out, copied)
	_ = t.master.Close()
	<-copied
	return p.Exit()
}

// drain waits until a client has what the terminal still holds. The end of the session leader hung up the terminal; what it
// wrote is still to be read, and a client may take its time. Something in the background may hold the terminal, and is not
// waited for: nothing has to move for a while.
func (ss *session) drain(t *terminal, out *sender, copied chan struct{}) {
	const looks = 4
	tick := time.NewTicker(held / looks)
	defer tick.Stop()
	for before, quiet := out.writes.Load(), 0; quiet < looks; quiet++ {
		select {
		case <-copied:
			return
		case <-ss.ended:
			return
		case <-tick.C:
		}
		if now := out.writes.Load(); now != before || out.busy.Load() || t.unread() {
			before, quiet = now, -1
		}
	}
}

// sender tells of what is being sent to a client.
type sender struct {
	to     io.Writer
	busy   atomic.Bool
	writes atomic.Uint64
}

// Write implements io.Writer.
func (s *sender) Write(b []byte) (int, error) {
	s.busy.Store(true)
	defer s.busy.Store(false)
	s.writes.Add(1)
	return s.to.Write(b)
}

// typed copies what is typed. EOF of the channel means nothing to a terminal, as with sshd: the shell goes on.
func (c *conn) typed(t *terminal, ch ssh.Channel) {
	buf := make([]byte, 1<<10)
	for {
		n, err := ch.Read(buf)
		if n > 0 {
			c.touch()
			if _, werr := t.master.Write(buf[:n]); werr != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// splitCommand splits at blanks, as a shell would with quotes and backslashes, for images that have no shell.
func splitCommand(s string) []string {
	var words []string
	var word strings.Builder
	inWord := false
	var quote rune
	escaped := false
	for _, r := range s {
		switch {
		case escaped:
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			escaped, inWord = true, true
		case quote != 0:
			if r == quote {
				quote = 0
			} else {
				word.WriteRune(r)
			}
		case r == '\'' || r == '"':
			quote, inWord = r, true
		case r == ' ' || r == '\t' || r == '\n':
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
		default:
			word.WriteRune(r)
			inWord = true
		}
	}
	if inWord {
		words = append(words, word.String())
	}
	return words
}

// lookPath finds a command in the session's PATH.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, dir := range filepath.SplitList(valueOf(env, "PATH")) {
		path := filepath.Join(dir, name)
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s: command not found", name)
}
