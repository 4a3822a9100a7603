package sshd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// dial logs in with a client that shows every message.
func (s *server) dial() *ssh.Client {
	s.t.Helper()
	key, err := ssh.ParsePrivateKey([]byte(read(s.t, s.key)))
	if err != nil {
		s.t.Fatal(err)
	}
	c, err := ssh.Dial("tcp", s.addr, &ssh.ClientConfig{
		User: me(), Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: patience,
	})
	if err != nil {
		s.t.Fatalf("cannot log in: %v; the server's log:\n%s", err, s.log)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	return c
}

// frames runs a command and returns what came, in its order. The reading of data and of requests are two queues of the
// library, so the order of the two is shown by what has come before the other was read.
func frames(t *testing.T, c *ssh.Client, command string) []string {
	t.Helper()
	ch, reqs, err := c.OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ch.Close()
	if ok, err := ch.SendRequest("exec", true, ssh.Marshal(struct{ C string }{command})); err != nil || !ok {
		t.Fatalf("exec: %v, %v", ok, err)
	}
	var got []string
	var mu sync.Mutex
	add := func(s string) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, s)
	}
	var wg sync.WaitGroup
	wg.Add(2)
	status := make(chan struct{})
	go func() {
		defer wg.Done()
		defer close(status)
		for r := range reqs {
			add(r.Type)
			if r.Type == "exit-status" || r.Type == "exit-signal" {
				status <- struct{}{}
			}
		}
		add("CLOSE")
	}()
	go func() {
		defer wg.Done()
		b, err := io.ReadAll(ch)
		<-status // it must come before the EOF that has been seen
		add(fmt.Sprintf("%d bytes", len(b)))
		if err == nil {
			add("EOF")
		}
	}()
	wg.Wait()
	return got
}

func TestOrderAtTheEnd(t *testing.T) {
	s := start(t, defaults(t))
	c := s.dial()
	for _, command := range []string{"printf 12345", "exit 3", "printf 12345; kill -TERM $$"} {
		got := frames(t, c, command)
		want := "exit-status"
		if strings.Contains(command, "kill") {
			want = "exit-signal"
		}
		n := "0 bytes"
		if strings.Contains(command, "printf") {
			n = "5 bytes"
		}
		// CLOSE may be noted before or after what the reader notes.
		if len(got) != 4 || got[0] != want || !slices.Contains(got, "EOF") || !slices.Contains(got, "CLOSE") || !slices.Contains(got, n) {
			t.Errorf("%s: got %q", command, got)
		}
	}
}

// OpenSSH's client tells the messages in the order in which they came, but for data, which TestNoLostTail is about.
func TestFrames(t *testing.T) {
	s := start(t, defaults(t))
	for _, tt := range []struct{ command, status string }{
		{"printf x; exit 3", "rtype exit-status"},
		{"printf x; kill -TERM $$", "rtype exit-signal"},
	} {
		for _, tty := range []string{"-T", "-tt"} {
			_, log, _ := s.run("", "-o", "LogLevel=DEBUG3", tty, "--", tt.command)
			last := 0
			for _, what := range []string{tt.status, "rcvd eof", "rcvd close"} {
				at := strings.LastIndex(log, what)
				if at < last {
					t.Errorf("%s %s: %q is at %d, after %d, in\n%s", tty, tt.command, what, at, last, log)
				}
				last = at
			}
		}
	}
}

