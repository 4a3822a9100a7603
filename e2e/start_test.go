package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/inpod/inpod/e2e/lab"
)

// mark is a program that says when it was started.
const markProgram = `
[program:p]
command=/bin/sh -c 'echo program >>%(ENV_DIR)s/order; exec sleep 1000'
startsecs=0
`

// item is one element of /api/v1/start.
type item struct {
	Kind, Name, State, Detail string
	ExitCode                  *int `json:"exit_code"`
}

func (a *agent) item(kind, name string) item {
	_, body := a.get("/api/v1/start")
	var list []item
	if json.Unmarshal([]byte(body), &list) == nil {
		for _, i := range list {
			if i.Kind == kind && i.Name == name {
				return i
			}
		}
	}
	return item{}
}

func (a *agent) check(line string) bool {
	_, body := a.get("/readyz?verbose")
	return strings.Contains(body, line)
}

// Seed, then hooks, then programs; somebody can look meanwhile.
func TestStartOrder(t *testing.T) {
	t.Parallel()
	s := setup{
		files: map[string]string{
			"programs/p.ini": markProgram,
			"image/data":     "of the image",
			"inpod.yaml": `
seed: [{from: "${DIR}/image", to: "${DIR}/volume"}]
hooks:
- {name: first, command: "cat $DIR/volume/data && echo first >>$DIR/order"}
- {name: services, command: "echo in the background >>$DIR/apart; exec sleep 1000", background: true}
- {name: gate, command: "echo gate >>$DIR/order; while [ ! -e $DIR/open ]; do sleep 0.05; done; exit 3", on_error: continue}
- {name: absent, command: [/init.sh], if_exists: "${DIR}/nosuch"}
- {name: last, command: [sh, -c, "echo last >>${DIR}/order"]}
`,
		},
	}
	a := prepare(t, s)
	s.args = []string{"--config", a.path("inpod.yaml")}
	a.launch(s)
	a.untilFile("order", "gate")
	if !a.check("[-]hook/gate failed: running, for ") || !a.check("[-]hook/last failed: waiting") || !a.check("[-]program/all failed: programs are being started") {
		_, body := a.get("/readyz?verbose")
		t.Errorf("readyz while a hook runs:\n%s", body)
	}
	if code, _ := a.get("/livez"); code != 200 {
		t.Errorf("livez: %d", code)
	}
	if i := a.item("hook", "first"); i.State != "done" || i.ExitCode == nil || *i.ExitCode != 0 {
		t.Errorf("first: %+v", i)
	}
	if p := a.program("p"); p.State != "STOPPED" {
		t.Errorf("the program is %s", p.State)
	}
	a.write("open", "")
	a.untilPhase("ready")
	a.untilFile("order", "program\n") // it runs before it has written anything
	if b, _ := os.ReadFile(a.path("order")); string(b) != "first\ngate\nlast\nprogram\n" {
		t.Errorf("order: %q", b)
	}
	for _, line := range []string{
		"[+]hook/gate ok, warning: failed: exit status 3", "[+]hook/absent ok", "[+]hook/services ok", "[+]seed/" + a.path("volume") + " ok",
	} {
		if !a.check(line) {
			_, body := a.get("/readyz?verbose")
			t.Errorf("readyz has no %s:\n%s", line, body)
		}
	}
	_, metrics := a.get("/metrics")
	for _, line := range []string{`inpod_hook_exit_code{hook="gate"} 3`, `inpod_hook_exit_code{hook="last"} 0`, `inpod_hook_seconds{hook="gate"} `, `inpod_start_failed{kind="hook",name="gate"} 1`} {
		if !strings.Contains(metrics, line) {
			t.Errorf("metrics have no %s", line)
		}
	}
	a.untilFile("daemon.out", `"msg":"hook output","hook":"first","stream":"stdout","line":"of the image"`)
	// ctl reload starts the programs again, and nothing else.
	if out, code := a.cli("ctl", "reload"); code != 0 {
		t.Fatalf("reload: %s", out)
	}
	a.until("the program runs again", func() bool {
		b, _ := os.ReadFile(a.path("order"))
		return string(b) == "first\ngate\nlast\nprogram\nprogram\n"
	})
	a.d.Signal(syscall.SIGTERM)
	a.wantExit("exit 0")
}

