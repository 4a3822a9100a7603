package agent

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestMainProgramGivesTheExitCode(t *testing.T) {
	for _, tt := range []struct {
		main []string
		want int
	}{
		{[]string{"true"}, 0},
		{[]string{"sh", "-c", "exit 42"}, 42},
		{[]string{"sh", "-c", "kill -9 $$"}, 137},
		{[]string{"/no/such/program"}, 127},
	} {
		a := launch(t, t.TempDir(), tt.main)
		if got := a.code(); got != tt.want {
			t.Errorf("%q: exit code %d, want %d", tt.main, got, tt.want)
		}
	}
}

func TestStoppedMainProgramGivesTheExitCode(t *testing.T) {
	for _, tt := range []struct {
		script string
		want   int
	}{
		{"echo is-up; exec sleep 1000", 143},
		{`trap 'exit 7' TERM; echo is-up; while :; do sleep 0.05; done`, 7},
	} {
		a := launch(t, t.TempDir(), []string{"sh", "-c", tt.script})
		a.stdout.wait(t, "is-up")
		a.signal(syscall.SIGTERM)
		if got := a.code(); got != tt.want {
			t.Errorf("%q: exit code %d, want %d", tt.script, got, tt.want)
		}
	}
}

func TestEssentialProgramEndsTheAgent(t *testing.T) {
	for _, tt := range []struct {
		command string
		want    int
	}{
		{"sh -c 'exit 3'", 3},
		{"/no/such/program", 127},
	} {
		dir := t.TempDir()
		write(t, dir+"/s.conf", "[supervisord]\n[program:vital]\nessential=true\nautorestart=false\nstartsecs=0\nstartretries=0\ncommand="+tt.command+"\n[program:other]\ncommand=sleep 1000\n")
		if got := launch(t, dir, nil).code(); got != tt.want {
			t.Errorf("%s: exit code %d, want %d", tt.command, got, tt.want)
		}
	}
}

func TestDeadProgramKillsNothing(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/s.conf", "[supervisord]\n[program:dead]\ncommand=/no/such/program\nstartretries=0\n")
	a := launch(t, dir, nil).started()
	a.stdout.wait(t, "gave up")
	if resp, body := a.do(false, "GET", "/livez"); resp.StatusCode != 200 || body != "ok\n" {
		t.Errorf("/livez: got %d %q, want 200 ok", resp.StatusCode, body)
	}
}

func TestNothingStartsWhenSomethingIsWrong(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	busy := ln.Addr().String()
	for _, tt := range []struct{ name, yaml, conf, env, want string }{
		{
			"bad yaml and bad ini", "drain: {dely: 1s}", "[program:x]\ncomand=touch %(ENV_DIR)s/ran\n", "",
			"inpod.yaml:1: drain.dely: is not a setting; did you mean drain.delay?",
		},
		{
			"busy admin port", "", "[program:x]\ncommand=touch %(ENV_DIR)s/ran\n", "INPOD_ADMIN_LISTEN=" + busy,
			"cannot listen on \"" + busy + "\" (admin.listen): listen tcp " + busy + ": bind: address already in use",
		},
		{
			"busy route", "proxy: {routes: [{listen: '" + busy + "', upstream: 'h:1'}]}", "[program:x]\ncommand=touch %(ENV_DIR)s/ran\n", "",
			"cannot listen on \"" + busy + "\" (proxy.routes[0].listen)",
		},
		{
			"busy inet_http_server", "", "[inet_http_server]\nport=" + busy + "\n[program:x]\ncommand=touch %(ENV_DIR)s/ran\n", "",
			"cannot listen for [inet_http_server]: listen tcp " + busy,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir+"/inpod.yaml", tt.yaml)
			write(t, dir+"/s.conf", "[supervisord]\n"+tt.conf)
			a := launch(t, dir, nil, tt.env)
			if got := a.code(); got != exitNotBegun {
				t.Errorf("exit code %d, want %d", got, exitNotBegun)
			}
			if !strings.Contains(a.stderr.String(), tt.want) {
				t.Errorf("stderr:\n%s\nwant it to say:\n%s", a.stderr.String(), tt.want)
			}
			if _, err := os.Stat(filepath.Join(dir, "ran")); err == nil {
				t.Error("the program was started")
			}
		})
	}
}

func TestSecondAgentOnTheSameSocketIsRefused(t *testing.T) {
	dir := t.TempDir()
	launch(t, dir, nil).started()
	second := launch(t, dir, nil)
	if got := second.code(); got != exitNotBegun || !strings.Contains(second.stderr.String(), "another agent or supervisord answers there") {
		t.Errorf("exit code %d, stderr %s; want %d and that another agent answers", got, second.stderr.String(), exitNotBegun)
	}
}

