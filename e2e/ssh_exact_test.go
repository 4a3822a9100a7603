package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/inpod/inpod/e2e/lab"
)

// master is a connection that OpenSSH's clients share; what it returns is a client's command line for a command.
func (s *sshSide) master(t *testing.T) func(command string) []string {
	t.Helper()
	sock := s.path("client/m" + strconv.Itoa(freePort(t)))
	s.background(t, s.ssh("-M", "-S", sock, "-N", "box")...)
	if !lab.Until(patience, func() bool { return s.run(t, "", s.ssh("-S", sock, "-O", "check", "box")...).code == 0 }) {
		t.Fatal("the master does not come up")
	}
	return func(command string) []string { return s.ssh("-S", sock, "-o", "ControlMaster=no", "box", command) }
}

// Nothing is lost of what commands write, whatever they end with, one after the other and all at once. TestNoLostTail of
// sshd runs 10,000; these are some with OpenSSH's client, for which a process is started each time.
func TestSSHExact(t *testing.T) {
	t.Parallel()
	s := startSSH(t, "")
	t.Run("tails", func(t *testing.T) { t.Parallel(); sshTails(t, s) })
	t.Run("every status", func(t *testing.T) { t.Parallel(); sshEveryStatus(t, s) })
	t.Run("200 at once", func(t *testing.T) { t.Parallel(); sshAtOnce(t, s) })
}

func sshTails(t *testing.T, s *sshSide) {
	rounds := 400
	if testing.Short() {
		rounds = 40
	}
	data := make([]byte, 100_000)
	_, _ = rand.Read(data)
	s.write("home/data", string(data))
	client := s.master(t)
	const workers = 4
	var wait sync.WaitGroup
	for w := range workers {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for i := range rounds / workers {
				n := (i*7919 + w) % len(data)
				if i%2 == 0 {
					n %= 3000
				}
				// One of the two is the last that is written before the end.
				first, last := "", ">&2"
				if i%4 < 2 {
					first, last = last, first
				}
				cmd := s.command(t.Context(), client(fmt.Sprintf("head -c %d data %s; exec head -c %d data %s", n/2, first, n, last))...)
				var out, errs bytes.Buffer
				cmd.Stdout, cmd.Stderr = &out, &errs
				if err := cmd.Run(); err != nil {
					t.Errorf("worker %d, round %d: %v", w, i, err)
					return
				}
				want, have := []int{n / 2, n}, []int{out.Len(), errs.Len()}
				if last == "" {
					want[0], want[1] = want[1], want[0]
				}
				if !bytes.Equal(out.Bytes(), data[:want[0]]) || !bytes.Equal(errs.Bytes(), data[:want[1]]) {
					t.Errorf("worker %d, round %d: %d bytes came, want %d", w, i, have, want)
				}
			}
		}()
	}
	wait.Wait()
}

func sshEveryStatus(t *testing.T, s *sshSide) {
	client := s.master(t)
	step := 1
	if testing.Short() {
		step = 17
	}
	for code := 0; code < 256; code += step {
		if e := s.run(t, "", client(fmt.Sprintf("echo %d; exit %d", code, code))...); e.code != code || e.out != fmt.Sprintln(code) {
			t.Errorf("status %d: %+v", code, e)
		}
	}
}

// All of them run at the same time: none ends before the last has begun.
func sshAtOnce(t *testing.T, s *sshSide) {
	const n = 200
	client := s.master(t)
	type one struct {
		in  io.WriteCloser
		out *safeBuffer
		cmd *exec.Cmd
	}
	all := make([]one, n)
	for i := range all {
		in, out, cmd := s.background(t, client(fmt.Sprintf("echo begun; cat; exit %d", i))...)
		all[i] = one{in, out, cmd}
	}
	for i, o := range all {
		if !lab.Until(patience, func() bool { return strings.HasPrefix(o.out.String(), "begun\n") }) {
			t.Fatalf("session %d of %d does not begin: %q", i, n, o.out.String())
		}
	}
	for i, o := range all {
		if _, err := fmt.Fprint(o.in, "input ", i); err != nil {
			t.Error(err)
		}
		o.in.Close()
	}
	for i, o := range all {
		stop := context.AfterFunc(t.Context(), func() { _ = o.cmd.Process.Kill() })
		_ = o.cmd.Wait()
		stop()
		if code := o.cmd.ProcessState.ExitCode(); code != i || o.out.String() != fmt.Sprint("begun\ninput ", i) {
			t.Errorf("session %d: code %d, %q", i, code, o.out.String())
		}
	}
}

// memory is what the agent has in memory now, and had at most, in MiB.
func (s *sshSide) memory(t *testing.T) (now, most int) {
	t.Helper()
	status := s.read(t, fmt.Sprintf("/proc/%d/status", s.d.PID()))
	read := func(key string) int {
		m := regexp.MustCompile(key + `:\s+(\d+) kB`).FindStringSubmatch(status)
		if m == nil {
			t.Fatalf("no %s in %s", key, status)
		}
		n, _ := strconv.Atoi(m[1])
		return n >> 10
	}
	return read("VmRSS"), read("VmHWM")
}

