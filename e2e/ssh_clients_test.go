package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Clients that have an SSH of their own: PuTTY, Dropbear and Paramiko.
func TestSSHOtherClients(t *testing.T) {
	t.Parallel()
	s := startSSH(t, "")
	for name, f := range map[string]func(*testing.T, *sshSide){"putty": sshPuTTY, "dropbear": sshDropbear, "paramiko": sshParamiko} {
		t.Run(name, func(t *testing.T) { t.Parallel(); f(t, s) })
	}
}

func sshPuTTY(t *testing.T, s *sshSide) {
	src := s.tree(t, "putty-src")
	s.must(t, "", "puttygen", s.key, "-O", "private", "-o", s.key+".ppk")
	print := strings.Fields(s.must(t, "", "ssh-keygen", "-lf", s.path("host/ssh_host_ed25519_key")))[1]
	login := func(tool string, args ...string) []string {
		return append([]string{tool, "-batch", "-P", s.port, "-l", s.user, "-i", s.key + ".ppk", "-hostkey", print}, args...)
	}
	data := s.read(t, src+"/sub/deep/big")
	if e := s.run(t, data, login("plink", "127.0.0.1", "cat; echo err >&2; exit 3")...); e.code != 3 || e.out != data || e.errs != "err\n" {
		t.Errorf("plink: code %d, %d bytes, %s", e.code, len(e.out), e.errs)
	}
	if e := s.run(t, "", login("plink", "-t", "127.0.0.1", "test -t 0 && echo on a terminal")...); e.code != 0 || !strings.Contains(e.out, "on a terminal") {
		t.Errorf("plink -t: %+v", e)
	}
	wrong := login("plink", "127.0.0.1", "echo in")
	wrong[8] = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	if e := s.run(t, "", wrong...); e.code == 0 {
		t.Errorf("another host key: %+v", e)
	}
	for _, protocol := range []string{"-sftp", "-scp"} {
		up, down := s.there("box", "pscp"+protocol), filepath.Join(s.client, "pscp"+protocol)
		for _, dir := range []string{up, down} {
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		s.must(t, "", login("pscp", protocol, "-q", "-p", "-r", src, "127.0.0.1:"+up)...)
		sameTree(t, src, up+"/putty-src", false)
		s.must(t, "", login("pscp", protocol, "-q", "-p", "-r", "127.0.0.1:"+up+"/putty-src", down)...)
		sameTree(t, src, down+"/putty-src", false)
	}
	s.write("client/batch", "mkdir psftp\ncd psftp\nput "+src+"/sub/deep/big big\nmv big moved\nchmod 600 moved\nls\nget moved "+s.client+"/psftp-got\n")
	if out := s.must(t, "", login("psftp", "-b", s.client+"/batch", "127.0.0.1")...); !strings.Contains(out, "-rw-------") {
		t.Errorf("psftp: %s", out)
	}
	if s.read(t, s.client+"/psftp-got") != data {
		t.Error("psftp: what came back is not the same")
	}
}

func sshDropbear(t *testing.T, s *sshSide) {
	s.must(t, "", "dropbearconvert", "openssh", "dropbear", s.key, s.key+".db")
	login := func(args ...string) []string {
		return append([]string{"dbclient", "-y", "-y", "-i", s.key + ".db", "-p", s.port, "-l", s.user}, args...)
	}
	// What comes back goes into a file: dbclient never ends when it cannot write all of it before the channel is closed.
	run := func(input string, args ...string) ended {
		t.Helper()
		file := s.path("client/dropbear-out")
		e := s.run(t, input, append([]string{"sh", "-c", `exec "$@" >"$0"`, file}, login(args...)...)...)
		e.out = s.read(t, file)
		return e
	}
	data := s.read(t, filepath.Join(s.tree(t, "dropbear-src"), "sub/deep/big"))
	few := data[len(data)-20_000:]
	if e := run(data, "127.0.0.1", "tail -c 20000; exit 4"); e.code != 4 || e.out != few {
		t.Errorf("code %d, %d bytes of %d: %s", e.code, len(e.out), len(few), e.errs)
	}
	term := openTerminal(t, s.client, s.clientEnv("TERM=vt100"), 33, 77, login("-t", "127.0.0.1", "stty size; read x; exit 8")...)
	term.untilSeen("33 77")
	term.press("\r")
	<-term.done
	if code := term.cmd.ProcessState.ExitCode(); code != 8 {
		t.Errorf("on a terminal: code %d, want 8", code)
	}
	echo := echoServer(t)
	if e := run(few, "-B", "127.0.0.1:"+echo, "127.0.0.1"); e.out != few {
		t.Errorf("-B: code %d, %d bytes of %d: %s", e.code, len(e.out), len(few), e.errs)
	}
}

const paramikoScript = `
import os, sys, paramiko
port, user, key, home, echo = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5])
c = paramiko.SSHClient()
c.set_missing_host_key_policy(paramiko.AutoAddPolicy())
c.connect("127.0.0.1", port, user, key_filename=key, allow_agent=False, look_for_keys=False)

data = os.urandom(1 << 20)
i, o, e = c.exec_command("tee /dev/stderr; exit 5")
import threading
def feed():
    i.write(data); i.channel.shutdown_write()
threading.Thread(target=feed).start()
errs = []
reader = threading.Thread(target=lambda: errs.append(e.read()))
reader.start()
assert o.read() == data, "stdout"
reader.join()
assert errs[0] == data, "stderr"
assert o.channel.recv_exit_status() == 5, "status"

ch = c.get_transport().open_session()
ch.exec_command("kill -TERM $$")
assert ch.recv_exit_status() == -1, "a signal is no status"

ch = c.get_transport().open_session()
ch.get_pty("vt100", 77, 33)
ch.exec_command("stty size; read x; stty size; echo $TERM")
f = ch.makefile("r")
assert f.readline().strip() == "33 77", "size"
ch.resize_pty(100, 50)
ch.send("\n")
rest = f.read().split()
assert rest == [b"50", b"100", b"vt100"], rest
assert ch.recv_exit_status() == 0

s = c.open_sftp()
s.chdir(home)
s.mkdir("paramiko", 0o700)
with s.open("paramiko/f", "wb") as f:
    f.set_pipelined(True)
    f.write(data)
assert s.stat("paramiko/f").st_size == len(data)
with s.open("paramiko/f", "rb") as f:
    f.prefetch()
    assert f.read() == data, "what came back"
    f.seek(1000)
    assert f.read(10) == data[1000:1010], "seek"
with s.open("paramiko/f", "ab") as f:
    f.write(b"more")
with s.open("paramiko/f", "r+b") as f:
    f.truncate(10)
assert s.open("paramiko/f").read() == data[:10], "truncate"
s.utime("paramiko/f", (1000000000, 1000000001))
assert s.stat("paramiko/f").st_mtime == 1000000001
s.posix_rename("paramiko/f", "paramiko/g")
s.symlink("g", "paramiko/l")
assert s.readlink("paramiko/l") == "g" and s.lstat("paramiko/l").st_mode & 0o170000 == 0o120000
assert sorted(s.listdir("paramiko")) == ["g", "l"]
try:
    s.open("paramiko/none")
    raise SystemExit("a file that is not there")
except FileNotFoundError:
    pass
try:
    s.rmdir("paramiko")
    raise SystemExit("rmdir of what is not empty")
except IOError:
    pass

ch = c.get_transport().open_channel("direct-tcpip", ("127.0.0.1", echo), ("127.0.0.1", 0))
ch.sendall(b"there and back"); ch.shutdown_write()
assert ch.makefile("rb").read() == b"there and back", "forwarding"
try:
    c.get_transport().open_channel("direct-tcpip", ("10.255.255.1", 80), ("127.0.0.1", 0))
    raise SystemExit("an address that is not permitted")
except paramiko.ChannelException as e:
    assert e.code == 1, e
try:
    c.get_transport().request_port_forward("127.0.0.1", 0)
    raise SystemExit("listening is not permitted")
except paramiko.SSHException:
    pass
ch = c.get_transport().open_session()
try:
    ch.invoke_subsystem("nosuch")
    print("subsystem", ch.recv_exit_status())
except paramiko.SSHException:
    print("subsystem refused")
c.close()
print("ok")
`

func sshParamiko(t *testing.T, s *sshSide) {
	out := s.must(t, "", "/usr/bin/python3", "-c", paramikoScript, s.port, s.user, s.key, s.home, echoServer(t))
	if !strings.HasSuffix(out, "ok\n") || strings.Contains(out, "subsystem 0") {
		t.Errorf("got %q", out)
	}
	s.must(t, "", "/usr/bin/python3", "-c", fmt.Sprintf(`
import paramiko
t = paramiko.Transport(("127.0.0.1", %s))
t.connect()
for kind, value in (("publickey", paramiko.RSAKey.generate(2048)), ("password", "x"), ("none", None)):
    try:
        getattr(t, "auth_" + kind)(%q, *([] if value is None else [value]))
        raise SystemExit(kind + " let in")
    except paramiko.SSHException:
        pass
`, s.port, s.user))
}
