package config

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// everyKey sets each key of a route and of what lies in it to a value that is not its default.
const everyKey = `proxy:
  keep_alive: 1m
  max_connections: 1000
  debug: true
  routes:
  - listen: ":8443"
    host: "*.example.com"
    path: "/a"
    upstream: "127.0.0.1:80"
    preset: "vllm"
    strip_prefix: true
    timeout: 1s
    idle_timeout: 2s
    concurrency: 8
    queue: 9
    queue_timeout: 3s
    overload_status: "429"
    max_body: 50GB
    buffer: 1Mi
    websocket: false
    health: "/health"
    health_period: 4s
    health_timeout: 5s
    health_failures: 6
    tls_cert: "/c.pem"
    tls_key: "/k.pem"
    warmup:
    - method: "POST"
      path: "/v1/x?a=b"
      body: "{\"a\": \"b\"}\n"
      content_type: "application/json"
      count: 7
      timeout: 8s
    - method: "HEAD"
      path: "/"
      body: "x"
      content_type: "text/plain"
      count: 2
      timeout: 500ms
  sources: []
  access_log:
    sample: 0.25
    slow: 1m30s
    errors: false
`

func TestPrintedConfigIsReadAgain(t *testing.T) {
	c, err := parse(t, everyKey)
	if err != nil {
		t.Fatal(err)
	}
	again, err := parse(t, c.YAML())
	if err != nil {
		t.Fatalf("reading what YAML printed: %v\n%s", err, c.YAML())
	}
	if diff := cmp.Diff(c.Proxy, again.Proxy); diff != "" {
		t.Errorf("what was read again (-first +second):\n%s", diff)
	}
	_, printed, _ := strings.Cut(c.YAML(), "\nproxy:")
	printed, _, _ = strings.Cut("proxy:"+printed, "drain:\n")
	if diff := cmp.Diff(everyKey, printed); diff != "" {
		t.Errorf("the proxy section (-as written +as printed):\n%s", diff)
	}

	// A new key belongs into everyKey.
	d, err := parse(t, "proxy: {routes: [{listen: ':1', upstream: 'h:1', warmup: [{path: /x}]}]}")
	if err != nil {
		t.Fatal(err)
	}
	for _, pair := range [][2]any{
		{d.Proxy, c.Proxy},
		{d.Proxy.Routes[0], c.Proxy.Routes[0]},
		{d.Proxy.Routes[0].Warmup[0], c.Proxy.Routes[0].Warmup[0]},
		{d.Proxy.AccessLog, c.Proxy.AccessLog},
	} {
		a, b := reflect.ValueOf(pair[0]), reflect.ValueOf(pair[1])
		for i := range a.NumField() {
			if name := a.Type().Field(i).Name; name == "Sources" {
				continue // they are routes when they are printed
			}
			if reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()) {
				t.Errorf("%s.%s is not set in everyKey", a.Type(), a.Type().Field(i).Name)
			}
		}
	}
}

func TestTreeIsJSON(t *testing.T) {
	c, err := parse(t, everyKey)
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(c.Tree()["proxy"])
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"access_log":{"errors":false,"sample":0.25,"slow":"1m30s"},"debug":true,"keep_alive":"1m","max_connections":1000,` +
		`"routes":[{"buffer":"1Mi","concurrency":8,"health":"/health","health_failures":6,"health_period":"4s","health_timeout":"5s",` +
		`"host":"*.example.com","idle_timeout":"2s","listen":":8443","max_body":"50GB","overload_status":"429","path":"/a","preset":"vllm","queue":9,` +
		`"queue_timeout":"3s","strip_prefix":true,"timeout":"1s","tls_cert":"/c.pem","tls_key":"/k.pem","upstream":"127.0.0.1:80",` +
		`"warmup":[{"body":"{\"a\": \"b\"}\n","content_type":"application/json","count":7,"method":"POST","path":"/v1/x?a=b","timeout":"8s"},` +
		`{"body":"x","content_type":"text/plain","count":2,"method":"HEAD","path":"/","timeout":"500ms"}],"websocket":false}],"sources":[]}`
	if diff := cmp.Diff(want, string(data)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
