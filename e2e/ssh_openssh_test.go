package e2e

import (
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/inpod/inpod/e2e/lab"
)

// What OpenSSH's client does with commands, terminals, keys and connections.
func TestOpenSSH(t *testing.T) {
	t.Parallel()
	s := startSSH(t, "", "MARK=of the container", "INPOD_AUTHORIZED_KEYS=")
	for name, f := range map[string]func(*testing.T, *sshSide){
		"exit statuses": sshStatuses, "signals": sshSignals, "terminal": sshTerminal, "login shell": sshLoginShell,
		"a terminal whose client is gone": sshHangup, "environment": sshEnvironment, "agent": sshAgentForward,
		"multiplexing": sshMultiplexing, "jump": sshJump, "keyscan": sshKeyscan, "copy-id": sshCopyID, "another user": sshOtherUser,
		"binary both ways": sshBinary, "unknown user": sshUnknownUser,
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); f(t, s) })
	}
}

func sshStatuses(t *testing.T, s *sshSide) {
	for _, code := range []int{0, 1, 2, 42, 126, 127, 128, 129, 200, 254, 255} {
		e := s.run(t, "", s.ssh("box", fmt.Sprintf("echo out; echo err >&2; exit %d", code))...)
		if want := (ended{"out\n", "err\n", code}); e != want {
			t.Errorf("got %+v, want %+v", e, want)
		}
	}
	if e := s.run(t, "", s.ssh("box", "/no/such/command")...); e.code != 127 || !strings.Contains(e.errs, "No such file") {
		t.Errorf("no such command: %+v", e)
	}
}

func sshBinary(t *testing.T, s *sshSide) {
	data := s.read(t, filepath.Join(s.tree(t, "binary"), "sub/deep/big"))
	e := s.run(t, data, s.ssh("box", "tee /dev/stderr; exit 3")...)
	if e.out != data || e.errs != data || e.code != 3 {
		t.Errorf("%d and %d bytes, code %d; want %d twice and 3", len(e.out), len(e.errs), e.code, len(data))
	}
}

func sshSignals(t *testing.T, s *sshSide) {
	for _, name := range []string{"TERM", "KILL", "SEGV"} {
		// The client has no status for it but its own failure.
		if e := s.run(t, "", s.ssh("box", "echo before; kill -"+name+" $$")...); e.code != 255 || e.out != "before\n" {
			t.Errorf("%s: %+v", name, e)
		}
		if !s.says(`"session ended"`, "kill -"+name, `"signal":"`+name+`"`) {
			t.Errorf("%s is not logged", name)
		}
	}
}

func sshTerminal(t *testing.T, s *sshSide) {
	script := `trap 'echo interrupted; exit 9' INT; echo first=$(stty size) $TERM; while read x; do echo now=$(stty size); done`
	term := openTerminal(t, s.client, s.clientEnv("TERM=vt220"), 31, 91, s.ssh("-tt", "box", script)...)
	term.untilSeen("first=31 91 vt220")
	term.resize(42, 142)
	asked := 0
	if !lab.Until(patience, func() bool {
		screen := term.screen.String()
		if strings.Count(screen, "now=") == asked { // one at a time: what is typed later, such as Ctrl-C, comes after all of them
			term.press("\n")
			asked++
		}
		return strings.Contains(screen, "now=42 142")
	}) {
		t.Error("the new size never comes")
	}
	term.press("\x03")
	term.untilSeen("interrupted")
	<-term.done
	if code := term.cmd.ProcessState.ExitCode(); code != 9 {
		t.Errorf("code %d, want 9", code)
	}
}

// A login shows the limits of the container, and runs a login shell.
func sshLoginShell(t *testing.T, s *sshSide) {
	term := openTerminal(t, s.client, s.clientEnv("TERM=xterm"), 24, 80, s.ssh("box")...)
	term.untilSeen("Memory")
	term.press("shopt -q login_shell && echo log''in $FROM_PROFILE $PWD; exit 7\n")
	term.untilSeen("login yes " + s.home)
	<-term.done
	if code := term.cmd.ProcessState.ExitCode(); code != 7 {
		t.Errorf("code %d, want 7", code)
	}
}

