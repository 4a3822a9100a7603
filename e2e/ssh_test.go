package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/inpod/inpod/e2e/lab"
)

// sshSide is an agent that serves SSH, and what its clients need. It sees an /etc/passwd of its own: the user of the
// tests has a shell and a home directory there, whatever the machine says.
type sshSide struct {
	*agent
	port   string
	user   string // the agent's own
	home   string // of user
	other  string // somebody else whom the agent may become; "" for a plain user
	client string // HOME of the clients
	key    string // a private key that may log in
	conf   string // ssh_config: the hosts box (user), other and airlock
}

const otherUID = 1 // daemon's

// ownFiles makes the command behind it see other files in /etc, and whatever else a script of the shell mounts.
func ownFiles(t *testing.T, dir, script string, unshare ...string) []string {
	t.Helper()
	script = "mount --bind " + dir + "/passwd /etc/passwd && mount --bind " + dir + "/profile /etc/profile && " + script
	if os.Getuid() != 0 {
		return mounted(t, script+`exec setpriv --inh-caps=-all --ambient-caps=-all --bounding-set=-all "$@"`, unshare...)
	}
	return mounted(t, script+`exec "$@"`, unshare...)
}

// mounted runs a script that may mount, with the command behind it as arguments, in namespaces of its own. A plain user
// needs a user namespace for that, and stays who it is.
func mounted(t *testing.T, script string, unshare ...string) []string {
	t.Helper()
	wrap := []string{"/usr/bin/unshare", "-m"}
	if os.Getuid() != 0 {
		wrap = append(wrap, "-U", fmt.Sprintf("--map-user=%d", os.Getuid()), fmt.Sprintf("--map-group=%d", os.Getgid()), "--keep-caps")
	}
	wrap = append(wrap, unshare...)
	if out, err := exec.Command(wrap[0], append(wrap[1:], "/bin/true")...).CombinedOutput(); err != nil {
		if os.Getuid() != 0 && exec.Command(wrap[0], "-U", "/bin/true").Run() != nil {
			t.Skipf("this kernel gives a plain user no namespaces: %s", out)
		}
		t.Fatalf("cannot make namespaces: %v: %s", err, out)
	}
	return append(wrap, "sh", "-c", script, "sh")
}

