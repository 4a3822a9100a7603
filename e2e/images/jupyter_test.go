//go:build images

package images

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const jupyterToken = "a-token-of-this-test"

// notebookClient uses Jupyter as its page does, with libraries of its own: REST for notebooks and sessions, a WebSocket
// for the kernel and one for a terminal. It prints what came of it as JSON.
const notebookClient = `
import json, sys, urllib.request, uuid, websocket
base, token, names = sys.argv[1], sys.argv[2], sys.argv[3].split(",")
auth = {"Authorization": "token " + token}
def call(method, path, data=None):
    req = urllib.request.Request("http://%s/jupyter/api/%s" % (base, path), method=method, headers=auth,
                                 data=data and json.dumps(data).encode())
    return json.loads(urllib.request.urlopen(req, timeout=100).read() or b"null")
def code(text):
    return {"cell_type": "code", "source": text, "metadata": {}, "outputs": [], "execution_count": None}
cells = [code("x = 6 * 7"), code("print(x)"), code("import os\nfor name in %r: print(os.environ.get(name))" % names), code("1 / 0")]
notebook = {"cells": cells, "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}}, "nbformat": 4, "nbformat_minor": 5}
call("PUT", "contents/book.ipynb", {"type": "notebook", "content": notebook})
session = call("POST", "sessions", {"path": "book.ipynb", "type": "notebook", "name": "", "kernel": {"name": "python3"}})
ws = websocket.create_connection("ws://%s/jupyter/api/kernels/%s/channels?session_id=t" % (base, session["kernel"]["id"]), timeout=100, header=auth)
for cell in cells:
    header = {"msg_id": uuid.uuid4().hex, "username": "", "session": "t", "msg_type": "execute_request", "version": "5.3", "date": ""}
    content = {"code": cell["source"], "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False, "stop_on_error": True}
    ws.send(json.dumps({"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell", "buffers": []}))
    idle = reply = False
    while not (idle and reply):
        m = json.loads(ws.recv())
        if m["parent_header"].get("msg_id") != header["msg_id"]:
            continue
        kind, c = m["msg_type"], m["content"]
        if kind == "stream":
            cell["outputs"].append({"output_type": "stream", "name": c["name"], "text": c["text"]})
        elif kind == "error":
            cell["outputs"].append({"output_type": "error", "ename": c["ename"], "evalue": c["evalue"], "traceback": c["traceback"]})
        elif kind == "status":
            idle = c["execution_state"] == "idle"
        elif kind == "execute_reply":
            reply, cell["execution_count"] = True, c["execution_count"]
ws.close()
call("PUT", "contents/book.ipynb", {"type": "notebook", "content": notebook})
call("DELETE", "sessions/" + session["id"])
saved = call("GET", "contents/book.ipynb")["content"]["cells"]
outputs = ["".join(o.get("text") or o["ename"] for o in cell["outputs"]) for cell in saved]

terminal = call("POST", "terminals")["name"]
ws = websocket.create_connection("ws://%s/jupyter/terminals/websocket/%s" % (base, terminal), timeout=100, header=auth)
ws.send(json.dumps(["set_size", 24, 200, 0, 0]))
ws.send(json.dumps(["stdin", "for n in %s; do printenv $n; done; pwd; echo do''ne\r" % " ".join(names)]))
screen = ""
while "\ndone" not in screen.replace("\r", ""):
    kind, text = json.loads(ws.recv())[:2]
    screen += text if kind == "stdout" else ""
ws.close()
call("DELETE", "terminals/" + terminal)
files = sorted(f["name"] for f in call("GET", "contents")["content"])
print(json.dumps({"outputs": outputs, "terminal": screen.replace("\r", ""), "files": files}))
`

// notebookReport is what notebookClient prints.
type notebookReport struct {
	Outputs  []string
	Terminal string
	Files    []string
}