func sshHangup(t *testing.T, s *sshSide) {
	_, out, cmd := s.background(t, s.ssh("-tt", "box", "echo pid=$$.; exec sleep 1000")...)
	if !lab.Until(patience, func() bool { return strings.Contains(out.String(), ".") }) {
		t.Fatal("no session")
	}
	var pid int
	if _, err := fmt.Sscanf(out.String(), "pid=%d.", &pid); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Process.Kill()
	if !lab.Until(patience, func() bool { return syscall.Kill(pid, 0) != nil }) {
		t.Error("the command of a terminal lives on without its client")
	}
}

// A command sees what the agent was started with, what /etc/profile adds, who it is, and nothing else.
func sshEnvironment(t *testing.T, s *sshSide) {
	got := map[string]string{}
	for _, kv := range strings.Split(strings.TrimSuffix(s.must(t, "", s.ssh("box", "env -0")...), "\x00"), "\x00") {
		k, v, _ := strings.Cut(kv, "=")
		got[k] = v
	}
	want := map[string]string{}
	for _, kv := range s.env {
		k, v, _ := strings.Cut(kv, "=")
		want[k] = v
	}
	want["HOME"], want["USER"], want["LOGNAME"], want["SHELL"], want["FROM_PROFILE"], want["PWD"] = s.home, s.user, s.user, "/bin/bash", "yes", s.home
	image := ""
	if data, err := os.ReadFile("/etc/environment"); err == nil {
		image = string(data)
	}
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if v, ok := got[k]; !ok || v != want[k] && !strings.Contains(image, k+"=") {
			t.Errorf("%s: got %q, want %q", k, v, want[k])
		}
	}
	for _, k := range slices.Sorted(maps.Keys(got)) {
		switch _, ok := want[k]; {
		case ok, k == "SSH_CLIENT", k == "SSH_CONNECTION", k == "SHLVL", k == "_", k == lab.TagVar, strings.Contains(image, k+"="):
		default:
			t.Errorf("%s=%q is nowhere from", k, got[k])
		}
	}
	if f := strings.Fields(got["SSH_CONNECTION"]); len(f) != 4 || f[3] != s.port || got["SSH_CLIENT"] != f[0]+" "+f[1]+" "+f[3] {
		t.Errorf("SSH_CONNECTION=%q SSH_CLIENT=%q", got["SSH_CONNECTION"], got["SSH_CLIENT"])
	}
	if out := s.must(t, "", s.ssh("-o", "SetEnv=LC_MESSAGES=de LD_PRELOAD=x", "box", "echo $LC_MESSAGES.$LD_PRELOAD.")...); out != "de..\n" {
		t.Errorf("what the client may set: %q", out)
	}
}

func sshAgentForward(t *testing.T, s *sshSide) {
	sock := s.path("client/auth.sock")
	s.background(t, "ssh-agent", "-D", "-a", sock)
	with := func(argv ...string) ended {
		cmd := s.command(t.Context(), argv...)
		cmd.Env = s.clientEnv("SSH_AUTH_SOCK=" + sock)
		return s.finish(t, "", cmd)
	}
	if !lab.Until(patience, func() bool { return with("ssh-add", "-q", s.key).code == 0 }) {
		t.Fatal("ssh-agent does not come up")
	}
	for _, host := range s.hosts() {
		if e := with(s.ssh("-A", host, "ssh-add -l")...); e.code != 0 || !strings.Contains(e.out, "the client") {
			t.Errorf("%s: %+v", host, e)
		}
		if e := with(s.ssh(host, "ssh-add -l")...); e.code == 0 {
			t.Errorf("%s, without -A: %+v", host, e)
		}
	}
}

