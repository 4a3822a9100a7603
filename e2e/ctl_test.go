package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/inpod/inpod/e2e/lab"
)

// safeBuffer is written by a command and read by the test.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// follower is a supervisorctl that stays: tail -f, fg.
type follower struct {
	cmd *exec.Cmd
	out safeBuffer
	in  io.WriteCloser
}

func (s *side) follow(args ...string) (*follower, error) {
	f := &follower{cmd: exec.Command(lab.Supervisorctl, append([]string{"-c", s.sc.conf}, args...)...)}
	f.cmd.Dir = s.dir
	f.cmd.Env = append(baseEnv("PYTHONUNBUFFERED=1"), fmt.Sprintf("PORT=%d", s.port))
	f.cmd.Stdout, f.cmd.Stderr = &f.out, &f.out
	f.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var err error
	if f.in, err = f.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	return f, f.cmd.Start()
}

// interrupt presses Ctrl-C until the command ends. One is enough, but Python may drop it in the middle of a callback.
func (f *follower) interrupt() string {
	done := make(chan error, 1)
	go func() { done <- f.cmd.Wait() }()
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	limit := time.After(patience)
	_ = f.cmd.Process.Signal(os.Interrupt)
	again := false
	for {
		select {
		case err := <-done:
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				return err.Error()
			}
			ws, _ := f.cmd.ProcessState.Sys().(syscall.WaitStatus)
			if again && ws.Signaled() && ws.Signal() == syscall.SIGINT {
				return "exit 0" // the second one came while Python was on its way out
			}
			return fmt.Sprintf("exit %d", f.cmd.ProcessState.ExitCode())
		case <-tick.C:
			again = true
			_ = f.cmd.Process.Signal(os.Interrupt)
		case <-limit:
			_ = f.cmd.Process.Kill()
			return "does not end at Ctrl-C"
		}
	}
}

// tailf NAME -- ARGS: follows the log while NAME is sent a line
func (s *side) stepTailF(st step) {
	name, args, _ := strings.Cut(st.rest, " -- ")
	f, err := s.follow(strings.Fields(args)...)
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.in.Close()
	s.tailed++
	word := fmt.Sprintf("followed-%d", s.tailed)
	seen := lab.Until(patience, func() bool { return strings.Contains(f.out.String(), "up") })
	s.call("supervisor.sendProcessStdin", name, word+"\n")
	seen = lab.Until(patience, func() bool { return strings.Contains(f.out.String(), "<"+word+">") }) && seen
	s.note("%s → old and new lines seen: %v, %s\n%s", st, seen, f.interrupt(), s.norm.text(f.out.String()))
}

// maintail BYTES [ARGS]: supervisorctl maintail prints the last BYTES of the main log. Each side writes its log in
// words of its own; that what is printed is what the file holds must be true of both.
func (s *side) stepMainTail(st step) {
	f := strings.Fields(st.rest)
	n, err := strconv.Atoi(f[0])
	if err != nil {
		s.t.Fatalf("%s.ini:%d: %v", s.sc.name, st.line, err)
	}
	var out, want string
	var code int
	same := lab.Until(patience, func() bool { // the log may grow meanwhile
		before := s.mainLog()
		out, code = s.ctl(append([]string{"maintail"}, f[1:]...)...)
		want = before[max(0, len(before)-n):]
		return strings.Trim(out, "\n") == strings.Trim(want, "\n") && want != ""
	})
	s.note("%s → %d, the end of the file: %v", st, code, same)
	if !same {
		s.t.Logf("%s: maintail printed %q, the file ends in %q", s.kind, out, want)
	}
}

// maintailf NAME: maintail -f prints the end of the main log and, while it runs, what is logged when NAME is restarted
func (s *side) stepMainTailF(st step) {
	f, err := s.follow("maintail", "-f")
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.in.Close()
	last := func(text string) string { return text[strings.LastIndexByte(strings.TrimRight(text, "\n"), '\n')+1:] }
	before := s.mainLog()
	old := lab.Until(patience, func() bool { return strings.Contains(f.out.String(), last(before)) })
	s.call("supervisor.stopProcess", st.rest)
	s.call("supervisor.startProcess", st.rest)
	fresh := lab.Until(patience, func() bool {
		added := strings.TrimPrefix(s.mainLog(), before)
		return strings.Contains(added, st.rest) && strings.Contains(f.out.String(), added)
	})
	s.note("%s → the end of the file: %v, what is added: %v, %s", st, old, fresh, f.interrupt())
}

func (s *side) mainLog() string {
	data, err := os.ReadFile(s.path("supervisord.log"))
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// fg NAME: a line typed goes to the program, its answer comes back
func (s *side) stepFg(st step) {
	f, err := s.follow("fg", st.rest)
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.in.Close()
	up := lab.Until(patience, func() bool { return strings.Contains(f.out.String(), "Press Ctrl-C") })
	_, err = io.WriteString(f.in, "typed\n")
	seen := lab.Until(patience, func() bool { return strings.Contains(f.out.String(), "<typed>") })
	s.note("%s → up %v, write %v, answer seen %v, %s", st, up, err, seen, f.interrupt())
}

// ctl-gone ARGS: supervisorctl when nobody answers
func (s *side) stepCtlGone(st step) {
	out, code := s.ctl(strings.Fields(st.rest)...)
	s.note("%s → %d\n%s", st, code, s.norm.text(out))
}
