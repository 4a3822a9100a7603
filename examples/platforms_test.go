package examples

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// stage is a copy of an example with ports and directories of this test's own.
type stage struct {
	t     *testing.T
	dir   string
	admin int
	env   []string
	log   *os.File
	cmd   *exec.Cmd
	ended chan error
}

// newStage copies the files of folder and replaces text in them.
func newStage(t *testing.T, folder string, replace map[string]string) *stage {
	t.Helper()
	dir, err := os.MkdirTemp("", "stage-") // short, for the control socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	files, err := filepath.Glob(folder + "/*")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files in %s (%v)", folder, err)
	}
	var pairs []string
	for _, from := range slices.Sorted(maps.Keys(replace)) {
		pairs = append(pairs, from, strings.ReplaceAll(replace[from], "DIR", dir))
	}
	text := strings.NewReplacer(pairs...) // each place once: a new port may begin as another old one does
	for _, file := range files {
		if st, err := os.Stat(file); err != nil || st.IsDir() {
			continue
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(file)), []byte(text.Replace(string(b))), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s := &stage{t: t, dir: dir, admin: freePorts(t, 1)[0]}
	s.env = append(
		without(os.Environ(), "INPOD_ADMIN_SOCKET", "KUBERNETES_SERVICE_HOST"), "PATH=/usr/local/bin:/usr/bin:/bin", "HOME="+dir, "PYTHONDONTWRITEBYTECODE=1",
		fmt.Sprintf("INPOD_ADMIN_LISTEN=127.0.0.1:%d", s.admin), "INPOD_ADMIN_SOCKET="+dir+"/inpod.sock", "INPOD_DRAIN_DELAY=0s",
	)
	return s
}

func (s *stage) path(name string) string { return filepath.Join(s.dir, name) }

// start starts inpod; its end is awaited by stop.
func (s *stage) start(ctx context.Context, args ...string) {
	s.t.Helper()
	var err error
	if s.log, err = os.Create(s.path("agent.log")); err != nil {
		s.t.Fatal(err)
	}
	s.cmd = script(ctx, s.env, inpod, append([]string{"run"}, args...)...)
	s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = s.dir, s.log, s.log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.ended = make(chan error, 1)
	go func() { s.ended <- s.cmd.Wait() }()
	s.t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		if s.t.Failed() {
			s.t.Logf("the agent's log:\n%s", s.output())
		}
		_ = s.log.Close()
	})
}

func (s *stage) output() string {
	b, _ := os.ReadFile(s.path("agent.log"))
	return string(b)
}

func (s *stage) ready(ctx context.Context) {
	s.t.Helper()
	eventually(ctx, s.t, "readyz 200", func() bool {
		code, _ := get(ctx, fmt.Sprintf("http://127.0.0.1:%d/readyz", s.admin))
		return code == http.StatusOK
	})
}

func (s *stage) adminGet(ctx context.Context, path string) string {
	_, body := get(ctx, fmt.Sprintf("http://127.0.0.1:%d%s", s.admin, path))
	return body
}

// stop sends SIGTERM and returns the exit code.
func (s *stage) stop() int {
	s.t.Helper()
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	return exitCode(s.t, <-s.ended)
}

func exitCode(t *testing.T, err error) int {
	t.Helper()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if exit != nil {
		return exit.ExitCode()
	}
	return 0
}

