package sshd

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

func TestExec(t *testing.T) {
	s := start(t, defaults(t))
	for _, tt := range []struct {
		name, input, command string
		out, errs            string
		code                 int
	}{
		{"output", "", "echo out; echo err >&2", "out\n", "err\n", 0},
		{"status", "", "exit 255", "", "", 255},
		{"input", "some\nlines", "cat; exit 3", "some\nlines", "", 3},
		{"input that nobody reads", strings.Repeat("x", 1<<20), "exit 7", "", "", 7},
		{"no input", "", "cat", "", "", 0},
		{"killed", "", "kill -KILL $$", "", "", 255},
		{"nothing", "", "true", "", "", 0},
		{"no such command", "", "/nonexistent", "", "", 127},
		{"home", "", "cd; pwd; echo $USER $LOGNAME", s.dir + "/home" + "\n" + me() + " " + me() + "\n", "", 0},
		{"the container's environment", "", "echo $MARK", "of the container\n", "", 0},
		{"background", "", "sleep 100 >/dev/null 2>&1 </dev/null & echo done", "done\n", "", 0},
	} {
		out, errs, code := s.run(tt.input, "--", tt.command)
		if out != tt.out || code != tt.code || tt.code != 127 && errs != tt.errs {
			t.Errorf("%s: out %q, err %q, status %d; want %q, %q, %d", tt.name, out, errs, code, tt.out, tt.errs, tt.code)
		}
	}
}

func TestEveryStatus(t *testing.T) {
	c := start(t, defaults(t)).dial()
	for code := range 256 {
		ss, err := c.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		if err := ss.Run("exit " + strconv.Itoa(code)); err != nil {
			var exit *ssh.ExitError
			if !errors.As(err, &exit) {
				t.Fatal(err)
			}
			got = exit.ExitStatus()
		}
		if got != code {
			t.Errorf("status %d, want %d", got, code)
		}
	}
}

// One connection carries many clients (ControlMaster).
func TestMultiplexing(t *testing.T) {
	s := start(t, defaults(t))
	path := "ControlPath=" + t.TempDir() + "/c"
	defer func() { _ = s.ssh("-O", "exit", "-o", path).Run() }()
	for i := range 5 {
		if out, errs, _ := s.run("", "-o", "ControlMaster=auto", "-o", path, "-o", "ControlPersist=30", "--", "echo $PPID"); out == "" {
			t.Errorf("round %d: %s", i, errs)
		}
	}
	if n := strings.Count(s.log.String(), `"msg":"login"`); n != 1 {
		t.Errorf("%d logins, want 1", n)
	}
}

func TestBinarySafe(t *testing.T) {
	s := start(t, defaults(t))
	var b strings.Builder
	for i := range 3 << 20 {
		b.WriteByte(byte(i * 7 >> (i % 5)))
	}
	out, _, code := s.run(b.String(), "--", "cat")
	if code != 0 || out != b.String() {
		t.Errorf("status %d, %d bytes came back of %d", code, len(out), b.Len())
	}
}

func TestShellAndTerminal(t *testing.T) {
	conf := defaults(t)
	conf.MOTD = "THE LIMITS\n"
	s := start(t, conf)
	out, _, code := s.run("echo mark-$MARK; tty; stty size; exit 4\n", "-tt")
	if code != 4 || !strings.Contains(out, "mark-of the container") || !strings.Contains(out, "/dev/pts/") || !strings.HasPrefix(out, "THE LIMITS\r\n") {
		t.Errorf("status %d, output %q", code, out)
	}
	out, _, code = s.run("", "-tt", "--", "tty; echo $SSH_TTY $TERM; exit 5")
	lines := strings.Split(out, "\r\n")
	if code != 5 || len(lines) < 2 || !strings.HasPrefix(lines[1], lines[0]+" ") {
		t.Errorf("status %d, output %q", code, out)
	}
	// Without a terminal a shell reads commands and shows nothing of its own.
	out, errs, code := s.run("echo plain; exit 6\n", "-T")
	if code != 6 || out != "plain\n" || errs != "" {
		t.Errorf("status %d, output %q %q", code, out, errs)
	}
}

func TestProfile(t *testing.T) {
	conf := defaults(t)
	conf.Env = append(conf.Env, "KEPT=yes", "PATH=/opt/tool/bin:/usr/bin:/bin")
	write(t, conf.Etc+"/environment", "FROM_ENVIRONMENT=\"a b\"\n# c\n")
	write(t, conf.Etc+"/profile", "echo noise; PATH=/usr/local/bin:/usr/bin:/bin; export PATH HF_ENDPOINT=https://mirror HOME_SEEN=$HOME\n")
	s := start(t, conf)
	out, errs, code := s.run("", "-o", "SendEnv=LC_X", "--", "env")
	for _, want := range []string{"KEPT=yes", "FROM_ENVIRONMENT=a b", "HF_ENDPOINT=https://mirror", "HOME_SEEN=" + s.dir + "/home", "MARK=of the container"} {
		if !strings.Contains(out, want+"\n") {
			t.Errorf("%q is not in the environment:\n%s", want, out)
		}
	}
	if code != 0 || errs != "" || strings.Contains(out, "noise") {
		t.Errorf("status %d, %q, %q", code, out, errs)
	}
	if out, _, _ := s.run("", "--", "echo $PATH"); !strings.Contains(out, "/usr/local/bin:/usr/bin:/bin") {
		t.Errorf("PATH %q", out)
	}
}