// free is an address that nobody listens on, and that the kernel gives to no outgoing connection.
func free(t *testing.T) string {
	t.Helper()
	for range 1000 {
		ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 30300+rand.IntN(2400)))
		if err != nil {
			continue
		}
		defer ln.Close()
		return ln.Addr().String()
	}
	t.Fatal("no port is free")
	return ""
}

// A drain as Kubernetes sees it: not ready at once, serving until the delay is over, then the programs in
// reverse order. The delay is as long as this test wants it.
func TestDrain(t *testing.T) {
	dir, addr := t.TempDir(), free(t)
	up := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "served") })}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go up.Serve(ln)
	defer up.Close()
	write(t, dir+"/inpod.yaml", fmt.Sprintf("drain: {delay: 10m, deadline: 20m}\nproxy: {routes: [{listen: %q, upstream: %q}]}\n", addr, ln.Addr()))
	conf := "[supervisord]\n"
	for i, name := range []string{"first", "second", "third"} {
		write(t, dir+"/"+name+".sh", fmt.Sprintf("trap 'echo %s >> %s/order; exit 0' TERM\necho %s is up\nwhile :; do sleep 0.02; done\n", name, dir, name))
		conf += fmt.Sprintf("[program:%s]\ncommand=sh %s/%s.sh\npriority=%d\nstdout_logfile=/dev/stdout\nstdout_logfile_maxbytes=0\n", name, dir, name, i+1)
	}
	write(t, dir+"/s.conf", conf)
	a := launch(t, dir, nil).started()
	for _, name := range []string{"first", "second", "third"} {
		a.stdout.wait(t, name+" is up")
	}
	a.stdout.wait(t, `"to":"ready"`)

	a.signal(syscall.SIGTERM)
	a.stdout.wait(t, `"to":"draining"`)
	if resp, body := a.do(false, "GET", "/readyz"); resp.StatusCode != 503 || body != "not ready\n" {
		t.Errorf("/readyz: got %d %q, want 503 not ready", resp.StatusCode, body)
	}
	if resp, body := a.do(false, "GET", "/health"); resp.StatusCode != 503 || body != `{"health": "false"}` {
		t.Errorf(`/health: got %d %q, want 503 {"health": "false"}`, resp.StatusCode, body)
	}
	if resp, _ := a.do(false, "GET", "/livez"); resp.StatusCode != 200 {
		t.Errorf("/livez: got %d, want 200", resp.StatusCode)
	}
	if _, body := a.do(false, "GET", "/load"); body != `{"in_flight":0,"queued":0,"draining":true,"phase":"draining"}`+"\n" {
		t.Errorf("/load: got %s", body)
	}
	resp, err := http.Get("http://" + addr)
	if err != nil {
		t.Fatalf("a request during the delay: %v", err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 || !resp.Close {
		t.Errorf("a request during the delay: got %d, close %v; want 200, true", resp.StatusCode, resp.Close)
	}
	if got := read(t, dir+"/order"); got != "" {
		t.Errorf("programs were signalled during the delay: %q", got)
	}
	a.signal(syscall.SIGINT)
	if got := a.code(); got != 0 {
		t.Errorf("exit code %d, want 0", got)
	}
	if diff := cmp.Diff("third\nsecond\nfirst\n", read(t, dir+"/order")); diff != "" {
		t.Errorf("order of the stop (-want +got):\n%s", diff)
	}
	for _, left := range []string{"/i.sock", "/i.sock.lock"} {
		if _, err := os.Stat(dir + left); err == nil {
			t.Errorf("%s is left", left)
		}
	}
}

func TestSignalsThatShortenTheDrain(t *testing.T) {
	for _, tt := range []struct {
		name    string
		signals []syscall.Signal
	}{
		{"SIGINT skips the delay", []syscall.Signal{syscall.SIGINT}},
		{"a second SIGTERM stops", []syscall.Signal{syscall.SIGTERM, syscall.SIGTERM}},
		{"SIGQUIT stops", []syscall.Signal{syscall.SIGQUIT}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir+"/inpod.yaml", "drain: {delay: 10m, deadline: 10m}\n")
			a := launch(t, dir, nil).started()
			for i, sig := range tt.signals {
				if i > 0 {
					a.stdout.wait(t, `"to":"draining"`)
				}
				a.signal(sig)
			}
			if got := a.code(); got != 0 {
				t.Errorf("exit code %d, want 0", got)
			}
		})
	}
}

func TestDrainByCommandThenSIGTERM(t *testing.T) {
	dir := t.TempDir()
	const delay = 4 * time.Second // in which both drains and the signal come, also on a machine that is busy
	write(t, dir+"/inpod.yaml", "drain: {delay: "+delay.String()+"}\n")
	a := launch(t, dir, nil).started()
	begun := time.Now()
	for range 2 { // idempotent
		if resp, body := a.do(true, "POST", "/api/v1/drain"); resp.StatusCode != 202 || !strings.Contains(body, `"phase":"draining"`) {
			t.Errorf("drain: got %d %s, want 202 and the phase draining", resp.StatusCode, body)
		}
	}
	a.signal(syscall.SIGTERM) // the first signal: it must not cut the delay short
	if got := a.code(); got != 0 {
		t.Errorf("exit code %d, want 0", got)
	}
	if d := time.Since(begun); d < delay {
		t.Errorf("ended after %s, want that the delay is kept", d)
	}
}

