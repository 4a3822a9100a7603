package examples

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// digits is one place for the demo: a directory and three ports.
type digits struct {
	dir                   string
	port, admin, upstream int
	env                   []string
}

func newDigits(t *testing.T) *digits {
	t.Helper()
	dir, err := os.MkdirTemp("", "digits-") // short, for the control socket in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("cannot clean up: %v", err)
		}
	})
	p := freePorts(t, 3)
	d := &digits{dir: dir, port: p[0], admin: p[1], upstream: p[2]}
	d.env = append(
		without(os.Environ(), "CI", "DEMO_ONCE", "INPOD_ADMIN_SOCKET"),
		"DEMO_DIR="+dir,
		fmt.Sprintf("DEMO_PORT=%d", d.port),
		fmt.Sprintf("DEMO_ADMIN_PORT=%d", d.admin),
		fmt.Sprintf("DEMO_UPSTREAM_PORT=%d", d.upstream),
	)
	return d
}

// portsFree fails when one of the demo's ports is still taken.
func (d *digits) portsFree(t *testing.T) {
	t.Helper()
	for _, port := range []int{d.port, d.admin, d.upstream} {
		conn, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), time.Second)
		if err == nil {
			conn.Close()
			t.Errorf("port %d is still open", port)
		}
	}
}

// The subtests build on each other: the first one trains the model.
func TestDigits(t *testing.T) {
	t.Parallel()
	ctx := within(t, 8*time.Minute)
	d := newDigits(t)
	ok := t.Run("demo", func(t *testing.T) { testDemoOnce(ctx, t, d) })
	if !ok {
		t.Fatal("the rest needs what the demo made")
	}
	t.Run("demo again on a terminal until Ctrl-C", func(t *testing.T) { testDemoTerminal(ctx, t, d) })
	t.Run("server", func(t *testing.T) { testServer(ctx, t, d) })
}

func testDemoOnce(ctx context.Context, t *testing.T, d *digits) {
	cmd := script(ctx, append(d.env, "DEMO_ONCE=1"), "digits/demo.sh", inpod)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("demo.sh: %v\n%s", err, out)
	}
	for _, want := range []string{
		`(?m)held out: \d+ digits, .* right as pictures`,
		`(?m)^\{"mnist_result": 7\}$`,
		`(?m)^\{"health": "true"\}$`,
		`(?m)^digits +RUNNING +pid \d+, uptime `,
		`(?m)^train +EXITED `,
		`(?m)^inpod_`,
		`(?m)^stopped; nothing is left running$`,
	} {
		if !regexp.MustCompile(want).Match(out) {
			t.Errorf("nothing in the output matches %s", want)
		}
	}
	if t.Failed() {
		t.Logf("output:\n%s", out)
	}
	d.portsFree(t)
	noneLeft(t, d.dir)
}

