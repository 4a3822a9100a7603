package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/inpod/inpod/e2e/lab"
)

// modelServer serves one file of so many bytes. While stopped it sends the first 43 % and waits.
type modelServer struct {
	url    string
	data   []byte
	goOn   chan struct{}
	ranges atomic.Int32
}

func newModelServer(t *testing.T, size int) *modelServer {
	t.Helper()
	m := &modelServer{data: []byte(strings.Repeat("0123456789abcdef", size/16)), goOn: make(chan struct{})}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: m}
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(func() { _ = srv.Close() })
	m.url = "http://" + ln.Addr().String()
	return m
}

func (m *modelServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("ETag", `"one"`)
	if r.Header.Get("If-None-Match") != "" {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	var from int
	if n, _ := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); n == 1 && r.Header.Get("If-Range") == `"one"` {
		m.ranges.Add(1)
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(m.data)-1, len(m.data)))
	} else {
		from = 0
	}
	if r.URL.Query().Get("chunked") == "" {
		w.Header().Set("Content-Length", fmt.Sprint(len(m.data)-from))
	}
	if from > 0 {
		w.WriteHeader(http.StatusPartialContent)
	}
	if part := len(m.data)*43/100 + 1; from < part {
		_, _ = w.Write(m.data[from:part])
		_ = http.NewResponseController(w).Flush()
		from = part
	}
	select {
	case <-m.goOn:
	case <-r.Context().Done():
		return
	}
	_, _ = w.Write(m.data[from:])
}

func (m *modelServer) sum() string {
	s := sha256.Sum256(m.data)
	return hex.EncodeToString(s[:])
}

const modelProgram = `
[program:server]
command=/bin/sh -c 'wc -c <%(ENV_DIR)s/models/net/net.bin >>%(ENV_DIR)s/seen; exec sleep 1000'
startsecs=0
`

// The server is started when the model is there, and an agent that was killed has done what it did for the next one.
func TestModelsComeBeforePrograms(t *testing.T) {
	t.Parallel()
	m := newModelServer(t, 8<<20)
	s := setup{
		files: map[string]string{"programs/p.ini": modelProgram},
		env:   []string{fmt.Sprintf(`INPOD_MODELS=[{"name": "net", "url": "%s/net.bin", "to": "${DIR}/models/net", "sha256": "%s"}]`, m.url, m.sum())},
	}
	a := startAgent(t, s)
	a.until("43 %", func() bool { return a.check("[-]model/net failed: running: 43 % (3.6 MB of 8.4 MB), for ") })
	if i := a.item("model", "net"); i.State != "running" || !strings.HasPrefix(i.Detail, "43 %") {
		t.Errorf("the item: %+v", i)
	}
	if p := a.program("server"); p.State != "STOPPED" {
		t.Errorf("the program is %s", p.State)
	}
	if _, phase := a.get("/api/v1/phase"); !strings.Contains(phase, `"phase":"starting"`) {
		t.Errorf("the phase: %s", phase)
	}
	a.until("the metrics say so", func() bool { // of how far it is, and of how much came
		_, metrics := a.get("/metrics")
		return strings.Contains(metrics, `inpod_model_ready{model="net"} 0`) && strings.Contains(metrics, `inpod_model_bytes_total{model="net"} 3.607102e+06`)
	})
	a.d.Signal(syscall.SIGKILL)
	if !lab.Until(patience, a.d.Exited) {
		t.Fatal("SIGKILL did not end it")
	}

	close(m.goOn)
	a.launch(s)
	a.untilPhase("ready")
	a.untilFile("seen", "8388608\n")
	if m.ranges.Load() != 1 {
		t.Errorf("%d requests went on with the file, want 1", m.ranges.Load())
	}
	_, metrics := a.get("/metrics")
	for _, line := range []string{`inpod_model_ready{model="net"} 1`, `inpod_model_size_bytes{model="net"} 8.388608e+06`, `inpod_model_bytes_total{model="net"} 4.781506e+06`} {
		if !strings.Contains(metrics, line) {
			t.Errorf("the metrics have no %s", line)
		}
	}
	if list, err := os.ReadDir(a.path("models")); err != nil || len(list) != 1 {
		t.Errorf("there is more than the model: %v %v", list, err)
	}
	a.d.Signal(syscall.SIGTERM)
	a.wantExit("exit 0")
}

