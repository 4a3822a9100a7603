package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestHealthChecks(t *testing.T) {
	for _, tt := range []struct {
		health, upstream string
		want             Health
	}{
		{"off", "h:1", Health{}},
		{"/", "h:1", Health{Kind: HealthHTTP, Target: "http://h:1/"}},
		{"/health?full=1", "[::1]:8000", Health{Kind: HealthHTTP, Target: "http://[::1]:8000/health?full=1"}},
		{"9000:/live", "127.0.0.1:8000", Health{Kind: HealthHTTP, Target: "http://127.0.0.1:9000/live"}},
		{"9000:/live", "[::1]:8000", Health{Kind: HealthHTTP, Target: "http://[::1]:9000/live"}},
		{"https://other:8443/x", "h:1", Health{Kind: HealthHTTP, Target: "https://other:8443/x"}},
		{"tcp", "h:1", Health{Kind: HealthTCP, Target: "h:1"}},
		{"tcp:2", "[::1]:1", Health{Kind: HealthTCP, Target: "[::1]:2"}},
		{"exec: test -e '/run/a b'", "h:1", Health{Kind: HealthExec, Command: "test -e '/run/a b'"}},
		{`exec:echo "it's" \"`, "h:1", Health{Kind: HealthExec, Command: `echo "it's" \"`}},
		{"grpc", "h:1", Health{Kind: HealthGRPC, Target: "h:1"}},
		{"grpc:a.b.C_1", "h:1", Health{Kind: HealthGRPC, Target: "h:1", Service: "a.b.C_1"}},
	} {
		got, err := Route{Health: tt.health, Upstream: tt.upstream}.HealthCheck()
		if err != nil {
			t.Errorf("%q: %v", tt.health, err)
		} else if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tt.health, diff)
		}
	}
}

func TestHealthProblems(t *testing.T) {
	const forms = "; want a path such as /health, PORT:/path, a URL, tcp, tcp:PORT, exec:COMMAND, grpc, grpc:SERVICE or off"
	for health, want := range map[string]string{
		"":                      "is empty" + forms,
		"health":                `"health" is not a health check` + forms,
		"tcpp":                  `"tcpp" is not a health check; did you mean tcp?` + forms,
		"TCP:80":                `"TCP:80" is not a health check; did you mean tcp?` + forms,
		"ftp://a/b":             `"ftp://a/b" is not a health check` + forms,
		"8000":                  `"8000" is a bare port; did you mean 8000:/health or tcp:8000?`,
		"8000:":                 `"8000:" is a bare port; did you mean 8000:/health or tcp:8000?`,
		":8000":                 `":8000" is a bare port; did you mean 8000:/health or tcp:8000?`,
		"8000:health":           `"health" does not begin with a /; did you mean /health?`,
		"99999:/x":              `"99999:/x" has no valid port; want 1 to 65535`,
		"0:/x":                  `"0:/x" has no valid port; want 1 to 65535`,
		"127.0.0.1:8000":        `"127.0.0.1:8000" is no URL; did you mean http://127.0.0.1:8000/?`,
		"localhost:8000/health": `"localhost:8000/health" is no URL; did you mean http://localhost:8000/health?`,
		"/a b":                  `"/a b" holds ' ', which no path of a request does`,
		"/a#b":                  `"/a#b" holds '#', which no path of a request does`,
		"http:/x":               `"http:/x" is not a URL such as http://127.0.0.1:8000/health`,
		"http://h:99999/":       `"http://h:99999/" is not a URL such as http://127.0.0.1:8000/health`,
		"tcp:":                  `"tcp:" has no valid port; want tcp:PORT, such as tcp:8000`,
		"tcp:h:80":              `"tcp:h:80" has no valid port; want tcp:PORT, such as tcp:8000`,
		"exec:":                 `"exec:" names no command; want one such as exec:/usr/bin/test -e /run/ready`,
		"exec":                  `"exec" names no command; want one such as exec:/usr/bin/test -e /run/ready`,
		"exec:a 'b":             `"exec:a 'b" has a quote that is not closed`,
		"exec:a \\":             `"exec:a \\" has a quote that is not closed`,
		"grpc:":                 `"grpc:" names no gRPC service; want grpc, or grpc:SERVICE such as grpc:inference.GRPCInferenceService`,
		"grpc:8001":             `"grpc:8001" names no gRPC service; want grpc, or grpc:SERVICE such as grpc:inference.GRPCInferenceService`,
		"grpc:h:8001":           `"grpc:h:8001" names no gRPC service; want grpc, or grpc:SERVICE such as grpc:inference.GRPCInferenceService`,
	} {
		_, err := parse(t, "proxy: {routes: [{listen: off, upstream: 'h:1', health: '"+strings.ReplaceAll(health, "'", "''")+"'}]}")
		if err == nil {
			t.Errorf("%q: no error, want %s", health, want)
		} else if diff := cmp.Diff("inpod.yaml:1: proxy.routes[0].health: "+want, err.Error()); diff != "" {
			t.Errorf("%q (-want +got):\n%s", health, diff)
		}
	}
}
