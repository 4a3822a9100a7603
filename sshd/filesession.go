package sshd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/inpod/inpod/config"
	"github.com/inpod/inpod/sshd/files"
	"github.com/inpod/inpod/sshd/scp"
	"github.com/inpod/inpod/sshd/sftp"
	"golang.org/x/crypto/ssh"
)

// wantsOwnSCP tells whether a command that begins with scp is for sshd/scp: where there are no commands at all, where there
// is no other scp, and where the other one would do the same. See docs/decisions/091-moving-data.md.
func (ss *session) wantsOwnSCP(command string) bool {
	if ss.filesOnly() {
		return true
	}
	u := ss.c.account
	shell := shellOf(u)
	path, err := lookPath("scp", ss.c.s.profiles.environment(u, shell))
	if err != nil {
		return true
	}
	if _, ok := scp.Parse(command, u.home); !ok || ss.term != nil || !plainShell(shell) || !scp.Plain(command) {
		return false
	}
	return mayEnter(u, u.home) == nil && plainSCP(path)
}

// plainShell tells of a shell that takes words without quotes, or within them, for what they are.
func plainShell(path string) bool {
	switch filepath.Base(path) {
	case "sh", "bash", "dash", "ash", "ksh", "mksh", "zsh":
		return true
	}
	return false
}

// plainSCP tells of OpenSSH's scp, and of ours: one that an administrator put before it has a purpose.
func plainSCP(path string) bool {
	switch path {
	case "/usr/bin/scp", "/bin/scp":
		return true
	}
	there, err := os.Stat(path)
	self, err2 := os.Stat("/proc/self/exe")
	return err == nil && err2 == nil && os.SameFile(there, self)
}

// files serves SFTP or scp in this process, with the user's rights.
func (ss *session) files(j job) Exit {
	u := ss.c.account
	if u.virtual == nil && u.noShell() {
		return ss.refuse("this account is not available") // as it is where sftp-server is started by the shell
	}
	opts, err := ss.c.s.fileOptions(u)
	if err != nil {
		return ss.fail(err)
	}
	if j.kind == kindSFTP {
		if err := sftpOptions(j.command, u, &opts); err != nil {
			ss.log.Warn("cannot start sftp", "error", err)
			return ss.refuse(err.Error())
		}
	}
	opts.Audit = ss.audit
	ctx, cancel := context.WithCancelCause(ss.c.ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-ss.ended:
			cancel(errors.New("the client left"))
		case <-ctx.Done():
		}
	}()
	rw := &activeChannel{Channel: ss.ch, c: ss.c}
	if j.kind == kindSCP {
		return Exit{Code: runSCP(ctx, j.command, rw, ss.ch.Stderr(), opts)}
	}
	if err := sftp.Serve(ctx, rw, opts); err != nil && ctx.Err() == nil {
		ss.log.Info("cannot go on with sftp", "error", err)
		return Exit{Code: 1}
	}
	return Exit{}
}

// runSCP serves a command. What would need a shell is taken as it is where there is none.
func runSCP(ctx context.Context, command string, rw io.ReadWriter, stderr io.Writer, opts files.Options) int {
	args, ok := scp.Parse(command, opts.Home)
	if !ok {
		args = splitCommand(command)[1:]
	}
	if scp.Plain(command) {
		return scp.Run(ctx, args, rw, rw, stderr, opts)
	}
	return scp.RunPatterns(ctx, args, rw, rw, stderr, opts)
}

func (ss *session) audit(t files.Transfer) {
	attrs := [5]slog.Attr{
		slog.String("path", clipCommand(t.Path)), slog.String("direction", t.Direction), slog.Int64("bytes", t.Bytes),
		slog.Float64("seconds", t.Duration.Seconds()), slog.Any("error", t.Err),
	}
	n := len(attrs)
	if t.Err == nil {
		n--
	}
	ss.c.s.counts.transfers.add(t.Direction)
	ss.log.LogAttrs(ss.c.ctx, slog.LevelInfo, "transfer", attrs[:n]...)
}

// fileOptions says what a user may do with files.
func (s *Server) fileOptions(u *account) (files.Options, error) {
	opts := files.Options{Access: files.ReadWrite, Home: u.home}
	if !u.own {
		id := &files.Identity{UID: uint32(u.uid), GID: uint32(u.gid)}
		for _, g := range u.groups {
			id.Groups = append(id.Groups, uint32(g))
		}
		opts.Identity = id
	}
	v := u.virtual
	if v == nil {
		return opts, nil
	}
	var err error
	if opts.Access, err = files.ParseAccess(v.Access); err != nil {
		return opts, err
	}
	for _, p := range v.Paths {
		a, err := files.ParseAccess(p.Access)
		if err != nil {
			return opts, fmt.Errorf("%s: %w", p.Path, err)
		}
		opts.Paths = append(opts.Paths, files.Rule{Path: p.Path, Access: a})
	}
	if v.Root != "" {
		opts.Root, opts.Home = v.Root, "/"
	}
	if v.Quota > 0 {
		opts.Quota = s.quotas.of(v.Root, v.Quota)
	}
	return opts, nil
}

// quotas has one for each directory: all sessions share it.
type quotas struct {
	mu   sync.Mutex
	made map[quotaKey]*files.Quota
}

type quotaKey struct {
	root  string
	limit config.Size
}

func (q *quotas) of(root string, limit config.Size) *files.Quota {
	q.mu.Lock()
	defer q.mu.Unlock()
	key := quotaKey{root, limit}
	if q.made == nil {
		q.made = map[quotaKey]*files.Quota{}
	}
	if q.made[key] == nil {
		q.made[key] = files.NewQuota(root, int64(limit))
	}
	return q.made[key]
}

// activeChannel notes that something moves.
type activeChannel struct {
	ssh.Channel
	c *conn
}

// Read implements io.Reader.
func (a *activeChannel) Read(b []byte) (int, error) {
	n, err := a.Channel.Read(b)
	a.c.touch()
	return n, err
}

// Write implements io.Writer.
func (a *activeChannel) Write(b []byte) (int, error) {
	n, err := a.Channel.Write(b)
	a.c.touch()
	return n, err
}

// Close implements io.Closer. What serves files closes the channel to get out of a read; in order it is closed later, after
// the exit status.
func (a *activeChannel) Close() error { return a.Channel.Close() }