func TestModelsThatFail(t *testing.T) {
	t.Parallel()
	m := newModelServer(t, 1<<16)
	close(m.goOn)
	for name, tt := range map[string]struct{ keys, says string }{
		"a wrong checksum": {
			fmt.Sprintf(`, sha256: "%064d"`, 0),
			fmt.Sprintf(`"cannot start the programs","error":"cannot fetch the model \"net\": the SHA-256 of net.bin is %s (65536 bytes), want %064d"`, m.sum(), 0),
		},
		"no archive": {", unpack: on", `net.bin is no archive that is read (tar, tar.gz, zip); unpack: off keeps it as it is`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := setup{files: map[string]string{
				"programs/p.ini": modelProgram,
				"inpod.yaml":     "models: [{name: net, url: '" + m.url + "/net.bin', to: '${DIR}/models/net'" + tt.keys + "}]",
			}}
			a := prepare(t, s)
			s.args = []string{"--config", a.path("inpod.yaml")}
			a.launch(s)
			a.wantExit("exit 2")
			if !strings.Contains(a.d.Output(), tt.says) {
				t.Errorf("it does not say %s", tt.says)
			}
			if _, err := os.Stat(a.path("seen")); err == nil {
				t.Error("the program was started")
			}
		})
	}
}

// A model in the background keeps nobody waiting, and its failure ends nothing.
func TestModelInTheBackground(t *testing.T) {
	t.Parallel()
	m := newModelServer(t, 1<<16)
	s := setup{files: map[string]string{
		"inpod.yaml": "models: [{name: net, url: '" + m.url + "/net.bin', to: '${DIR}/models/net', background: true}, {name: none, url: /nosuch, to: '${DIR}/models/none', background: true}]",
	}}
	a := prepare(t, s)
	s.args = []string{"--config", a.path("inpod.yaml")}
	a.launch(s)
	a.untilPhase("ready")
	a.until("the failure is told", func() bool {
		return a.check("[+]model/none ok, warning: failed: stat /nosuch: no such file or directory")
	})
	close(m.goOn)
	a.until("net is there", func() bool { return a.item("model", "net").State == "done" })
	a.write("inpod.yaml", "models: []\n")
	a.until("the change is told", func() bool {
		return strings.Contains(a.d.Output(), "models have changed; that takes effect when the agent is started again")
	})
	a.d.Signal(syscall.SIGTERM)
	a.wantExit("exit 0")
}

func TestModelsAndDisks(t *testing.T) {
	t.Parallel()
	m := newModelServer(t, 4<<20)
	close(m.goOn)
	const small = `mkdir -p "$DIR/models/net"; mount -t tmpfs -o size=2m tmpfs "$DIR/models/net"`
	for name, tt := range map[string]struct{ mount, query, says string }{
		"full, and known before":  {small, "", `/models/net has 2.1 MB free, and 4.2 MB are still to come`},
		"full, and not announced": {small, "?chunked=1", `no space left on device`},
		"read-only": {
			`mkdir -p "$DIR/models"; mount -t tmpfs -o ro tmpfs "$DIR/models"`, "",
			`/models/net: mkdir `, // … read-only file system; mount a volume there
		},
		"a volume": {`mkdir -p "$DIR/models/net"; mount -t tmpfs -o size=9m tmpfs "$DIR/models/net"`, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := setup{
				files: map[string]string{
					"programs/p.ini": modelProgram,
					"inpod.yaml":     "models: [{name: net, url: '" + m.url + "/net.bin" + tt.query + "', to: '${DIR}/models/net'}]",
				},
				wrap: mounted(t, "set -e; "+tt.mount+`; exec "$@"`),
			}
			a := prepare(t, s)
			s.args = []string{"--config", a.path("inpod.yaml")}
			a.launch(s)
			if tt.says == "" {
				a.untilPhase("ready")
				a.untilFile("seen", "4194304\n")
				a.d.Signal(syscall.SIGTERM)
				a.wantExit("exit 0")
				return
			}
			a.wantExit("exit 2")
			out := a.d.Output()
			if !strings.Contains(out, tt.says) || name == "read-only" && !strings.Contains(out, "read-only file system; mount a volume there, or set models[].to") {
				t.Errorf("it does not say %s", tt.says)
			}
		})
	}
}
