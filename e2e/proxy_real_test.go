package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/inpod/inpod/e2e/traffic"
)

const realIni = `
[program:jupyter]
; Kernels on sockets: the free ports that Jupyter would choose may be another test's by the time the kernel takes them.
command=/usr/bin/jupyter-notebook --no-browser --allow-root --KernelManager.transport=ipc --ip=127.0.0.1 --port=%(ENV_JUPYTER)s --NotebookApp.token=letmein --NotebookApp.base_url=/jupyter --notebook-dir=%(ENV_DIR)s
environment=HOME="%(ENV_DIR)s",IPYTHONDIR="%(ENV_DIR)s/.ipython",JUPYTER_RUNTIME_DIR="%(ENV_DIR)s/run",JUPYTER_CONFIG_DIR="%(ENV_DIR)s/.jupyter"
[program:gunicorn]
command=/usr/bin/gunicorn --workers 1 --threads 4 --bind 127.0.0.1:%(ENV_GUNICORN)s flaskapp:app
directory=%(ENV_DIR)s
[program:uvicorn]
command=/usr/bin/python3 -m uvicorn --port %(ENV_UVICORN)s asgiapp:app
directory=%(ENV_DIR)s
[program:novnc]
command=/usr/bin/websockify --web=/usr/share/novnc 127.0.0.1:%(ENV_NOVNC)s %(ENV_VNC)s
environment=HOME="%(ENV_DIR)s"
`

const flaskApp = `
from flask import Flask, request, jsonify
app = Flask(__name__)
@app.get("/health")
def health():
    return "ok"
@app.post("/predict")
def predict():
    numbers = request.get_json()["instances"]
    return jsonify(predictions=[2 * n for n in numbers], host=request.host, client=request.headers["X-Forwarded-For"])
@app.post("/upload")
def upload():
    return str(len(request.files["images"].read()))
`

// asgiApp streams tokens as a language model's server does, and notes a client that left. Where it is asked to, it goes on
// behind the first token only once there is a file.
const asgiApp = `
import asyncio, json, os
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    async def start(kind):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    if scope["path"] != "/v1/completions":
        await start(b"text/plain")
        await send({"type": "http.response.body", "body": b"ok"})
        return
    await start(b"text/event-stream")
    gone = asyncio.ensure_future(receive())
    ask = json.loads(body)
    for i in range(ask["max_tokens"]):
        token = json.dumps({"choices": [{"text": "token %d" % i}]})
        await send({"type": "http.response.body", "body": b"data: " + token.encode() + b"\n\n", "more_body": True})
        done, _ = await asyncio.wait([gone], timeout=0.1)
        if done:
            open("left", "w").write(gone.result()["type"])
            return
        while "until" in ask and not os.path.exists(ask["until"]):
            await asyncio.sleep(0.01)
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})
`

// kernelClient runs code in a kernel as a notebook's page does: over HTTP and a WebSocket, with libraries of its own.
const kernelClient = `
import json, sys, urllib.request, uuid, websocket
base = sys.argv[1]
auth = {"Authorization": "token letmein"}
def call(method, path, data=None):
    req = urllib.request.Request("http://%s/jupyter/api/%s" % (base, path), method=method, headers=auth,
                                 data=data and json.dumps(data).encode())
    return json.loads(urllib.request.urlopen(req, timeout=50).read() or b"null")
kernel = call("POST", "kernels", {"name": "python3"})["id"]
ws = websocket.create_connection("ws://%s/jupyter/api/kernels/%s/channels" % (base, kernel), timeout=50, header=auth)
def execute(code):
    header = {"msg_id": uuid.uuid4().hex, "username": "", "session": "s", "msg_type": "execute_request", "version": "5.3"}
    content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False, "stop_on_error": True}
    ws.send(json.dumps({"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell", "buffers": []}))
    out, idle, reply = "", False, None
    while not (idle and reply):
        m = json.loads(ws.recv())
        if m["parent_header"].get("msg_id") != header["msg_id"]:
            continue
        if m["msg_type"] == "stream":
            out += m["content"]["text"]
        elif m["msg_type"] == "status":
            idle = m["content"]["execution_state"] == "idle"
        elif m["msg_type"] == "execute_reply":
            reply = m["content"]["status"]
    return reply, out
print(execute("x = 6 * 7"))
print(execute("print(x)"))
status, out = execute("print('y' * 2_000_000)")
print(status, len(out))
ws.close()
call("DELETE", "kernels/" + kernel)
`

