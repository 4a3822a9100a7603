package config

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func parse(t *testing.T, text string, env ...string) (*Config, error) {
	t.Helper()
	return Parse("inpod.yaml", []byte(text), Options{Env: env, UID: 7})
}

func TestDefaults(t *testing.T) {
	for _, text := range []string{"", "# only a comment\n", "log:\nadmin: {}\n", "---\n"} {
		c, err := parse(t, text)
		if err != nil {
			t.Fatalf("Parse(%q): %v", text, err)
		}
		got := c.YAML()
		want := `log:
  level: "info"
  format: "json"
admin:
  listen: ":9880"
  token_file: ""
  socket: "/run/inpod/inpod.sock"
supervisor:
  include:
  - "/etc/supervisord/*.ini"
  - "/etc/supervisor/conf.d/*.conf"
  - "/etc/inpod/programs/*.ini"
  source: []
  auto_update: false
ssh:
  listen: ":2222"
  host_key_dir: "/etc/inpod/ssh"
  authorized_keys:
  - "/etc/inpod/ssh/authorized_keys"
  - "%h/.ssh/authorized_keys"
  trusted_user_ca: ""
  password_file: "/sync/root-passwd"
  shadow: true
  client_alive_interval: 1m
  client_alive_count: 5
  idle_timeout: 0s
  login_grace: 1m
  max_unauthenticated: 100
  max_connections: 512
  permit_local_forward:
  - "127.0.0.1:*"
  - "localhost:*"
  permit_remote_forward: []
  agent_forward: true
  x11_forward: true
  banner: ""
  motd: true
  users: []
proxy:
  keep_alive: 3m20s
  max_connections: 0
  debug: false
  routes: []
  sources: []
  access_log:
    sample: 0
    slow: 0s
    errors: true
drain:
  delay: 0s
  deadline: 1m30s
  quiet: 0s
users: []
seed: []
files: []
hooks: []
models: []
`
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Parse(%q) (-want +got):\n%s", text, diff)
		}
	}
}

func TestRoutesGetDefaults(t *testing.T) {
	c, err := parse(t, "proxy:\n  routes:\n  - {listen: ':8080', upstream: '127.0.0.1:8000'}\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []Route{{
		Listen: ":8080", Path: "/", Upstream: "127.0.0.1:8000", Timeout: time.Minute, IdleTimeout: 5 * time.Minute,
		Queue: 64, QueueTimeout: 30 * time.Second, OverloadStatus: "503", Buffer: 64 << 10, WebSocket: true,
		Health: "tcp", HealthPeriod: 10 * time.Second, HealthTimeout: 2 * time.Second, HealthFailures: 3, Warmup: []Warmup{},
	}}
	if diff := cmp.Diff(want, c.Proxy.Routes); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
	if got := c.Origin("proxy.routes[0].upstream"); got != "inpod.yaml:3" {
		t.Errorf("Origin = %q, want inpod.yaml:3", got)
	}
}

func TestEnvironmentWins(t *testing.T) {
	c, err := parse(t, "log: {level: debug, format: json}\nproxy: {routes: [{listen: ':1', upstream: nonsense}]}\n",
		"INPOD_LOG_LEVEL=warn", "INPOD_LOG={format: text}", "INPOD_DRAIN_DELAY=5s", "INPOD_ADMIN_LISTEN=",
		`INPOD_PROXY_ROUTES=[{"listen": ":8080", "upstream": "127.0.0.1:8000"}]`,
		"INPOD_SUPERVISOR_INCLUDE=[/a/*.ini]", "INPOD_SUPERVISOR_AUTO_UPDATE=true")
	if err != nil {
		t.Fatal(err)
	}
	if c.Log.Level != "warn" || c.Log.Format != "text" {
		t.Errorf("log = %+v, want warn and text", c.Log)
	}
	if c.Drain.Delay != 5*time.Second || c.Admin.Listen != ":9880" || !c.Supervisor.AutoUpdate {
		t.Errorf("delay %s, listen %q, auto_update %v; want 5s, :9880, true", c.Drain.Delay, c.Admin.Listen, c.Supervisor.AutoUpdate)
	}
	if diff := cmp.Diff([]string{"/a/*.ini"}, c.Supervisor.Include); diff != "" {
		t.Errorf("include (-want +got):\n%s", diff)
	}
	if len(c.Proxy.Routes) != 1 || c.Proxy.Routes[0].Listen != ":8080" {
		t.Errorf("routes = %+v, want the one of the environment", c.Proxy.Routes)
	}
}

