package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Everything that moves files: each client sends a tree and fetches it again.
func TestSSHFiles(t *testing.T) {
	t.Parallel()
	sudoers := ""
	if os.Getuid() == 0 {
		sudoers = "cp DIR/sudoers DIR/sudoers.own && chmod 440 DIR/sudoers.own && mount --bind DIR/sudoers.own /etc/sudoers && "
	}
	s := startSSHAs(t, "", setup{files: map[string]string{"sudoers": "daemon ALL=(ALL) NOPASSWD: ALL\n"}}, sudoers)
	for name, f := range map[string]func(*testing.T, *sshSide){
		"scp": sshSCP, "sftp": sshSFTP, "rsync": sshRsync, "git": sshGit, "lftp": sshLftp, "rclone": sshRclone, "curl": sshCurl,
		"ansible": sshAnsible,
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); f(t, s) })
	}
}

// there is a directory for host's user on the server.
func (s *sshSide) there(host, name string) string {
	if host == "other" {
		return filepath.Join(s.path("theirs"), name)
	}
	return filepath.Join(s.home, name)
}

// wantOwner checks whom a file on the server belongs to.
func (s *sshSide) wantOwner(t *testing.T, host, path string) {
	t.Helper()
	uid := fmt.Sprint(os.Getuid())
	if host == "other" {
		uid = fmt.Sprint(otherUID)
	}
	if got := strings.TrimSpace(s.must(t, "", "stat", "-c", "%u", path)); got != uid {
		t.Errorf("%s belongs to %s, want %s", path, got, uid)
	}
}

func sshSCP(t *testing.T, s *sshSide) {
	src := s.tree(t, "scp-src")
	for _, protocol := range []string{"-s", "-O"} {
		for _, host := range s.hosts() {
			name := "scp" + protocol
			up, down := s.there(host, name), filepath.Join(s.client, name+host)
			s.must(t, "", "scp", "-F", s.conf, protocol, "-rpq", src, host+":"+name)
			sameTree(t, src, up, true)
			s.wantOwner(t, host, up+"/small")
			s.must(t, "", "scp", "-F", s.conf, protocol, "-rpq", host+":"+up, down)
			sameTree(t, src, down, true)
			if e := s.run(t, "", "scp", "-F", s.conf, protocol, host+":nothing", down); e.code == 0 || !strings.Contains(e.errs, "No such file") {
				t.Errorf("%s: a file that is not there: %+v", protocol, e)
			}
			if e := s.run(t, "", "scp", "-F", s.conf, protocol, src+"/small", host+":/proc/x"); e.code == 0 {
				t.Errorf("%s: where nothing can be written: %+v", protocol, e)
			}
		}
	}
}

func sshSFTP(t *testing.T, s *sshSide) {
	src := s.tree(t, "sftp-src")
	big := s.read(t, src+"/sub/deep/big")
	for _, host := range s.hosts() {
		dir, got := s.there(host, "sftp"), filepath.Join(s.client, "sftp-"+host)
		batch := func(lines string) string {
			t.Helper()
			return s.must(t, lines, "sftp", "-F", s.conf, "-b", "-", host)
		}
		batch("mkdir sftp\nput -p " + src + "/small sftp/part\nput -rp " + src + " sftp/tree\nget -rp sftp/tree " + got + "\n")
		sameTree(t, src, dir+"/tree", true)
		sameTree(t, src, got, true)
		// What was cut is gone on with, in both directions.
		s.write("client/cut-"+host, big[:100_001])
		batch("cd sftp\nput " + s.client + "/cut-" + host + " cut\nreput " + src + "/sub/deep/big cut\nreget cut " + s.client + "/cut-" + host + "\n")
		if s.read(t, dir+"/cut") != big || s.read(t, s.client+"/cut-"+host) != big {
			t.Error("what was resumed is not the same")
		}
		out := batch("cd sftp\npwd\nrename part whole\nln whole hard\nln -s whole soft\nchmod 600 whole\nls -l\nrm cut\ndf -h\n")
		for _, want := range []string{"Remote working directory: " + dir, "-rw-------", "%Capacity", " soft"} {
			if !strings.Contains(out, want) {
				t.Errorf("%s: no %q in\n%s", host, want, out)
			}
		}
		s.wantOwner(t, host, dir+"/whole")
		if s.read(t, dir+"/hard") != s.read(t, src+"/small") || s.must(t, "", "readlink", dir+"/soft") != "whole\n" {
			t.Error("links")
		}
		if links := s.must(t, "", "stat", "-c", "%h", dir+"/whole"); links != "2\n" {
			t.Errorf("%s links", links)
		}
		if e := s.run(t, "get sftp/cut\n", "sftp", "-F", s.conf, "-b", "-", host); e.code == 0 || !strings.Contains(e.errs, "not found") {
			t.Errorf("%s: what was removed: %+v", host, e)
		}
	}
}

