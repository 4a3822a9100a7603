package sshd

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/inpod/inpod/config"
	"github.com/inpod/inpod/internal/proc"
)

// The server of the tests is a process of its own, since the one that reaps must be the only one that waits.
const serverEnv = "INPOD_SSHD_TEST_SERVER"

func TestMain(m *testing.M) {
	if text := os.Getenv(serverEnv); text != "" {
		os.Exit(serve(text))
	}
	os.Exit(m.Run())
}

// setup is what a test says of its server.
type setup struct {
	SSH    config.SSH
	Env    []string
	Etc    string // instead of /etc, for profile and environment
	Passwd string
	Group  string
	Shadow string
	MOTD   string
}

// spawner is what agent has, in small.
type spawner struct{ r *proc.Reaper }

func (s spawner) Start(c Command) (Process, error) {
	spec := proc.NewSpec(c.Path)
	spec.Argv, spec.Env, spec.Dir, spec.TTY = c.Argv, c.Env, c.Dir, c.TTY
	spec.Stdin, spec.Stdout, spec.Stderr = c.Stdin, c.Stdout, c.Stderr
	spec.UID, spec.GID, spec.Groups = c.UID, c.GID, c.Groups
	p, err := s.r.Start(spec)
	if err != nil {
		return nil, err
	}
	return process{p}, nil
}

type process struct{ *proc.Process }

func (p process) Exit() Exit {
	st := p.Status()
	return Exit{Code: st.Code, Signal: st.Signal, Core: st.Core}
}

// serve is the server's process: it prints its address and obeys commands on its input until that ends.
func serve(text string) int {
	var s setup
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		panic(err)
	}
	log := slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	r, err := proc.New(log)
	if err != nil {
		panic(err)
	}
	srv := New(Options{
		Log: log, Spawner: spawner{r}, Env: s.Env, MOTD: func() string { return s.MOTD },
		Passwd: s.Passwd, Group: s.Group, Shadow: s.Shadow, EtcDir: s.Etc,
	})
	if err := srv.Apply(s.SSH); err != nil {
		fmt.Println("error", err)
		return 1
	}
	fmt.Println("listening", srv.Addr())
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		word, rest, _ := strings.Cut(lines.Text(), " ")
		switch word {
		case "apply":
			var next config.SSH
			if err := json.Unmarshal([]byte(rest), &next); err != nil {
				panic(err)
			}
			fmt.Println("applied", srv.Apply(next), srv.Addr())
		case "connections":
			b, _ := json.Marshal(srv.Connections())
			fmt.Println(string(b))
		case "kill":
			var id uint64
			_, _ = fmt.Sscan(rest, &id)
			fmt.Println("killed", srv.Kill(id))
		case "drain":
			d, _ := time.ParseDuration(rest)
			ctx, cancel := context.WithTimeout(context.Background(), d)
			srv.BeginDrain(time.Now().Add(d))
			fmt.Println("draining")
			go func() {
				defer cancel()
				fmt.Println("drained", srv.Wait(ctx))
			}()
		}
	}
	srv.Close()
	_ = r.Close()
	return 0
}

// server is a running server and what a client needs to log in.
type server struct {
	t       *testing.T
	dir     string
	addr    string
	key     string // of a client
	conf    setup
	in      io.WriteCloser
	lines   chan string
	log     logFile
	cmd     *exec.Cmd
	stopped bool
}

// logFile is the path of what a server logs. It holds what has been logged before a client learns of it, which a pipe does
// not: whoever reads that may come later.
type logFile string