// What a command writes last, and then ends, must arrive, with and without a terminal, whichever of its two outputs it
// is. In 10,000 commands no byte is lost.
func TestNoLostTail(t *testing.T) {
	conf := defaults(t)
	write(t, conf.Passwd, strings.ReplaceAll(read(t, conf.Passwd), "/bin/bash", "/bin/sh")) // which is there sooner
	s := start(t, conf)
	const workers = 4
	rounds := 10_000 / workers
	if testing.Short() {
		rounds = 100
	}
	data := make([]byte, 200_000)
	rnd := rand.New(rand.NewPCG(3, 4))
	for i := range data {
		data[i] = byte(rnd.Uint32())
	}
	file := filepath.Join(s.dir, "data")
	write(t, file, string(data))
	var wg sync.WaitGroup
	for worker := range workers {
		c := s.dial()
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range rounds {
				size := (i*7919 + worker) % len(data)
				if i%3 > 0 {
					size %= 3000 // most output fits into a packet
				}
				if err := tail(c, worker == 3, i%2 == 1, file, data[:size]); err != nil {
					t.Errorf("worker %d, round %d, %d bytes: %v", worker, i, size, err)
				}
			}
		}()
	}
	wg.Wait()
}

// tail runs a command that writes data and is gone, and compares what came.
func tail(c *ssh.Client, tty, toErr bool, file string, data []byte) error {
	ss, err := c.NewSession()
	if err != nil {
		return err
	}
	defer ss.Close()
	if tty {
		if err := ss.RequestPty("xterm", 24, 80, ssh.TerminalModes{ssh.OPOST: 0}); err != nil {
			return err
		}
	}
	var out, errs bytes.Buffer
	ss.Stdout, ss.Stderr = &out, &errs
	command, got, other := fmt.Sprintf("exec head -c %d %s", len(data), file), &out, &errs
	if toErr && !tty {
		command, got, other = command+" >&2", other, got
	}
	switch err := ss.Run(command); {
	case err != nil:
		return err
	case !bytes.Equal(got.Bytes(), data):
		return fmt.Errorf("%d bytes came", got.Len())
	case other.Len() > 0:
		return fmt.Errorf("%d bytes came where none were sent", other.Len())
	}
	return nil
}

func TestSignals(t *testing.T) {
	s := start(t, defaults(t))
	c := s.dial()
	for _, tt := range []struct {
		command string
		signal  string
	}{
		{"kill -KILL $$", "KILL"},
		{"kill -TERM $$", "TERM"},
		{"kill -USR1 $$", "USR1"},
		{"kill -BUS $$", "BUS@openssh.com"},
	} {
		ss, err := c.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		var exit *ssh.ExitError
		if err := ss.Run(tt.command); !errors.As(err, &exit) || exit.Signal() != tt.signal {
			t.Errorf("%s: %v, want %s", tt.command, err, tt.signal)
		}
	}
	// A signal that the client sends reaches the whole group.
	ss, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	out, err := ss.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := ss.Start("trap 'echo got USR1; exit 9' USR1; echo ready; while :; do sleep 0.05; done"); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 6)
	if _, err := io.ReadFull(out, buf); err != nil {
		t.Fatal(err)
	}
	if err := ss.Signal(ssh.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	rest, _ := io.ReadAll(out)
	var exit *ssh.ExitError
	if err := ss.Wait(); string(rest) != "got USR1\n" && !strings.Contains(string(rest), "got USR1") || !errors.As(err, &exit) || exit.ExitStatus() != 9 {
		t.Errorf("%q, %v", rest, err)
	}
}

func TestHalfClose(t *testing.T) {
	s := start(t, defaults(t))
	c := s.dial()
	ss, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	in, _ := ss.StdinPipe()
	out, _ := ss.StdoutPipe()
	// The client ends its input, and output comes after that.
	if err := ss.Start("cat; sleep 0.1; echo after; exit 3"); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(in, "before\n")
	_ = in.Close()
	if b, err := io.ReadAll(out); err != nil || string(b) != "before\nafter\n" {
		t.Errorf("%q, %v", b, err)
	}
	var exit *ssh.ExitError
	if err := ss.Wait(); !errors.As(err, &exit) || exit.ExitStatus() != 3 {
		t.Errorf("%v, want status 3", err)
	}
	if out, _, code := s.run("abc", "--", "exec <&-; sleep 0.1; echo still; exit 4"); out != "still\n" || code != 4 {
		t.Errorf("%q, status %d", out, code)
	}
}