func TestModelArts(t *testing.T) {
	t.Parallel()
	ctx := within(t, 6*time.Minute)
	p := freePorts(t, 2)
	s := newStage(t, "modelarts", map[string]string{":8080": fmt.Sprintf(":%d", p[0]), "18080": fmt.Sprint(p[1]), "/home/mind/model": "DIR"})
	s.start(ctx, "--config", s.path("inpod.yaml"), "--", "sh", s.path("run.sh"))
	url := fmt.Sprintf("http://127.0.0.1:%d/", p[0])
	// Not ready until the model is there, in the words that the platform compares.
	eventually(ctx, t, "an answer of the agent", func() bool {
		code, body := get(ctx, fmt.Sprintf("http://127.0.0.1:%d/health", s.admin))
		if code == 503 && body != `{"health": "false"}` || code == 200 && body != `{"health": "true"}` {
			t.Errorf("health: %d %q", code, body)
		}
		return code != 0
	})
	s.ready(ctx)
	if body := s.adminGet(ctx, "/health"); body != `{"health": "true"}` {
		t.Errorf("health when it is ready: %q", body)
	}
	if code, body := get(ctx, url+"health"); code != 200 || strings.TrimSpace(body) != `{"health":"true"}` {
		t.Errorf("the server's health: %d %q", code, body)
	}
	seven, err := os.ReadFile("digits/seven.jpg")
	if err != nil {
		t.Fatal(err)
	}
	code, body := post(ctx, t, &digits{port: p[0]}, "images", "seven.jpg", seven)
	if code != 200 || strings.TrimSpace(body) != `{"mnist_result":7}` {
		t.Errorf("seven.jpg: %d %q", code, body)
	}
	idleConnection(t, p[0])
	for what, want := range map[string][]string{
		"check":  {"keep_alive: 3m20s", "delay: 0s", "deadline: 1m30s", "health_period: 10s", "health_timeout: 5s"},
		"routes": {fmt.Sprintf("127.0.0.1:%d", p[1]), "/health", "config.json:1"},
	} {
		out, err := script(ctx, s.env, inpod, what, "--config", s.path("inpod.yaml")).CombinedOutput()
		for _, w := range want {
			if err != nil || !bytes.Contains(out, []byte(w)) {
				t.Errorf("inpod %s: %v, no %q in\n%s", what, err, w, out)
			}
		}
	}
	s.stop()
	noneLeft(t, s.dir)
}

// idleConnection sends two requests on one connection, with more time between them than the server keeps its own.
func idleConnection(t *testing.T, port int) {
	t.Helper()
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r, buf := bufio.NewReader(conn), make([]byte, 1)
	for i := range 2 {
		if _, err := io.WriteString(conn, "GET /health HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("request %d: %v, %v", i, resp, err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Error(err)
		}
		if i == 0 {
			_ = conn.SetReadDeadline(time.Now().Add(12 * time.Second))
			if n, err := r.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the idle connection got %q, %v", buf[:n], err)
			}
			_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second))
		}
	}
}

// A step gives the same exit code and the same files with inpod in front of it as without.
func TestArgoTraining(t *testing.T) {
	t.Parallel()
	ctx := within(t, 6*time.Minute)
	s := newStage(t, "argo", nil)
	command := workflow(t, s.path("workflow.yaml"))["train"]
	if strings.Join(command, " ") != "/opt/inpod/inpod run -- python3 main.py" {
		t.Fatalf("the step's command is %q", command)
	}
	for _, threshold := range []string{"0.5", "0.99"} {
		var codes []int
		var sums, outputs []string
		for i, argv := range [][]string{command[3:], append([]string{inpod}, command[1:]...)} {
			out := s.path(fmt.Sprint("out-", threshold, "-", i))
			cmd := script(ctx, append(s.env, "OUT="+out, "THRESHOLD="+threshold, "INPOD_LOG_LEVEL=error", "INPOD_SUPERVISOR_INCLUDE=[]", "INPOD_SSH_LISTEN=off"), argv[0], argv[1:]...)
			if argv[0] == "python3" {
				cmd = script(ctx, cmd.Env, "/usr/bin/python3", argv[1:]...)
			}
			cmd.Dir = s.dir
			text, err := cmd.CombinedOutput()
			codes, outputs = append(codes, exitCode(t, err)), append(outputs, string(text))
			sums = append(sums, sum(t, out+"/metrics.json"), sum(t, out+"/model.npz"))
		}
		want := map[string]int{"0.5": 0, "0.99": 3}[threshold]
		if codes[0] != want || codes[1] != want {
			t.Errorf("threshold %s: exit codes %v, want %d\n%s", threshold, codes, want, outputs)
		}
		if outputs[0] != outputs[1] {
			t.Errorf("output:\n%s\nwith inpod:\n%s", outputs[0], outputs[1])
		}
		if sums[0] != sums[2] {
			t.Errorf("threshold %s: the files differ: %v", threshold, sums)
		}
	}
	noneLeft(t, s.dir)
}