// hosts are those of the ssh_config that somebody can log in to.
func (s *sshSide) hosts() []string {
	if s.other == "" {
		return []string{"box"}
	}
	return []string{"box", "other"}
}

func sshMultiplexing(t *testing.T, s *sshSide) {
	sock := s.path("client/mux")
	s.background(t, s.ssh("-M", "-S", sock, "-N", "box")...)
	if !lab.Until(patience, func() bool { return s.run(t, "", s.ssh("-S", sock, "-O", "check", "box")...).code == 0 }) {
		t.Fatal("the master does not come up")
	}
	var wait sync.WaitGroup
	connections := make([]string, 20)
	for i := range connections {
		wait.Add(1)
		go func() {
			defer wait.Done()
			cmd := s.command(t.Context(), s.ssh("-S", sock, "-o", "ControlMaster=no", "box", fmt.Sprintf("echo $SSH_CONNECTION; exit %d", i))...)
			out, _ := cmd.Output()
			connections[i] = fmt.Sprint(string(out), cmd.ProcessState.ExitCode())
		}()
	}
	wait.Wait()
	for i, c := range connections {
		first, _, _ := strings.Cut(connections[0], "\n")
		if want := fmt.Sprintf("%s\n%d", first, i); c != want || first == "" {
			t.Errorf("session %d: got %q, want %q", i, c, want)
		}
	}
	s.must(t, "", s.ssh("-S", sock, "-O", "exit", "box")...)
}

func sshJump(t *testing.T, s *sshSide) {
	for _, host := range s.hosts() {
		if e := s.run(t, "in", s.ssh("-J", host, "box", "cat; echo $SSH_CONNECTION; exit 5")...); e.code != 5 || !strings.HasPrefix(e.out, "in127.0.0.1 ") {
			t.Errorf("%+v", e)
		}
	}
}

// sshTwoAgents jumps over one container to another, whose loopback is the first one's as well here. Each has its own keys.
func sshTwoAgents(t *testing.T, s, far *sshSide) {
	far.write("keys", far.read(t, far.key+".pub"))
	conf := s.path("client/two")
	s.write("client/two", "Host far\n HostName 127.0.0.1\n Port "+far.port+"\n User "+far.user+"\n IdentityFile "+far.key+"\n ProxyJump box\n"+
		" UserKnownHostsFile "+s.path("client/known_far")+"\n"+s.read(t, s.conf))
	text := strings.Repeat("through two ", 50_000)
	if e := s.run(t, text, "ssh", "-F", conf, "far", "cat; echo $SSH_CONNECTION >&2; exit 5"); e.code != 5 || e.out != text || !strings.HasSuffix(e.errs, " "+far.port+"\n") {
		t.Errorf("code %d, %d bytes of %d, %s", e.code, len(e.out), len(text), e.errs)
	}
	s.must(t, "", "scp", "-F", conf, s.conf, "far:jumped")
	if far.read(t, far.there("box", "jumped")) != s.read(t, s.conf) {
		t.Error("scp: what was sent is not the same")
	}
	// One copies from the other, through the client.
	s.must(t, "", "scp", "-F", conf, "-3", "far:jumped", "box:copied")
	if s.read(t, s.there("box", "copied")) != s.read(t, s.conf) {
		t.Error("scp -3: what was sent is not the same")
	}
}

