package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/inpod/inpod/e2e/lab"
)

// control talks XML-RPC over the agent's own socket.
func (a *agent) control() *lab.Client {
	return lab.NewClient("unix://"+a.path("agent.sock"), "", "", false)
}

// configMap is a directory as Kubernetes mounts a ConfigMap: NAME → ..data/NAME, ..data → ..VERSION, swapped in one rename.
type configMap struct {
	t       *testing.T
	dir     string
	version int
}

func newConfigMap(t *testing.T, dir string, files map[string]string) *configMap {
	t.Helper()
	c := &configMap{t: t, dir: dir}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	c.swap(files)
	for name := range files {
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func (c *configMap) swap(files map[string]string) {
	c.t.Helper()
	old := fmt.Sprintf("..v%d", c.version)
	c.version++
	next := fmt.Sprintf("..v%d", c.version)
	steps := []error{os.Mkdir(filepath.Join(c.dir, next), 0o755)}
	for name, text := range files {
		steps = append(steps, os.WriteFile(filepath.Join(c.dir, next, name), []byte(text), 0o644))
	}
	steps = append(steps,
		os.Symlink(next, filepath.Join(c.dir, "..data_tmp")),
		os.Rename(filepath.Join(c.dir, "..data_tmp"), filepath.Join(c.dir, "..data")),
		os.RemoveAll(filepath.Join(c.dir, old)))
	for _, err := range steps {
		if err != nil {
			c.t.Fatal(err)
		}
	}
}

const oneProgram = "[program:a]\ncommand=%%(ENV_PROG)s run version=%d\nstartsecs=0\n"

func TestConfigMapSwapOfPrograms(t *testing.T) {
	t.Parallel()
	for _, auto := range []bool{true, false} {
		t.Run(fmt.Sprintf("auto_update=%v", auto), func(t *testing.T) {
			t.Parallel()
			s := setup{env: []string{fmt.Sprintf("INPOD_SUPERVISOR_AUTO_UPDATE=%v", auto)}}
			a := prepare(t, s)
			cm := newConfigMap(t, a.path("cm"), map[string]string{"a.ini": fmt.Sprintf(oneProgram, 1)})
			a.env = append(a.env, "INPOD_SUPERVISOR_INCLUDE=["+a.path("cm/*.ini")+"]")
			a.launch(s)
			a.untilState("a", "RUNNING")
			before := a.program("a").PID
			cm.swap(map[string]string{"a.ini": fmt.Sprintf(oneProgram, 2) + "[program:b]\ncommand=%(ENV_PROG)s run\nstartsecs=0\n"})
			if auto {
				a.untilState("b", "RUNNING")
				a.until("a was restarted", func() bool { p := a.program("a"); return p.PID != 0 && p.PID != before })
				cm.swap(map[string]string{"a.ini": fmt.Sprintf(oneProgram, 2)})
				a.until("b is gone", func() bool { return a.program("b").Name == "" })
				return
			}
			// One swap is several events; when they come far apart, it is several reloads.
			a.until("the reload", func() bool { return a.metric(`inpod_config_reloads_total{result="ok"}`) >= 1 })
			if p := a.program("a"); p.PID != before {
				t.Errorf("a was restarted without auto_update: pid %d, was %d", p.PID, before)
			}
			out, code := a.cli("ctl", "update")
			if code != 0 || !strings.Contains(out, "a: updated process group") || !strings.Contains(out, "b: added process group") {
				t.Errorf("inpod ctl update: got exit %d %q", code, out)
			}
			a.untilState("b", "RUNNING")
		})
	}
}

func TestConfigMapSwapOfYAML(t *testing.T) {
	t.Parallel()
	route, gate := freePort(t), freePort(t)
	s := setup{
		files: map[string]string{"programs/gate.ini": gateIni, "ready": ""},
		env:   []string{fmt.Sprintf("GATE=%d", gate)},
	}
	a := prepare(t, s)
	cm := newConfigMap(t, a.path("cfg"), map[string]string{"inpod.yaml": "drain: {delay: 0s}\n"})
	s.args = []string{"--config", a.path("cfg/inpod.yaml")}
	a.launch(s)
	a.untilState("gate", "RUNNING")
	before := a.program("gate").PID
	cm.swap(map[string]string{"inpod.yaml": fmt.Sprintf("proxy: {routes: [{listen: '127.0.0.1:%d', path: /, upstream: '127.0.0.1:%d'}]}\n", route, gate)})
	url := fmt.Sprintf("http://127.0.0.1:%d/", route)
	a.until("the new route answers", func() bool { code, _ := a.request(http.MethodGet, url); return code == 200 })
	// A bad file: the route stays.
	cm.swap(map[string]string{"inpod.yaml": "proxy: {routs: []}\nnonsense: [\n"})
	a.untilReloadFails()
	if code, _ := a.request(http.MethodGet, url); code != 200 {
		t.Errorf("the route after a bad reload: got %d, want 200", code)
	}
	cm.swap(map[string]string{"inpod.yaml": "proxy: {routes: []}\n"})
	a.until("the route is gone", func() bool { code, _ := a.request(http.MethodGet, url); return code == 0 })
	if p := a.program("gate"); p.PID != before {
		t.Errorf("the program was restarted by a change of routes: pid %d, was %d", p.PID, before)
	}
}

func (a *agent) untilReloadFails() {
	a.t.Helper()
	a.until("the failed reload in /metrics", func() bool {
		_, body := a.get("/metrics")
		return strings.Contains(body, "inpod_config_last_reload_successful 0")
	})
	if _, body := a.get("/readyz?verbose"); !strings.Contains(body, "last reload failed") {
		a.t.Errorf("readyz?verbose does not say that the reload failed: %s", body)
	}
}

func TestBadReloadChangesNothing(t *testing.T) {
	t.Parallel()
	good := fmt.Sprintf(oneProgram, 1)
	a := startAgent(t, setup{
		files: map[string]string{"programs/a.ini": good}, env: []string{"INPOD_SUPERVISOR_AUTO_UPDATE=true"},
	})
	a.untilState("a", "RUNNING")
	before := a.program("a").PID
	a.write("programs/a.ini", "[program:a]\ncommand=%(ENV_PROG)s run version=2\nstartsecs=soon\nautostart=perhaps\n")
	a.untilReloadFails()
	if p := a.program("a"); p.PID != before || p.State != "RUNNING" {
		t.Errorf("after a bad reload: got %+v, want pid %d RUNNING", p, before)
	}
	if code, _ := a.get("/readyz"); code != 200 {
		t.Errorf("readyz after a bad reload: got %d, want 200", code)
	}
	out, code := a.cli("ctl", "reread")
	if code == 0 || !strings.Contains(out, "a.ini:3") || !strings.Contains(out, "a.ini:4") {
		t.Errorf("inpod ctl reread: got exit %d %q, want both errors with file:line", code, out)
	}
	a.write("programs/a.ini", good)
	a.until("the good reload", func() bool {
		_, body := a.get("/metrics")
		return strings.Contains(body, "inpod_config_last_reload_successful 1")
	})
	if p := a.program("a"); p.PID != before {
		t.Errorf("the same config again restarted a: pid %d, was %d", p.PID, before)
	}
}

func TestSIGHUPReloadsAndRestartsNothing(t *testing.T) {
	t.Parallel()
	a := startAgent(t, setup{files: map[string]string{"programs/a.ini": fmt.Sprintf(oneProgram, 1)}})
	a.untilState("a", "RUNNING")
	before := a.program("a").PID
	if err := a.d.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	a.until("the reload", func() bool {
		_, body := a.get("/metrics")
		return strings.Contains(body, `inpod_config_reloads_total{result="ok"} 1`)
	})
	if p := a.program("a"); p.PID != before {
		t.Errorf("SIGHUP restarted a: pid %d, was %d", p.PID, before)
	}
}

// A restart of everything with bad files is refused with what is wrong, by inpod ctl and by the unmodified supervisorctl.
func TestCtlReloadOfBadFiles(t *testing.T) {
	t.Parallel()
	s := setup{}
	a := prepare(t, s)
	a.write("programs.ini", "[program:a]\ncommand=%(ENV_PROG)s run\nstartsecs=0\n")
	a.env = append(a.env, "INPOD_SUPERVISOR_INCLUDE=["+a.path("programs.ini")+"]")
	a.launch(s)
	a.untilState("a", "RUNNING")
	before := a.program("a").PID
	a.write("programs.ini", "[program:a]\ncommand=%(ENV_PROG)s run\nstartsecs=soon\n")
	const want = `startsecs="soon": want a whole number of seconds`
	if out, code := a.cli("ctl", "reload"); code != 1 || !strings.Contains(out, "ERROR: CANT_REREAD: ") || !strings.Contains(out, "programs.ini:3: ") || !strings.Contains(out, want) {
		t.Errorf("inpod ctl: exit code %d, %s", code, out)
	}
	out, err := exec.Command("supervisorctl", "-s", "unix://"+a.path("agent.sock"), "reload").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "CANT_REREAD") || !strings.Contains(string(out), "soon") {
		t.Errorf("supervisorctl: %v, %s", err, out)
	}
	if p := a.program("a"); p.State != "RUNNING" || p.PID != before {
		t.Errorf("the program is %+v, its pid was %d", p, before)
	}
}
