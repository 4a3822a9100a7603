package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/inpod/inpod/e2e/lab"
)

// The columns of the report.
const (
	ours   = "inpod"
	ourIni = "inpod, ini"
	python = "Python supervisord"
	s6     = "s6-svscan"
	direct = "direct"

	nginx        = "nginx"
	haproxy      = "HAProxy"
	queueProxy   = "queue-proxy"
	reverseProxy = "ReverseProxy"
)

// both are the two that read the same ini.
func both() []string { return []string{ours, python} }

// argv is how name runs the ini in its directory, in the foreground.
func (b *bench) argv(name, conf string) []string {
	if name == python {
		return []string{lab.Supervisord, "-n", "-c", conf}
	}
	return []string{b.bins.Inpod, "run", "-c", conf}
}

// env is the same for everybody; inpod is kept from the machine's own ports and files.
func (b *bench) env(dir string) []string {
	return []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + dir, "LANG=C.UTF-8",
		"INPOD_ADMIN_LISTEN=off", "INPOD_SSH_LISTEN=off", "INPOD_ADMIN_SOCKET=" + dir + "/a.sock", "INPOD_SUPERVISOR_INCLUDE=[]",
	}
}

// server is a supervisor with an ini of ours and a control socket.
type server struct {
	*lab.Daemon
	client *lab.Client
	began  time.Duration // monotonic clock, before the start
}

const header = `[supervisord]
logfile=%(here)s/main.log
logfile_maxbytes=0
loglevel=info
pidfile=%(here)s/pid
childlogdir=%(here)s
minfds=12000
nodaemon=true
[unix_http_server]
file=%(here)s/s.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
`

// start runs name with the programs, and does not wait for anything.
func (b *bench) start(name, programs string) (*server, error) {
	dir, err := b.dir()
	if err != nil {
		return nil, err
	}
	conf := filepath.Join(dir, "s.ini")
	if err := os.WriteFile(conf, []byte(header+programs), 0o644); err != nil {
		return nil, fmt.Errorf("cannot write the ini: %w", err)
	}
	s := &server{client: lab.NewClient("unix://"+dir+"/s.sock", "", "", true), began: monotonic()}
	s.Daemon, err = lab.Start(dir, b.env(dir), b.argv(name, conf)...)
	return s, err
}

// startReady is start, and waits until the control socket answers.
func (b *bench) startReady(ctx context.Context, name, programs string) (*server, error) {
	s, err := b.start(name, programs)
	if err != nil {
		return nil, err
	}
	if err := s.WaitRPC(ctx, s.client, 30*time.Second); err != nil {
		s.stop()
		return nil, fmt.Errorf("%s: %w; it said: %.500s", name, err, s.Output())
	}
	return s, nil
}

// stop ends the supervisor in its own way, and whatever is left of it in ours.
func (s *server) stop() {
	if s.client != nil {
		s.client.Close()
	}
	if !s.Exited() {
		_ = s.Signal(syscall.SIGQUIT) // both stop at once, without a drain
		s.WaitExit(30 * time.Second)
	}
	s.Kill()
	_ = os.RemoveAll(s.Dir)
}

// logged counts the lines of the main log that hold what.
func (s *server) logged(what string) int {
	data, err := os.ReadFile(filepath.Join(s.Dir, "main.log"))
	if err != nil {
		return 0
	}
	return strings.Count(string(data), what)
}

// awaitState polls until all programs of a group (or the one of that name) have the state.
func (s *server) awaitState(ctx context.Context, group, state string, limit time.Duration) error {
	var last error
	if !lab.Until(limit, func() bool {
		var list []any
		if list, last = s.infos(ctx); last != nil {
			return true
		}
		for _, e := range list {
			if m, ok := e.(map[string]any); ok && m["group"] == group && m["statename"] != state {
				return false
			}
		}
		return true
	}) {
		return fmt.Errorf("%s is not %s after %s", group, state, limit)
	}
	return last
}

func (s *server) infos(ctx context.Context) ([]any, error) {
	v, err := s.client.Call(ctx, "supervisor.getAllProcessInfo")
	if err != nil {
		return nil, err
	}
	list, _ := v.([]any)
	return list, nil
}