func sshRsync(t *testing.T, s *sshSide) {
	src := s.tree(t, "rsync-src")
	for _, host := range s.hosts() {
		up, down := s.there(host, "rsync"), filepath.Join(s.client, "rsync-"+host)
		rsync := func(args ...string) string {
			t.Helper()
			return s.must(t, "", append([]string{"rsync", "-e", "ssh -F " + s.conf, "-rlptz", "--delete", "--itemize-changes"}, args...)...)
		}
		rsync(src+"/", host+":rsync/")
		sameTree(t, src, up, true)
		s.wantOwner(t, host, up+"/small")
		if out := rsync(src+"/", host+":rsync/"); out != "" {
			t.Errorf("%s: the second time there is something to do: %s", host, out)
		}
		s.write("client/rsync-"+host+"/too much", "x")
		rsync(host+":"+up+"/", down+"/")
		sameTree(t, src, down, true)
	}
}

func sshGit(t *testing.T, s *sshSide) {
	src := s.tree(t, "git-src")
	for _, host := range s.hosts() {
		git := func(args ...string) {
			t.Helper()
			cmd := s.command(t.Context(), append([]string{"git", "-c", "user.name=x", "-c", "user.email=x@x", "-c", "protocol.version=2"}, args...)...)
			cmd.Env = s.clientEnv("GIT_SSH_COMMAND=ssh -F "+s.conf, "GIT_CONFIG_NOSYSTEM=1")
			s.good(t, "", cmd)
		}
		one, two := filepath.Join(s.client, "one-"+host), filepath.Join(s.client, "two-"+host)
		s.must(t, "", s.ssh(host, "git init -q --bare repo.git")...)
		git("clone", "-q", "ssh://"+host+s.there(host, "repo.git"), one)
		s.must(t, "", "cp", "-r", src+"/.", one)
		git("-C", one, "add", ".")
		git("-C", one, "commit", "-qm", "x")
		git("-C", one, "push", "-q", "origin", "HEAD:refs/heads/main")
		git("clone", "-q", "-b", "main", host+":repo.git", two)
		s.must(t, "", "rm", "-rf", two+"/.git", one+"/.git")
		sameTree(t, one, two, false)
	}
}

func sshLftp(t *testing.T, s *sshSide) {
	src := s.tree(t, "lftp-src")
	up, down := s.there("box", "lftp"), filepath.Join(s.client, "lftp-down")
	s.must(t, "", "lftp", "-c", "set sftp:connect-program 'ssh -a -x -F "+s.conf+"'; set net:max-retries 2; "+
		"open sftp://"+s.user+":none@127.0.0.1:"+s.port+"; mirror -R --parallel=3 "+src+" "+up+"; mirror --parallel=3 "+up+" "+down)
	sameTree(t, src, up, false)
	sameTree(t, src, down, false)
	if got, want := s.must(t, "", "stat", "-c", "%Y", down+"/small"), s.must(t, "", "stat", "-c", "%Y", src+"/small"); got != want {
		t.Errorf("mtime %s, want %s", got, want)
	}
}

func sshRclone(t *testing.T, s *sshSide) {
	src := s.tree(t, "rclone-src")
	up, down := s.there("box", "rclone"), filepath.Join(s.client, "rclone-down")
	rclone := func(args ...string) string {
		t.Helper()
		return s.must(t, "", append([]string{
			"rclone", "--config", "/dev/null", "--sftp-host", "127.0.0.1", "--sftp-port", s.port, "--sftp-user", s.user, "--sftp-key-file", s.key,
		}, args...)...)
	}
	rclone("sync", src, ":sftp:"+up)
	sameTree(t, src, up, false)
	rclone("check", src, ":sftp:"+up) // with the sums of md5sum on the server
	rclone("sync", ":sftp:"+up, down)
	sameTree(t, src, down, false)
	if out := rclone("about", ":sftp:"+up); !strings.Contains(out, "Free:") {
		t.Errorf("about: %s", out)
	}
}