func (l logFile) String() string {
	data, err := os.ReadFile(string(l))
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// lockedBuffer is written by one goroutine and read by another.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// defaults are the settings of a server that only this test reaches, with a key for the agent's own user.
func defaults(t *testing.T) setup {
	t.Helper()
	c, err := config.Parse("", nil, config.Options{UID: os.Getuid()})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s := setup{SSH: c.SSH, Env: []string{"PATH=" + os.Getenv("PATH"), "MARK=of the container"}, Etc: dir, Shadow: filepath.Join(dir, "shadow")}
	s.SSH.Listen, s.SSH.ListenSet = "127.0.0.1:0", true
	s.SSH.HostKeyDir = filepath.Join(dir, "host")
	s.SSH.PasswordFile = filepath.Join(dir, "root-passwd")
	s.SSH.AuthorizedKeys = []string{filepath.Join(dir, "keys")}
	// A home of its own: what the machine's .bashrc does is nobody's business here.
	s.Passwd = filepath.Join(dir, "passwd")
	if err := os.Mkdir(filepath.Join(dir, "home"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, s.Passwd, fmt.Sprintf("%s:x:%d:%d::%s/home:/bin/bash\n", me(), os.Getuid(), os.Getgid(), dir))
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, "id")).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
	pub, err := os.ReadFile(filepath.Join(dir, "id.pub"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "keys"), string(pub))
	return s
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// start starts a server; it ends with the test.
func start(t *testing.T, conf setup) *server {
	t.Helper()
	text, err := json.Marshal(conf)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, dir: conf.Etc, conf: conf, lines: make(chan string, 100), log: logFile(filepath.Join(t.TempDir(), "log"))}
	s.key = filepath.Join(conf.Etc, "id")
	s.cmd = exec.Command(os.Args[0])
	s.cmd.Env = append(os.Environ(), serverEnv+"="+string(text))
	log, err := os.Create(string(s.log))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	s.cmd.Stderr = log
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		for sc := bufio.NewScanner(out); sc.Scan(); {
			s.lines <- sc.Text()
		}
		close(s.lines)
	}()
	t.Cleanup(s.stop)
	first := s.line()
	addr, ok := strings.CutPrefix(first, "listening")
	if !ok {
		t.Fatalf("the server says %q; its log:\n%s", first, s.log)
	}
	s.addr = strings.TrimSpace(addr)
	return s
}

func (s *server) stop() {
	if s.stopped {
		return
	}
	s.stopped = true
	_ = s.in.Close()
	timer := time.AfterFunc(patience, func() { _ = s.cmd.Process.Signal(syscall.SIGQUIT) })
	defer timer.Stop()
	if err := s.cmd.Wait(); err != nil {
		s.t.Errorf("the server ended with %v; its log:\n%s", err, s.log)
	}
	if strings.Contains(s.log.String(), `"BUG`) || strings.Contains(s.log.String(), "DATA RACE") {
		s.t.Errorf("the server failed")
	}
	if s.t.Failed() {
		s.t.Logf("the server's log:\n%s", s.log)
	}
}

// line is the next line of the server's output.
func (s *server) line() string {
	s.t.Helper()
	select {
	case l := <-s.lines:
		return l
	case <-time.After(patience):
		s.t.Fatalf("the server says nothing; its log:\n%s", s.log)
		return ""
	}
}

// tell sends a command and returns the answer.
func (s *server) tell(command string) string {
	s.t.Helper()
	if _, err := fmt.Fprintln(s.in, command); err != nil {
		s.t.Fatal(err)
	}
	return s.line()
}

func (s *server) port() string {
	_, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	return port
}

func me() string {
	if os.Getuid() == 0 {
		return "root"
	}
	out, err := exec.Command("id", "-un").Output()
	if err != nil {
		panic(err)
	}
	return strings.TrimSpace(string(out))
}

// options are those of every OpenSSH client: nothing of the machine's own files.
func (s *server) options() []string {
	return []string{
		"-F", "none", "-i", s.key, "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=accept-new",
		"-o", "UserKnownHostsFile=" + filepath.Join(s.dir, "known_hosts"), "-o", "LogLevel=ERROR", "-o", "BatchMode=yes",
	}
}

// ssh is the command of a client with further arguments.
func (s *server) ssh(args ...string) *exec.Cmd {
	argv := append(s.options(), "-p", s.port(), "-l", me(), "127.0.0.1")
	// Options of a test go before the host.
	n := 0
	for n < len(args) && args[n] != "--" {
		n++
	}
	argv = append(args[:n:n], argv...)
	if n < len(args) {
		argv = append(argv, args[n+1:]...)
	}
	return exec.Command("ssh", argv...)
}

// run runs ssh and returns its output and its exit status.
func (s *server) run(input string, args ...string) (stdout, stderr string, code int) {
	s.t.Helper()
	cmd := s.ssh(args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.Stdin = strings.NewReader(input)
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	timer := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	_ = cmd.Wait()
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func marshal(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// patience is how long a test waits for what must come. A busy machine may need long; only a failure takes all of it.
const patience = time.Minute

// within waits until f is true, for so long at most.
func within(d time.Duration, f func() bool) bool {
	for end := time.Now().Add(d); time.Now().Before(end); <-time.After(10 * time.Millisecond) {
		if f() {
			return true
		}
	}
	return f()
}

// logged tells whether the server logs a text soon.
func (s *server) logged(text string) bool {
	return within(patience, func() bool { return strings.Contains(s.log.String(), text) })
}
