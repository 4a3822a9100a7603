//go:build images

package images

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const airlockPassword = "not-baked-in"

// airlockYAML is the image's file with a small quota, a directory that may only be read, and a second user.
const airlockYAML = `
ssh:
  listen: ":10022"
  authorized_keys: []
  password_file: ""
  shadow: false
  permit_local_forward: []
  users:
  - name: airlock
    password_file: /run/secrets/airlock
    root: /opt/public/airlock
    quota: 1Mi
    paths: [{path: /released, access: read-only}]
  - name: auditor
    password_file: /run/secrets/airlock
    root: /opt/public/airlock
    access: read-only
`

// sftp runs a batch of commands as a user who has the password. A command with a - in front may fail.
func (c *container) sftp(port int, user, password, batch string) (string, int) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	// -b wants BatchMode, which forbids passwords.
	cmd := exec.CommandContext(ctx, "sshpass", "-p", password, "sftp", "-F", "/dev/null", "-o", "BatchMode=no", "-o", "PubkeyAuthentication=no",
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "NumberOfPasswordPrompts=1",
		"-P", fmt.Sprint(port), "-b", "-", user+"@"+c.ip)
	cmd.Stdin = strings.NewReader(batch)
	out, err := cmd.CombinedOutput()
	return string(out), exitCode(c.t, err)
}

