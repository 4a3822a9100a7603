// Package hooks runs the commands that come before the programs.
//
// Enter at Runner.Run, which runs one and waits for its end. What a hook writes goes to the log line by line, with its
// name. A hook may leave processes behind, as an image's start script does with the services it starts: they go on, and
// so does the reading of what they write.
package hooks

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/inpod/inpod/config"
	"github.com/inpod/inpod/internal/proc"
)

// Runner runs hooks.
type Runner struct {
	Reaper *proc.Reaper
	Log    *slog.Logger
	Env    []string // name=value, the environment of every hook
	// Split splits a line into words, for a container without /bin/sh.
	Split func(line string) ([]string, error)
	// Account finds a user, or user:group.
	Account func(name string) (Account, error)
}

// Account is whom a hook runs as.
type Account struct {
	Name     string
	UID, GID int
	Groups   []int
	Home     string
}

// Report tells how a hook ended.
type Report struct {
	Skipped bool // hooks[].if_exists is not there
	Started time.Time
	Took    time.Duration
	Code    int    // as a shell tells it: 128 + the signal; -1 where it could not be started
	Text    string // "exit status 3", for people
	Err     error  // nil when it went well
}

const (
	shell = "/bin/sh"
	// defaultPath is for containers that set none.
	defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

	grace     = 5 * time.Second // from SIGTERM to SIGKILL
	lastWords = time.Second     // how long the end of the output is waited for, when something else holds it
	maxLine   = 16 << 10        // longer lines are cut into several
)

var errTimeout = errors.New("timeout")

// Run runs one hook and waits for its end. ctx's end, and hooks[].timeout, end it: SIGTERM to its process group and 5 s
// later SIGKILL.
func (r *Runner) Run(ctx context.Context, h config.Hook) (report Report) {
	log := r.Log.With("hook", h.Name)
	if h.IfExists != "" {
		if _, err := os.Stat(h.IfExists); errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			log.Info("hook skipped", "missing", h.IfExists)
			return Report{Skipped: true, Text: h.IfExists + " does not exist"}
		}
	}
	report = Report{Started: time.Now(), Code: -1}
	defer func() {
		report.Took = time.Since(report.Started)
		if report.Err != nil {
			report.Text = report.Err.Error()
		}
		switch {
		case errors.Is(report.Err, context.Canceled):
			log.Warn("hook was ended with the agent", "code", report.Code, "took", report.Took.String())
		case report.Err != nil:
			log.Error("hook failed", "error", report.Err, "code", report.Code, "took", report.Took.String())
		default:
			log.Info("hook done", "code", report.Code, "took", report.Took.String())
		}
	}()
	spec, err := r.spec(h)
	if err != nil {
		report.Err = err
		return report
	}
	if h.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, h.Timeout, fmt.Errorf("%w after %s", errTimeout, h.Timeout))
		defer cancel()
	}
	out, err := openStreams(log)
	if err != nil {
		report.Err = err
		return report
	}
	spec.Stdout, spec.Stderr = out.write[0], out.write[1]
	log.Info("hook started", "command", spec.Path) // its words may hold what a variable had
	status, _, err := r.Reaper.Run(ctx, spec, proc.RunOptions{Grace: grace})
	out.finish()
	if err != nil {
		report.Err = err
		if status != (proc.Status{}) {
			report.Code = status.Shell()
		}
		return report
	}
	report.Code, report.Text = status.Shell(), status.String()
	if report.Code != 0 {
		report.Err = errors.New(status.String())
	}
	return report
}

func (r *Runner) spec(h config.Hook) (proc.Spec, error) {
	argv := h.Command
	if line := h.Line(); line != "" {
		if _, err := os.Stat(shell); errors.Is(err, os.ErrNotExist) {
			if argv, err = r.Split(line); err != nil {
				return proc.Spec{}, fmt.Errorf("cannot split the command, and there is no %s: %w", shell, err)
			}
		}
	}
	if len(argv) == 0 {
		return proc.Spec{}, errors.New("cannot run an empty command")
	}
	name := argv[0]
	if strings.Contains(name, "/") && h.Directory != "" && !filepath.IsAbs(name) {
		name = filepath.Join(h.Directory, name)
	}
	path, err := proc.LookPath(name, cmp.Or(proc.PathOf(r.Env), defaultPath))
	if err != nil {
		return proc.Spec{}, err
	}
	spec := proc.NewSpec(path)
	spec.Argv, spec.Env, spec.Dir = argv, r.Env, h.Directory
	if h.User == "" {
		return spec, nil
	}
	acc, err := r.Account(h.User)
	if err != nil {
		return proc.Spec{}, fmt.Errorf("cannot run as %q: %w", h.User, err)
	}
	spec.UID, spec.GID, spec.Groups = acc.UID, acc.GID, acc.Groups
	spec.Env = with(r.Env, "HOME="+acc.Home, "USER="+acc.Name, "LOGNAME="+acc.Name)
	return spec, nil
}

// with replaces variables.
func with(env []string, set ...string) []string {
	out := []string{}
	for _, kv := range env {
		keep := true
		for _, s := range set {
			name, _, _ := strings.Cut(s, "=")
			keep = keep && !strings.HasPrefix(kv, name+"=")
		}
		if keep {
			out = append(out, kv)
		}
	}
	return append(out, set...)
}

// streams are the two pipes that a hook writes to.
type streams struct {
	write [2]*os.File
	done  chan struct{} // gets a value when a stream has ended
}

func openStreams(log *slog.Logger) (*streams, error) {
	s := &streams{done: make(chan struct{}, 2)}
	for i, name := range []string{"stdout", "stderr"} {
		read, write, err := os.Pipe()
		if err != nil {
			if i > 0 {
				s.write[0].Close()
			}
			return nil, fmt.Errorf("cannot make a pipe: %w", err)
		}
		s.write[i] = write
		go func() {
			copyLines(read, func(line string) { log.Info("hook output", "stream", name, "line", line) })
			read.Close()
			s.done <- struct{}{}
		}()
	}
	return s, nil
}

// finish lets go of the pipes and waits until all that the hook wrote has been logged. What it left running may hold them:
// the reading goes on then, without anybody waiting.
func (s *streams) finish() {
	for _, w := range s.write {
		w.Close()
	}
	timer := time.NewTimer(lastWords)
	defer timer.Stop()
	for range s.write {
		select {
		case <-s.done:
		case <-timer.C:
			return
		}
	}
}

// copyLines calls emit for each line, the last one too when it has no end.
func copyLines(r io.Reader, emit func(string)) {
	br := bufio.NewReaderSize(r, maxLine)
	begun := "" // the character in which the last piece of a long line was cut
	for {
		line, err := br.ReadSlice('\n')
		text := begun + string(line)
		begun = ""
		if errors.Is(err, bufio.ErrBufferFull) {
			whole := wholeCharacters(text)
			text, begun, err = text[:whole], text[whole:], nil
		}
		if text != "" {
			emit(strings.TrimRight(text, "\r\n"))
		}
		if err != nil {
			return
		}
	}
}

// wholeCharacters is how much of the text can be had without cutting the last character.
func wholeCharacters(text string) int {
	for i := len(text) - 1; i >= max(0, len(text)-utf8.UTFMax); i-- {
		if utf8.RuneStart(text[i]) {
			if !utf8.FullRuneInString(text[i:]) {
				return i
			}
			break
		}
	}
	return len(text)
}
