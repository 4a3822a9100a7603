package sftp

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"
)

// sandbox is where a client of Debian works: a directory of its own, and one that is served.
type sandbox struct {
	t             *testing.T
	self          string // the test binary, which stands in for ssh
	local, served string
	home          string // of the clients, which keep a history there while they copy local
	jail          bool
}

func newSandbox(t *testing.T, jail bool) *sandbox {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	b := &sandbox{
		t: t, self: self, local: filepath.Join(dir, "local"), served: filepath.Join(dir, "served"), home: filepath.Join(dir, "home"), jail: jail,
	}
	for _, d := range []string{b.local, b.served, b.home} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// run runs a client in the local directory.
func (b *sandbox) run(stdin string, argv ...string) string {
	b.t.Helper()
	out, err := b.try(stdin, argv...)
	if err != nil {
		b.t.Fatalf("%q: %v\n%s", argv, err, out)
	}
	return out
}

func (b *sandbox) try(stdin string, argv ...string) (string, error) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = b.local
	root, home := "", b.served
	if b.jail {
		root, home = b.served, "/"
	}
	cmd.Env = append(os.Environ(), "SFTP_TEST_ROOT="+root, "SFTP_TEST_HOME="+home, "HOME="+b.home, "LC_ALL=C", "TZ=UTC")
	cmd.Stdin = strings.NewReader(stdin)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Minute
	err := cmd.Run()
	return out.String(), err
}

func (b *sandbox) random(path string, n int) string {
	b.t.Helper()
	rnd := rand.New(rand.NewPCG(uint64(n), 7))
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(rnd.Uint32())
	}
	write(b.t, path, string(data))
	return string(data)
}

func (b *sandbox) same(path, want string) {
	b.t.Helper()
	if got := contents(b.t, path); got != want {
		b.t.Errorf("%s: %d bytes that are not the %d wanted", filepath.Base(path), len(got), len(want))
	}
}

func TestOpenSSHClient(t *testing.T) {
	for _, jail := range []bool{false, true} {
		t.Run(map[bool]string{false: "whole", true: "jail"}[jail], func(t *testing.T) {
			b := newSandbox(t, jail)
			data := b.random(filepath.Join(b.local, "big"), 5<<20)
			sftp := func(batch string) string { t.Helper(); return b.run(batch, "sftp", "-q", "-b", "-", "-D", b.self) }
			sftp("put big\nmkdir d\nmkdir d/e\nput -p big d/e/copy\nget d/e/copy back\nrename big moved\nln moved hard\nln -s moved soft\n" +
				"chmod 600 moved\nput -f big synced\ncopy moved copied\nls -la\ndf -h\npwd\nget soft via-link\nrm hard\n")
			for _, p := range []string{"moved", "d/e/copy", "soft", "synced", "copied"} {
				b.same(filepath.Join(b.served, p), data)
			}
			b.same(filepath.Join(b.local, "back"), data)
			b.same(filepath.Join(b.local, "via-link"), data)
			if st, err := os.Stat(filepath.Join(b.served, "moved")); err != nil || st.Mode() != 0o600 {
				t.Errorf("chmod: %v (%v)", st.Mode(), err)
			}
			if err := os.Truncate(filepath.Join(b.served, "synced"), 1_234_567); err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(filepath.Join(b.local, "back"), 7_654); err != nil {
				t.Fatal(err)
			}
			sftp("reput big synced\nreget moved back\n")
			b.same(filepath.Join(b.served, "synced"), data)
			b.same(filepath.Join(b.local, "back"), data)
			sftp("put -r " + b.local + " whole\nget -r whole again\n")
			b.same(filepath.Join(b.local, "again", "big"), data)
			b.run("", "scp", "-q", "-r", "-p", "-D", b.self, "x:d", "from-scp")
			b.same(filepath.Join(b.local, "from-scp", "e", "copy"), data)
			b.run("", "scp", "-q", "-p", "-D", b.self, "big", "x:by-scp")
			b.same(filepath.Join(b.served, "by-scp"), data)
			if out, err := b.try("rm d\n", "sftp", "-q", "-b", "-", "-D", b.self); err == nil || !strings.Contains(out, "Failure") {
				t.Errorf("rm of a directory: %v, %q", err, out)
			}
		})
	}
}