// Variables that an image sets in its profile, for a command that no login shell runs.
func TestSource(t *testing.T) {
	t.Parallel()
	s := setup{files: map[string]string{
		"profile":    "echo noise; echo more >&2; export FROM_PROFILE='two words' PATH=/usr/bin:/bin\nlocal_only=1\n",
		"broken":     "exit 3\n",
		"inpod.yaml": "supervisor: {source: [DIR/profile, DIR/nosuch, DIR/broken]}\n",
	}, env: []string{"KEPT=yes", "PATH=/opt/tool/bin:/usr/bin:/bin"}}
	a := prepare(t, s)
	a.write("inpod.yaml", strings.ReplaceAll(s.files["inpod.yaml"], "DIR", a.dir))
	s.args = []string{"--config", a.path("inpod.yaml"), "--", "/bin/sh", "-c", `echo "got <$FROM_PROFILE> <$KEPT> <$PATH> <$local_only>"; exit 9`}
	a.launch(s)
	a.wantExit("exit 9")
	for _, want := range []string{"got <two words> <yes> </opt/tool/bin:/usr/bin:/bin> <>", "nosuch", "broken\",\"error\":"} {
		if !strings.Contains(a.d.Output(), want) {
			t.Errorf("no %s in the output", want)
		}
	}
}

// A text with several files, as platforms mount it, becomes files, and again when it changes.
func TestFilesAtStart(t *testing.T) {
	t.Parallel()
	s := setup{
		files: map[string]string{"programs/p.ini": markProgram, "text": "---a.conf\nport = 1\n---b.txt\nbee\n", "inpod.yaml": `
files: [{from: "${DIR}/text", to: "${DIR}/config", mode: "0600"}, {from_env: LABELS, to: "${DIR}/config"}]
hooks: [{name: h, command: "cat $DIR/config/* >$DIR/seen"}]
`},
		env: []string{"LABELS=---labels\ncat\ndog\n"},
	}
	a := prepare(t, s)
	s.args = []string{"--config", a.path("inpod.yaml")}
	a.launch(s)
	a.untilPhase("ready")
	if b, _ := os.ReadFile(a.path("seen")); string(b) != "port = 1\nbee\ncat\ndog\n" {
		t.Errorf("the hook saw %q", b)
	}
	a.write("text", "---a.conf\nport = 2\n")
	a.untilFile("config/a.conf", "port = 2")
	a.untilFile("config/b.txt", "bee") // nobody knows whose it is
	a.write("text", "no name\n")
	a.until("the mistake is told", func() bool {
		return strings.Contains(a.d.Output(), "line 1: want ---NAME before the first line of a file")
	})
	a.untilFile("config/a.conf", "port = 2")
}

// What ends the start, and how.
func TestStartFails(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		yaml, exit, says string
		term             bool // send SIGTERM once the hook has said "up"
		main             []string
	}{
		"a hook": {yaml: `hooks: [{name: h, command: "exit 4"}]`, exit: "exit 2", says: `"cannot start the programs","error":"hook \"h\": exit status 4"`},
		"a timeout": {
			yaml: `hooks: [{name: h, command: "sleep 1000", timeout: 500ms}]`, exit: "exit 2", says: `timeout after 500ms`,
		},
		"a required seed": {yaml: `seed: [{from: /nosuch, to: "${DIR}/to", required: true}]`, exit: "exit 2", says: `cannot open \"/nosuch\": no such file or directory`},
		"a signal":        {yaml: `hooks: [{name: h, command: "echo up >$DIR/up; sleep 1000"}]`, term: true, exit: "exit 0", says: `"hook was ended with the agent","hook":"h","code":143`},
		"a signal before main": {
			yaml: `hooks: [{name: h, command: "echo up >$DIR/up; sleep 1000"}]`, term: true, exit: "exit 143", says: `"to":"stopping"`, main: []string{"--", "/bin/sleep", "1000"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := setup{files: map[string]string{"programs/p.ini": markProgram, "inpod.yaml": tt.yaml}}
			a := prepare(t, s)
			s.args = append([]string{"--config", a.path("inpod.yaml")}, tt.main...)
			a.launch(s)
			if tt.term {
				a.untilFile("up", "up")
				a.d.Signal(syscall.SIGTERM)
			}
			a.wantExit(tt.exit)
			if !strings.Contains(a.d.Output(), tt.says) {
				t.Errorf("it does not say %s", tt.says)
			}
			if _, err := os.Stat(a.path("order")); err == nil {
				t.Error("the program was started")
			}
		})
	}
}

