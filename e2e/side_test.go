package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/inpod/inpod/e2e/lab"
)

// kind is what runs on one side.
type kind int

const (
	python kind = iota
	inpod
)

func (k kind) String() string {
	if k == python {
		return "python"
	}
	return "inpod"
}

// side runs one scenario under one supervisor and writes down what a user sees.
type side struct {
	t     *testing.T
	kind  kind
	sc    *scenario
	dir   string
	port  int
	norm  *normaliser
	d     *lab.Daemon
	c     *lab.Client
	seen  *sampler
	lines []string // the transcript
	// watched: the watch log has been read. down: a step has told the supervisor to end.
	watched, down bool
	killed        map[string]any // the pid that a step killed last, by group:name
	marks         int            // how often caughtUp sent an event
	tailed        int            // how often tail -f was tried: each gets a word of its own
}

// play runs the whole scenario and returns the transcript.
func play(t *testing.T, k kind, sc *scenario, dir string) []string {
	t.Helper()
	s := &side{t: t, kind: k, sc: sc, dir: dir, port: freePort(t), killed: map[string]any{}}
	s.norm = newNormaliser(dir, s.port, bins.Prog)
	sc.install(t, dir)
	if !s.start() {
		return s.lines
	}
	defer s.d.Kill()
	defer s.c.Close()
	for _, st := range sc.steps {
		s.do(st)
	}
	s.finish()
	return s.lines
}

func (s *side) note(format string, args ...any) {
	s.lines = append(s.lines, fmt.Sprintf(format, args...))
}

func (s *side) path(name string) string { return filepath.Join(s.dir, name) }

// start launches the supervisor; false means that it refused to run, which is a result as well.
func (s *side) start() bool {
	env := append(baseEnv(s.sc.env...), fmt.Sprintf("PORT=%d", s.port))
	argv := []string{lab.Supervisord, "-n", "-c", s.sc.conf}
	if s.kind == inpod {
		env = append(env, quietEnv(s.dir)...)
		argv[0] = filepath.Join(bins.RaceLinks, "supervisord")
	}
	d, err := lab.Start(s.dir, env, argv...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.d = d
	url, user, password := s.address()
	s.c = lab.NewClient(url, user, password, false)
	if !s.sc.rpc {
		return true
	}
	switch err := d.WaitRPC(context.Background(), s.c, patience); {
	case errors.Is(err, lab.ErrExited):
		s.note("refused: %s", d.WaitExit(0))
		if strings.Contains(d.Output(), "panic:") || strings.Contains(d.Output(), "DATA RACE") {
			s.t.Errorf("%s: crashed:\n%s", s.kind, d.Output())
		}
		d.Kill()
		return false
	case err != nil:
		s.note("never answered: %v", err)
		s.t.Logf("%s says:\n%s", s.kind, tailOf(d.Output(), 4000))
		d.Kill()
		return false
	}
	s.note("accepted")
	if s.sc.watch {
		s.seen = newSampler(s.c)
	}
	return true
}

// address is where the case's ini says that the supervisor listens.
func (s *side) address() (url, user, password string) {
	if strings.Contains(s.sc.text, "%(ENV_PORT)s") && !strings.Contains(s.sc.text, "[unix_http_server]") {
		return fmt.Sprintf("http://127.0.0.1:%d", s.port), "tester", "secret"
	}
	if strings.Contains(s.sc.text, ";# unixauth") {
		return "unix://" + s.path("s.sock"), "tester", "secret"
	}
	return "unix://" + s.path("s.sock"), "", ""
}

// call is one XML-RPC call with its answer as text.
func (s *side) call(method string, args ...any) string {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	v, err := s.c.Call(ctx, method, args...)
	var f *lab.Fault
	switch {
	case errors.As(err, &f):
		return fmt.Sprintf("fault %d %q", f.Code, s.norm.text(f.Text))
	case err != nil:
		if strings.HasPrefix(err.Error(), "HTTP status") {
			return err.Error()
		}
		return "transport error"
	}
	if list, ok := withoutWatch(v, "group").([]any); ok && len(list) > 0 {
		v = list
		if m, ok := list[0].(map[string]any); ok && m["description"] != nil && m["status"] != nil {
			// The order is that in which programs happened to end.
			sort.Slice(list, func(i, j int) bool { return s.norm.value(list[i]) < s.norm.value(list[j]) })
		}
	}
	return s.norm.value(v)
}

// withoutWatch drops the harness's own listener from a list of structs.
func withoutWatch(v any, key string) any {
	list, ok := v.([]any)
	if !ok {
		return v
	}
	var out []any
	for _, e := range list {
		if m, ok := e.(map[string]any); ok && m[key] == "zzwatch" {
			continue
		}
		out = append(out, e)
	}
	return out
}

// ctl runs the unmodified Python supervisorctl.
func (s *side) ctl(args ...string) (string, int) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, lab.Supervisorctl, append([]string{"-c", s.sc.conf}, args...)...)
	cmd.Dir = s.dir
	cmd.Env = append(baseEnv(), fmt.Sprintf("PORT=%d", s.port))
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Errorf("%s: cannot run supervisorctl: %v", s.kind, err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// finish brings the supervisor down, unless the steps did, and adds what is left to see.
func (s *side) finish() {
	if s.sc.rpc && !s.d.Exited() && !s.down {
		s.settle(patience)
		s.note("process info: %s", s.call("supervisor.getAllProcessInfo"))
		for _, line := range s.configInfo() {
			s.note("config %s", line)
		}
		s.endWatch()
		s.note("shutdown: %s", s.call("supervisor.shutdown"))
	}
	s.note("daemon: %s", s.d.WaitExit(patience))
	s.seenStates()
	s.files()
	out := s.d.Output()
	var children []string // of several programs: in no fixed order
	for _, line := range strings.Split(out, "\n") {
		if strings.Contains(line, "CHILD:") && !strings.Contains(line, "PROG") {
			children = append(children, "on the daemon's output: "+line)
		}
	}
	sort.Strings(children)
	s.lines = append(s.lines, children...)
	if strings.Contains(out, "DATA RACE") || strings.Contains(out, "panic:") {
		s.t.Errorf("%s: crashed or raced:\n%s", s.kind, tailOf(out, 6000))
	}
	if left := s.d.Leftovers(); s.kind == inpod && len(left) > 0 {
		s.t.Errorf("inpod left processes behind: %v", describe(left))
	}
}

func (s *side) configInfo() []string {
	v, err := s.c.Call(context.Background(), "supervisor.getAllConfigInfo")
	if err != nil {
		return []string{"error " + s.norm.text(err.Error())}
	}
	list, _ := withoutWatch(v, "group").([]any)
	var out []string
	for _, e := range list {
		out = append(out, s.norm.value(e))
	}
	return out
}

func describe(pids []int) []string {
	var out []string
	for _, p := range pids {
		cmd, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p))
		out = append(out, fmt.Sprintf("%d %q", p, strings.ReplaceAll(string(cmd), "\x00", " ")))
	}
	return out
}

func tailOf(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}
