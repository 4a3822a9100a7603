package xmlrpc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/inpod/inpod/supervisor"
	"github.com/inpod/inpod/supervisor/ini"
	"github.com/inpod/inpod/supervisor/output"
)

// fake is a supervisor with one group, app, of the processes web and slow; slow never gets to RUNNING.
type fake struct {
	dir string

	mu       sync.Mutex
	running  map[string]bool
	waiting  chan struct{} // closed when somebody waits for slow
	released chan struct{} // closed when that wait has ended
	stdin    string
	events   []string
}

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{dir: t.TempDir(), running: map[string]bool{"web": true}, waiting: make(chan struct{}), released: make(chan struct{})}
	f.write(t, "hello from web\n")
	return f
}

func (f *fake) logfile() string { return filepath.Join(f.dir, "web.log") }

// write appends to web's log.
func (f *fake) write(t *testing.T, text string) {
	t.Helper()
	w, err := os.OpenFile(f.logfile(), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err == nil {
		_, err = w.WriteString(text)
		_ = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func fault(code supervisor.FaultCode, detail string) error {
	return &supervisor.Fault{Code: code, Detail: detail}
}

func (f *fake) find(name string) (string, error) {
	switch name {
	case "app:web", "app:slow":
		return name[4:], nil
	}
	return "", fault(supervisor.BadName, name)
}

func (f *fake) StartProcess(ctx context.Context, name string, wait bool) error {
	p, err := f.find(name)
	if err != nil {
		return err
	}
	if p == "slow" && wait {
		close(f.waiting)
		<-ctx.Done()
		close(f.released)
		return ctx.Err()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.running[p] {
		return fault(supervisor.AlreadyStarted, name)
	}
	f.running[p] = true
	return nil
}

func (f *fake) StartGroup(ctx context.Context, group string, _ bool) ([]supervisor.ProcessStatus, error) {
	if group != "app" {
		return nil, fault(supervisor.BadName, group)
	}
	return f.StartAll(ctx, false)
}

func (f *fake) StartAll(context.Context, bool) ([]supervisor.ProcessStatus, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := []supervisor.ProcessStatus{}
	for _, p := range []string{"slow", "web"} {
		if !f.running[p] {
			f.running[p] = true
			list = append(list, supervisor.ProcessStatus{Name: p, Group: "app", Status: supervisor.Success, Description: "OK"})
		}
	}
	return list, nil
}

func (f *fake) StopProcess(_ context.Context, name string, _ bool) error {
	p, err := f.find(name)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.running[p] {
		return fault(supervisor.NotRunning, name)
	}
	f.running[p] = false
	return nil
}

func (f *fake) StopGroup(ctx context.Context, group string, _ bool) ([]supervisor.ProcessStatus, error) {
	if group != "app" {
		return nil, fault(supervisor.BadName, group)
	}
	return f.StopAll(ctx, false)
}

func (f *fake) StopAll(context.Context, bool) ([]supervisor.ProcessStatus, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := []supervisor.ProcessStatus{}
	for _, p := range []string{"slow", "web"} {
		if f.running[p] {
			f.running[p] = false
			list = append(list, supervisor.ProcessStatus{Name: p, Group: "app", Status: supervisor.Success, Description: "OK"})
		}
	}
	return list, nil
}

func (f *fake) SignalProcess(name, sig string) error {
	if _, err := f.find(name); err != nil {
		return err
	}
	if sig != "HUP" && sig != "1" {
		return fault(supervisor.BadSignal, sig)
	}
	return nil
}

func (f *fake) SignalGroup(group, sig string) ([]supervisor.ProcessStatus, error) {
	if group != "app" {
		return nil, fault(supervisor.BadName, group)
	}
	return f.SignalAll(sig)
}

func (f *fake) SignalAll(sig string) ([]supervisor.ProcessStatus, error) {
	s := supervisor.ProcessStatus{Name: "web", Group: "app", Status: supervisor.Success, Description: "OK"}
	if err := f.SignalProcess("app:web", sig); err != nil {
		s.Status, s.Description = supervisor.BadSignal, err.Error()
	}
	return []supervisor.ProcessStatus{s}, nil
}

func (f *fake) ProcessInfo(name string) (supervisor.ProcessInfo, error) {
	p, err := f.find(name)
	if err != nil {
		return supervisor.ProcessInfo{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	info := supervisor.ProcessInfo{Name: p, Group: "app", Statename: "STOPPED", Description: "Not started", Now: 1700000000}
	if f.running[p] {
		info.State, info.Statename, info.Pid, info.Description = 20, "RUNNING", 77, "pid 77, uptime 0:00:05"
	}
	if p == "web" {
		info.Logfile, info.StdoutLogfile = f.logfile(), f.logfile()
	}
	return info, nil
}

func (f *fake) AllProcessInfo() []supervisor.ProcessInfo {
	slow, _ := f.ProcessInfo("app:slow")
	web, _ := f.ProcessInfo("app:web")
	return []supervisor.ProcessInfo{slow, web}
}

func (f *fake) AllConfigInfo() []supervisor.ConfigInfo {
	return []supervisor.ConfigInfo{{GroupPriority: 999, InUse: true, Program: &ini.Program{
		Name: "web", Group: "app", Command: "sleep 1", ExitCodes: []int{0}, UID: -1, Autostart: true, Priority: 999, Startsecs: 1,
		Startretries: 3, Stopwaitsecs: 10, StopSignals: []syscall.Signal{syscall.SIGTERM}, Stdout: ini.Log{File: "AUTO", Maxbytes: 50 << 20, Backups: 10},
	}}}
}

func (f *fake) Reread() (added, changed, removed []string, err error) {
	return []string{"new"}, nil, []string{"old"}, nil
}

func (f *fake) AddGroup(name string) error { return fault(supervisor.AlreadyAdded, name) }

func (f *fake) RemoveGroup(name string) error { return fault(supervisor.StillRunning, name) }

func (f *fake) LogPath(name, stream string) (string, error) {
	p, err := f.find(name)
	if err == nil && (p != "web" || stream != "stdout") {
		err = fault(supervisor.NoFile, "")
	}
	return f.logfile(), err
}

func (f *fake) ReadLog(name, stream string, offset, length int64) (string, error) {
	path, err := f.LogPath(name, stream)
	if err != nil {
		return "", err
	}
	data, err := output.ReadFile(path, offset, length)
	if err != nil {
		return "", fault(supervisor.BadArguments, "")
	}
	return string(data), nil
}

func (f *fake) TailLog(name, stream string, offset, length int64) (string, int64, bool, error) {
	path, err := f.LogPath(name, stream)
	if err != nil {
		return "", 0, false, nil
	}
	data, next, overflow := output.TailFile(path, offset, length)
	return string(data), next, overflow, nil
}

func (f *fake) ClearLogs(name string) error {
	_, err := f.find(name)
	if err == nil {
		err = os.Truncate(f.logfile(), 0)
	}
	return err
}

func (f *fake) ClearAllLogs() ([]supervisor.ProcessStatus, error) {
	return []supervisor.ProcessStatus{{Name: "web", Group: "app", Status: supervisor.Success, Description: "OK"}}, f.ClearLogs("app:web")
}

func (f *fake) SendStdin(name, chars string) error {
	_, err := f.find(name)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stdin += chars
	return err
}

func (f *fake) SendCommEvent(typ, data string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events = append(f.events, typ+"="+data)
	return nil
}

// askPeer runs testdata/peer.py.
func askPeer(t *testing.T, job map[string]any, answer any) {
	t.Helper()
	in, err := json.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/usr/bin/python3", "-E", "testdata/peer.py")
	cmd.Stdin = bytes.NewReader(in)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("Python failed (Debian's package supervisor is needed): %v\n%s", err, stderr.Bytes())
	}
	if err := json.Unmarshal(out, answer); err != nil {
		t.Fatalf("cannot read %q: %v", out, err)
	}
}

// serve serves a handler on l until the test ends.
func serve(t *testing.T, l net.Listener, o Options) {
	t.Helper()
	srv := &http.Server{Handler: NewHandler(o)}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(l) }()
	t.Cleanup(func() {
		_ = srv.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
}

// serveTCP serves a fake on a free port.
func serveTCP(t *testing.T, o Options) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, l, o)
	return "http://" + l.Addr().String()
}

// serveUnix serves a fake on a socket file.
func serveUnix(t *testing.T, o Options) (url string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, l, o)
	return "unix://" + path
}

func newClient(t *testing.T, url, user, password string) *Client {
	t.Helper()
	c, err := NewClient(url, user, password)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}