// The servers that pods really run, started by inpod from an ini file, behind its routes.
func TestRealServers(t *testing.T) {
	t.Parallel()
	vnc := tcpServer(t, func(c *net.TCPConn, br *bufio.Reader) { // the first step of a VNC server
		_, _ = io.WriteString(c, "RFB 003.008\n")
		_, _ = io.Copy(c, br)
	})
	ports := map[string]string{}
	env := []string{"VNC=" + vnc, "no_proxy=*"}
	for _, name := range []string{"JUPYTER", "GUNICORN", "UVICORN", "NOVNC"} {
		port := fmt.Sprint(freePort(t))
		ports[name] = "127.0.0.1:" + port
		env = append(env, name+"="+port)
	}
	a, addr := startProxy(t, setup{env: env, files: map[string]string{
		"programs/real.ini": realIni, "flaskapp.py": flaskApp, "asgiapp.py": asgiApp, "kernel.py": kernelClient,
	}},
		route{"path": "/jupyter", "upstream": ports["JUPYTER"], "health": "/jupyter/api"},
		route{"path": "/gunicorn", "upstream": ports["GUNICORN"], "health": "/health", "strip_prefix": true},
		route{"path": "/uvicorn", "upstream": ports["UVICORN"], "health": "/", "strip_prefix": true},
		route{"path": "/novnc", "upstream": ports["NOVNC"], "strip_prefix": true},
	)
	url := "http://" + addr
	t.Run("jupyter", func(t *testing.T) {
		if code, body := a.request(http.MethodGet, url+"/jupyter/tree?token=letmein"); code != 200 || !strings.Contains(body, "jupyter") {
			t.Errorf("the page: got %d", code)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, "/usr/bin/python3", a.path("kernel.py"), addr)
		cmd.Env = append(os.Environ(), "no_proxy=*")
		out, err := cmd.CombinedOutput()
		if want := "('ok', '')\n('ok', '42\\n')\nok 2000001\n"; err != nil || string(out) != want {
			t.Errorf("the kernel: got %s, %v; want %s", out, err, want)
		}
	})
	t.Run("gunicorn", func(t *testing.T) {
		text := `{"instances": [1, 2, 3]}`
		c, answer := send(t, addr, fmt.Sprintf("POST /gunicorn/predict HTTP/1.1\r\nHost: model\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(text), text))
		resp, body := answer()
		if want := `{"client":"127.0.0.1","host":"model","predictions":[2,4,6]}`; resp.StatusCode != 200 || strings.TrimSpace(body) != want {
			t.Errorf("a prediction: got %d %s, want %s", resp.StatusCode, body, want)
		}
		c.Close()
		a.write("picture", strings.Repeat("x", 3<<20))
		out, err := exec.Command("curl", "-q", "-sS", "--noproxy", "*", "-F", "images=@"+a.path("picture"), url+"/gunicorn/upload").CombinedOutput()
		if string(out) != fmt.Sprint(3<<20) {
			t.Errorf("an upload: got %s, %v", out, err)
		}
	})
	t.Run("uvicorn", func(t *testing.T) { tokens(t, a, addr) })
	t.Run("novnc", func(t *testing.T) {
		if code, body := a.request(http.MethodGet, url+"/novnc/vnc.html"); code != 200 || !strings.Contains(body, "noVNC") {
			t.Errorf("the page: got %d", code)
		}
		ws, err := traffic.Dial(addr, "/novnc/websockify", "Sec-WebSocket-Protocol: binary\r\n")
		if err != nil {
			t.Fatal(err)
		}
		defer ws.Close()
		_ = ws.SetDeadline(time.Now().Add(patience))
		for _, text := range []string{"RFB 003.008\n", "what comes back", "and again"} {
			if text[0] != 'R' {
				_ = ws.Send(traffic.Frame{Bits: traffic.Fin | traffic.Binary, Payload: []byte(text)})
			}
			if f, err := traffic.ReadFrame(ws.R); err != nil || string(f.Payload) != text {
				t.Errorf("the WebSocket: got %q, %v; want %q", f.Payload, err, text)
			}
		}
	})
	if err := a.d.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	a.wantExit("exit 0")
}

// tokens reads a stream of tokens, and leaves another one in the middle.
func tokens(t *testing.T, a *agent, addr string) {
	ask := func(text string) (net.Conn, *bufio.Reader) {
		c := dial(t, addr)
		fmt.Fprintf(c, "POST /uvicorn/v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
			t.Fatalf("a stream of tokens: got %v, %v", resp, err)
		}
		return c, bufio.NewReader(resp.Body)
	}
	_, br := ask(`{"max_tokens": 20, "until": "seen"}`)
	got := 0
	for {
		line, err := br.ReadString('\n')
		if err != nil {
			t.Fatalf("after %d tokens: %v", got, err)
		}
		if line == "data: [DONE]\n" {
			break
		}
		if strings.HasPrefix(line, "data: ") {
			if got++; got == 1 {
				a.write("seen", "") // there is no second token before
			}
		}
	}
	if rest, err := io.ReadAll(br); err != nil || strings.TrimSpace(string(rest)) != "" {
		t.Errorf("after the last token: got %q, %v; want a proper end", rest, err)
	}
	if got != 20 {
		t.Errorf("got %d tokens, want 20", got)
	}
	c, br := ask(`{"max_tokens": 1000}`)
	if _, err := br.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	c.Close()
	a.untilFile("left", "http.disconnect")
}