// TestVariableOfTheFile: it is the --config of the command line and so no setting, and no mistake either.
func TestVariableOfTheFile(t *testing.T) {
	c, err := parse(t, "", "INPOD_CONFIG=/etc/inpod/other.yaml")
	if err != nil || len(c.Warnings) > 0 {
		t.Errorf("got %v and the warnings %v", err, c.Warnings)
	}
}

func TestStrangeVariablesAreWarnings(t *testing.T) {
	c, err := parse(t, "", "INPOD_LOG_LEVLE=debug", "INPOD_ADMIN_SERVICE_HOST=10.0.0.1", "INPOD_PORT_9880_TCP_ADDR=10.0.0.1", "INPOD_PORT=tcp://10.0.0.1:9880")
	if err != nil {
		t.Fatal(err)
	}
	want := "environment INPOD_LOG_LEVLE: is not a setting; did you mean INPOD_LOG_LEVEL?"
	if got := c.Warnings.Error(); got != want {
		t.Errorf("warnings:\n got %s\nwant %s", got, want)
	}
}

func TestDrainDelayInKubernetes(t *testing.T) {
	const route = "proxy: {routes: [{listen: ':8080', upstream: '127.0.0.1:8000'}]}\n"
	kube := "KUBERNETES_SERVICE_HOST=10.0.0.1"
	for _, tt := range []struct {
		name, text string
		env        []string
		want       time.Duration
	}{
		{"outside", route, nil, 0},
		{"no route", "", []string{kube}, 0},
		{"both", route, []string{kube}, time.Minute},
		{"said in the file", route + "drain: {delay: 1s}", []string{kube}, time.Second},
		{"said to be none", route, []string{kube, "INPOD_DRAIN_DELAY=0s"}, 0},
		{"short deadline", route + "drain: {deadline: 30s}", []string{kube}, 30 * time.Second},
	} {
		c, err := parse(t, tt.text, tt.env...)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
		} else if c.Drain.Delay != tt.want {
			t.Errorf("%s: drain.delay = %s, want %s", tt.name, c.Drain.Delay, tt.want)
		}
	}
}