func sum(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Error(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(b))
}

// workflow returns the commands of a Workflow's templates.
func workflow(t *testing.T, file string) map[string][]string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var w struct {
		Kind string
		Spec struct {
			Templates []struct {
				Name      string
				Container struct{ Command []string }
			}
		}
	}
	if err := yaml.Unmarshal(b, &w); err != nil || w.Kind != "Workflow" {
		t.Fatalf("%s: %v", file, err)
	}
	commands := map[string][]string{}
	for _, template := range w.Spec.Templates {
		commands[template.Name] = template.Container.Command
	}
	return commands
}

func TestArgoServing(t *testing.T) {
	t.Parallel()
	ctx := within(t, 6*time.Minute)
	p := freePorts(t, 2)
	s := newStage(t, "argo", map[string]string{":8080": fmt.Sprintf(":%d", p[0]), ":5000": fmt.Sprintf(":%d", p[1]), "port=5000": fmt.Sprintf("port=%d", p[1])})
	s.env = append(s.env, "OUT="+s.path("out"))
	train := script(ctx, s.env, "/usr/bin/python3", "main.py")
	train.Dir = s.dir
	if out, err := train.CombinedOutput(); err != nil {
		t.Fatalf("main.py: %v\n%s", err, out)
	}
	command := workflow(t, s.path("workflow.yaml"))["serve"]
	if strings.Join(command[:2], " ") != "/opt/inpod/inpod run" {
		t.Fatalf("the step's command is %q", command)
	}
	s.start(ctx, command[2:]...)
	s.ready(ctx)
	body := `{"image": [0,0,5,13,9,1,0,0,0,0,13,15,10,15,5,0,0,3,15,2,0,11,8,0,0,4,12,0,0,8,8,0,0,5,8,0,0,9,8,0,0,4,11,0,1,12,7,0,0,2,14,5,10,12,0,0,0,0,6,13,10,0,0,0]}`
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/api/mnist", p[0]), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct{ Results []float64 }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || len(answer.Results) != 10 || answer.Results[0] < 0.5 {
		t.Errorf("%s: %v, %v", resp.Status, answer, err)
	}
	if code := s.stop(); code != 143 { // Flask's server dies of SIGTERM, with inpod or without
		t.Errorf("exit code %d, want 143", code)
	}
	noneLeft(t, s.dir)
}

