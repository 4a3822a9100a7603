package config

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The shape that users rely on.
func TestTheDesignsExampleLoads(t *testing.T) {
	c, err := parse(t, `proxy:
  keep_alive: 200s
  routes:
  - {listen: ":8080", path: /, upstream: "127.0.0.1:8000", timeout: 60s, concurrency: 8, queue: 64, health: "/health", warmup: [{path: /health}]}
  - {listen: ":8888", path: /jupyter, upstream: "127.0.0.1:18888", preset: jupyter}
drain: {delay: 60s, deadline: 90s, quiet: 0s}
`)
	if err != nil {
		t.Fatal(err)
	}
	r := c.Proxy.Routes[0]
	if r.Concurrency != 8 || r.Queue != 64 || r.Health != "/health" {
		t.Errorf("got %+v", r)
	}
	if r := c.Proxy.Routes[1]; r.Upstream != "127.0.0.1:18888" || r.Health != "/jupyter/api" || r.IdleTimeout != time.Hour || r.Timeout != time.Minute {
		t.Errorf("preset: %+v", r)
	}
	want := []Warmup{{Method: "GET", Path: "/health", Count: 1, Timeout: time.Minute}}
	if diff := cmp.Diff(want, r.Warmup); diff != "" {
		t.Errorf("warmup (-want +got):\n%s", diff)
	}
	if got := c.Origin("proxy.routes[0].warmup[0].path"); got != "inpod.yaml:4" {
		t.Errorf("Origin = %q, want inpod.yaml:4", got)
	}
	if c.Proxy.Routes[1].Queue != 64 || len(c.Proxy.Routes[1].Warmup) != 0 {
		t.Errorf("the second route got %+v, want defaults", c.Proxy.Routes[1])
	}
}

