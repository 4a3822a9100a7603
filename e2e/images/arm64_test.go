//go:build images

package images

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The cross-built binary is PID 1 of an arm64 system: a program, health, a login, a file by SFTP, and a proper end.
func TestARM64(t *testing.T) {
	t.Parallel()
	script := filepath.Join(lab.root, "hack/arm64.sh")
	var exit *exec.ExitError
	out, err := exec.Command(script, "on").CombinedOutput()
	switch {
	case err == nil:
		t.Cleanup(func() { _ = exec.Command(script, "off").Run() }) // said by the kernel, if at all
	case !errors.As(err, &exit) || exit.ExitCode() != 3:
		t.Fatalf("arm64.sh on: %v: %s", err, out)
	}
	cross := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", "bin/inpod-linux-arm64", "./cmd/inpod")
	cross.Dir = lab.root
	cross.Env = append(os.Environ(), "GOARCH=arm64", "CGO_ENABLED=0")
	if out, err := cross.CombinedOutput(); err != nil {
		t.Fatalf("cannot cross-build: %v\n%s", err, out)
	}
	buildLock.Lock()
	out, err = exec.Command(script, "image", "inpod-e2e/arm64").CombinedOutput()
	buildLock.Unlock()
	if err != nil {
		t.Fatalf("arm64.sh image: %v\n%s", err, out)
	}
	c := start(t, "inpod-e2e/arm64", "--platform", "linux/arm64")
	c.ready()
	await(t, "the program", func() bool { return strings.Contains(c.logs(), "I am aarch64, child of 1") })
	if out := c.exec("inpod", "version"); !strings.Contains(out, "linux/arm64") {
		t.Errorf("inpod version: %q", out)
	}
	await(t, "RUNNING, after startsecs", func() bool { return strings.Contains(c.status("arch"), "RUNNING") })
	if code, body := c.get(9880, "/health"); code != 200 || !strings.Contains(body, `{"health": "true"}`) {
		t.Errorf("GET /health: %d %q", code, body)
	}
	if out := c.ssh("root", "uname -m; exit 0"); out != "aarch64" {
		t.Errorf("ssh … uname -m: %q", out)
	}

	dir := t.TempDir()
	data := strings.Repeat("arm64 and back\n", 1<<16)
	if err := os.WriteFile(dir+"/up", []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
	sftp := exec.Command("sftp", append(c.sshArgs(), "-P", strconv.Itoa(22), "-b", "-", "root@"+c.ip)...)
	sftp.Stdin = strings.NewReader("put " + dir + "/up /root/file\nget /root/file " + dir + "/down\n")
	if out, err := sftp.CombinedOutput(); err != nil {
		t.Fatalf("sftp: %v\n%s", err, out)
	}
	if got, err := os.ReadFile(dir + "/down"); err != nil || string(got) != data {
		t.Errorf("the file came back with %d bytes, %v; want %d", len(got), err, len(data))
	}
	c.noZombies()
	if code, took := c.stop(60 * time.Second); code != 0 {
		t.Errorf("docker stop: exit code %d after %s", code, took)
	}
}
