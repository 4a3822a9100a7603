package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
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

// interrupt presses Ctrl-C until the command ends.
func (f *follower) interrupt() string {
	done := make(chan error, 1)
	go func() { done <- f.cmd.Wait() }()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(10 * time.Second)
	_ = f.cmd.Process.Signal(os.Interrupt)
	for {
		select {
		case err := <-done:
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				return err.Error()
			}
			return fmt.Sprintf("exit %d", f.cmd.ProcessState.ExitCode())
		case <-tick.C:
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
	seen := lab.Until(10*time.Second, func() bool { return strings.Contains(f.out.String(), "up") })
	s.call("supervisor.sendProcessStdin", name, word+"\n")
	seen = lab.Until(10*time.Second, func() bool { return strings.Contains(f.out.String(), "<"+word+">") }) && seen
	s.note("%s → old and new lines seen: %v, %s\n%s", st, seen, f.interrupt(), s.norm.text(f.out.String()))
}

// fg NAME: a line typed goes to the program, its answer comes back
func (s *side) stepFg(st step) {
	f, err := s.follow("fg", st.rest)
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.in.Close()
	up := lab.Until(10*time.Second, func() bool { return strings.Contains(f.out.String(), "Press Ctrl-C") })
	_, err = io.WriteString(f.in, "typed\n")
	seen := lab.Until(10*time.Second, func() bool { return strings.Contains(f.out.String(), "<typed>") })
	s.note("%s → up %v, write %v, answer seen %v, %s", st, up, err, seen, f.interrupt())
}

// ctl-gone ARGS: supervisorctl when nobody answers
func (s *side) stepCtlGone(st step) {
	out, code := s.ctl(strings.Fields(st.rest)...)
	s.note("%s → %d\n%s", st, code, s.norm.text(out))
}
