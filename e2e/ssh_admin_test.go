package e2e

import (
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/inpod/inpod/e2e/lab"
)

const airlock = `ssh:
  permit_remote_forward: ["127.0.0.1:*"]
  users:
  - name: airlock
    password_file: DIR/airlock-password
    authorized_keys: [DIR/client/id.pub]
    root: DIR/jail
    access: read-only
    paths: [{path: /in, access: read-write}, {path: /drop, access: write-only}]
    quota: 1Mi
`

// A user who may only exchange files: a jail, read-only but for two directories, no more than the quota, no shell and no
// forwarding.
func TestSSHJail(t *testing.T) {
	t.Parallel()
	s := prepareSSH(t, airlock)
	s.write("airlock-password", "the password\n")
	s.write("jail/file", "in the jail")
	s.write("secret", "outside")
	for _, dir := range []string{"jail/in", "jail/drop"} {
		if err := os.Mkdir(s.path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{"absolute": s.path("secret"), "relative": "../secret", "directory": s.dir} {
		if err := os.Symlink(to, s.path("jail/"+name)); err != nil {
			t.Fatal(err)
		}
	}
	s.begin(t)
	if !s.says(`"ssh is on"`) {
		t.Fatal("the agent does not serve ssh")
	}
	s.write("client/small", strings.Repeat("s", 100_000))
	s.write("client/large", strings.Repeat("l", 2<<20))
	t.Run("files", func(t *testing.T) { t.Parallel(); jailFiles(t, s) })
	t.Run("nothing else", func(t *testing.T) { t.Parallel(); jailNothingElse(t, s) })
}

func jailFiles(t *testing.T, s *sshSide) {
	sftp := func(batch string) ended {
		t.Helper()
		return s.run(t, batch+"\n", "sftp", "-F", s.conf, "-b", "-", "airlock")
	}
	got := s.path("client/got")
	if e := sftp("pwd\nget file " + got); e.code != 0 || s.read(t, got) != "in the jail" || !strings.Contains(e.out, "directory: /\n") {
		t.Errorf("%+v", e)
	}
	for _, batch := range []string{"put small in/put", "put small drop/put", "rename in/put in/renamed", "mkdir in/dir"} {
		if e := sftp(batch); e.code != 0 {
			t.Errorf("%s: %+v", batch, e)
		}
	}
	for _, batch := range []string{
		"put small put", "put small file", "rm file", "chmod 777 file", "rename file in/file", "mkdir dir", "ln file in/hard", "ln -s file soft",
		"get absolute " + got, "get relative " + got, "get directory/secret " + got, "get ../secret " + got, "get " + s.path("secret") + " " + got,
		"ls directory/secret", "put small directory/put", "ls drop", "get drop/put " + got, "put large in/large",
	} {
		if e := sftp(batch); e.code == 0 {
			t.Errorf("%s: no error: %s", batch, e.out)
		}
	}
	if s.read(t, s.path("jail/file")) != "in the jail" || s.read(t, got) != "in the jail" {
		t.Error("something has changed what it may not, or come out")
	}
	if _, err := os.Lstat(s.path("put")); err == nil {
		t.Error("something was put outside")
	}
	var total int64
	_ = filepath.Walk(s.path("jail"), func(_ string, st os.FileInfo, err error) error {
		if err == nil && st.Mode().IsRegular() {
			total += st.Size()
		}
		return nil
	})
	if total > 1<<20 {
		t.Errorf("%d bytes are in the jail", total)
	}
	if e := sftp("-rm in/large\nput small in/again"); e.code != 0 {
		t.Errorf("after what was too large is gone: %+v", e)
	}
	// scp without an scp: the jail has no commands.
	s.must(t, "", "scp", "-F", s.conf, "-O", "-p", s.client+"/small", "airlock:/in/scp")
	s.must(t, "", "scp", "-F", s.conf, "-O", "-pr", "airlock:/in", s.path("client/scp-down"))
	sameTree(t, s.path("jail/in"), s.path("client/scp-down"), true)
	for _, from := range []string{"airlock:/absolute", "airlock:../secret", "airlock:/drop/put"} {
		if e := s.run(t, "", "scp", "-F", s.conf, "-O", from, got); e.code == 0 {
			t.Errorf("scp %s: %+v", from, e)
		}
	}
	if e := s.run(t, "", "scp", "-F", s.conf, "-O", s.client+"/small", "airlock:/put"); e.code == 0 {
		t.Errorf("scp to where it may not: %+v", e)
	}
	// The password is worth the same as the key.
	password := []string{"sshpass", "-p", "the password", "sftp", "-F", s.conf, "-o", "BatchMode=no", "-o", "PubkeyAuthentication=no", "airlock:/file", got + "2"}
	s.must(t, "", password...)
	password[2] = "the passwork"
	if e := s.run(t, "", password...); e.code == 0 {
		t.Errorf("a wrong password: %+v", e)
	}
}

func jailNothingElse(t *testing.T, s *sshSide) {
	for _, args := range [][]string{
		{"airlock", "echo in"},
		{"airlock"},
		{"-tt", "airlock"},
		{"-tt", "airlock", "bash"},
		{"airlock", "scp -t /etc; echo in"},
		{"-W", strings.TrimPrefix(s.admin, "http://"), "airlock"},
		{"-N", "-o", "ExitOnForwardFailure=yes", "-R", fmt.Sprintf("127.0.0.1:%d:127.0.0.1:1", freePort(t)), "airlock"},
		{"-s", "airlock", "nosuch"},
	} {
		if e := s.run(t, "", s.ssh(args...)...); e.code == 0 || strings.Contains(e.out, "in\n") {
			t.Errorf("%q: %+v", args, e)
		}
	}
	if e := s.run(t, "", s.ssh("airlock", "true")...); !strings.Contains(e.errs, "only files") {
		t.Errorf("it is not said why: %+v", e)
	}
	if e := s.run(t, "", "rsync", "-e", "ssh -F "+s.conf, s.client+"/small", "airlock:in/"); e.code == 0 {
		t.Errorf("rsync: %+v", e)
	}
	sock := s.path("client/jail.sock")
	s.background(t, s.ssh("-N", "-L", sock+":"+s.path("agent.sock"), "airlock")...)
	if !listened(sock) {
		t.Error("a unix socket: the client does not listen")
	}
	if e := s.run(t, "", "curl", "-s", "--max-time", "30", "--unix-socket", sock, "http://x/livez"); e.code == 0 {
		t.Errorf("a unix socket: %+v", e)
	}
}

// Every login, refusal, session, transfer and forwarding is a line of the log that says who, from where and what.
func TestSSHAudit(t *testing.T) {
	t.Parallel()
	s := startSSH(t, "")
	print := strings.Fields(s.must(t, "", "ssh-keygen", "-lf", s.key))[1]
	s.run(t, "", s.ssh("-o", "User=nosuchuser", "127.0.0.1", "true")...)
	s.run(t, "", s.ssh("box", "exit 7")...)
	s.must(t, "get "+s.path("profile")+" got\nput got "+s.path("home/sent")+"\n", "sftp", "-F", s.conf, "-b", "-", "box")
	echo := echoServer(t)
	s.run(t, "x", s.ssh("-W", "127.0.0.1:"+echo, "box")...)
	s.run(t, "x", s.ssh("-W", "10.255.255.1:80", "box")...)
	size := float64(len(s.read(t, s.path("profile"))))
	user := func(msg string, more map[string]any) map[string]any {
		r := map[string]any{"msg": msg, "user": s.user, "level": "INFO"}
		maps.Copy(r, more)
		return r
	}
	for _, want := range []map[string]any{
		{"msg": "login refused", "user": "nosuchuser", "method": "publickey"},
		user("login", map[string]any{"method": "publickey", "key": print}),
		user("session", map[string]any{"kind": "exec", "command": "exit 7", "tty": false}),
		user("session ended", map[string]any{"kind": "exec", "command": "exit 7", "exit": 7.0}),
		user("session", map[string]any{"kind": "sftp"}),
		user("transfer", map[string]any{"path": s.path("profile"), "direction": "read", "bytes": size}),
		user("transfer", map[string]any{"path": s.path("home/sent"), "direction": "write", "bytes": size}),
		user("forward", map[string]any{"kind": "direct-tcpip", "target": "127.0.0.1:" + echo}),
		{"msg": "forwarding refused", "user": s.user, "kind": "direct-tcpip", "target": "10.255.255.1:80", "level": "WARN"},
		user("logout", map[string]any{"reason": "the client left"}),
	} {
		if !lab.Until(patience, func() bool { return s.recorded(want) }) {
			t.Errorf("no line of the log has %v", want)
		}
	}
	_, metrics := s.get("/metrics")
	for _, want := range []string{`inpod_ssh_logins_total{method="publickey"} 4`, "inpod_ssh_"} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s in /metrics", want)
		}
	}
}