// TestAsOpenSSHsServer gives the same requests to Debian's sftp-server, and wants the same answers.
func TestAsOpenSSHsServer(t *testing.T) {
	const server = "/usr/lib/openssh/sftp-server"
	b := newSandbox(t, false)
	batch := "-ls -la\n-ls -l d\n-ls -n d\n-rm nothing\n-rm d\n-rmdir f\n-rmdir d\n-mkdir d\n-rename f d\n-rename f g\n-ln -s f x\n-ln g x\n-cd f\n-cd nothing\n" +
		"-get nothing\n-get d/sub/deep\n-put f0 d\n-put f0 nothing/x\n-chmod 4755 g\n-chown 0 nothing\n-ls -la\n-df g\n-symlink a b\n-ls -l gone\n-lmkdir no\n-rm loop/x\n-ls old\n"
	prepare := func() {
		for _, d := range []string{b.served, b.local} {
			if err := os.RemoveAll(d); err != nil {
				t.Fatal(err)
			}
		}
		for _, d := range []string{"", "d", "d/sub"} {
			if err := os.MkdirAll(filepath.Join(b.served, d), 0o750); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Mkdir(b.local, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, mode := range map[string]os.FileMode{"f": 0o644, "d/a": 0o1777, "d/b": 0o640, "d/c": 0o007} {
			p := filepath.Join(b.served, name)
			write(t, p, name)
			if err := os.Chmod(p, mode); err != nil {
				t.Fatal(err)
			}
			when := map[string]int64{"d/a": 1_000_000_000, "d/b": 4_000_000_000}[name]
			if when != 0 {
				if err := os.Chtimes(p, time.Unix(when, 0), time.Unix(when, 0)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := os.Symlink("loop", filepath.Join(b.served, "loop")); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(b.local, "f0"), "local")
	}
	answers := func(by string) string {
		prepare()
		out, err := b.try("cd "+b.served+"\n"+batch, "sftp", "-q", "-b", "-", "-D", by)
		if err != nil {
			t.Errorf("%s: %v", by, err)
		}
		// What changes all the time: the free space, and the minute.
		return regexp.MustCompile(`(?m)^ +[0-9 ]+%.*$|[A-Z][a-z]{2} [ 0-9][0-9] \d\d:\d\d`).ReplaceAllString(out, "now")
	}
	if d := cmp.Diff(answers(server), answers(b.self)); d != "" {
		t.Errorf("OpenSSH's server and ours:\n%s", d)
	}
}

func TestLftp(t *testing.T) {
	b := newSandbox(t, false)
	data := b.random(filepath.Join(b.local, "big"), 3<<20)
	b.random(filepath.Join(b.local, "small"), 3)
	b.run("", "lftp", "-c", "set sftp:connect-program '"+b.self+"'; set net:max-retries 1; open sftp://u:p@x; mirror -R --parallel=2 . "+b.served+"/up; mirror "+b.served+"/up down")
	b.same(filepath.Join(b.served, "up", "big"), data)
	b.same(filepath.Join(b.local, "down", "big"), data)
}

// TestRclone goes through an SSH server: Debian's rclone has its own client and starts no other.
func TestRclone(t *testing.T) {
	b := newSandbox(t, false)
	data := b.random(filepath.Join(b.local, "src-big"), 3<<20)
	host, port, err := net.SplitHostPort(sshServer(t, all()))
	if err != nil {
		t.Fatal(err)
	}
	args := []string{
		"rclone", "--config", "/dev/null", "--sftp-host", host, "--sftp-port", port, "--sftp-user", "u",
		"--sftp-pass", strings.TrimSpace(b.run("", "rclone", "obscure", "p")), "--sftp-disable-hashcheck",
	}
	b.run("", append(args, "sync", b.local, ":sftp:"+b.served+"/up")...)
	b.same(filepath.Join(b.served, "up", "src-big"), data)
	b.run("", append(args, "sync", ":sftp:"+b.served+"/up", filepath.Join(b.local, "down"))...)
	b.same(filepath.Join(b.local, "down", "src-big"), data)
}

// sshServer is the least of an SSH server: any password will do, and there is nothing but SFTP.
func sshServer(t *testing.T, opts Options) (addr string) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	conf := &ssh.ServerConfig{PasswordCallback: func(ssh.ConnMetadata, []byte) (*ssh.Permissions, error) { return nil, nil }}
	conf.AddHostKey(signer)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serveSSH(c, conf, opts)
		}
	}()
	return l.Addr().String()
}

func serveSSH(c net.Conn, conf *ssh.ServerConfig, opts Options) {
	defer c.Close()
	conn, channels, requests, err := ssh.NewServerConn(c, conf)
	if err != nil {
		return
	}
	defer conn.Close()
	go ssh.DiscardRequests(requests)
	for nc := range channels {
		ch, requests, err := nc.Accept()
		if err != nil {
			return
		}
		go func() {
			for r := range requests {
				ok := r.Type == "subsystem"
				if err := r.Reply(ok, nil); err != nil || !ok {
					continue
				}
				go func() {
					_ = Serve(context.Background(), ch, opts) // the client's fault is seen at its own end
					_, _ = ch.SendRequest("exit-status", false, []byte{0, 0, 0, 0})
					ch.Close()
				}()
			}
		}()
	}
}

// TestSSHFS needs /dev/fuse and the right to mount; where there is neither, the protocol is the same as everybody's.
func TestSSHFS(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may mount here")
	}
	b := newSandbox(t, true)
	mnt := filepath.Join(b.local, "mnt")
	if err := os.Mkdir(mnt, 0o755); err != nil {
		t.Fatal(err)
	}
	b.run("", "sshfs", "-o", "ssh_command="+b.self, "-o", "max_conns=1", "x:/", mnt)
	defer b.run("", "fusermount3", "-u", "-z", mnt)
	p := filepath.Join(mnt, "f")
	write(t, p, "hello world")
	if err := os.Truncate(p, 5); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(p, p+"2"); err != nil {
		t.Fatal(err)
	}
	write(t, p, "other")
	if err := os.Rename(p, p+"2"); err != nil { // onto what is there
		t.Fatal(err)
	}
	f, err := os.OpenFile(p+"2", os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(" more"); err != nil {
		t.Error(err)
	}
	if err := f.Sync(); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if err := os.Symlink("f2", filepath.Join(mnt, "s")); err != nil {
		t.Error(err)
	}
	b.same(filepath.Join(mnt, "s"), "other more")
	b.same(filepath.Join(b.served, "f2"), "other more")
	if out := b.run("", "df", mnt); !strings.Contains(out, mnt) {
		t.Errorf("df: %s", out)
	}
}
