package sshd

import (
	"os"
	"strings"
	"testing"

	"github.com/inpod/inpod/sshd/files"
)

// What a forced command says of sftp-server holds, or nothing runs.
func TestForcedSFTP(t *testing.T) {
	conf := defaults(t)
	if err := os.Mkdir(conf.Etc+"/home/in", 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, conf.Etc+"/home/file", "x")
	s := start(t, conf)
	pub := read(t, s.dir+"/id.pub")
	got := s.dir + "/got"
	for _, tt := range []struct {
		command, batch string
		ok             bool
		says           string
	}{
		{"internal-sftp", "put " + s.key + ".pub new\nget file " + got, true, ""},
		{"internal-sftp -R", "get file " + got, true, ""},
		{"internal-sftp -R", "put " + s.key + ".pub more", false, "denied"},
		{"internal-sftp -R", "rm file", false, "denied"},
		{"/usr/lib/openssh/sftp-server -eR -l INFO", "put " + s.key + ".pub more", false, "denied"},
		{"internal-sftp -f AUTH -l VERBOSE -e", "put " + s.key + ".pub new", true, ""},
		{"internal-sftp -d %d/in", "get file " + got, false, "not found"},
		{"internal-sftp -d /", "pwd", true, "Remote working directory: /\n"},
		{"internal-sftp -u 0077", "put " + s.key + ".pub private", true, ""},
		{"internal-sftp -P write", "pwd", false, "option -P"},
		{"internal-sftp read-only", "pwd", false, `no argument "read-only"`},
		{"/usr/lib/openssh/sftp-server $OPTIONS", "pwd", false, "only a shell"},
	} {
		write(t, s.dir+"/keys", `command="`+tt.command+`" `+pub)
		out, err := s.sftp(me(), tt.batch+"\n")
		if (err == nil) != tt.ok || !strings.Contains(out, tt.says) {
			t.Errorf("%s: %s: %v, want %v and %q\n%s", tt.command, tt.batch, err, tt.ok, tt.says, out)
		}
	}
	if st, err := os.Stat(conf.Etc + "/home/private"); err != nil || st.Mode().Perm()&0o077 != 0 {
		t.Errorf("with -u 0077: %v, %v", st, err)
	}
	if _, err := os.Stat(conf.Etc + "/home/more"); err == nil {
		t.Error("-R let something be written")
	}
}

// -R holds where ssh.users[].paths say otherwise, and for nobody else.
func TestReadOnlyPaths(t *testing.T) {
	shared := []files.Rule{{Path: "/in", Access: files.ReadWrite}, {Path: "/drop", Access: files.WriteOnly}}
	opts := files.Options{Access: files.ReadWrite, Paths: shared, Home: "/"}
	if err := sftpOptions("internal-sftp -R", &account{}, &opts); err != nil {
		t.Fatal(err)
	}
	if opts.Access != files.ReadOnly || opts.Paths[0].Access != files.ReadOnly || opts.Paths[1].Access != 0 || shared[0].Access != files.ReadWrite {
		t.Errorf("%+v, %+v", opts, shared)
	}
	for _, options := range []string{"-u 7777", "-u x", "-u", "-d", "-d ~/x", "-", "--", "-Q requests", "-h"} {
		if err := sftpOptions("internal-sftp "+options, &account{}, &files.Options{Home: "/"}); err == nil {
			t.Errorf("%s: no error", options)
		}
	}
}
