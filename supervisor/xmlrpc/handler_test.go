package xmlrpc

import (
	"bufio"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/inpod/inpod/supervisor"
	"github.com/inpod/inpod/supervisor/output"
)

func TestMethodsAsSupervisor(t *testing.T) {
	var want struct {
		Names      []string
		Signatures map[string][]string
	}
	askPeer(t, map[string]any{"do": "methods"}, &want)
	m := methods()
	if diff := cmp.Diff(want.Names, names(m)); diff != "" {
		t.Errorf("methods (-supervisor +ours):\n%s", diff)
	}
	c := newClient(t, serveUnix(t, Options{Supervisor: newFake(t)}), "", "")
	for name, sig := range want.Signatures {
		got, err := c.Call(t.Context(), "system.methodSignature", name)
		if diff := cmp.Diff(fmt.Sprint(sig), fmt.Sprint(got)); err != nil || diff != "" {
			t.Errorf("%s: %v (-supervisor +ours):\n%s", name, err, diff)
		}
		if help, err := c.Call(t.Context(), "system.methodHelp", name); err != nil || !strings.Contains(fmt.Sprint(help), "@return "+sig[0]) {
			t.Errorf("methodHelp(%s) = %v, %v", name, help, err)
		}
	}
}

func TestCalls(t *testing.T) {
	f := newFake(t)
	f.write(t, strings.Repeat("x", 85))
	var shut, restarted int
	mainLog, err := output.OpenMainLog("", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(mainLog, "main log\n")
	c := newClient(t, serveUnix(t, Options{
		Supervisor: f, PID: func() int { return 4711 }, MainLog: mainLog,
		Shutdown: func() { shut++ }, Restart: func() error { restarted++; return nil },
	}), "", "")
	ok := []any{map[string]any{"name": "web", "group": "app", "status": 80, "description": "OK"}}
	both := []any{map[string]any{"name": "slow", "group": "app", "status": 80, "description": "OK"}, ok[0]}
	for _, tc := range []struct {
		method string
		args   []any
		want   any // a value, or the fault's text
	}{
		{"supervisor.getAPIVersion", nil, "3.0"},
		{"supervisor.getVersion", nil, "3.0"},
		{"supervisor.getSupervisorVersion", nil, "4.2.5"},
		{"supervisor.getIdentification", nil, "supervisor"},
		{"supervisor.getState", nil, map[string]any{"statecode": 1, "statename": "RUNNING"}},
		{"supervisor.getPID", nil, 4711},
		{"supervisor.readLog", []any{0, 4}, "main"},
		{"supervisor.readMainLog", []any{-4, 0}, "log\n"},
		{"supervisor.readLog", []any{-4, 1}, fault(supervisor.BadArguments, "")},
		{"supervisor.clearLog", nil, true},
		{"supervisor.readLog", []any{0, 0}, ""},
		{"supervisor.shutdown", nil, true},
		{"supervisor.restart", nil, true},
		{"supervisor.reloadConfig", nil, []any{[]any{[]any{"new"}, []any{}, []any{"old"}}}},
		{"supervisor.addProcessGroup", []any{"x"}, fault(supervisor.AlreadyAdded, "x")},
		{"supervisor.removeProcessGroup", []any{"x"}, fault(supervisor.StillRunning, "x")},
		{"supervisor.startProcess", []any{"app:web"}, fault(supervisor.AlreadyStarted, "app:web")},
		{"supervisor.startProcess", []any{"nope"}, fault(supervisor.BadName, "nope")},
		{"supervisor.startProcess", []any{"nope:*"}, fault(supervisor.BadName, "nope:*")},
		{"supervisor.startProcess", []any{5}, fault(supervisor.IncorrectParameters, "")},
		{"supervisor.startProcess", nil, fault(supervisor.IncorrectParameters, "")},
		{"supervisor.startProcess", []any{"a", true, 1}, fault(supervisor.IncorrectParameters, "")},
		{"supervisor.stopProcess", []any{"app:web", false}, true},
		{"supervisor.stopProcess", []any{"app:web"}, fault(supervisor.NotRunning, "app:web")},
		{"supervisor.startProcess", []any{"app:*"}, both},
		{"supervisor.stopProcess", []any{"app:"}, both},
		{"supervisor.startProcessGroup", []any{"app"}, both},
		{"supervisor.startProcessGroup", []any{"nope"}, fault(supervisor.BadName, "nope")},
		{"supervisor.stopProcessGroup", []any{"app"}, both},
		{"supervisor.startAllProcesses", nil, both},
		{"supervisor.stopAllProcesses", []any{true}, both},
		{"supervisor.signalProcess", []any{"app:web", "HUP"}, true},
		{"supervisor.signalProcess", []any{"app:web", 1}, true},
		{"supervisor.signalProcess", []any{"app:web", "NO"}, fault(supervisor.BadSignal, "NO")},
		{"supervisor.signalProcess", []any{"app:*", "HUP"}, ok},
		{"supervisor.signalProcessGroup", []any{"app", "HUP"}, ok},
		{"supervisor.signalAllProcesses", []any{"HUP"}, ok},
		{"supervisor.readProcessLog", []any{"app:web", 0, 5}, "hello"},
		{"supervisor.readProcessStdoutLog", []any{"app:web", "6", 4}, "from"},
		{"supervisor.readProcessStdoutLog", []any{"app:web", 0, -1}, fault(supervisor.BadArguments, "")},
		{"supervisor.readProcessStderrLog", []any{"app:web", 0, 0}, fault(supervisor.NoFile, "")},
		{"supervisor.readProcessStdoutLog", []any{"app:web", "x", 0}, fault(supervisor.IncorrectParameters, "")},
		{"supervisor.tailProcessLog", []any{"app:web", 0, 3}, []any{"xxx", 100, true}},
		{"supervisor.tailProcessStderrLog", []any{"app:web", 0, 3}, []any{"", 0, false}},
		{"supervisor.clearProcessLog", []any{"app:web"}, true},
		{"supervisor.clearAllProcessLogs", nil, ok},
		{"supervisor.sendProcessStdin", []any{"app:web", "line\n"}, true},
		{"supervisor.sendProcessStdin", []any{"app:web", 5}, fault(supervisor.IncorrectParameters, "5")},
		{"supervisor.sendRemoteCommEvent", []any{"typ", "data"}, true},
		{"supervisor.nope", nil, fault(supervisor.UnknownMethod, "")},
		{"nope", nil, fault(supervisor.UnknownMethod, "")},
		{"a.b.c", nil, fault(supervisor.UnknownMethod, "")},
		{"system.methodHelp", []any{"nope"}, fault(supervisor.SignatureUnsupported, "")},
		{"system.methodSignature", []any{7}, fault(supervisor.SignatureUnsupported, "")},
		{"system.multicall", []any{"x"}, fault(supervisor.IncorrectParameters, "")},
		{"system.multicall", []any{[]any{
			map[string]any{"methodName": "supervisor.getPID", "params": []any{}},
			map[string]any{"methodName": "supervisor.getPID"},
			map[string]any{"methodName": "supervisor.stopProcess", "params": []any{"x"}},
			map[string]any{"methodName": "system.multicall", "params": []any{[]any{}}},
			map[string]any{},
			"x",
		}}, []any{
			4711, 4711,
			map[string]any{"faultCode": 10, "faultString": "BAD_NAME: x"},
			map[string]any{"faultCode": 2, "faultString": "INCORRECT_PARAMETERS: Recursive system.multicall forbidden"},
			map[string]any{"faultCode": 2, "faultString": "INCORRECT_PARAMETERS: No methodName"},
			map[string]any{"faultCode": 2, "faultString": "INCORRECT_PARAMETERS"},
		}},
	} {
		got, err := c.Call(t.Context(), tc.method, tc.args...)
		if err != nil {
			got = err
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s%v (-want +got):\n%s", tc.method, tc.args, diff)
		}
	}
	if f.stdin != "line\n" || fmt.Sprint(f.events) != "[typ=data]" || shut != 1 || restarted != 1 {
		t.Errorf("stdin %q, events %v, %d shutdowns, %d restarts", f.stdin, f.events, shut, restarted)
	}
}

func TestConfigInfo(t *testing.T) {
	c := newClient(t, serveUnix(t, Options{Supervisor: newFake(t)}), "", "")
	got, err := c.Call(t.Context(), "supervisor.getAllConfigInfo")
	want := []any{map[string]any{
		"autostart": true, "command": "sleep 1", "directory": "none", "exitcodes": []any{0}, "group": "app", "group_prio": 999, "inuse": true,
		"killasgroup": false, "name": "web", "process_prio": 999, "redirect_stderr": false, "serverurl": "none", "startretries": 3,
		"startsecs": 1, "stderr_capture_maxbytes": 0, "stderr_events_enabled": false, "stderr_logfile": "none", "stderr_logfile_backups": 0,
		"stderr_logfile_maxbytes": 0, "stderr_syslog": false, "stdout_capture_maxbytes": 0, "stdout_events_enabled": false,
		"stdout_logfile": "auto", "stdout_logfile_backups": 10, "stdout_logfile_maxbytes": 50 << 20, "stdout_syslog": false,
		"stopsignal": 15, "stopwaitsecs": 10, "uid": "none",
	}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

func TestShuttingDown(t *testing.T) {
	c := newClient(t, serveUnix(t, Options{Supervisor: newFake(t), State: func() (int, string) { return StateShutdown, "SHUTDOWN" }}), "", "")
	_, err := c.Call(t.Context(), "supervisor.getAllProcessInfo")
	if err == nil || err.Error() != "SHUTDOWN_STATE" {
		t.Errorf("getAllProcessInfo: %v, want SHUTDOWN_STATE", err)
	}
	if _, err := c.Call(t.Context(), "system.listMethods"); err != nil {
		t.Errorf("listMethods: %v", err)
	}
}

// A wait holds up no other call, and ends when its client leaves.
func TestClientLeavesDuringAWait(t *testing.T) {
	f := newFake(t)
	url := serveTCP(t, Options{Supervisor: f})
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error, 1)
	waiter, other := newClient(t, url, "", ""), newClient(t, url, "", "")
	go func() {
		_, err := waiter.Call(ctx, "system.multicall", []any{map[string]any{"methodName": "supervisor.startProcess", "params": []any{"app:slow"}}})
		left <- err
	}()
	<-f.waiting
	if _, err := other.Call(t.Context(), "supervisor.getState"); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("the client got %v", err)
	}
	<-f.released
}

func TestAuth(t *testing.T) {
	sum := sha1.Sum([]byte("thepassword"))
	for _, stored := range []string{"thepassword", "{SHA}" + hex.EncodeToString(sum[:])} {
		url := serveTCP(t, Options{Supervisor: newFake(t), Username: "user", Password: stored})
		for _, tc := range []struct {
			user, password string
			code           int
		}{
			{"user", "thepassword", 0},
			{"user", "wrong", 401},
			{"other", "thepassword", 401},
			{"", "", 401},
			{"user", "", 401},
			{"user", hex.EncodeToString(sum[:]), 401},
			{"user", "{SHA}" + hex.EncodeToString(sum[:]), 401},
		} {
			_, err := newClient(t, url, tc.user, tc.password).Call(t.Context(), "supervisor.getPID")
			var status *StatusError
			if errors.As(err, &status); (err != nil) != (tc.code != 0) || (tc.code != 0 && (status == nil || status.Code != tc.code)) {
				t.Errorf("%q as %q with %q: %v, want %d", stored, tc.user, tc.password, err, tc.code)
			}
		}
		u := strings.Replace(url, "http://", "http://user:thepassword@", 1)
		if _, err := newClient(t, u, "", "").Call(t.Context(), "supervisor.getPID"); err != nil {
			t.Errorf("the password in the URL: %v", err)
		}
	}
}

func TestBadRequests(t *testing.T) {
	url := serveTCP(t, Options{Supervisor: newFake(t)})
	for _, tc := range []struct {
		name, method, path, body string
		header                   map[string]string
		want                     int
	}{
		{"get", "GET", "/RPC2", "", nil, 400},
		{"no XML", "POST", "/RPC2", "hello", nil, 400},
		{"no method", "POST", "/RPC2", "<methodCall></methodCall>", nil, 400},
		{"too big", "POST", "/RPC2", "<methodCall>" + strings.Repeat(" ", maxBody), nil, 413},
		{"unknown path", "GET", "/", "", nil, 404},
		{"no such log", "GET", "/logtail/nope", "", nil, 404},
		{"no log file", "GET", "/logtail/app:web/stderr", "", nil, 404},
		{"no such stream", "GET", "/logtail/app:web/stdin", "", nil, 404},
		{"a group's log", "GET", "/logtail/app:*", "", nil, 404},
		{"posted to a log", "POST", "/logtail/app:web", "x", nil, 400},
		{"no main log", "GET", "/mainlogtail", "", nil, 404},
		{"from another site", "POST", "/RPC2", "<methodCall><methodName>supervisor.getPID</methodName></methodCall>", map[string]string{"Origin": "http://evil.example"}, 403},
		{"fine", "POST", "/RPC2", "<methodCall><methodName>supervisor.getPID</methodName></methodCall>", nil, 200},
	} {
		t.Run(tc.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), tc.method, url+tc.path, strings.NewReader(tc.body))
			if err != nil {
				t.Fatal(err)
			}
			for k, v := range tc.header {
				req.Header.Set(k, v)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != tc.want {
				t.Errorf("status %d, want %d", resp.StatusCode, tc.want)
			}
		})
	}
}

