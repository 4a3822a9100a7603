package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/inpod/inpod/e2e/lab"
)

// agent is one `inpod run` with directories, ports and a control socket of its own.
type agent struct {
	t     *testing.T
	dir   string
	d     *lab.Daemon
	admin string // http://127.0.0.1:port
	env   []string
	bin   string
}

// setup says how an agent is started. The zero value is a race build with no program.
type setup struct {
	files  map[string]string // below the agent's directory; programs/*.ini are programs
	env    []string
	args   []string // after "run"
	wrap   []string // put before the command, such as unshare
	static bool     // the stripped binary instead of the race build
}

// prepare writes the files and finds the ports, and starts nothing.
func prepare(t *testing.T, s setup) *agent {
	t.Helper()
	a := &agent{t: t, dir: shortDir(t), bin: bins.Race}
	if s.static {
		a.bin = bins.Inpod
	}
	if err := os.MkdirAll(filepath.Join(a.dir, "programs"), 0o755); err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	a.admin = fmt.Sprintf("http://127.0.0.1:%d", port)
	a.env = append(baseEnv(
		fmt.Sprintf("INPOD_ADMIN_LISTEN=127.0.0.1:%d", port), "INPOD_SSH_LISTEN=off", "INPOD_ADMIN_SOCKET="+a.path("agent.sock"),
		"INPOD_SUPERVISOR_INCLUDE=["+a.path("programs/*.ini")+"]", "DIR="+a.dir,
	), s.env...)
	for name, text := range s.files {
		a.write(name, text)
	}
	return a
}

// startAgent starts one and waits until it answers.
func startAgent(t *testing.T, s setup) *agent {
	t.Helper()
	a := prepare(t, s)
	a.launch(s)
	if !lab.Until(patience, func() bool {
		code, _ := a.get("/livez")
		return code == 200 || a.d.Exited()
	}) || a.d.Exited() {
		t.Fatalf("the agent does not answer (%s):\n%s", a.d.WaitExit(0), tailOf(a.d.Output(), 3000))
	}
	return a
}

func (a *agent) launch(s setup) {
	a.t.Helper()
	argv := append(append(append([]string{}, s.wrap...), a.bin, "run"), s.args...)
	d, err := lab.Start(a.dir, a.env, argv...)
	if err != nil {
		a.t.Fatal(err)
	}
	a.d = d
	a.t.Cleanup(func() {
		d.Kill()
		out := d.Output()
		if strings.Contains(out, "DATA RACE") || strings.Contains(out, "panic:") || strings.Contains(out, "BUG:") {
			a.t.Errorf("crashed or raced:\n%s", tailOf(out, 6000))
		}
		if a.t.Failed() {
			a.t.Logf("the agent says:\n%s", tailOf(out, 4000))
		}
	})
}

func (a *agent) path(name string) string { return filepath.Join(a.dir, name) }

func (a *agent) write(name, text string) {
	a.t.Helper()
	p := a.path(name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		a.t.Fatal(err)
	}
	if err := os.WriteFile(p+".new~", []byte(text), 0o644); err != nil {
		a.t.Fatal(err)
	}
	if err := os.Rename(p+".new~", p); err != nil {
		a.t.Fatal(err)
	}
}

// request sends one request; status 0 means that nobody answered.
func (a *agent) request(method, url string, header ...string) (int, string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body)
}

func (a *agent) get(path string) (int, string) { return a.request(http.MethodGet, a.admin+path) }

// cli runs another inpod command with the agent's environment: output and exit code.
func (a *agent) cli(args ...string) (string, int) {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, a.bin, args...)
	cmd.Dir, cmd.Env = a.dir, a.env
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		a.t.Fatalf("cannot run inpod %v: %v", args, err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// program is one element of /api/v1/programs.
type program struct {
	Name     string
	Group    string
	State    string
	PID      int
	Ready    bool
	Restarts int
}

func (a *agent) program(name string) program {
	_, body := a.get("/api/v1/programs")
	var list []program
	if json.Unmarshal([]byte(body), &list) == nil {
		for _, p := range list {
			if p.Name == name {
				return p
			}
		}
	}
	return program{}
}

// until waits for something and fails the test when it does not come.
func (a *agent) until(what string, ok func() bool) {
	a.t.Helper()
	if !lab.Until(patience, ok) {
		_, programs := a.get("/api/v1/programs")
		a.t.Fatalf("%s: never came; programs: %s", what, programs)
	}
}

func (a *agent) untilState(name, state string) {
	a.t.Helper()
	a.until(name+" is "+state, func() bool { return a.program(name).State == state })
}

func (a *agent) untilFile(name, text string) {
	a.t.Helper()
	a.until(name+" holds "+text, func() bool {
		data, _ := os.ReadFile(a.path(name))
		return strings.Contains(string(data), text)
	})
}

func (a *agent) untilPhase(phase string) {
	a.t.Helper()
	a.until("phase "+phase, func() bool {
		_, body := a.get("/api/v1/phase")
		return strings.Contains(body, `"phase":"`+phase+`"`)
	})
}

// wantExit checks how the agent ends.
func (a *agent) wantExit(want string) {
	a.t.Helper()
	if got := a.d.WaitExit(patience); got != want {
		a.t.Errorf("agent: got %s, want %s", got, want)
	}
	if left := a.d.Leftovers(); len(left) > 0 {
		a.t.Errorf("left processes behind: %v", describe(left))
	}
}