// recorded tells whether a line of the log has all of these, a client's address and the number of its connection.
func (s *sshSide) recorded(want map[string]any) bool {
	for _, r := range s.records() {
		n := 0
		for k, v := range want {
			if r[k] == v {
				n++
			}
		}
		from, _ := r["from"].(string)
		if n == len(want) && strings.HasPrefix(from, "127.0.0.1:") && r["connection"] != nil {
			return true
		}
	}
	return false
}

// inpod ctl sessions shows what runs, and ends it.
func TestSSHSessions(t *testing.T) {
	t.Parallel()
	s := startSSH(t, "")
	if out, code := s.cli("ctl", "sessions"); code != 0 || strings.Contains(out, s.user) {
		t.Errorf("with nobody: code %d, %s", code, out)
	}
	_, kept, _ := s.background(t, s.ssh("box", "echo kept; exec sleep 1001")...)
	_, out, cmd := s.background(t, s.ssh("-tt", "box", "echo pid=$$.; exec sleep 1002")...)
	if !lab.Until(patience, func() bool {
		return strings.Contains(kept.String(), "kept") && strings.Contains(out.String(), ".")
	}) {
		t.Fatal("no sessions")
	}
	var pid int
	if _, err := fmt.Sscanf(out.String(), "pid=%d.", &pid); err != nil {
		t.Fatal(err)
	}
	list, code := s.cli("ctl", "sessions")
	id := ""
	for line := range strings.Lines(list) {
		if strings.Contains(line, "sleep 1002") {
			id = strings.Fields(line)[0]
			for _, want := range []string{s.user, "publickey", "pts/", fmt.Sprint(pid), "127.0.0.1:"} {
				if !strings.Contains(line, want) {
					t.Errorf("no %q in %s", want, line)
				}
			}
		}
	}
	if code != 0 || id == "" || !strings.Contains(list, "sleep 1001") {
		t.Fatalf("code %d:\n%s", code, list)
	}
	if out, code := s.cli("ctl", "sessions", "kill", id); code != 0 || !strings.Contains(out, "killed") {
		t.Errorf("code %d: %s", code, out)
	}
	_ = cmd.Wait()
	if cmd.ProcessState.ExitCode() != 255 {
		t.Errorf("the client ends with %d", cmd.ProcessState.ExitCode())
	}
	if !lab.Until(patience, func() bool { return syscall.Kill(pid, 0) != nil }) {
		t.Error("its command lives on")
	}
	if !lab.Until(patience, func() bool { out, _ := s.cli("ctl", "sessions"); return !strings.Contains(out, "sleep 1002") }) {
		t.Error("it is still on the list")
	}
	if out, _ := s.cli("ctl", "sessions"); !strings.Contains(out, "sleep 1001") {
		t.Errorf("the other one is not on the list: %s", out)
	}
	// A connection on which nothing runs.
	_, _, idle := s.background(t, s.ssh("-N", "box")...)
	if !lab.Until(patience, func() bool {
		list, _ := s.cli("ctl", "sessions")
		for line := range strings.Lines(list) {
			// The one that was killed may be there a moment longer than its session.
			if f := strings.Fields(line); len(f) > 1 && f[0] != id && f[1] == s.user && !strings.Contains(line, "sleep") {
				id = f[0]
				return true
			}
		}
		return false
	}) {
		t.Fatal("a connection without a session is not on the list")
	}
	if out, code := s.cli("ctl", "sessions", "kill", id); code != 0 {
		t.Errorf("code %d: %s", code, out)
	}
	_ = idle.Wait()
	if out, code := s.cli("ctl", "sessions", "kill", "999999"); code == 0 {
		t.Errorf("one that is not there: %s", out)
	}
}