// script(1) gives demo.sh a terminal of its own; the byte 3 written to it is what the Ctrl-C key sends.
func testDemoTerminal(ctx context.Context, t *testing.T, d *digits) {
	// A test that was started in the background has SIGINT ignored, and a shell cannot trap what it inherits as
	// ignored. A signal that this process handles is the default one again in its children.
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt)
	defer signal.Stop(interrupts)
	file, err := filepath.Abs("digits/demo.sh")
	if err != nil {
		t.Fatal(err)
	}
	// exec: the shell that script(1) starts would get the Ctrl-C too, and some shells then end with 130 by themselves.
	cmd := script(ctx, d.env, "script", "-qefc", "exec "+file+" "+inpod, "/dev/null")
	keys, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	screen, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var seen bytes.Buffer
	buf, pressed := make([]byte, 4096), false
	for {
		n, err := screen.Read(buf)
		seen.Write(buf[:n])
		if !pressed && bytes.Contains(seen.Bytes(), []byte("Ctrl-C here stops everything")) {
			pressed = true
			if _, err := keys.Write([]byte{3}); err != nil {
				t.Error(err)
			}
		}
		if err != nil {
			break
		}
	}
	err = cmd.Wait()
	if err != nil || !pressed || !strings.Contains(seen.String(), "stopped; nothing is left running") {
		t.Errorf("demo.sh on a terminal: %v, Ctrl-C pressed: %v\n%s", err, pressed, seen.String())
	}
	if !strings.Contains(seen.String(), "up to date") {
		t.Errorf("the second run trained again:\n%s", seen.String())
	}
	d.portsFree(t)
	noneLeft(t, d.dir)
	if left, _ := filepath.Glob(filepath.Join(d.dir, "*.sock")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// testServer runs the agent itself on the files that the demo made, and measures the model through the route.
func testServer(ctx context.Context, t *testing.T, d *digits) {
	cmd := script(ctx, append(
		d.env,
		"DIGITS_MODEL="+filepath.Join(d.dir, "model.npz"),
		"INPOD_ADMIN_SOCKET="+filepath.Join(d.dir, "inpod.sock"),
		"INPOD_DRAIN_DELAY=0s",
	), inpod, "run", "--config", filepath.Join(d.dir, "inpod.yaml"), "-c", filepath.Join(d.dir, "programs.ini"))
	logFile, err := os.Create(filepath.Join(d.dir, "server.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer logFile.Close()
	cmd.Stdout, cmd.Stderr = logFile, logFile
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop := func() error {
		if stopped {
			return nil
		}
		stopped = true
		_ = cmd.Process.Signal(syscall.SIGTERM)
		return cmd.Wait()
	}
	defer func() {
		_ = stop()
		if t.Failed() {
			out, _ := os.ReadFile(logFile.Name())
			t.Logf("the agent's log:\n%s", out)
		}
	}()

	ready := func() bool {
		code, _ := get(ctx, fmt.Sprintf("http://127.0.0.1:%d/readyz", d.admin))
		return code == http.StatusOK
	}
	eventually(ctx, t, "readyz 200", ready)
	t.Run("accuracy", func(t *testing.T) { testAccuracy(ctx, t, d) })
	t.Run("bad requests", func(t *testing.T) { testBadRequests(ctx, t, d) })

	if err := stop(); err != nil {
		t.Errorf("after SIGTERM: %v, want exit code 0", err)
	}
	d.portsFree(t)
	noneLeft(t, d.dir)
}

// A few hundred digits that training never saw, sent as pictures of several sizes, dark on light and light on dark.
func testAccuracy(ctx context.Context, t *testing.T, d *digits) {
	const count, want = 300, 0.97
	folder := filepath.Join(d.dir, "pictures")
	out, err := script(ctx, append(d.env, "PYTHONDONTWRITEBYTECODE=1"),
		"/usr/bin/python3", "digits/pictures.py", folder, strconv.Itoa(count)).CombinedOutput()
	if err != nil {
		t.Fatalf("pictures.py: %v\n%s", err, out)
	}
	files, err := filepath.Glob(filepath.Join(folder, "*"))
	if err != nil || len(files) != count {
		t.Fatalf("%d pictures (%v), want %d", len(files), err, count)
	}
	right := 0
	var wrong []string
	for _, file := range files {
		picture, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		code, body := post(ctx, t, d, "images", filepath.Base(file), picture)
		var result struct {
			Digit *int `json:"mnist_result"`
		}
		if err := json.Unmarshal([]byte(body), &result); err != nil || code != http.StatusOK || result.Digit == nil {
			t.Fatalf("%s: %d %q (%v)", file, code, body, err)
		}
		if strings.HasPrefix(filepath.Base(file), strconv.Itoa(*result.Digit)+"-") {
			right++
		} else {
			wrong = append(wrong, fmt.Sprintf("%s as %d", filepath.Base(file), *result.Digit))
		}
	}
	t.Logf("%d of %d right, wrong: %q", right, count, wrong)
	if got := float64(right) / count; got < want {
		t.Errorf("%.1f %% right, want at least %.0f %%", got*100, want*100)
	}
}

func testBadRequests(ctx context.Context, t *testing.T, d *digits) {
	seven, err := os.ReadFile("digits/seven.jpg")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, field string
		picture     []byte
		code        int
		body        string
	}{
		{"right", "images", seven, 200, `{"mnist_result": 7}`},
		{"other field", "image", seven, 400, `no file in the multipart field 'images'`},
		{"empty", "images", nil, 400, `the picture is empty`},
		{"no picture", "images", []byte("seven"), 400, `that is no picture`},
		{"half a picture", "images", seven[:len(seven)/2], 400, `cannot read the picture`},
	} {
		code, body := post(ctx, t, d, tc.field, "seven.jpg", tc.picture)
		if code != tc.code || !strings.Contains(body, tc.body) || !json.Valid([]byte(body)) {
			t.Errorf("%s: got %d %q, want %d and JSON with %q", tc.name, code, body, tc.code, tc.body)
		}
	}
}

// A port that is taken is named together with the process that has it.
func TestDigitsBusyPort(t *testing.T) {
	t.Parallel()
	ctx := within(t, 5*time.Minute) // it looks at every descriptor of every process
	d := newDigits(t)
	var ln net.Listener
	// A process that another test is just starting may hold the probe of freePorts until its exec.
	eventually(ctx, t, "the port is free", func() (ok bool) {
		var err error
		ln, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", d.port))
		return err == nil
	})
	defer ln.Close()
	// Such a process has this listener until then, too, and may be the one that is named.
	eventually(ctx, t, "this process is named", func() bool {
		out, err := script(ctx, append(d.env, "DEMO_ONCE=1"), "digits/demo.sh", inpod).CombinedOutput()
		exit, isExit := err.(*exec.ExitError)
		if !isExit || exit.ExitCode() != 1 {
			t.Fatalf("demo.sh: %v, want exit code 1\n%s", err, out)
		}
		if want := "choose another with DEMO_PORT="; !strings.Contains(string(out), want) {
			t.Fatalf("the output does not say %q:\n%s", want, out)
		}
		return strings.Contains(string(out), fmt.Sprintf("port %d is in use by process %d (", d.port, os.Getpid()))
	})
	noneLeft(t, d.dir)
}

func get(ctx context.Context, url string) (int, string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0, err.Error()
	}
	return send(req)
}

func post(ctx context.Context, t *testing.T, d *digits, field, name string, picture []byte) (int, string) {
	t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile(field, name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := part.Write(picture); err != nil {
		t.Fatal(err)
	}
	if err := form.Close(); err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/", d.port), &body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", form.FormDataContentType())
	return send(req)
}

// send returns the status and the body, or 0 and the error.
func send(req *http.Request) (int, string) {
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(body)
}