func TestReopenLogs(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/s.conf", "[supervisord]\nlogfile=%(ENV_DIR)s/main.log\npidfile=%(ENV_DIR)s/pid\n")
	a := launch(t, dir, nil).started()
	if got, want := read(t, dir+"/pid"), fmt.Sprintf("%d\n", a.cmd.Process.Pid); got != want {
		t.Errorf("pidfile: got %q, want %q", got, want)
	}
	if err := os.Rename(dir+"/main.log", dir+"/main.log.old"); err != nil {
		t.Fatal(err)
	}
	a.signal(syscall.SIGUSR2)
	poll(t, "a new main log", func() bool { _, err := os.Stat(dir + "/main.log"); return err == nil })
	a.signal(syscall.SIGTERM)
	if got := a.code(); got != 0 {
		t.Errorf("exit code %d, want 0", got)
	}
	if _, err := os.Stat(dir + "/pid"); err == nil {
		t.Error("the pidfile is left")
	}
	if !strings.Contains(read(t, dir+"/main.log"), "draining") {
		t.Errorf("the new main log has:\n%s\nwant what came after the signal", read(t, dir+"/main.log"))
	}
}

// A hook that waits hears of the end of the drain when requests have ended and before any program is signalled.
func TestDrainHook(t *testing.T) {
	dir, addr := t.TempDir(), free(t)
	came, goOn := make(chan struct{}), make(chan struct{})
	letGo := sync.OnceFunc(func() { close(goOn) })
	defer letGo()
	up := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(came)
		<-goOn
		fmt.Fprint(w, "served")
	})}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go up.Serve(ln)
	defer up.Close()
	write(t, dir+"/inpod.yaml", fmt.Sprintf("proxy: {routes: [{listen: %q, upstream: %q}]}\n", addr, ln.Addr()))
	write(t, dir+"/p.sh", "trap 'echo >> "+dir+"/stopped; exit 0' TERM\necho p is up\nwhile :; do sleep 0.02; done\n")
	write(t, dir+"/s.conf", "[supervisord]\n[program:p]\ncommand=sh "+dir+"/p.sh\nstdout_logfile=/dev/stdout\nstdout_logfile_maxbytes=0\n")
	a := launch(t, dir, nil).started()
	a.stdout.wait(t, "p is up")
	served := make(chan string, 1)
	go func() {
		resp, err := http.Get("http://" + addr)
		if err != nil {
			served <- err.Error()
			return
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		served <- string(b)
	}()
	<-came
	if resp, body := a.do(true, "POST", "/api/v1/drain?wait=perhaps"); resp.StatusCode != 400 {
		t.Errorf("wait=perhaps: got %d %s, want 400", resp.StatusCode, body)
	}
	conn, err := net.Dial("unix", a.socket) // it stays open: who hangs up has read the answer
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	fmt.Fprint(conn, "POST /api/v1/drain?wait=true HTTP/1.1\r\nHost: a\r\n\r\n")
	hook := make(chan string, 1)
	var allowed atomic.Pointer[time.Time] // no program may be stopped earlier
	go func() {
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			hook <- err.Error()
			return
		}
		body, err := io.ReadAll(resp.Body)
		text := fmt.Sprint(resp.StatusCode, " ", string(body), err)
		if _, err := os.Stat(dir + "/stopped"); err == nil && allowed.Load() != nil && time.Now().Before(*allowed.Load()) {
			text += " but the program has been stopped"
		}
		hook <- text
	}()
	a.stdout.wait(t, `"to":"draining"`)
	a.signal(syscall.SIGTERM)
	select {
	case got := <-hook:
		t.Errorf("the hook ended while a request was in flight: %s", got)
	default:
	}
	grace := time.Now().Add(hookGrace)
	allowed.Store(&grace)
	letGo()
	if got := <-served; got != "served" {
		t.Errorf("the request in flight: got %q, want served", got)
	}
	if got := <-hook; !strings.HasPrefix(got, "200 ") || !strings.Contains(got, `"phase":"draining"`) || strings.Contains(got, "stopped") {
		t.Errorf("the hook: got %s, want 200, the phase draining, and the program running", got)
	}
	_ = conn.Close()
	if got := a.code(); got != 0 {
		t.Errorf("exit code %d, want 0", got)
	}
	if _, err := os.Stat(dir + "/stopped"); err != nil {
		t.Error("the program was not asked to stop")
	}
}