func sshKeyscan(t *testing.T, s *sshSide) {
	var want []string
	for _, kind := range []string{"ed25519", "rsa"} {
		f := strings.Fields(s.must(t, "", "ssh-keygen", "-y", "-f", s.path("host/ssh_host_"+kind+"_key")))
		want = append(want, fmt.Sprintf("[127.0.0.1]:%s %s %s", s.port, f[0], f[1]))
	}
	got := strings.Split(strings.TrimSpace(s.must(t, "", "ssh-keyscan", "-T", "60", "-p", s.port, "127.0.0.1")), "\n")
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func sshCopyID(t *testing.T, s *sshSide) {
	for i, how := range [][]string{{}, {"-s"}} {
		for _, host := range s.hosts() {
			key := s.path(fmt.Sprintf("client/copied-%s-%d", host, i))
			s.must(t, "", "ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", key)
			login := s.ssh("-i", key, host, "echo in")
			login[2] = s.path("client/copied-config")
			s.write("client/copied-config", strings.ReplaceAll(s.read(t, s.conf), " IdentityFile "+s.key+"\n", ""))
			if e := s.run(t, "", login...); e.code != 255 {
				t.Errorf("%s %q: a key that nobody knows: %+v", host, how, e)
			}
			argv := append([]string{"ssh-copy-id", "-f"}, how...) // -f: it does not see that it is another key that lets it in
			s.must(t, "", append(argv, "-F", s.conf, "-o", "IdentityFile="+s.key, "-i", key+".pub", host)...)
			if e := s.run(t, "", login...); e.out != "in\n" {
				t.Errorf("%s %q: the copied key: %+v", host, how, e)
			}
		}
	}
}

// Root serves every user, as that user; a plain user's agent serves its own.
func sshOtherUser(t *testing.T, s *sshSide) {
	e := s.run(t, "", s.ssh("-tt", "other", "id -u; id -g; pwd; echo $USER $SHELL; touch made; stat -c %u made $(tty); cat "+s.key)...)
	if s.other == "" {
		if e.code != 255 || !strings.Contains(e.errs, "Permission denied") {
			t.Errorf("a plain user's agent lets another user in: %+v", e)
		}
		return
	}
	want := fmt.Sprintf("1\r\n1\r\n%s\r\ndaemon /bin/sh\r\n1\r\n1\r\ncat: %s: Permission denied\r\n", s.path("theirs"), s.key)
	if e.code != 1 || e.out != want {
		t.Errorf("got %+v, want %q", e, want)
	}
}

func sshUnknownUser(t *testing.T, s *sshSide) {
	for _, user := range []string{"nosuchuser", "airlock", "-", "root:x", "../root"} {
		if e := s.run(t, "", s.ssh("-o", "User="+user, "127.0.0.1", "echo in")...); e.code != 255 || e.out != "" {
			t.Errorf("%s: %+v", user, e)
		}
	}
}

// TestSSHForwarding forwards by every way that OpenSSH's client knows.
func TestSSHForwarding(t *testing.T) {
	t.Parallel()
	s := startSSH(t, "")
	open := startSSH(t, "ssh: {permit_remote_forward: ['127.0.0.1:*', DIR/home/*], permit_local_forward: ['127.0.0.1:*', DIR/agent.sock]}")
	echo := echoServer(t)
	t.Run("-L", func(t *testing.T) { t.Parallel(); sshLocal(t, s, open, echo) })
	t.Run("-D", func(t *testing.T) { t.Parallel(); sshDynamic(t, s) })
	t.Run("-W", func(t *testing.T) { t.Parallel(); sshStdio(t, s, echo) })
	t.Run("-R", func(t *testing.T) { t.Parallel(); sshRemote(t, s, open, echo) })
	t.Run("-J", func(t *testing.T) { t.Parallel(); sshTwoAgents(t, s, open) })
	t.Run("as VS Code does", func(t *testing.T) { t.Parallel(); sshVSCode(t, s) })
}

// echoServer sends back what it gets, and ends when its client has said everything.
func echoServer(t *testing.T) (port string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveEcho(t, ln)
}

func serveEcho(t *testing.T, ln net.Listener) (port string) {
	t.Helper()
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); c.Close() }()
		}
	}()
	_, port, _ = net.SplitHostPort(ln.Addr().String())
	return port
}