// A user is made and logs in, owns what a program makes, and may use sudo where there is one.
func TestUsersAtStart(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	s := setup{
		files: map[string]string{
			"programs/p.ini": "[program:p]\ncommand=/bin/sh -c 'id -un >/home/desk/me; exec sleep 1000'\nuser=desk\nstartsecs=0\n",
			"inpod.yaml": `
users: [{name: "${DEEPVAC_USER}", uid: "${PUID:-4321}", gid: "${PGID:-4321}", password_env: DEEPVAC_PASSWORD, groups: [audio], sudo: true}]
hooks: [{name: who, command: "id -u; echo $HOME", user: "${DEEPVAC_USER}"}]
`,
		},
		env: []string{"DEEPVAC_USER=desk", "DEEPVAC_PASSWORD=the desk's secret", fmt.Sprintf("INPOD_SSH_LISTEN=127.0.0.1:%d", port)},
	}
	a := prepare(t, s)
	a.env = append(a.env, "INPOD_SSH_HOST_KEY_DIR="+a.path("host"), "INPOD_SSH_PASSWORD_FILE=")
	s.args = []string{"--config", a.path("inpod.yaml")}
	if os.Getuid() != 0 {
		// Nobody but root makes users; that is said, and the start fails because of the program that needs one.
		a.launch(s)
		a.wantExit("exit 2")
		if out := a.d.Output(); !strings.Contains(out, `cannot make the user "desk": cannot `) || strings.Contains(out, "secret") {
			t.Errorf("got %s", out)
		}
		return
	}
	// An /etc and a /home of its own.
	s.wrap = []string{
		"/usr/bin/unshare", "-m", "/bin/sh", "-ec",
		`cp -a /etc "$DIR/etc"; rm -f "$DIR/etc/.pwd.lock"; mount --bind "$DIR/etc" /etc; mount -t tmpfs tmpfs /home; exec "$@"`, "sh",
	}
	if out, err := exec.Command("/bin/sh", "-c", "command -v sshpass").CombinedOutput(); err != nil {
		t.Fatalf("sshpass is missing: %s", out)
	}
	a.launch(s)
	a.untilPhase("ready")
	if i := a.item("user", "desk"); i.State != "done" || !strings.Contains(i.Detail, "user made; in group audio; password set; home made") {
		t.Errorf("the user: %+v", i)
	}
	out := ""
	a.until("the login", func() bool {
		cmd := exec.Command("sshpass", "-p", "the desk's secret", "ssh", "-F", "/dev/null", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
			"-o", "LogLevel=ERROR", "-p", fmt.Sprint(port), "desk@127.0.0.1", "id; cat me; echo $SHELL $HOME; ls -ld .")
		b, err := cmd.CombinedOutput()
		out = string(b)
		return err == nil && strings.Contains(out, "\ndesk\n") // the program has written it
	})
	for _, want := range []string{"uid=4321(desk) gid=4321(desk) groups=4321(desk),29(audio)", "\ndesk\n", "/bin/bash /home/desk", "drwx------"} {
		if !strings.Contains(out, want) {
			t.Errorf("the login has no %q:\n%s", want, out)
		}
	}
	a.untilFile("daemon.out", `"line":"4321"`)
	a.untilFile("daemon.out", `"line":"/home/desk"`)
	if strings.Contains(a.d.Output(), "secret") {
		t.Error("the password is in the log")
	}
	if out, code := a.cli("check", "--config", a.path("inpod.yaml")); code != 0 || strings.Contains(out, "secret") {
		t.Errorf("check, outside, where there is no such user: %d\n%s", code, out)
	}
	a.d.Signal(syscall.SIGTERM)
	if !lab.Until(patience, a.d.Exited) {
		t.Error("it does not end")
	}
}