func sshCurl(t *testing.T, s *sshSide) {
	src := s.tree(t, "curl-src")
	curl := func(args ...string) string {
		t.Helper()
		return s.must(t, "", append([]string{"curl", "-sSk", "--user", s.user + ":", "--key", s.key, "--pubkey", s.key + ".pub"}, args...)...)
	}
	url := "sftp://127.0.0.1:" + s.port
	curl("-T", src+"/sub/deep/big", "--ftp-create-dirs", url+"/~/curl/new/big")
	if s.read(t, s.there("box", "curl/new/big")) != s.read(t, src+"/sub/deep/big") {
		t.Error("what was sent is not the same")
	}
	if curl(url+s.there("box", "curl/new/big")) != s.read(t, src+"/sub/deep/big") {
		t.Error("what was fetched is not the same")
	}
	if out := curl(url + s.there("box", "curl/new") + "/"); !strings.Contains(out, "big") {
		t.Errorf("the list: %s", out)
	}
	if out := curl("-r", "100-199", url+"/~/curl/new/big"); out != s.read(t, src+"/sub/deep/big")[100:200] {
		t.Errorf("a part: %d bytes", len(out))
	}
	// What was cut is gone on with, in both directions.
	big := s.read(t, src+"/sub/deep/big")
	s.write("client/curl-cut", big[:100_001])
	curl("-C", "-", "-o", s.client+"/curl-cut", url+"/~/curl/new/big")
	s.write("home/curl/cut", big[:200_002])
	curl("-C", "-", "-T", src+"/sub/deep/big", url+"/~/curl/cut")
	s.write("home/curl/added", "first ")
	s.write("client/curl-rest", "and the rest")
	curl("-a", "-T", s.client+"/curl-rest", url+"/~/curl/added")
	if s.read(t, s.client+"/curl-cut") != big || s.read(t, s.there("box", "curl/cut")) != big || s.read(t, s.there("box", "curl/added")) != "first and the rest" {
		t.Error("what was resumed is not the same")
	}
	curl("-Q", "rename "+s.there("box", "curl/cut")+" "+s.there("box", "curl/moved"), "-Q", "chmod 600 "+s.there("box", "curl/moved"), url+"/~/", "-o", "/dev/null")
	if out := s.must(t, "", "stat", "-c", "%a %s", s.there("box", "curl/moved")); out != fmt.Sprintf("600 %d\n", len(big)) {
		t.Errorf("commands: %s", out)
	}
}

func sshAnsible(t *testing.T, s *sshSide) {
	src := s.tree(t, "ansible-src")
	for _, host := range s.hosts() {
		ansible := func(args ...string) string {
			t.Helper()
			argv := []string{"ansible", "all", "-i", host + ",", "-e", "ansible_python_interpreter=/usr/bin/python3"}
			cmd := s.command(t.Context(), append(argv, args...)...)
			cmd.Env = s.clientEnv("ANSIBLE_SSH_ARGS=-F "+s.conf+" -o ControlMaster=auto -o ControlPersist=5s", "ANSIBLE_NOCOLOR=1",
				"ANSIBLE_SSH_CONTROL_PATH_DIR="+s.client, "ANSIBLE_HOST_KEY_CHECKING=False", "ANSIBLE_TIMEOUT=60")
			return s.good(t, "", cmd)
		}
		if out := ansible("-m", "ping"); !strings.Contains(out, `"ping": "pong"`) {
			t.Errorf("%s: %s", host, out)
		}
		to := s.there(host, "ansible")
		if out := ansible("-m", "copy", "-a", "src="+src+"/small dest="+to+" mode=0640"); !strings.Contains(out, `"changed": true`) {
			t.Errorf("%s: %s", host, out)
		}
		if s.read(t, to) != s.read(t, src+"/small") {
			t.Errorf("%s: what was copied is not the same", host)
		}
		s.wantOwner(t, host, to)
		if s.other == "" {
			continue // a plain user becomes nobody else
		}
		// Root becomes another user, and a user root: setuid programs are what they are elsewhere.
		become, want := []string{"--become-method=su", "--become-user=daemon"}, fmt.Sprint(otherUID)
		if host == "other" {
			become, want = []string{"--become-method=sudo"}, "0"
		}
		if out := ansible(append(become, "--become", "-m", "command", "-a", "id -u")...); !strings.HasSuffix(out, "\n"+want+"\n") {
			t.Errorf("%s: become: %q", host, out)
		}
	}
}