// Each case is a file (and variables) and the whole text of its error.
func TestProblems(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		env        []string
		want       string
	}{
		{
			"unknown section", "logs: {level: info}", nil,
			"inpod.yaml:1: logs: is not a setting; did you mean log?",
		},
		{
			"a key that is none hides nothing", "dr: 1\nadmin: {lis: x, listen: nope}\ndrain: {delay: soon, dead: 1s, deadline: -1s}", nil,
			`inpod.yaml:1: dr: is not a setting; want one of ` + sections() + `
inpod.yaml:2: admin.lis: is not a setting; want one of listen, token_file, socket
inpod.yaml:2: admin.listen: "nope" is not host:port, such as :8080
inpod.yaml:3: drain.delay: "soon" is not a duration; want one such as 60s, 1m30s or 500ms
inpod.yaml:3: drain.dead: is not a setting; did you mean drain.delay?
inpod.yaml:3: drain.deadline: -1s is negative; want 0s or more`,
		},
		{
			"unknown key", "drain:\n  dely: 60s\n  quite: 1s", nil,
			"inpod.yaml:2: drain.dely: is not a setting; did you mean drain.delay?\ninpod.yaml:3: drain.quite: is not a setting; did you mean drain.quiet?",
		},
		{
			"key of another section", "delay: 60s", nil,
			"inpod.yaml:1: delay: is not a setting; did you mean drain.delay?",
		},
		{
			"key of a later version", "tunnels: {listen: ':22'}", nil,
			"inpod.yaml:1: tunnels: is not a setting; want one of " + sections(),
		},
		{
			"enum", "log:\n  level: wran", nil,
			`inpod.yaml:2: log.level: "wran" is not one of debug, info, warn, error; did you mean warn?`,
		},
		{
			"types", "log: [a]\ndrain: {delay: [1], deadline: 60, quiet: soon}\nsupervisor: {include: /x/*.ini, auto_update: maybe}", nil,
			`inpod.yaml:1: log: is a list; want a map of level, format
inpod.yaml:2: drain.delay: is a list; want a duration such as 60s
inpod.yaml:2: drain.deadline: "60" has no unit; write 60s
inpod.yaml:2: drain.quiet: "soon" is not a duration; want one such as 60s, 1m30s or 500ms
inpod.yaml:3: supervisor.include: is a single value; want a list, such as ["a", "b"]
inpod.yaml:3: supervisor.auto_update: "maybe" is not true or false`,
		},
		{
			"duplicate key", "drain: {delay: 1s}\nlog: {}\ndrain: {delay: 2s}", nil,
			"inpod.yaml:3: drain: is given twice, first in line 1",
		},
		{
			"routes", "proxy:\n  routes:\n  - {path: x, timeout: 0s}\n  - {listen: '8080', upstream: 'http://127.0.0.1:8000/'}\n  - {listen: ':9880', upstream: '8000'}\n  - {listen: 'a:99999', upstream: ':8000'}\n  -\n", nil,
			`inpod.yaml:3: proxy.routes[0].listen: is missing
inpod.yaml:3: proxy.routes[0].path: "x" does not begin with a /; did you mean /x?
inpod.yaml:3: proxy.routes[0].timeout: 0s is too short; want more than 0s
inpod.yaml:3: proxy.routes[0].upstream: is missing
inpod.yaml:4: proxy.routes[1].listen: "8080" is a bare port; did you mean :8080?
inpod.yaml:4: proxy.routes[1].upstream: "http://127.0.0.1:8000/" is a URL; want host:port, such as 127.0.0.1:8000
inpod.yaml:5: proxy.routes[2].upstream: "8000" has no host; did you mean 127.0.0.1:8000?
inpod.yaml:5: proxy.routes[2].listen: ":9880" is taken by admin.listen (":9880")
inpod.yaml:6: proxy.routes[3].listen: "a:99999" has no valid port; want 1 to 65535
inpod.yaml:6: proxy.routes[3].upstream: ":8000" has no host; did you mean 127.0.0.1:8000?
inpod.yaml:7: proxy.routes[4]: is empty; want {listen: …}`,
		},
		{
			"same route twice, and a circle", "proxy:\n  routes:\n  - {listen: ':80', upstream: '127.0.0.1:80'}\n  - {listen: ':80', path: /, upstream: 'b:1'}", nil,
			`inpod.yaml:3: proxy.routes[0].upstream: "127.0.0.1:80" is the route's own listen address: requests would go in a circle
inpod.yaml:4: proxy.routes[1]: has the same listen and path as proxy.routes[0] (:80 /)`,
		},
		{
			"contradiction", "drain: {delay: 2m, deadline: 1m}", nil,
			"inpod.yaml:1: drain.deadline: drain.deadline (1m) is before the end of drain.delay (2m); want at least 2m",
		},
		{
			"syntax", "log: {level: info\nadmin: x", nil,
			"inpod.yaml:2: is not valid YAML: did not find expected ',' or '}' (here or further down)",
		},
		{
			"indentation", "log:\n  level: info\n format: json", nil,
			"inpod.yaml:3: is not valid YAML: did not find expected key (here or further down)",
		},
		{
			"tab", "log:\n\tlevel: info", nil,
			"inpod.yaml:2: is not valid YAML: found character that cannot start any token",
		},
		{"binary", "log:\n  \x00\x01\x02", nil, "inpod.yaml:2: is not text: want YAML in UTF-8"},
		{"latin-1", "log:\n# caf\xe9\n", nil, "inpod.yaml:2: is not text: want YAML in UTF-8"},
		{"scalar", "hello", nil, "inpod.yaml:1: is a single value; want a map of " + sections()},
		{"two documents", "log: {}\n---\nlog: {}\n", nil, "inpod.yaml:2: a second YAML document begins here; want one"},
		{"merge key", "log: &a {level: info}\nadmin:\n  <<: *a", nil, "inpod.yaml:3: admin.<<: merge keys are not read; write the keys out"},
		{
			"environment", "log: {level: x}",
			[]string{"INPOD_DRAIN_DELAY=soon", "INPOD_PROXY_ROUTES=[{listen: ':1'}]", "INPOD_SUPERVISOR_INCLUDE=[", "INPOD_ADMIN_TOKEN_FILE=token"},
			`inpod.yaml:1: log.level: "x" is not one of debug, info, warn, error
environment INPOD_ADMIN_TOKEN_FILE: "token" is a relative path; want an absolute one
environment INPOD_DRAIN_DELAY: "soon" is not a duration; want one such as 60s, 1m30s or 500ms
environment INPOD_PROXY_ROUTES: proxy.routes[0].upstream: is missing
environment INPOD_SUPERVISOR_INCLUDE: is not valid YAML: did not find expected node content (here or further down)`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := parse(t, tt.text, tt.env...)
			if err == nil {
				t.Fatalf("no error, want:\n%s\ngot config:\n%s", tt.want, c.YAML())
			}
			if diff := cmp.Diff(tt.want, err.Error()); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAliasBombIsBounded(t *testing.T) {
	var b strings.Builder
	b.WriteString("proxy:\n  routes:\n  - &a0 {listen: ':1', upstream: 'b:1'}\n  - &a1 [*a0, *a0, *a0, *a0, *a0, *a0, *a0, *a0, *a0]\n")
	for i := range 20 {
		from, to := "a"+string(rune('a'+i-1)), "a"+string(rune('a'+i))
		if i == 0 {
			from = "a1"
		}
		b.WriteString("  - &" + to + " [" + strings.Repeat("*"+from+", ", 9) + "]\n")
	}
	start := time.Now()
	_, err := parse(t, b.String())
	if err == nil {
		t.Fatal("no error")
	}
	if d := time.Since(start); d > time.Minute { // a bomb would take for ever
		t.Errorf("took %s", d)
	}
	if n := len(err.(Problems)); n > maxProblems+5 {
		t.Errorf("%d problems, want at most %d", n, maxProblems)
	}

	// An alias inside what it names would never end.
	if _, err := parse(t, "supervisor: {include: &a [*a]}"); err == nil {
		t.Error("an alias of itself: no error")
	}
}

func TestFilesThatAreNone(t *testing.T) {
	dir := t.TempDir()
	big := filepath.Join(dir, "big.yaml")
	if err := os.WriteFile(big, bytes.Repeat([]byte("# filler\n"), 10<<20/9), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, file, want string }{
		{"absent", filepath.Join(dir, "none.yaml"), "cannot open it: no such file or directory"},
		{"directory", dir, "is a directory; want a YAML file"},
		{"10 MB", big, "is larger than 1024 KiB, which no config needs; is this the right file?"},
		{"device", "/dev/null", "is a special file; want a YAML file"},
	} {
		_, err := Load(Options{File: tt.file})
		if want := tt.file + ": " + tt.want; err == nil || err.Error() != want {
			t.Errorf("%s:\n got %v\nwant %s", tt.name, err, want)
		}
	}
	if os.Geteuid() != 0 { // root reads everything
		secret := filepath.Join(dir, "secret.yaml")
		if err := os.WriteFile(secret, nil, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(Options{File: secret}); err == nil || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("unreadable: got %v, want permission denied", err)
		}
	}
}

func TestSocketPaths(t *testing.T) {
	for _, tt := range []struct {
		text string
		env  []string
		want []string
	}{
		{"", nil, []string{"/run/inpod/inpod.sock", "/tmp/inpod-7/inpod.sock"}},
		{"", []string{"XDG_RUNTIME_DIR=/run/user/7"}, []string{"/run/inpod/inpod.sock", "/run/user/7/inpod.sock", "/tmp/inpod-7/inpod.sock"}},
		{"admin: {socket: /x/y.sock}", nil, []string{"/x/y.sock"}},
		{"admin: {socket: off}", nil, nil},
	} {
		c, err := parse(t, tt.text, tt.env...)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, c.SocketPaths()); diff != "" {
			t.Errorf("%q %v (-want +got):\n%s", tt.text, tt.env, diff)
		}
	}
}

// sections are the first keys of the file, as messages list them.
func sections() string { return keyList(fieldsOf(reflect.ValueOf(&Config{}).Elem())) }