func useNotebook(t *testing.T, c *container, names ...string) notebookReport {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/usr/bin/python3", "-c", notebookClient, c.addr(8888), jupyterToken, strings.Join(names, ","))
	cmd.Env = append(os.Environ(), "no_proxy=*")
	out, err := cmd.CombinedOutput()
	var report notebookReport
	if err != nil || json.Unmarshal(out, &report) != nil {
		t.Fatalf("the notebook's client: %v\n%s", err, out)
	}
	return report
}

func TestJupyter(t *testing.T) {
	t.Parallel()
	image := build(t, "jupyter")
	// A platform hands in the password of root as a file.
	sync := t.TempDir()
	if err := os.WriteFile(filepath.Join(sync, "root-passwd"), []byte("root:"+homepodPassword+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := create(t, image, "-e", "JUPYTER_TOKEN="+jupyterToken, "-e", "HF_ENDPOINT=https://mirror.example/hf", "-v", volume(t)+":/root", "-v", sync+":/sync")
	profile := filepath.Join(t.TempDir(), "platform.sh")
	if err := os.WriteFile(profile, []byte("export LIBCUDA_LOG_LEVEL=0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	c.copyIn(profile, "/etc/profile.d/platform.sh")
	must(t, "start", c.id)
	c.findIP()
	c.ready()

	// What bash tells the terminal, such as that a paste would be welcome.
	escapes := regexp.MustCompile(`\x1b\[[?0-9;]*[a-zA-Z]`)
	t.Run("token", func(t *testing.T) {
		if code, _ := c.get(8888, "/jupyter/api/contents"); code != 403 {
			t.Errorf("without the token: %d, want 403", code)
		}
		if code, _ := c.get(8888, "/jupyter/api/contents?token=wrong"); code != 403 {
			t.Errorf("with a wrong token: %d, want 403", code)
		}
		if code, body := c.get(8888, "/jupyter/api/contents?token="+jupyterToken); code != 200 {
			t.Errorf("with the token: %d %s", code, body)
		}
		out, err := exec.Command("curl", "-sS", "-o", "/dev/null", "-D", "-", c.url(8888, "/jupyter/login")).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "frame-ancestors *") {
			t.Errorf("the login page's fields: %v\n%s", err, out)
		}
	})
	t.Run("upload", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "by-sftp.txt")
		if err := os.WriteFile(file, []byte("hello from sftp\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("sftp", slices.Concat(c.sshArgs(), []string{"-b", "-", "root@" + c.ip})...)
		cmd.Stdin = strings.NewReader("put " + file + " by-sftp.txt\n")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("sftp: %v\n%s", err, out)
		}
		if code, body := c.get(8888, "/jupyter/api/contents/by-sftp.txt?token="+jupyterToken); code != 200 || !strings.Contains(body, "hello from sftp") {
			t.Errorf("the file by the API: %d %s", code, body)
		}
	})
	t.Run("notebook and terminal", func(t *testing.T) {
		r := useNotebook(t, c, "HF_ENDPOINT", "LIBCUDA_LOG_LEVEL")
		if want := []string{"", "42\n", "https://mirror.example/hf\n0\n", "ZeroDivisionError"}; !slices.Equal(r.Outputs, want) {
			t.Errorf("cells: got %q, want %q", r.Outputs, want)
		}
		if text := escapes.ReplaceAllString(r.Terminal, ""); !strings.Contains(text, "\nhttps://mirror.example/hf\n0\n/root\ndone") {
			t.Errorf("terminal: got %q", r.Terminal)
		}
		if !slices.Contains(r.Files, "by-sftp.txt") || !slices.Contains(r.Files, "book.ipynb") {
			t.Errorf("files: got %q", r.Files)
		}
		// A shell of a login, and a command without one: the same environment.
		for _, command := range []string{"printenv HF_ENDPOINT LIBCUDA_LOG_LEVEL", "bash -lc 'printenv HF_ENDPOINT LIBCUDA_LOG_LEVEL'"} {
			if got := c.ssh("root", command); got != "https://mirror.example/hf\n0" {
				t.Errorf("ssh %s: got %q", command, got)
			}
		}
	})
	t.Run("page", func(t *testing.T) { testJupyterPage(t, c) })
	t.Run("killed", func(t *testing.T) {
		c.exec("pkill", "-9", "-f", "jupyter-notebook")
		await(t, "a restart", func() bool { return c.metric(`inpod_program_restarts_total{group="jupyter",program="jupyter"}`) == "1" })
		c.ready()
		await(t, "the server", func() bool { code, _ := c.get(8888, "/jupyter/api"); return code == 200 })
		if !c.running() {
			t.Error("the container ended with its program")
		}
	})
	if code, took := c.stop(30 * time.Second); code != 0 || took > 15*time.Second {
		t.Errorf("docker stop: exit code %d after %s", code, took)
	}
	// The file was read once and is gone; its password stays, as do the files.
	if left, err := os.ReadDir(sync); err != nil || len(left) != 0 {
		t.Errorf("left of the password: %v, %v", left, err)
	}
	c.restart()
	c.ready()
	if out, code := c.passwordSSH("root", "cat by-sftp.txt"); code != 0 || out != "hello from sftp" {
		t.Errorf("ssh with the password after a restart: %d %s", code, out)
	}
}

// testJupyterPage opens the file browser, then runs a notebook in it.
func testJupyterPage(t *testing.T, c *container) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	p := openPage(t, ctx)
	p.load(ctx, c.url(8888, "/jupyter/?token="+jupyterToken), `[...document.querySelectorAll(".item_name")].some(e => e.textContent == "by-sftp.txt")`)
	p.screenshot("jupyter-tree")
	p.load(ctx, c.url(8888, "/jupyter/notebooks/book.ipynb"), `typeof Jupyter == "object" && !!Jupyter.notebook && !!Jupyter.notebook.kernel && Jupyter.notebook.kernel.is_connected()`)
	if _, err := p.eval(`Jupyter.notebook.clear_all_output(), Jupyter.notebook.execute_all_cells()`); err != nil {
		t.Fatal(err)
	}
	p.until(ctx, `[...document.querySelectorAll(".output_stdout")].some(e => e.textContent.includes("42")) && document.body.textContent.includes("ZeroDivisionError: ")`)
	p.screenshot("jupyter-notebook")
}

// As anybody, with nothing that can be written but /tmp and /run, in Chinese and in dark.
func TestJupyterPlainUser(t *testing.T) {
	t.Parallel()
	image := build(t, "jupyter")
	c := start(t, image, "--user", "4321:4321", "--read-only", "--tmpfs", "/tmp", "--tmpfs", "/run", "--cap-drop", "ALL",
		"-e", "JUPYTER_TOKEN="+jupyterToken, "-e", "JUPYTER_LANG=zh_CN", "-e", "JUPYTER_THEME=dark")
	c.ready()
	r := useNotebook(t, c, "HOME")
	if want := []string{"", "42\n", "/tmp/home-4321\n", "ZeroDivisionError"}; !slices.Equal(r.Outputs, want) {
		t.Errorf("cells: got %q, want %q", r.Outputs, want)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	p := openPage(t, ctx)
	p.load(ctx, c.url(8888, "/jupyter/?token="+jupyterToken), `document.querySelector("#tabs").textContent.includes("文件")`)
	// The stylesheet of the dark theme turns everything round.
	p.until(ctx, `getComputedStyle(document.documentElement).filter.includes("invert")`)
	picture := p.screenshot("jupyter-dark")
	most, many := [3]uint8{}, 0
	for colour, n := range colours(picture) {
		if n > many {
			most, many = colour, n
		}
	}
	if most[0] > 64 || most[1] > 64 || most[2] > 64 {
		t.Errorf("the most frequent colour is %v, want a dark one", most)
	}
}

// Without a token nobody gets in: Jupyter makes one, which only the log has.
func TestJupyterWithoutToken(t *testing.T) {
	t.Parallel()
	image := build(t, "jupyter")
	c := start(t, image)
	c.ready()
	for _, path := range []string{"", "?token="} {
		if code, body := c.get(8888, "/jupyter/api/contents"+path); code != 403 {
			t.Errorf("%s: got %d %s, want 403", path, code, body)
		}
	}
	verify(t, "jupyter", image)
}