// secrets makes a directory with the airlock's password and, with config, another inpod.yaml.
func secrets(t *testing.T, config string) []string {
	t.Helper()
	dir := t.TempDir()
	flags := []string{"-v", dir + "/secrets:/run/secrets:ro"}
	for name, text := range map[string]string{"secrets/airlock": airlockPassword + "\n", "inpod.yaml": config} {
		file := filepath.Join(dir, name)
		if text == "" {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for d := dir; d != os.TempDir(); d = filepath.Dir(d) { // the container's user has to reach it
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if config != "" {
		flags = append(flags, "-v", dir+"/inpod.yaml:/etc/inpod/inpod.yaml:ro")
	}
	return flags
}

// transfers are the audit lines of the log, as "user direction path bytes".
func (c *container) transfers() (lines []string) {
	for line := range strings.Lines(c.logs()) {
		var r struct {
			Msg, User, Direction, Path string
			Bytes                      int64
		}
		if json.Unmarshal([]byte(line), &r) == nil && r.Msg == "transfer" {
			lines = append(lines, fmt.Sprintf("%s %s %s %d", r.User, r.Direction, r.Path, r.Bytes))
		}
	}
	return lines
}

// The subtests build on each other.
func TestAirlock(t *testing.T) {
	t.Parallel()
	image, data := build(t, "airlock"), volume(t)
	flags := append(secrets(t, airlockYAML), "-v", data+":/opt/public/airlock", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL")
	c := start(t, image, flags...)
	c.ready()
	// What is let in by others: the user may not even make the directory.
	released := filepath.Join(t.TempDir(), "released")
	if err := os.Mkdir(released, 0o755); err != nil {
		t.Fatal(err)
	}
	c.copyIn(released, "/opt/public/airlock/")
	if got := c.inspect("{{.Config.User}}"); got != "1000:1000" {
		t.Errorf("it runs as %q", got)
	}
	local := t.TempDir()
	file := filepath.Join(local, "data.bin")
	content := bytes.Repeat([]byte("airlock\n"), 25_000)
	if err := os.WriteFile(file, content, 0o644); err != nil {
		t.Fatal(err)
	}
	as := func(user, batch string) (string, int) { return c.sftp(10022, user, airlockPassword, batch) }

	t.Run("transfer and audit", func(t *testing.T) {
		out, code := as("airlock", fmt.Sprintf("put %s in.bin\nget in.bin %s/back.bin\nrename in.bin kept.bin\n", file, local))
		if code != 0 {
			t.Fatalf("sftp: %d\n%s", code, out)
		}
		if back, err := os.ReadFile(filepath.Join(local, "back.bin")); err != nil || !bytes.Equal(back, content) {
			t.Errorf("what came back: %d bytes, %v", len(back), err)
		}
		want := []string{"airlock write /in.bin 200000", "airlock read /in.bin 200000"}
		await(t, "the audit lines", func() bool { return slices.Equal(c.transfers(), want) })
	})
	t.Run("confined", func(t *testing.T) {
		escape := "/../../etc/inpod/inpod.yaml"
		for _, batch := range []string{
			"get " + escape + " " + local + "/stolen", "get /etc/inpod/inpod.yaml " + local + "/stolen", "put " + file + " /../../tmp/out",
			"ln -s /run/secrets/airlock link\nget link " + local + "/stolen",
		} {
			if out, code := as("airlock", batch+"\n"); code == 0 {
				t.Errorf("%s: worked\n%s", batch, out)
			}
		}
		if _, err := os.Stat(filepath.Join(local, "stolen")); err == nil {
			t.Error("a file from outside the root was read")
		}
	})
	t.Run("rights", func(t *testing.T) {
		if out, code := as("airlock", "put "+file+" released/x\n"); code == 0 || !strings.Contains(out, "ermission denied") {
			t.Errorf("writing below a read-only path: %d %s", code, out)
		}
		if out, code := as("auditor", "get kept.bin "+local+"/audited\n"); code != 0 {
			t.Errorf("reading: %d %s", code, out)
		}
		for _, batch := range []string{"put " + file + " x", "rm kept.bin", "mkdir d", "rename kept.bin other"} {
			if out, code := as("auditor", batch+"\n"); code == 0 {
				t.Errorf("the reader could %s: %s", batch, out)
			}
		}
	})
	t.Run("quota", func(t *testing.T) {
		batch := ""
		for i := range 6 {
			batch += fmt.Sprintf("put %s more%d.bin\n", file, i)
		}
		out, code := as("airlock", batch)
		if code == 0 || !strings.Contains(strings.ToLower(out), "quota") && !strings.Contains(out, "ailure") {
			t.Errorf("1.4 MB into 1 MiB: %d %s", code, out)
		}
		if out, code := as("airlock", "rm more*\nput "+file+" after.bin\n"); code != 0 {
			t.Errorf("with room again: %d %s", code, out)
		}
	})
	t.Run("nothing but files", func(t *testing.T) { testAirlockOnlyFiles(t, c) })
	t.Run("sshfs", func(t *testing.T) { testAirlockSSHFS(t, c, content) })
	t.Run("homepod", func(t *testing.T) {
		h := start(t, build(t, "homepod"), "-v", data+":/opt/public/airlock:ro", "--network", network(t), "-e", "DEEPVAC_USER=ada")
		h.ready()
		if got := h.exec("--user=ada", "sh", "-c", "wc -c </opt/public/airlock/kept.bin"); got != fmt.Sprint(len(content)) {
			t.Errorf("the same file in HomePod: %s bytes", got)
		}
		for _, user := range []string{"ada", "root"} {
			if out, code := h.try("--user="+user, "sh", "-c", "echo x >/opt/public/airlock/new || rm /opt/public/airlock/kept.bin"); code == 0 {
				t.Errorf("%s in HomePod could write: %s", user, out)
			}
		}
	})
	if code, took := c.stop(20 * time.Second); code != 0 || took > 5*time.Second {
		t.Errorf("docker stop: exit code %d after %s", code, took)
	}
}

// testAirlockOnlyFiles asks for all that SSH has beside files.
func testAirlockOnlyFiles(t *testing.T, c *container) {
	for what, flags := range map[string][]string{
		"a command":    {"id"},
		"a shell":      {"-tt"},
		"scp's server": {"scp -t /"},
		"ssh -W":       {"-W", "127.0.0.1:9880"},
		"ssh -R":       {"-N", "-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:80"},
	} {
		args := []string{
			"-p", airlockPassword, "ssh", "-F", "/dev/null", "-o", "PubkeyAuthentication=no", "-o", "StrictHostKeyChecking=no",
			"-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-p", "10022",
		}
		if flags[0][0] == '-' {
			args = append(slices.Concat(args, flags), "airlock@"+c.ip)
		} else {
			args = slices.Concat(args, []string{"airlock@" + c.ip}, flags)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		cmd := exec.CommandContext(ctx, "sshpass", args...)
		cmd.Stdin = strings.NewReader("exit 0\n")
		out, err := cmd.CombinedOutput()
		switch {
		case what == "scp's server": // scp is files too, and stays in the root
		case ctx.Err() != nil:
			t.Errorf("%s: goes on", what)
		case err == nil:
			t.Errorf("%s: worked: %s", what, out)
		}
		cancel()
	}
	if out, code := c.sftp(10022, "airlock", "wrong", "ls\n"); code == 0 {
		t.Errorf("a wrong password: %s", out)
	}
	if out, code := c.sftp(10022, "root", airlockPassword, "ls\n"); code == 0 {
		t.Errorf("another user: %s", out)
	}
}

// testAirlockSSHFS mounts the airlock on this machine.
func testAirlockSSHFS(t *testing.T, c *container, content []byte) {
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	// In the foreground, so that it can be awaited; allowed to end by itself when it is unmounted.
	cmd := exec.CommandContext(ctx, "sshfs", "-f", "-p", "10022", "airlock@"+c.ip+":/", dir, "-o", "password_stdin",
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR")
	cmd.Stdin = strings.NewReader(airlockPassword + "\n")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	mounted := filepath.Join(dir, "kept.bin")
	await(t, "the mount", func() bool { _, err := os.Stat(mounted); return err == nil })
	defer func() {
		if out, err := exec.Command("fusermount3", "-u", dir).CombinedOutput(); err != nil {
			t.Errorf("fusermount3: %v %s", err, out)
		}
		_ = cmd.Wait()
	}()
	if got, err := os.ReadFile(mounted); err != nil || !bytes.Equal(got, content) {
		t.Errorf("through sshfs: %d bytes, %v", len(got), err)
	}
	if err := os.WriteFile(filepath.Join(dir, "by-sshfs.txt"), []byte("hello"), 0o644); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "released", "no.txt"), []byte("hello"), 0o644); err == nil {
		t.Error("sshfs could write where it may only read")
	}
}

// Without a secret the port answers, and nobody gets in; with the image's own file and as any user it works.
func TestAirlockSecrets(t *testing.T) {
	t.Parallel()
	image := build(t, "airlock")
	c := start(t, image)
	c.ready()
	for _, password := range []string{"airlock", "", "123456"} {
		if out, code := c.sftp(10022, "airlock", password, "ls\n"); code == 0 {
			t.Errorf("without a secret, the password %q: %s", password, out)
		}
	}
	// INPOD_AUTHORIZED_KEYS of start holds a key, but for the agent's own user, who has no name here.
	mine := t.TempDir()
	if err := os.Chown(mine, 4321, 4321); err != nil {
		t.Fatal(err)
	}
	flags := append(secrets(t, ""), "--user", "4321:4321", "--read-only", "--tmpfs", "/tmp", "-v", mine+":/opt/public/airlock")
	other := start(t, image, flags...)
	other.ready()
	if out, code := other.sftp(10022, "airlock", airlockPassword, "mkdir new\nls\n"); code != 0 || !strings.Contains(out, "new") {
		t.Errorf("as another user: %d %s", code, out)
	}
	verify(t, "airlock", image)
}

// Its directories have the same owners whoever builds it: the airlock's user writes in one, and owns none above.
func TestAirlockBuilders(t *testing.T) {
	t.Parallel()
	want := ""
	for _, image := range []string{build(t, "airlock"), airlockOf(buildKit)(t), airlockOf(buildah)(t)} {
		c := create(t, image)
		file := filepath.Join(t.TempDir(), "image.tar")
		must(t, "export", "-o", file, c.id)
		out, err := exec.Command("sh", "-c", "tar --numeric-owner -tvf "+file+" etc/inpod opt tmp | awk '{ print $1, $2, $6 }' | sort -k 3").CombinedOutput()
		if err != nil {
			t.Fatalf("tar: %v\n%s", err, out)
		}
		if want == "" {
			want = string(out)
		}
		if got := string(out); got != want || !strings.Contains(got, "drwxr-xr-x 1000/1000 opt/public/airlock/") || !strings.Contains(got, "0/0 opt/public/\n") {
			t.Errorf("%s: got\n%s\nwant\n%s", image, got, want)
		}
	}
}

func airlockOf(builder func(*testing.T, string) string) func(*testing.T) string {
	return func(t *testing.T) string {
		builder(t, "base")
		return builder(t, "airlock")
	}
}