// A process in the background that holds the output delays the end of the channel, as with sshd, and not the status.
func TestHeldOutput(t *testing.T) {
	s := start(t, defaults(t))
	c := s.dial()
	ch, reqs, err := c.OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, ch) }()
	if _, err := ch.SendRequest("exec", true, ssh.Marshal(struct{ C string }{"sleep 100 & exit 5"})); err != nil {
		t.Fatal(err)
	}
	select {
	case r := <-reqs:
		if r == nil || r.Type != "exit-status" || r.Payload[3] != 5 {
			t.Errorf("got %+v", r)
		}
	case <-time.After(patience): // much less than the output is held
		t.Error("no status")
	}
	_ = ch.Close()
	// On a terminal nobody waits for it; run would end a client that does.
	if _, _, code := s.run("", "-tt", "--", "trap '' HUP; sleep 100 & exit 6"); code != 6 {
		t.Errorf("status %d", code)
	}
}

func TestManySessions(t *testing.T) {
	s := start(t, defaults(t))
	c := s.dial()
	const n = 200
	var wg sync.WaitGroup
	for i := range n {
		wg.Add(1)
		go func() {
			defer wg.Done()
			ss, err := c.NewSession()
			if err != nil {
				t.Errorf("session %d: %v", i, err)
				return
			}
			defer ss.Close()
			ss.Stdin = strings.NewReader(fmt.Sprint("input ", i))
			out, err := ss.CombinedOutput("cat; exit " + fmt.Sprint(i))
			var exit *ssh.ExitError
			if string(out) != fmt.Sprint("input ", i) || i > 0 && (!errors.As(err, &exit) || exit.ExitStatus() != i) {
				t.Errorf("session %d: %q, %v", i, out, err)
			}
		}()
	}
	wg.Wait()
}

func TestWindowChange(t *testing.T) {
	s := start(t, defaults(t))
	ss, err := s.dial().NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if err := ss.RequestPty("xterm", 24, 80, ssh.TerminalModes{ssh.ECHO: 0}); err != nil {
		t.Fatal(err)
	}
	in, _ := ss.StdinPipe()
	out, _ := ss.StdoutPipe()
	if err := ss.Start("stty size; read x; stty size; stty -a | grep -o -- '-echo ' "); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, len("24 80\r\n"))
	if _, err := io.ReadFull(out, buf); err != nil || string(buf) != "24 80\r\n" {
		t.Errorf("%q, %v", buf, err)
	}
	// With a reply, which nobody else asks for: data does not wait for requests.
	if ok, err := ss.SendRequest("window-change", true, ssh.Marshal(windowSize{Columns: 132, Rows: 50})); err != nil || !ok {
		t.Fatal(ok, err)
	}
	_, _ = io.WriteString(in, "\n")
	rest, _ := io.ReadAll(out)
	if want := "50 132\r\n-echo \r\n"; string(rest) != want {
		t.Errorf("%q, want %q", rest, want)
	}
}

// Much goes through in little memory.
func TestConstantMemory(t *testing.T) {
	s := start(t, defaults(t))
	ss, err := s.dial().NewSession()
	if err != nil {
		t.Fatal(err)
	}
	out, _ := ss.StdoutPipe()
	size := int64(256 << 20)
	if testing.Short() {
		size = 64 << 20
	}
	if err := ss.Start(fmt.Sprintf("head -c %d /dev/zero", size)); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, out); n != size || err != nil {
		t.Errorf("%d bytes of %d, %v", n, size, err)
	}
	status, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(s.cmd.Process.Pid), "status"))
	if err != nil {
		t.Fatal(err)
	}
	var peak int
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			_, _ = fmt.Sscan(rest, &peak)
		}
	}
	t.Logf("the server took %d KiB", peak)
	if peak > 200<<10 { // the race detector needs most of it
		t.Errorf("the server took %d KiB", peak)
	}
}
