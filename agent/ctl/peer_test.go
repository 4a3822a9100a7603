package ctl

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const python = "/usr/bin/python3"

// patience is how long a test waits for what must come. It is long because a busy machine is no failure.
const patience = time.Minute

// request is one run of a control client; answer is what came of it.
type request struct {
	Args  []string `json:"args"`
	Stdin string   `json:"stdin,omitempty"`
	Until string   `json:"until,omitempty"` // Ctrl-C once the output holds this
	Last  string   `json:"last,omitempty"`  // the last words: supervisorctl is killed after them
}

type answer struct {
	Out  string `json:"out"`
	Err  string `json:"err"`
	Code int    `json:"code"`
}

// driver runs the real supervisorctl.
type driver struct {
	cmd *exec.Cmd
	in  *json.Encoder
	out *bufio.Reader
}

func startDriver(t *testing.T) *driver {
	t.Helper()
	cmd := exec.Command(python, "testdata/supervisorctl_driver.py")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("cannot start Debian's python3 with the supervisor package: %v", err)
	}
	t.Cleanup(func() { in.Close(); _ = cmd.Wait() })
	return &driver{cmd, json.NewEncoder(in), bufio.NewReader(out)}
}

func (d *driver) run(t *testing.T, r request) answer {
	t.Helper()
	if err := d.in.Encode(r); err != nil {
		t.Errorf("cannot ask supervisorctl: %v", err)
		return answer{}
	}
	line, err := d.out.ReadBytes('\n')
	if err != nil {
		t.Errorf("cannot read supervisorctl's answer: %v", err)
		return answer{}
	}
	var a answer
	if err := json.Unmarshal(line, &a); err != nil {
		t.Error(err)
	}
	return a
}

// peer is a running Python supervisord.
type peer struct {
	dir  string
	cmd  *exec.Cmd
	done chan struct{}
}

// startPeer starts supervisord on conf, in which DIR is its own folder, and waits until it answers.
func startPeer(t *testing.T, conf string) *peer {
	t.Helper()
	// Not t.TempDir: a socket's path may have 108 bytes.
	dir, err := os.MkdirTemp("", "ctl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := &peer{dir: dir}
	p.write(t, "supervisord.conf", conf)
	p.write(t, "notexec", "#!/bin/sh\n")
	p.start(t)
	return p
}

func (p *peer) start(t *testing.T) {
	t.Helper()
	cmd := exec.Command("/usr/bin/supervisord", "-n", "-c", filepath.Join(p.dir, "supervisord.conf"))
	cmd.Dir = p.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatalf("cannot start Debian's supervisord: %v", err)
	}
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	p.cmd, p.done = cmd, done
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-done:
		case <-time.After(patience):
			_ = cmd.Process.Kill()
			<-done
		}
	})
	await(t, "supervisord's socket", func() bool {
		server, _ := Dial(p.url(), "", "")
		_, err := server.Call(context.Background(), "supervisor.getState")
		return err == nil
	})
}

func (p *peer) url() string { return "unix://" + filepath.Join(p.dir, "s.sock") }

func (p *peer) write(t *testing.T, name, text string) {
	t.Helper()
	text = strings.ReplaceAll(text, "DIR", p.dir)
	if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (p *peer) mkdir(t *testing.T, name string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(p.dir, name), 0o755); err != nil {
		t.Fatal(err)
	}
}

// await waits until every process has the state that want says ("web:web_0 RUNNING").
func (p *peer) await(t *testing.T, want ...string) {
	t.Helper()
	server, _ := Dial(p.url(), "", "")
	got := ""
	await(t, fmt.Sprintf("%v", want), func() bool {
		v, err := server.Call(context.Background(), "supervisor.getAllProcessInfo")
		got = fmt.Sprint(err)
		for _, info := range asRecords(v) {
			got += "\n" + info.name() + " " + info.str("statename")
		}
		for _, w := range want {
			if !strings.Contains(got+"\n", "\n"+w+"\n") {
				return false
			}
		}
		return true
	})
}

// awaitLog waits until a log holds text, which may be later than the state RUNNING of who wrote it.
func (p *peer) awaitLog(t *testing.T, name, text string) {
	t.Helper()
	await(t, fmt.Sprintf("%q in %s", text, name), func() bool {
		b, _ := os.ReadFile(filepath.Join(p.dir, name))
		return strings.Contains(string(b), text)
	})
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s for %s", patience, what)
		}
		poll()
	}
}

// poll is the pause between two looks at another process, which tells nobody when it has changed.
func poll() {
	timer := time.NewTimer(20 * time.Millisecond)
	<-timer.C
}

// runOurs is the run of a Controller that answers to driver.run.
func runOurs(t *testing.T, opts Options, line string, r request) answer {
	t.Helper()
	stdin, typist, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	if _, err := typist.WriteString(r.Stdin); err != nil {
		t.Fatal(err)
	}
	if r.Until == "" {
		typist.Close()
	} else {
		defer typist.Close()
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	out := &trigger{until: r.Until, fire: cancel}
	var errs syncBuffer
	opts.Stdin, opts.Stdout, opts.Stderr, opts.Dial = stdin, out, &errs, Dial
	c := New(opts)
	var code int
	if line == "" {
		code = c.Shell(ctx)
	} else {
		code = c.Do(ctx, line)
	}
	return answer{out.String(), errs.String(), code}
}

type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// trigger is a buffer that calls fire once it holds a text.
type trigger struct {
	syncBuffer
	until string
	fire  func()
}

func (w *trigger) Write(p []byte) (int, error) {
	n, err := w.syncBuffer.Write(p)
	if w.until != "" && strings.Contains(w.String(), w.until) {
		w.fire()
	}
	return n, err
}

// freePort returns a port on which nobody listens. It is above the range from which the kernel takes ports for outgoing
// connections and for listeners on port 0: one of those could have it before supervisord.
func freePort(t *testing.T) string {
	t.Helper()
	for range 1000 {
		port := fmt.Sprint(62500 + rand.IntN(500))
		if ln, err := net.Listen("tcp", "127.0.0.1:"+port); err == nil {
			_ = ln.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return ""
}
