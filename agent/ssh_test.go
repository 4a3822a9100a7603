package agent

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/inpod/inpod/sshd"
)

// sshClient is a key and what logs in with it.
func sshClient(t *testing.T, dir string) (ssh func(addr string, args ...string) *exec.Cmd) {
	t.Helper()
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", dir+"/id").CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
	user, err := exec.Command("id", "-un").Output()
	if err != nil {
		t.Fatal(err)
	}
	return func(addr string, args ...string) *exec.Cmd {
		port := addr[strings.LastIndex(addr, ":")+1:]
		return exec.Command("ssh", append([]string{
			"-F", "none", "-i", dir + "/id", "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no", "-o", "BatchMode=yes",
			"-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-p", port, "-l", strings.TrimSpace(string(user)), "127.0.0.1",
		}, args...)...)
	}
}

// Keys that come while the agent runs turn SSH on; sessions are listed and killed; the drain ends them.
func TestSSH(t *testing.T) {
	dir := t.TempDir()
	ssh := sshClient(t, dir)
	port := free(t)
	write(t, dir+"/inpod.yaml", fmt.Sprintf("ssh: {host_key_dir: %s/host, password_file: '', shadow: false, authorized_keys: [%s/keys]}\ndrain: {deadline: 2s}\n", dir, dir))
	_, number, _ := strings.Cut(port, ":")
	a := launch(t, dir, nil, "INPOD_SSH_LISTEN=", "SSH_PORT="+number, "MARK=of PID 1").started()
	a.stdout.wait(t, `"ssh is off"`, "no keys and no password")
	pub, err := os.ReadFile(dir + "/id.pub")
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/keys", string(pub))
	a.stdout.wait(t, `"ssh is on"`, number)
	// Also as nobody, whose shell lets nobody in: the container runs as that user.
	if out, err := ssh(port, "echo $MARK; exit 7").Output(); string(out) != "of PID 1\n" {
		t.Errorf("%q, %v", out, err)
	}
	sleeper := ssh(port, "echo ready; exec sleep 1000")
	out, err := sleeper.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	var list []sshd.Connection
	poll(t, "the one connection, the first being forgotten", func() bool {
		_, body := a.do(false, "GET", "/api/v1/sessions")
		list = nil
		if err := json.Unmarshal([]byte(body), &list); err != nil {
			t.Fatalf("%v: %s", err, body)
		}
		return len(list) == 1 && len(list[0].Sessions) == 1
	})
	kill := fmt.Sprintf("/api/v1/sessions/%d/kill", list[0].ID)
	if status, _ := a.do(false, "POST", kill); status.StatusCode != 403 {
		t.Errorf("POST %s without a token: %d, want 403", kill, status.StatusCode)
	}
	if status, body := a.do(true, "POST", kill); status.StatusCode != 200 {
		t.Errorf("POST %s: %d, %s", kill, status.StatusCode, body)
	}
	if status, _ := a.do(true, "POST", "/api/v1/sessions/999/kill"); status.StatusCode != 404 {
		t.Errorf("a session that is not there: %d, want 404", status.StatusCode)
	}
	if err := sleeper.Wait(); err == nil {
		t.Error("the killed session ended well")
	}
	if _, metrics := a.do(false, "GET", "/metrics"); !strings.Contains(metrics, `inpod_ssh_logins_total{method="publickey"} 2`) {
		t.Error("the logins are not counted")
	}
	last := ssh(port, "sleep 1000")
	if err := last.Start(); err != nil {
		t.Fatal(err)
	}
	a.stdout.wait(t, `"msg":"session"`, `"sleep 1000"`)
	a.signal(syscall.SIGINT)
	if code := a.code(); code != 0 {
		t.Errorf("code %d", code)
	}
	_ = last.Wait()
	a.stdout.wait(t, "ssh sessions are cut off")
}

// An image that brings its own sshd keeps its port.
func TestSSHLeavesThePortToAProgram(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/sshd", "#!/bin/sh\nexec sleep 1000\n")
	if err := os.Chmod(dir+"/sshd", 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/s.conf", "[supervisord]\n[program:own]\ncommand="+dir+"/sshd -D\nstartsecs=0\n")
	_ = sshClient(t, dir)
	a := launch(t, dir, nil, "INPOD_SSH_LISTEN=", "INPOD_SSH_AUTHORIZED_KEYS=["+dir+"/id.pub]").started()
	a.stdout.wait(t, "a program runs sshd")
}

// A port that nobody asked for and somebody else has is no reason not to start.
func TestSSHPortIsTaken(t *testing.T) {
	dir := t.TempDir()
	_ = sshClient(t, dir)
	ln, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	number := fmt.Sprint(ln.Addr().(*net.TCPAddr).Port)
	keys := "INPOD_SSH_AUTHORIZED_KEYS=[" + dir + "/id.pub]"
	a := launch(t, dir, nil, "INPOD_SSH_LISTEN=", "SSH_PORT="+number, keys).started()
	a.stdout.wait(t, "going on without ssh")
}
