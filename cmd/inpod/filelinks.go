package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/inpod/inpod/sshd/files"
	"github.com/inpod/inpod/sshd/scp"
	"github.com/inpod/inpod/sshd/sftp"
)

const sftpServerHelp = `Usage: sftp-server [-hR] [-d START_DIRECTORY] [-u UMASK]
Serves SFTP on standard input and output, as OpenSSH's sftp-server does; an SSH server starts it. -R is read-only.
-e, -f, -l, -p and -P are accepted and not used.`

// sftpServer stands in for OpenSSH's sftp-server in images that have a link to it and an SSH server that is not ours.
func (a *app) sftpServer(args []string) int {
	var help, readOnly, ignored bool
	var start, umask, unused *string
	_, err := getopt(args, []option{
		{short: 'h', set: toggle(&help)},
		{short: 'R', set: toggle(&readOnly)},
		{short: 'e', set: toggle(&ignored)},
		{short: 'd', takes: true, set: text(&start)},
		{short: 'u', takes: true, set: text(&umask)},
		{short: 'f', takes: true, set: text(&unused)},
		{short: 'l', takes: true, set: text(&unused)},
		{short: 'p', takes: true, set: text(&unused)},
		{short: 'P', takes: true, set: text(&unused)},
	})
	switch {
	case err != nil:
		fmt.Fprintf(a.stderr, "sftp-server: %v\n", err)
		return exitFailed
	case help:
		fmt.Fprintln(a.stdout, sftpServerHelp)
		return 0
	}
	opts := a.ownFiles()
	if readOnly {
		opts.Access = files.ReadOnly
	}
	if start != nil {
		opts.Home = strings.NewReplacer("%d", a.getenv("HOME"), "%h", a.getenv("HOME"), "%u", a.getenv("USER"), "%%", "%").Replace(*start)
	}
	if umask != nil {
		mask, err := strconv.ParseUint(*umask, 8, 9)
		if err != nil {
			fmt.Fprintf(a.stderr, "sftp-server: invalid umask %q\n", *umask)
			return exitFailed
		}
		syscall.Umask(int(mask))
	}
	if err := sftp.Serve(context.Background(), stdio{a.stdin, a.stdout}, opts); err != nil {
		fmt.Fprintf(a.stderr, "sftp-server: %v\n", err)
		return exitFailed
	}
	return 0
}

// scp stands in for the far side of scp in images that have none.
func (a *app) scp(args []string) int {
	return scp.Run(context.Background(), args, a.stdin, a.stdout, a.stderr, a.ownFiles())
}

// ownFiles is all that the user of this process may do.
func (a *app) ownFiles() files.Options {
	home, err := os.Getwd()
	if err != nil {
		home = "/" // it has been removed
	}
	return files.Options{Access: files.ReadWrite, Home: home}
}

// stdio is both ends of the stream.
type stdio struct {
	io.Reader
	io.Writer
}

// Close closes both, so that a read that waits comes back.
func (s stdio) Close() error {
	var all error
	for _, end := range []any{s.Reader, s.Writer} {
		if c, ok := end.(io.Closer); ok {
			all = errors.Join(all, c.Close())
		}
	}
	return all
}
