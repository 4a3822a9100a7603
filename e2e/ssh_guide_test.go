package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/inpod/inpod/e2e/lab"
)

// guideBlock is what a page of the guide has behind a fence that begins so.
func guideBlock(t *testing.T, page, fence string) string {
	t.Helper()
	_, rest, ok := strings.Cut(page, "\n```"+fence)
	block, _, end := strings.Cut(rest, "\n```\n")
	if !ok || !end {
		t.Fatalf("the guide has no block %q", fence)
	}
	return block
}

// TestSSHGuide types what the guide shows.
func TestSSHGuide(t *testing.T) {
	t.Parallel()
	s := startSSH(t, "")
	page := s.read(t, "../docs/guide/ssh.md")
	local := fmt.Sprint(freePort(t))
	host := "Host pod" + strings.NewReplacer("localhost", "127.0.0.1", "2222", s.port, "User root", "User "+s.user).Replace(guideBlock(t, page, "\nHost pod"))
	s.write("client/config", host+"\n"+s.read(t, s.conf))
	// OpenSSH looks for its settings in the home directory of /etc/passwd, not in $HOME.
	for _, name := range []string{"ssh", "scp", "sftp"} {
		s.write("client/bin/"+name, "#!/bin/sh\nexec /usr/bin/"+name+" -F "+s.conf+` "$@"`+"\n")
		if err := os.Chmod(s.path("client/bin/"+name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s.must(t, "", "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", s.path("client/.ssh/id_ed25519"))
	src := s.tree(t, "project")
	env := append(s.xServer(t), "PATH="+s.path("client/bin")+":/usr/bin:/bin:/usr/sbin")
	for line := range strings.Lines(guideBlock(t, page, "console\n$ ssh pod ") + "\n") {
		command := strings.TrimPrefix(regexp.MustCompile(` +# .*`).ReplaceAllString(strings.TrimSpace(line), ""), "$ ")
		if !strings.Contains(line, "$ ") {
			command = "ssh pod" // the one that the fence was found by
		}
		command = strings.ReplaceAll(command, "9880:127.0.0.1:9880", local+":"+strings.TrimPrefix(s.admin, "http://"))
		argv := []string{"sh", "-c", command}
		switch {
		case strings.Contains(command, "sshfs"):
			if exec.Command("unshare", "-m", "test", "-w", "/dev/fuse").Run() != nil {
				continue // a plain user; TestSSHFS has it where it can be had
			}
			argv = []string{"unshare", "-m", "sh", "-c", command + " && diff -r project mnt && umount mnt"}
		case strings.Contains(command, " -N "):
			s.backgroundEnv(t, env, "sh", "-c", "exec "+command)
			if !lab.Until(patience, func() bool { code, _ := s.request("GET", "http://127.0.0.1:"+local+"/metrics"); return code == 200 }) {
				t.Errorf("%s: nothing answers", command)
			}
			continue
		}
		cmd := s.command(t.Context(), argv...)
		cmd.Env = s.clientEnv(env...)
		if e := s.finish(t, "", cmd); e.code != 0 {
			t.Errorf("%s: %+v", command, e)
		}
	}
	sameTree(t, src, s.there("box", "project"), false)
}
