package agent

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The agent owns its process: signals, children, the exit code. So the tests run this binary again as an agent.
const asAgent = "INPOD_TEST_RUN_AGENT"

func TestMain(m *testing.M) {
	text, ok := os.LookupEnv(asAgent)
	if !ok {
		os.Exit(m.Run())
	}
	os.Unsetenv(asAgent)
	var opts Options
	if err := json.Unmarshal([]byte(text), &opts); err != nil {
		panic(err)
	}
	os.Exit(Run(context.Background(), opts))
}

// patience bounds every wait of these tests.
const patience = time.Minute

// testAgent is an agent in a process of its own.
type testAgent struct {
	t      *testing.T
	dir    string
	cmd    *exec.Cmd
	stdout *lineLog
	stderr bytes.Buffer
	ended  chan struct{}
	admin  string // http://host:port
	socket string
}

// lineLog collects lines and lets tests wait for one.
type lineLog struct {
	mu    sync.Mutex
	lines []string
	news  chan struct{}
}

func (l *lineLog) read(r io.Reader) {
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		l.mu.Lock()
		l.lines = append(l.lines, sc.Text())
		close(l.news)
		l.news = make(chan struct{})
		l.mu.Unlock()
	}
}

func (l *lineLog) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}

// wait returns the first line that holds all of parts.
func (l *lineLog) wait(t *testing.T, parts ...string) string {
	t.Helper()
	deadline := time.After(patience)
	for {
		l.mu.Lock()
		lines, news := l.lines, l.news
		l.mu.Unlock()
		for _, line := range lines {
			if holds(line, parts) {
				return line
			}
		}
		select {
		case <-news:
		case <-deadline:
			t.Fatalf("no line with %q in:\n%s", parts, l.text())
		}
	}
}

func holds(line string, parts []string) bool {
	for _, p := range parts {
		if !strings.Contains(line, p) {
			return false
		}
	}
	return true
}

// launch starts an agent whose files are in dir: inpod.yaml and s.conf, where they exist.
func launch(t *testing.T, dir string, main []string, env ...string) *testAgent {
	t.Helper()
	a := newTestAgent(t, dir, main, env...)
	out, err := a.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	a.start(func() { a.stdout.read(out) })
	return a
}

// newTestAgent is launch without the start.
func newTestAgent(t *testing.T, dir string, main []string, env ...string) *testAgent {
	t.Helper()
	a := &testAgent{t: t, dir: dir, ended: make(chan struct{}), stdout: &lineLog{news: make(chan struct{})}, socket: filepath.Join(dir, "i.sock")}
	opts := Options{Main: main, Version: "1.2.3", Commit: "abc"}
	if _, err := os.Stat(filepath.Join(dir, "inpod.yaml")); err == nil {
		opts.ConfigFile = filepath.Join(dir, "inpod.yaml")
	}
	if _, err := os.Stat(filepath.Join(dir, "s.conf")); err == nil {
		opts.SupervisordConf = filepath.Join(dir, "s.conf")
	}
	text, err := json.Marshal(opts)
	if err != nil {
		t.Fatal(err)
	}
	a.cmd = exec.Command(os.Args[0])
	a.cmd.Env = append(os.Environ(), asAgent+"="+string(text), "INPOD_ADMIN_SOCKET="+a.socket, "INPOD_ADMIN_LISTEN=127.0.0.1:0", "INPOD_SSH_LISTEN=off", "DIR="+dir)
	if os.Getenv("INPOD_SUPERVISOR_INCLUDE") == "" {
		a.cmd.Env = append(a.cmd.Env, "INPOD_SUPERVISOR_INCLUDE=["+dir+"/conf.d/*.ini]")
	}
	a.cmd.Env = append(a.cmd.Env, env...)
	a.cmd.Stderr = &a.stderr
	return a
}

// start starts the agent and calls follow until its output ends.
func (a *testAgent) start(follow func()) {
	t := a.t
	t.Helper()
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(a.ended)
		follow()
		_ = a.cmd.Wait() // its code is asked for later
	}()
	t.Cleanup(func() {
		select {
		case <-a.ended:
		default:
			_ = a.cmd.Process.Signal(syscall.SIGQUIT)
			a.code()
		}
		if t.Failed() {
			t.Logf("stdout:\n%s\nstderr:\n%s", a.stdout.text(), a.stderr.String())
		}
	})
}

// started waits until the admin server is there.
func (a *testAgent) started() *testAgent {
	a.t.Helper()
	line := a.stdout.wait(a.t, `"msg":"started"`)
	var rec struct{ Admin string }
	if err := json.Unmarshal([]byte(line), &rec); err != nil {
		a.t.Fatal(err)
	}
	a.admin = "http://" + rec.Admin
	return a
}

// code waits for the end and returns the exit code.
func (a *testAgent) code() int {
	a.t.Helper()
	select {
	case <-a.ended:
	case <-time.After(patience):
		_ = a.cmd.Process.Signal(syscall.SIGABRT) // its goroutines are shown
		select {
		case <-a.ended:
		case <-time.After(patience):
			_ = a.cmd.Process.Kill()
			a.t.Fatalf("the agent did not end within %s, and something holds its output open", patience)
		}
		a.t.Errorf("the agent did not end within %s", patience)
	}
	return a.cmd.ProcessState.ExitCode()
}

func (a *testAgent) signal(sig syscall.Signal) {
	a.t.Helper()
	if err := a.cmd.Process.Signal(sig); err != nil {
		a.t.Fatal(err)
	}
}

// do sends a request to the admin server, or with trusted to the control socket.
func (a *testAgent) do(trusted bool, method, path string, header ...string) (*http.Response, string) {
	a.t.Helper()
	tr := &http.Transport{DisableKeepAlives: true}
	url := a.admin + path
	if trusted {
		tr.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", a.socket)
		}
		url = "http://inpod" + path
	}
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := (&http.Client{Transport: tr, Timeout: patience}).Do(req)
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return resp, string(b)
}

// poll repeats ask until it says true.
func poll(t *testing.T, what string, ask func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ask() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
		<-time.After(10 * time.Millisecond)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(b)
}

// rpc sends an XML-RPC call to the control socket.
func (a *testAgent) rpc(body string) string {
	a.t.Helper()
	c, err := net.Dial("unix", a.socket)
	if err != nil {
		a.t.Fatal(err)
	}
	defer c.Close()
	req, err := http.NewRequest("POST", "http://inpod/RPC2", strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "text/xml")
	if err := req.Write(c); err != nil {
		a.t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), req)
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return string(b)
}