// prepareSSH makes files and keys, and starts nothing. DIR stands for the agent's directory in yaml, %PORT% for
// the port in env.
func prepareSSH(t *testing.T, yaml string, env ...string) *sshSide {
	t.Helper()
	s := &sshSide{agent: prepare(t, setup{}), user: "root", port: fmt.Sprint(freePort(t))}
	s.home, s.client, s.key, s.conf = s.path("home"), s.path("client"), s.path("client/id"), s.path("client/config")
	passwd := fmt.Sprintf("root:x:0:0::%s:/bin/bash\n", s.home)
	if os.Getuid() != 0 {
		s.user = "plain"
		passwd = fmt.Sprintf("root:x:0:0::/root:/bin/bash\nplain:x:%d:%d::%s:/bin/bash\n", os.Getuid(), os.Getgid(), s.home)
	}
	passwd += fmt.Sprintf("daemon:x:%d:%d::%s:/bin/sh\n", otherUID, otherUID, s.path("theirs"))
	s.write("passwd", passwd)
	s.write("profile", "export FROM_PROFILE=yes\necho noise of the profile\n")
	for _, dir := range []string{"home", "theirs", "client", "client/.ssh", "host"} {
		if err := os.Mkdir(s.path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if os.Getuid() == 0 {
		s.other = "daemon"
		if err := os.Chown(s.path("theirs"), otherUID, otherUID); err != nil {
			t.Fatal(err)
		}
	}
	for suffix, mode := range map[string]os.FileMode{"": 0o600, ".pub": 0o644} {
		key, err := os.ReadFile(rsaHostKey + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(s.path("host/ssh_host_rsa_key"+suffix), key, mode); err != nil {
			t.Fatal(err)
		}
	}
	s.must(t, "", "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "the client", "-f", s.key)
	s.write("client/config", "Host box\n User "+s.user+"\nHost other\n User daemon\nHost airlock\n User airlock\nHost box other airlock\n HostName 127.0.0.1\n"+
		"Host *\n Port "+s.port+"\n IdentityFile "+s.key+"\n IdentitiesOnly yes\n BatchMode yes\n LogLevel ERROR\n"+
		" StrictHostKeyChecking accept-new\n UserKnownHostsFile "+s.path("client/known_hosts")+"\n GlobalKnownHostsFile /dev/null\n")
	s.write("inpod.yaml", strings.ReplaceAll(yaml, "DIR", s.dir))
	s.env = append(s.env, "INPOD_SSH_HOST_KEY_DIR="+s.path("host"), "INPOD_SSH_PASSWORD_FILE=", "INPOD_SSH_SHADOW=false",
		"INPOD_SSH_AUTHORIZED_KEYS=["+s.path("keys")+", '%h/.ssh/authorized_keys']", "INPOD_SSH_LISTEN=127.0.0.1:"+s.port)
	for _, kv := range env {
		s.env = append(s.env, strings.ReplaceAll(kv, "%PORT%", s.port))
	}
	return s
}

// startSSH is an agent that clients can log in to.
func startSSH(t *testing.T, yaml string, env ...string) *sshSide {
	t.Helper()
	return startSSHAs(t, yaml, setup{env: env}, "")
}

// startSSHAs is startSSH in other namespaces, and with a script that mounts what the agent is to see.
func startSSHAs(t *testing.T, yaml string, su setup, script string, unshare ...string) *sshSide {
	t.Helper()
	s := prepareSSH(t, yaml, su.env...)
	s.write("keys", s.read(t, s.key+".pub"))
	for name, text := range su.files {
		s.write(name, text)
	}
	su.wrap = ownFiles(t, s.dir, strings.ReplaceAll(script, "DIR", s.dir), unshare...)
	s.beginWith(t, su)
	if !s.says(`"ssh is on"`) || !s.says(`"made a host key"`, "ed25519") {
		t.Fatal("the agent does not serve ssh")
	}
	return s
}

func (s *sshSide) begin(t *testing.T) {
	t.Helper()
	s.beginWith(t, setup{wrap: ownFiles(t, s.dir, "")})
}

func (s *sshSide) beginWith(t *testing.T, su setup) {
	t.Helper()
	su.args = []string{"--config", s.path("inpod.yaml")}
	s.launch(su)
	if !lab.Until(patience, func() bool { return s.answers() || s.d.Exited() }) || s.d.Exited() {
		t.Fatalf("the agent does not answer (%s):\n%s", s.d.WaitExit(0), tailOf(s.d.Output(), 3000))
	}
}

func (s *sshSide) answers() bool {
	c, err := net.Dial("tcp", strings.TrimPrefix(s.admin, "http://"))
	if err == nil {
		c.Close()
	}
	return err == nil
}

// says tells whether the agent's output soon has a line with all the texts.
func (s *sshSide) says(texts ...string) bool {
	return lab.Until(2*patience, func() bool { // it may take a while to find the primes of a key
		for line := range strings.Lines(s.d.Output()) {
			n := 0
			for _, text := range texts {
				if strings.Contains(line, text) {
					n++
				}
			}
			if n == len(texts) {
				return true
			}
		}
		return false
	})
}

func (s *sshSide) read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// ended is a client that has ended.
type ended struct {
	out, errs string
	code      int
}

// clientEnv is what a client begins with: nothing of the tester's own settings.
func (s *sshSide) clientEnv(extra ...string) []string {
	return append(baseEnv("HOME="+s.client), extra...)
}

// command is a client that is not started yet.
func (s *sshSide) command(ctx context.Context, argv ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = s.client, s.clientEnv()
	return cmd
}

// run runs a client to its end.
func (s *sshSide) run(t *testing.T, input string, argv ...string) ended {
	t.Helper()
	return s.finish(t, input, s.command(t.Context(), argv...))
}

func (s *sshSide) finish(t *testing.T, input string, cmd *exec.Cmd) ended {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*patience) // some of them move gigabytes
	defer cancel()
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &errs
	cmd.WaitDelay = patience // what it leaves behind may hold its output
	if err := cmd.Start(); err != nil {
		t.Fatalf("cannot run %s: %v", cmd.Args[0], err)
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%q: %v", cmd.Args, err)
	}
	if ctx.Err() != nil {
		t.Fatalf("%q does not end:\n%s%s", cmd.Args, out.String(), errs.String())
	}
	return ended{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

// must runs a client that has to end well, and returns its output.
func (s *sshSide) must(t *testing.T, input string, argv ...string) string {
	t.Helper()
	return s.good(t, input, s.command(context.Background(), argv...))
}

func (s *sshSide) good(t *testing.T, input string, cmd *exec.Cmd) string {
	t.Helper()
	e := s.finish(t, input, cmd)
	if e.code != 0 {
		t.Fatalf("%q: code %d\n%s%s", cmd.Args, e.code, e.out, e.errs)
	}
	return e.out
}

// ssh is the command line of OpenSSH's client; before the host there are options.
func (s *sshSide) ssh(args ...string) []string { return append([]string{"ssh", "-F", s.conf}, args...) }

// background starts a client that stays; it ends with the test.
func (s *sshSide) background(t *testing.T, argv ...string) (in io.WriteCloser, out *safeBuffer, cmd *exec.Cmd) {
	t.Helper()
	return s.backgroundEnv(t, nil, argv...)
}

// backgroundEnv is background with more in the client's environment.
func (s *sshSide) backgroundEnv(t *testing.T, env []string, argv ...string) (in io.WriteCloser, out *safeBuffer, cmd *exec.Cmd) {
	t.Helper()
	out = &safeBuffer{}
	cmd = s.command(context.Background(), argv...)
	cmd.Env = append(cmd.Env, env...)
	cmd.Stdout, cmd.Stderr = out, out
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("cannot run %s: %v", argv[0], err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%q says: %s", argv, out.String())
		}
	})
	return in, out, cmd
}

// tree makes files and directories whose contents, modes and times are all different.
func (s *sshSide) tree(t *testing.T, name string) string {
	t.Helper()
	root := filepath.Join(s.client, name)
	for i, f := range []struct {
		path string
		size int
		mode fs.FileMode
	}{{"empty", 0, 0o600}, {"small", 5, 0o755}, {"sub/a b 'c'", 40_000, 0o640}, {"sub/deep/big", 1 << 20, 0o444}, {"ünï", 300, 0o664}} {
		path := filepath.Join(root, f.path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		data := make([]byte, f.size)
		_, _ = rand.Read(data)
		if err := os.WriteFile(path, data, f.mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, f.mode); err != nil {
			t.Fatal(err)
		}
		s.must(t, "", "touch", "-d", fmt.Sprintf("2001-02-0%d 03:04:05", i+1), path)
	}
	s.must(t, "", "touch", "-d", "2003-03-03", filepath.Join(root, "sub", "deep"))
	return root
}

// listened waits until somebody listens on a unix socket; there is a moment between its name and that.
func listened(sock string) bool {
	return lab.Until(patience, func() bool {
		c, err := net.Dial("unix", sock)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// sameTree compares two trees: contents, and where they are to be kept modes and times.
func sameTree(t *testing.T, want, got string, kept bool) {
	t.Helper()
	show := func(root string) string {
		var b strings.Builder
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || path == root {
				return err
			}
			rel, _ := filepath.Rel(root, path)
			fmt.Fprint(&b, rel)
			st, err := d.Info()
			if err != nil {
				return err
			}
			if kept {
				fmt.Fprint(&b, " ", st.Mode(), " ", st.ModTime().Unix())
			}
			if st.Mode().IsRegular() {
				data, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				fmt.Fprintf(&b, " %d %x", len(data), sha256.Sum256(data))
			}
			b.WriteString("\n")
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		return b.String()
	}
	if w, g := show(want), show(got); w != g {
		t.Errorf("%s differs from %s: got\n%s\nwant\n%s", got, want, g, w)
	}
}

// Without a credential nothing listens where nobody asked for it, and where somebody did every login is refused; a key
// that comes later lets its owner in.
func TestSSHWithoutCredential(t *testing.T) {
	t.Parallel()
	t.Run("nothing listens", func(t *testing.T) {
		t.Parallel()
		s := prepareSSH(t, "", "INPOD_SSH_LISTEN=", "SSH_PORT=%PORT%")
		s.begin(t)
		if !s.says(`"ssh is off"`, "no keys and no password") {
			t.Error("it is not said why ssh is off")
		}
		if c, err := net.Dial("tcp", "127.0.0.1:"+s.port); err == nil {
			c.Close()
			t.Error("something listens")
		}
		s.write("keys", s.read(t, s.key+".pub"))
		if !s.says(`"ssh is on"`) {
			t.Fatal("a key that came later does not turn ssh on")
		}
		if out := s.must(t, "", s.ssh("box", "echo in")...); out != "in\n" {
			t.Errorf("got %q", out)
		}
	})
	t.Run("every login is refused", func(t *testing.T) {
		t.Parallel()
		s := prepareSSH(t, "")
		s.begin(t)
		if !s.says("ssh refuses every login") {
			t.Error("no warning")
		}
		for _, argv := range [][]string{
			s.ssh("box", "echo in"),
			append([]string{"sshpass", "-p", ""}, s.ssh("-o", "BatchMode=no", "-o", "PubkeyAuthentication=no", "box", "echo in")...),
			append([]string{"sshpass", "-p", "123456"}, s.ssh("-o", "BatchMode=no", "-o", "PubkeyAuthentication=no", "box", "echo in")...),
		} {
			if e := s.run(t, "", argv...); e.code == 0 || e.out != "" || argv[0] == "ssh" && !strings.Contains(e.errs, "Permission denied") {
				t.Errorf("%q: %+v", argv, e)
			}
		}
		if !s.says(`"login refused"`, s.user) {
			t.Error("the refusal is not logged")
		}
	})
}

// records are the lines of the log that SSH wrote.
func (s *sshSide) records() []map[string]any {
	var list []map[string]any
	for line := range strings.Lines(s.d.Output()) {
		var r map[string]any
		if json.Unmarshal([]byte(line), &r) == nil && r["part"] == "ssh" {
			list = append(list, r)
		}
	}
	return list
}