func TestCubeStudioService(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		env     string
		command string
	}{
		"prod":  {"prod", "exec /usr/bin/python3 DIR/server.py DIR/models"},
		"debug": {"debug", "exec sleep infinity"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := within(t, 6*time.Minute) // not before: until its turn comes, time passes
			p := freePorts(t, 2)
			s := newStage(t, "cube-studio/service", map[string]string{":8080": fmt.Sprintf(":%d", p[0]), "18080": fmt.Sprint(p[1]), "/models": "DIR/models"})
			for name, text := range map[string]string{"embed.txt": "40", "head.txt": "2"} {
				if err := os.WriteFile(s.path(name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			s.env = append(s.env, "INPOD_SSH_LISTEN=off", "KUBEFLOW_ENV="+tt.env, "KUBEFLOW_MODEL_NAME=sums", "K8S_POD_NAME=sums-1", "NVIDIA_VISIBLE_DEVICES=none",
				`KUBEFLOW_MODEL_PATH={"embed": "file://`+s.path("embed.txt")+`", "head": "file://`+s.path("head.txt")+`"}`)
			s.start(ctx, "--config", s.path("inpod.yaml"), "--", "bash", "-c", strings.ReplaceAll(tt.command, "DIR", s.dir))
			s.ready(ctx) // in debug without anything that listens
			if metrics := s.adminGet(ctx, "/metrics"); !strings.Contains(metrics, `env="`+tt.env+`"`) || !strings.Contains(metrics, `model="sums"`) {
				t.Error("inpod_pod_info is missing")
			}
			if tt.env == "debug" { // somebody logs in and starts the server
				server := script(ctx, s.env, "/usr/bin/python3", s.path("server.py"), s.path("models"))
				if err := server.Start(); err != nil {
					t.Fatal(err)
				}
				defer func() { _ = server.Process.Kill(); _ = server.Wait() }()
			}
			want := `{"parts": {"embed": 40.0, "head": 2.0}, "sum": 42.0}`
			got := ""
			eventually(ctx, t, "the answer of the server", func() bool {
				var code int
				code, got = get(ctx, fmt.Sprintf("http://127.0.0.1:%d/", p[0]))
				return code == 200
			})
			if got != want {
				t.Errorf("got %s, want %s", got, want)
			}
			s.stop()
		})
	}
}

// The real Jupyter, the start scripts of the platform and of the owner, SSH on $SSH_PORT.
func TestCubeStudioNotebook(t *testing.T) {
	t.Parallel()
	ctx := within(t, 6*time.Minute)
	p := freePorts(t, 3)
	s := newStage(t, "cube-studio/notebook", map[string]string{
		":3000": fmt.Sprintf(":%d", p[0]), "13000": fmt.Sprint(p[1]), "/init.sh": "DIR/init.sh", "/etc/inpod/programs": "DIR",
	})
	// The owner's script lies in a directory of the owner's name.
	if err := os.Mkdir(s.path("me"), 0o755); err != nil {
		t.Fatal(err)
	}
	config, err := os.ReadFile(s.path("inpod.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(config), "/mnt/${USER:-root}"+s.path("init.sh"), s.dir+"/${USER:-root}/init.sh")
	key := s.path("key")
	for name, content := range map[string]string{
		"inpod.yaml": text, "init.sh": "echo the platform says hello; sleep 1000\n", "me/init.sh": "echo the owner says $USER; exit 7\n",
	} {
		if err := os.WriteFile(s.path(name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.CommandContext(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	public, err := os.ReadFile(key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	s.env = append(s.env, "USER=me", "JUPYTER_TOKEN=secret", fmt.Sprintf("SSH_PORT=%d", p[2]), "INPOD_SSH_HOST_KEY_DIR="+s.path("host"),
		"INPOD_SSH_PASSWORD_FILE=", "INPOD_SSH_SHADOW=false", "INPOD_AUTHORIZED_KEYS="+string(public), "XDG_RUNTIME_DIR="+s.dir)
	s.start(ctx, "--config", s.path("inpod.yaml"))
	s.ready(ctx)
	code, body := get(ctx, fmt.Sprintf("http://127.0.0.1:%d/notebook/jupyter/me/api/status?token=secret", p[0]))
	if code != 200 || !strings.Contains(body, "kernels") {
		t.Errorf("Jupyter: %d %q", code, body)
	}
	// Both run in the background.
	for _, line := range []string{`"line":"the platform says hello"`, `"line":"the owner says me"`} {
		eventually(ctx, t, "the log has "+line, func() bool { return strings.Contains(s.output(), line) })
	}
	eventually(ctx, t, "readyz tells of the owner's script", func() bool {
		return strings.Contains(s.adminGet(ctx, "/readyz?verbose"), "[+]hook/init-of-the-owner ok, warning: failed: exit status 7")
	})
	ssh := exec.CommandContext(ctx, "ssh", "-F", "/dev/null", "-i", key, "-p", fmt.Sprint(p[2]), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
		"-o", "BatchMode=yes", "-o", "LogLevel=ERROR", "127.0.0.1", "echo in as $(id -u)")
	if os.Getuid() == 0 {
		ssh.Args = append(ssh.Args[:1], append([]string{"-l", "root"}, ssh.Args[1:]...)...)
	}
	if out, err := ssh.CombinedOutput(); err != nil || !strings.Contains(string(out), fmt.Sprint("in as ", os.Getuid())) {
		t.Errorf("ssh: %v, %s", err, out)
	}
	s.stop()
	noneLeft(t, s.dir)
}