// A drain takes no new sessions, tells terminals, and lets what runs end.
func TestSSHDrain(t *testing.T) {
	t.Parallel()
	s := startSSH(t, "", "INPOD_DRAIN_DEADLINE=600s")
	sock := s.path("client/mux")
	in, out, cmd := s.background(t, s.ssh("-M", "-S", sock, "box", "echo begun; read x; echo ended; exit 4")...)
	term := openTerminal(t, s.client, s.clientEnv("TERM=vt100"), 24, 80, s.ssh("-tt", "box", "echo begun; read x; exit 5")...)
	term.untilSeen("begun")
	if !lab.Until(patience, func() bool { return strings.Contains(out.String(), "begun") }) {
		t.Fatal("no session")
	}
	if err := s.d.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	term.untilSeen("this pod is going down")
	if !lab.Until(patience, func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:"+s.port)
		if err == nil {
			c.Close()
		}
		return err != nil
	}) {
		t.Error("new connections are taken")
	}
	if e := s.run(t, "", s.ssh("-S", sock, "-o", "ControlMaster=no", "box", "echo in")...); e.code == 0 || strings.Contains(e.out, "in\n") {
		t.Errorf("a new session on an old connection: %+v", e)
	}
	if s.d.Exited() {
		t.Fatal("the agent does not wait for sessions")
	}
	term.press("\n")
	<-term.done
	if code := term.cmd.ProcessState.ExitCode(); code != 5 {
		t.Errorf("the terminal ends with %d, want 5", code)
	}
	if _, err := io.WriteString(in, "\n"); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 4 || out.String() != "begun\nended\n" {
		t.Errorf("the command ends with %d, %q", code, out.String())
	}
	s.wantExit("exit 0")
}