func TestRouteNames(t *testing.T) {
	for want, r := range map[string]Route{
		":8080/":                {Listen: ":8080", Path: "/"},
		"127.0.0.1:8080/a":      {Listen: "127.0.0.1:8080", Path: "/a"},
		":8080m.example.com/a/": {Listen: ":8080", Host: "m.example.com", Path: "/a/"},
	} {
		if got := r.Name(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestHostsAreLowerCase(t *testing.T) {
	for host, want := range map[string]string{
		"": "", "Model.Example.COM": "model.example.com", "*.Example.com": "*.example.com", "localhost": "localhost", "10.0.0.1": "10.0.0.1",
		"[::1]": "[::1]", "a_b-c.d": "a_b-c.d",
	} {
		c, err := parse(t, "proxy: {routes: [{listen: ':1', upstream: 'h:1', host: '"+host+"'}]}")
		if err != nil {
			t.Errorf("%q: %v", host, err)
		} else if got := c.Proxy.Routes[0].Host; got != want {
			t.Errorf("%q: got %q, want %q", host, got, want)
		}
	}
}

func TestDebug(t *testing.T) {
	for _, tt := range []struct {
		text string
		env  []string
		want bool
	}{
		{"", nil, false},
		{"", []string{"KUBEFLOW_ENV=debug"}, true},
		{"", []string{"KUBEFLOW_ENV=prod"}, false},
		{"proxy: {debug: false}", []string{"KUBEFLOW_ENV=debug"}, false},
		{"proxy: {debug: true}", nil, true},
		{"", []string{"KUBEFLOW_ENV=debug", "INPOD_PROXY_DEBUG=false"}, false},
	} {
		c, err := parse(t, tt.text, tt.env...)
		if err != nil {
			t.Fatal(err)
		}
		if c.Proxy.Debug != tt.want {
			t.Errorf("%q %v: debug = %v, want %v", tt.text, tt.env, c.Proxy.Debug, tt.want)
		}
	}
}

func TestTheEnvironmentReachesEveryKind(t *testing.T) {
	c, err := parse(t, "proxy: {access_log: {slow: 1s, sample: 1}}",
		"INPOD_PROXY_MAX_CONNECTIONS=100", "INPOD_PROXY_ACCESS_LOG={sample: 0.1}", "INPOD_PROXY_ACCESS_LOG_ERRORS=false",
		`INPOD_PROXY_ROUTES=[{"listen": ":1", "upstream": "h:1", "buffer": "1Mi", "warmup": [{"path": "/x", "count": 3}]}]`)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(AccessLog{Sample: 0.1, Slow: time.Second}, c.Proxy.AccessLog); diff != "" {
		t.Errorf("access_log (-want +got):\n%s", diff)
	}
	r := c.Proxy.Routes[0]
	if c.Proxy.MaxConnections != 100 || r.Buffer != 1<<20 || len(r.Warmup) != 1 || r.Warmup[0].Count != 3 {
		t.Errorf("got %+v", c.Proxy)
	}
}

// Several certificates on one listener are chosen by host; a listener that is off may be anything.
func TestTLSRoutes(t *testing.T) {
	_, err := parse(t, `proxy:
  routes:
  - {listen: ':443', upstream: 'h:1', tls_cert: /a.pem, tls_key: /a.key}
  - {listen: ':443', path: /x, upstream: 'h:1', tls_cert: /a.pem, tls_key: /a.key}
  - {listen: ':443', host: b.example.com, upstream: 'h:1', tls_cert: /b.pem, tls_key: /b.key}
  - {listen: ':80', upstream: 'h:1'}
  - {listen: off, upstream: 'h:1', tls_cert: /b.pem, tls_key: /b.key}
  - {listen: off, upstream: 'h:1'}
`)
	if err != nil {
		t.Error(err)
	}
}

// Each case is what a route says besides listen and upstream, and the whole text of its error.
func TestRouteProblems(t *testing.T) {
	const one = "inpod.yaml:1: proxy.routes[0]"
	for _, tt := range []struct{ keys, want string }{
		{"preset: jupiter", one + `.preset: "jupiter" is not one of jupyter, novnc, ollama, onnxruntime, tensorboard, tfserving, torchserve, triton, vllm, webui; did you mean jupyter?`},
		{"host: 'http://a.b/'", one + `.host: "http://a.b/" is a URL; want a host such as a.b`},
		{"host: 'a.b:80'", one + `.host: "a.b:80" has a port (80), which listen has; did you mean a.b?`},
		{"host: ':80'", one + `.host: ":80" is a port; listen has that`},
		{"host: '[::g]'", one + `.host: "[::g]" is not an IPv6 address in brackets, such as [::1]`},
		{"host: '*'", one + `.host: "*" has a * that is not a whole first label; want one such as *.example.com`},
		{"host: 'a.*.b'", one + `.host: "a.*.b" has a * that is not a whole first label; want one such as *.example.com`},
		{"host: 'a b'", one + `.host: "a b" holds ' ', which no host name does`},
		{"host: 'bücher.de'", one + `.host: "bücher.de" holds 'ü', which no host name does`},
		{"host: '*.'", one + `.host: "*." is not a host, such as model.example.com or *.example.com`},
		{"host: 'a..b'", one + `.host: "a..b" is not a host, such as model.example.com or *.example.com`},
		{"strip_prefix: 1", one + `.strip_prefix: "1" is not true or false`},
		{"idle_timeout: 0s", one + ".idle_timeout: 0s is too short; want more than 0s"},
		{"concurrency: -1", one + ".concurrency: -1 is negative; want 0 or more"},
		{"concurrency: many", one + `.concurrency: "many" is not a whole number`},
		{"concurrency: 1.5", one + `.concurrency: "1.5" is not a whole number`},
		{"concurrency: [1]", one + ".concurrency: is a list; want a whole number"},
		{"concurrency: 99999999999999999999", one + `.concurrency: "99999999999999999999" is too large`},
		{"queue: -2", one + ".queue: -2 is negative; want 0 or more"},
		{"queue_timeout: 30", one + `.queue_timeout: "30" has no unit; write 30s`},
		{"queue_timeout: 0s", one + ".queue_timeout: 0s is too short; want more than 0s"},
		{"overload_status: 500", one + `.overload_status: "500" is not one of 503, 429; did you mean 503?`},
		{"max_body: -1Mi", one + ".max_body: -1Mi is negative; want 0 or more"},
		{"max_body: big", one + `.max_body: "big" is not a size; want bytes or one such as 64Ki, 1Mi, 100Gi or 1GB`},
		{"max_body: 10M", one + `.max_body: "10M" may mean two sizes; write 10Mi or 10MB`},
		{"max_body: {}", one + ".max_body: is a map; want a size such as 64Ki"},
		{"buffer: 0", one + ".buffer: 0 is out of range; want 4Ki to 1Gi"},
		{"buffer: 2Gi", one + ".buffer: 2Gi is out of range; want 4Ki to 1Gi"},
		{"websocket: maybe", one + `.websocket: "maybe" is not true or false`},
		{"health_period: 0s", one + ".health_period: 0s is too short; want more than 0s"},
		{"health_timeout: -1s", one + ".health_timeout: -1s is too short; want more than 0s"},
		{"health_failures: 0", one + ".health_failures: 0 is too few; want 1 or more"},
		{"tls_cert: c.pem, tls_key: /k", one + `.tls_cert: "c.pem" is a relative path; want an absolute one`},
		{"tls_cert: /c", one + ".tls_cert: is set without tls_key; want both or none"},
		{"tls_key: /k", one + ".tls_key: is set without tls_cert; want both or none"},
		{"warmup: /x", one + ".warmup: is a single value; want a list, such as [{path: …}]"},
		{"warmup: [/x]", one + ".warmup[0]: is a single value; want a map of method, path, body, content_type, count, timeout"},
		{"warmup: [~]", one + ".warmup[0]: is empty; want {path: …}"},
		{"warmup: [{}]", one + ".warmup[0].path: is missing"},
		{"warmup: [{path: /x}, {path: x}]", one + `.warmup[1].path: "x" does not begin with a /; did you mean /x?`},
		{"warmup: [{path: '/a b'}]", one + `.warmup[0].path: "/a b" holds ' ', which no path of a request does`},
		{"warmup: [{path: '/a?b#c'}]", one + `.warmup[0].path: "/a?b#c" holds '#', which no query does`},
		{"warmup: [{path: '/100%'}]", one + `.warmup[0].path: "/100%" has a % without two hexadecimal digits; write %25 for one that is meant`},
		{"warmup: [{path: /x, cuont: 2}]", one + ".warmup[0].cuont: is not a setting; did you mean proxy.routes[0].warmup[0].count?"},
		{"warmup: [{path: /x, count: 0}]", one + ".warmup[0].count: 0 is out of range; want 1 to 10000"},
		{"warmup: [{path: /x, count: 10001}]", one + ".warmup[0].count: 10001 is out of range; want 1 to 10000"},
		{"warmup: [{path: /x, method: post}]", one + `.warmup[0].method: "post" is not in capitals; did you mean POST?`},
		{"warmup: [{path: /x, method: 'GET /'}]", one + `.warmup[0].method: "GET /" is not a method such as GET or POST`},
		{"warmup: [{path: /x, method: CONNECT}]", one + `.warmup[0].method: "CONNECT" is not a method such as GET or POST`},
		{"warmup: [{path: /x, method: ''}]", one + `.warmup[0].method: is empty; want one such as GET or POST`},
		{`warmup: [{path: /x, content_type: "a\nb"}]`, one + `.warmup[0].content_type: "a\nb" holds '\n', which no header field may`},
		{"warmup: [{path: /x, timeout: 0s}]", one + ".warmup[0].timeout: 0s is too short; want more than 0s"},
	} {
		_, err := parse(t, "proxy: {routes: [{listen: ':8080', upstream: '127.0.0.1:8000', "+tt.keys+"}]}")
		if err == nil {
			t.Errorf("%s: no error, want %s", tt.keys, tt.want)
		} else if diff := cmp.Diff(tt.want, err.Error()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.keys, diff)
		}
	}
}

// Each case is the proxy section and the whole text of its error.
func TestProxyProblems(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"keep_alive: 0s", "inpod.yaml:1: proxy.keep_alive: 0s is too short; want more than 0s"},
		{"max_connections: -1", "inpod.yaml:1: proxy.max_connections: -1 is negative; want 0 or more"},
		{"debug: yes", `inpod.yaml:1: proxy.debug: "yes" is not true or false`},
		{"access_log: true", "inpod.yaml:1: proxy.access_log: is a single value; want a map of sample, slow, errors"},
		{
			"access_log: {sample: 1.1, slow: -1s, errors: 2}",
			"inpod.yaml:1: proxy.access_log.errors: \"2\" is not true or false\n" +
				"inpod.yaml:1: proxy.access_log.sample: 1.1 is out of range; want a share from 0 to 1\n" +
				"inpod.yaml:1: proxy.access_log.slow: -1s is negative; want 0s or more",
		},
		{"access_log: {sample: -0.1}", "inpod.yaml:1: proxy.access_log.sample: -0.1 is out of range; want a share from 0 to 1"},
		{"access_log: {sample: 10%}", `inpod.yaml:1: proxy.access_log.sample: "10%" is not a number`},
		{"access_log: {sample: .nan}", `inpod.yaml:1: proxy.access_log.sample: ".nan" is not a number`},
		{"access_log: {sample: NaN}", `inpod.yaml:1: proxy.access_log.sample: "NaN" is not a number`},
		{"access_log: {sample: []}", `inpod.yaml:1: proxy.access_log.sample: is a list; want a number`},
		{
			"routes: [{listen: ':80', host: A.b, upstream: 'h:1'},\n {listen: ':80', host: '*.b', upstream: 'h:1'},\n {listen: ':80', host: a.b, upstream: 'h:2'}]",
			"inpod.yaml:3: proxy.routes[2]: has the same listen, host and path as proxy.routes[0] (:80 a.b /)",
		},
		{
			"routes: [{listen: ':80', upstream: 'h:1', tls_cert: /c, tls_key: /k},\n {listen: ':80', path: /x, upstream: 'h:1'}]",
			`inpod.yaml:2: proxy.routes[1]: shares listen ":80" with proxy.routes[0], but proxy.routes[0] has tls_cert and proxy.routes[1] has not`,
		},
		{
			"routes: [{listen: ':80', upstream: 'h:1'},\n {listen: ':80', path: /x, upstream: 'h:1', tls_cert: /c, tls_key: /k}]",
			`inpod.yaml:2: proxy.routes[1]: shares listen ":80" with proxy.routes[0], but proxy.routes[1] has tls_cert and proxy.routes[0] has not`,
		},
		{
			"routes: [{listen: ':80', upstream: 'h:1', tls_cert: /c, tls_key: /k},\n {listen: ':80', path: /x, upstream: 'h:1', tls_cert: /d, tls_key: /k}]",
			`inpod.yaml:2: proxy.routes[1].tls_cert: "/d" is not the certificate of proxy.routes[0] ("/c"), which has the same listen and host`,
		},
	} {
		_, err := parse(t, "proxy: {"+strings.TrimSpace(tt.text)+"}")
		if err == nil {
			t.Errorf("%s: no error, want %s", tt.text, tt.want)
		} else if diff := cmp.Diff(tt.want, err.Error()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.text, diff)
		}
	}
}