// echoed sends text to an address, and tells whether all of it came back before the end.
func echoed(network, addr, text string) bool {
	c, err := net.Dial(network, addr)
	if err != nil {
		return false
	}
	defer c.Close()
	if _, err := io.WriteString(c, text); err != nil {
		return false
	}
	if half, ok := c.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
		return false
	}
	got, err := io.ReadAll(c)
	return err == nil && string(got) == text
}

func sshLocal(t *testing.T, s, open *sshSide, echo string) {
	text := strings.Repeat("all of it ", 30_000)
	for _, host := range s.hosts() {
		port := fmt.Sprint(freePort(t))
		s.background(t, s.ssh("-N", "-L", "127.0.0.1:"+port+":localhost:"+echo, host)...)
		if !lab.Until(patience, func() bool { return echoed("tcp", "127.0.0.1:"+port, text) }) {
			t.Errorf("%s: nothing comes back", host)
		}
	}
	// A unix socket: the agent's own, where that is permitted.
	for _, side := range []*sshSide{s, open} {
		sock := side.path("client/forwarded.sock")
		side.background(t, side.ssh("-N", "-L", sock+":"+side.path("agent.sock"), "box")...)
		if !listened(sock) {
			t.Error("a unix socket: the client does not listen")
		}
		e := side.run(t, "", "curl", "-s", "--max-time", "30", "--unix-socket", sock, "http://x/livez")
		if (e.code == 0) != (side == open) {
			t.Errorf("a unix socket, permitted is %t: %+v", side == open, e)
		}
	}
}

func sshDynamic(t *testing.T, s *sshSide) {
	port := fmt.Sprint(freePort(t))
	s.background(t, s.ssh("-N", "-D", "127.0.0.1:"+port, "box")...)
	for _, kind := range []string{"--socks5-hostname", "--socks5", "--socks4"} {
		argv := []string{"curl", "-sS", "--retry", "30", "--retry-connrefused", "--retry-delay", "1", kind, "127.0.0.1:" + port}
		s.must(t, "", append(argv, strings.Replace(s.admin, "127.0.0.1", "localhost", 1)+"/livez")...)
		if e := s.run(t, "", "curl", "-sS", kind, "127.0.0.1:"+port, "http://10.255.255.1/"); e.code == 0 {
			t.Errorf("%s: an address that is not permitted: %+v", kind, e)
		}
	}
	if !s.says(`"forwarding refused"`, "10.255.255.1:80") {
		t.Error("the refusal is not logged")
	}
}

func sshStdio(t *testing.T, s *sshSide, echo string) {
	text := strings.Repeat("through stdin ", 100_000)
	if e := s.run(t, text, s.ssh("-W", "127.0.0.1:"+echo, "box")...); e.code != 0 || e.out != text {
		t.Errorf("code %d, %d bytes of %d, %s", e.code, len(e.out), len(text), e.errs)
	}
	for _, target := range []string{"10.255.255.1:80", "0.0.0.0:" + echo, "127.0.0.1:1"} {
		if e := s.run(t, text, s.ssh("-W", target, "box")...); e.code == 0 || e.out != "" {
			t.Errorf("%s: %+v", target, e)
		}
	}
}

