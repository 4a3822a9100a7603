package agent

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

const restartCall = `<?xml version="1.0"?><methodCall><methodName>supervisor.restart</methodName></methodCall>`

// What an address of the ini is may change over a restart of everything, though the agent itself has it.
func TestARestartChangesAddressesThatTheAgentHas(t *testing.T) {
	dir := t.TempDir()
	port := strings.TrimPrefix(free(t), "127.0.0.1:")
	conf := func(mode, host string) {
		write(t, dir+"/s.conf", "[supervisord]\n[unix_http_server]\nfile="+dir+"/s.sock\nchmod="+mode+"\n[inet_http_server]\nport="+host+":"+port+
			"\n[program:p]\ncommand=sleep 1000\nstartsecs=0\n")
	}
	conf("0700", "127.0.0.1")
	a := launch(t, dir, nil).started()
	a.stdout.wait(t, `"running"`, `"program":"p"`)
	conf("0777", "*")
	a.rpc(restartCall)
	poll(t, "the second generation", func() bool { return strings.Count(a.stdout.text(), `"msg":"running"`) == 2 })
	st, err := os.Stat(dir + "/s.sock")
	if err != nil || st.Mode().Perm() != 0o777 {
		t.Errorf("the socket is %v (%v), want rwxrwxrwx", st.Mode(), err)
	}
	for _, addr := range [][2]string{{"unix", dir + "/s.sock"}, {"tcp", "127.0.0.1:" + port}, {"tcp", "127.0.0.2:" + port}} {
		c, err := net.Dial(addr[0], addr[1])
		if err != nil {
			t.Errorf("%v: %v", addr, err)
			continue
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		fmt.Fprint(c, "GET /RPC2 HTTP/1.1\r\nHost: a\r\n\r\n")
		if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != 400 {
			t.Errorf("%v: got %v (%v), want 400", addr, resp, err)
		}
	}
	// It can go back, too.
	conf("0700", "127.0.0.1")
	a.rpc(restartCall)
	poll(t, "the third generation", func() bool { return strings.Count(a.stdout.text(), `"msg":"running"`) == 3 })
	if c, err := net.Dial("tcp", "127.0.0.2:"+port); err == nil {
		c.Close()
		t.Error("the address of before still answers")
	}
}

// admin.listen may become another address of the same port.
func TestAReloadChangesTheHostOfAdminListen(t *testing.T) {
	dir := t.TempDir()
	port := strings.TrimPrefix(free(t), "127.0.0.1:")
	write(t, dir+"/inpod.yaml", "admin: {listen: '127.0.0.1:"+port+"'}\n")
	a := newTestAgent(t, dir, nil)
	var env []string
	for _, kv := range a.cmd.Env {
		if !strings.HasPrefix(kv, "INPOD_ADMIN_LISTEN=") {
			env = append(env, kv)
		}
	}
	a.cmd.Env = env
	out, err := a.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	a.start(func() { a.stdout.read(out) })
	a.started()
	write(t, dir+"/inpod.yaml", "admin: {listen: ':"+port+"'}\n")
	a.signal(syscall.SIGHUP)
	poll(t, "the new address", func() bool {
		c, err := net.Dial("tcp", "127.0.0.2:"+port)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// SIGTERM while everything is being restarted ends the agent: what is stopped is not started again.
func TestSIGTERMDuringARestart(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/s.conf", "[supervisord]\n[program:p]\ncommand=sh -c 'trap \"while ! test -e \"$DIR\"/go; do sleep 0.05; done; exit 0\" TERM; echo is-up; while :; do sleep 0.05; done'\n"+
		"stdout_logfile=/dev/stdout\nstartsecs=0\nstopwaitsecs=60\n")
	a := launch(t, dir, nil).started()
	a.stdout.wait(t, "is-up")
	a.rpc(restartCall)
	poll(t, "the stop", func() bool {
		_, body := a.do(false, "GET", "/api/v1/programs/p")
		return strings.Contains(body, "STOPPING")
	})
	a.signal(syscall.SIGTERM)
	write(t, dir+"/go", "")
	if got := a.code(); got != 0 {
		t.Errorf("exit code %d, want 0", got)
	}
	if n := strings.Count(a.stdout.text(), `"msg":"spawned"`); n != 1 {
		t.Errorf("the program was started %d times, want once", n)
	}
}

// A program that is taken out while it waits for another one does not keep the pod from being ready.
func TestAProgramThatIsTakenOutIsNotWaitedFor(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/conf.d/a.ini", "[program:never]\ncommand=sleep 1000\nautostart=false\n[program:p]\ncommand=sleep 1000\nstartsecs=0\n")
	write(t, dir+"/conf.d/b.ini", "[program:waits]\ncommand=sleep 1000\ndepends_on=broken\n[program:broken]\ncommand=/no/such/program\nstartretries=0\n")
	a := launch(t, dir, nil, "INPOD_SUPERVISOR_AUTO_UPDATE=true").started()
	a.stdout.wait(t, "gave up")
	if resp, _ := a.do(false, "GET", "/readyz"); resp.StatusCode != 503 {
		t.Errorf("/readyz: got %d, want 503", resp.StatusCode)
	}
	if err := os.Remove(dir + "/conf.d/b.ini"); err != nil {
		t.Fatal(err)
	}
	a.stdout.wait(t, `"to":"ready"`)
}

// A client that announces a body and sends none holds its place only as long as nobody else wants it.
func TestBodiesThatDoNotComeKeepNobodyOut(t *testing.T) {
	a := launch(t, t.TempDir(), nil).started()
	addr := strings.TrimPrefix(a.admin, "http://")
	for i := range 2 * maxConnections {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		fmt.Fprintf(c, "POST /livez?%d HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n", i)
	}
	poll(t, "an answer", func() bool {
		c, r := dialHTTP(t, addr, "/livez")
		defer c.Close()
		resp, err := http.ReadResponse(r, nil)
		return err == nil && resp.StatusCode == 200
	})
}

// Two texts may be written to the same place, and one of them fail.
func TestMetricsOfTextsForOnePlace(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/good", "")
	write(t, dir+"/inpod.yaml", "files: [{from: "+dir+"/missing, to: "+dir+"/o}, {from: "+dir+"/good, to: "+dir+"/o}]\n")
	a := launch(t, dir, nil).started()
	a.stdout.wait(t, `"to":"ready"`)
	resp, body := a.do(false, "GET", "/metrics")
	if want := `inpod_start_failed{kind="files",name="` + dir + `/o"} 1` + "\n"; resp.StatusCode != 200 || !strings.Contains(body, want) {
		t.Errorf("/metrics: got %d, want 200 and %s\n%s", resp.StatusCode, want, body)
	}
}