// largeGrowth is how much more memory large transfers may take, in MiB, however large they are: garbage that may pile up
// while much arrives (sshd/wire), and buffers.
const largeGrowth = 64

// What goes through a session has no size: 2 GiB each way through a command and through SFTP, in constant memory.
// `go run ./bench -run ssh-10gb` does it with 10.
func TestSSHLarge(t *testing.T) {
	t.Parallel()
	s := prepareSSH(t, "")
	s.bin = bins.Inpod // the race detector needs memory of its own
	s.write("keys", s.read(t, s.key+".pub"))
	s.begin(t)
	if !s.says(`"ssh is on"`) {
		t.Fatal("the agent does not serve ssh")
	}
	size := int64(2 << 30)
	if testing.Short() {
		size = 256 << 20
	}
	s.must(t, "", s.ssh("box", "true")...)
	_, before := s.memory(t)
	check := func(what string) {
		t.Helper()
		now, most := s.memory(t)
		t.Logf("%s: %d MiB, at most %d; before %d", what, now, most, before)
		if most > before+largeGrowth {
			t.Errorf("%s: the agent took %d MiB, and %d before; want %d more at most", what, most, before, largeGrowth)
		}
	}
	n := &counted{}
	cmd := s.command(t.Context(), s.ssh("box", fmt.Sprintf("head -c %d /dev/zero", size))...)
	cmd.Stdout = n
	if err := cmd.Run(); err != nil || n.bytes != size || n.other != 0 {
		t.Errorf("out of a command: %d bytes, %d of them not zero, %v", n.bytes, n.other, err)
	}
	check("out of a command")

	cmd = s.command(t.Context(), s.ssh("box", "tr -d '\\0' | wc -c; echo end")...)
	zero, err := os.Open("/dev/zero")
	if err != nil {
		t.Fatal(err)
	}
	defer zero.Close()
	cmd.Stdin = io.LimitReader(zero, size)
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "0\nend\n" {
		t.Errorf("into a command: %q, %v", out, err)
	}
	check("into a command")

	sparse := s.path("client/sparse")
	s.write("client/sparse", "")
	if err := os.Truncate(sparse, size); err != nil {
		t.Fatal(err)
	}
	s.must(t, "get "+sparse+" /dev/null\n", "sftp", "-F", s.conf, "-b", "-", "box")
	check("get")
	s.must(t, "put "+sparse+" /dev/null\n", "sftp", "-F", s.conf, "-b", "-", "box")
	check("put")
	for _, direction := range []string{"read", "write"} {
		if !s.says(`"transfer"`, `"direction":"`+direction+`"`, fmt.Sprintf(`"bytes":%d,`, size)) {
			t.Errorf("%s: not all of it went through", direction)
		}
	}
}

// counted counts what is written to it.
type counted struct{ bytes, other int64 }

func (c *counted) Write(p []byte) (int, error) {
	c.bytes += int64(len(p))
	c.other += int64(len(p) - bytes.Count(p, []byte{0}))
	return len(p), nil
}

// At the end of the agent, which is not PID 1 here, nothing lives on that sessions have started: neither what is cut off,
// nor what was left in the background, nor what heeds no signal, nor what was about to begin.
func TestSSHNothingOutlivesTheAgent(t *testing.T) {
	t.Parallel()
	s := startSSH(t, "drain: {delay: 0s, deadline: 500ms}\n")
	for _, command := range []string{
		"echo begun; exec sleep 1001",
		"trap '' HUP TERM; echo begun; while :; do sleep 1002; done",
		"nohup sh -c 'trap \"\" TERM; while :; do sleep 1003; done' >/dev/null 2>&1 & echo begun; wait",
		"setsid -f sh -c 'sleep 1004; sleep 1004'; echo begun; sleep 1004",
	} {
		for _, tty := range []string{"-T", "-tt"} {
			_, out, cmd := s.background(t, s.ssh(tty, "box", command)...)
			if !lab.Until(patience, func() bool { return strings.Contains(out.String(), "begun") }) {
				t.Fatalf("%s %s does not begin: %s", tty, command, out.String())
			}
			if strings.Contains(command, "1003") {
				_ = cmd.Process.Kill() // its client is gone before the end
			}
		}
	}
	// One that begins too late: until all is killed its profile is at work, which heeds nothing.
	s.write("profile", "touch "+s.path("home/profile")+"; trap '' HUP TERM; sleep 60\n")
	s.background(t, s.ssh("box", "exec sleep 1005")...)
	s.untilFile("home/profile", "")
	if err := s.d.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.wantExit("exit 0")
}