func TestLogtail(t *testing.T) {
	f := newFake(t)
	mainLog, err := output.OpenMainLog("", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(mainLog, "old main\n")
	left := make(chan struct{})
	c := newClient(t, serveUnix(t, Options{Supervisor: f, MainLog: mainLog, Follow: func(ctx context.Context, path string, head int64, emit func([]byte) error) error {
		defer close(left)
		return output.Follow(ctx, path, head, emit)
	}}), "", "")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	body, err := c.Stream(ctx, "/logtail/app:web/stdout")
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(body)
	expect := func(want string) {
		t.Helper()
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("read %q, %v; want %q", lines.Text(), lines.Err(), want)
		}
	}
	expect("hello from web")
	f.write(t, "more\n")
	expect("more")
	if err := os.Rename(f.logfile(), f.logfile()+".1"); err != nil {
		t.Fatal(err)
	}
	f.write(t, "after rotation\n")
	expect("after rotation")
	if err := os.Truncate(f.logfile(), 0); err != nil {
		t.Fatal(err)
	}
	expect("==> File truncated <==")
	f.write(t, "after clear\n")
	expect("after clear")
	cancel()
	_ = body.Close()
	<-left // nothing is written: the server notices all the same

	body, err = c.Stream(t.Context(), "/mainlogtail")
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	lines = bufio.NewScanner(body)
	expect("old main")
	_, _ = io.WriteString(mainLog, "new main\n")
	expect("new main")
}