func sshRemote(t *testing.T, s, open *sshSide, echo string) {
	port := fmt.Sprint(freePort(t))
	argv := func(s *sshSide, listen, host string) []string {
		return s.ssh("-N", "-o", "ExitOnForwardFailure=yes", "-R", listen+":127.0.0.1:"+echo, host)
	}
	for _, listen := range []string{"127.0.0.1:" + port, s.path("home/r.sock")} {
		if e := s.run(t, "", argv(s, listen, "box")...); e.code != 255 {
			t.Errorf("%s by default: %+v", listen, e)
		}
	}
	if !s.says(`"forwarding refused"`, port) {
		t.Error("the refusal is not logged")
	}
	if e := open.run(t, "", argv(open, "10.255.255.1:"+port, "box")...); e.code != 255 {
		t.Errorf("an address that is not permitted: %+v", e)
	}
	for _, host := range open.hosts() {
		port := fmt.Sprint(freePort(t))
		_, _, cmd := open.background(t, argv(open, "127.0.0.1:"+port, host)...)
		if !lab.Until(patience, func() bool { return echoed("tcp", "127.0.0.1:"+port, strings.Repeat("back ", 50_000)) }) {
			t.Errorf("%s: nothing comes back", host)
		}
		_ = cmd.Process.Kill()
		if !lab.Until(patience, func() bool { return !echoed("tcp", "127.0.0.1:"+port, "x") }) {
			t.Errorf("%s: it is still listened on", host)
		}
	}
	sock := open.path("home/r.sock")
	open.background(t, argv(open, sock, "box")...)
	if !lab.Until(patience, func() bool { return echoed("unix", sock, "over a socket") }) {
		t.Error("a unix socket: nothing comes back")
	}
}

// VS Code keeps a shell without a terminal, feeds it scripts, starts its server with them, which lives on when the shell is
// gone, and reaches that through the same connection, with many requests at once.
func sshVSCode(t *testing.T, s *sshSide) {
	port := fmt.Sprint(freePort(t))
	in, out, cmd := s.background(t, s.ssh("-T", "-D", port, "-o", "ConnectTimeout=15", "box", "bash")...)
	say := func(line, want string) {
		t.Helper()
		if _, err := io.WriteString(in, line+"\n"); err != nil {
			t.Fatal(err)
		}
		if !lab.Until(patience, func() bool { return strings.Contains(out.String(), want) }) {
			t.Fatalf("%s: no answer", line)
		}
	}
	say("echo run''ning:$((6 * 7)) $FROM_PROFILE", "running:42 yes")
	// A script that comes in one piece and is longer than what a pipe holds; it installs a server and starts it.
	server := fmt.Sprint(freePort(t))
	script := `
set -e
dir="$HOME/.vscode-server/bin"
mkdir -p "$dir"
base64 -d >"$dir/payload" <<'END'
` + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("payload of the server\n", 20_000))) + `
END
cd "$dir"
nohup setsid /usr/bin/python3 -m http.server --bind 127.0.0.1 ` + server + ` </dev/null >"$dir/log" 2>&1 &
echo "serverPID=""=$!=="
echo "exitCode=""=$?=="`
	say(script, "exitCode==0==")
	say("uname -sm; echo d''one 1", "done 1")
	curl := func(args ...string) string {
		t.Helper()
		return s.must(t, "", append([]string{"curl", "-sS", "--fail", "--retry", "30", "--retry-connrefused", "--retry-delay", "1", "--socks5", "127.0.0.1:" + port}, args...)...)
	}
	curl(s.admin + "/livez")
	curl("--retry-all-errors", "http://127.0.0.1:"+server+"/log")
	many := []string{"-Z", "--parallel-max", "10"}
	for i := range 20 {
		many = append(many, "-o", s.path(fmt.Sprintf("client/code-%d", i)), "http://127.0.0.1:"+server+"/payload")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		curl(many...)
	}()
	for i := range 50 { // the shell answers meanwhile
		say(fmt.Sprintf("echo d''one x%d", i), fmt.Sprintf("done x%d", i))
	}
	<-done
	for i := range 20 {
		if n := len(s.read(t, s.path(fmt.Sprintf("client/code-%d", i)))); n != 440_000 {
			t.Errorf("request %d: %d bytes, want 440000", i, n)
		}
	}
	say("sleep 0.1 & wait $!; echo wai''ted", "waited")
	say("exit 6", "")
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 6 {
		t.Errorf("code %d, want 6", code)
	}
	_, pid, _ := strings.Cut(out.String(), "serverPID==")
	pid, _, _ = strings.Cut(pid, "==")
	s.must(t, "", s.ssh("box", "kill "+pid)...)
}
