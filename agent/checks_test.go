package agent

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/inpod/inpod/config"
	"github.com/inpod/inpod/internal/proc"
)

func TestNewCheck(t *testing.T) {
	a := &agent{}
	for _, tt := range []struct{ health, want string }{
		{"off", ""},
		{"/health?full=1", "GET http://[::1]:8000/health?full=1"},
		{"9000:/live", "GET http://[::1]:9000/live"},
		{"https://other/x", "GET https://other/x"},
		{"tcp", "connect to [::1]:8000"},
		{"tcp:9000", "connect to [::1]:9000"},
		{"exec:test -e '/run/a b'", "exec test -e /run/a b"},
		{"grpc", "grpc health of [::1]:8000"},
		{"grpc:inference.GRPCInferenceService", "grpc health of inference.GRPCInferenceService at [::1]:8000"},
		{"exec:''", "cannot check with an empty command"},
		{"exec:a 'b", `"exec:a 'b" has a quote that is not closed`},
		{"nonsense:", `"nonsense:" is not a health check; want a path such as /health, PORT:/path, a URL, tcp, tcp:PORT, exec:COMMAND, grpc, grpc:SERVICE or off`},
	} {
		check, err := a.newCheck(config.Route{Health: tt.health, Upstream: "[::1]:8000"})
		got := ""
		switch {
		case err != nil:
			got = err.Error()
		case check != nil:
			got = check.String()
		}
		if got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.health, got, tt.want)
		}
	}
}

// The checks that newCheck makes, against something that is there.
func TestNewCheckChecks(t *testing.T) {
	reaper, err := proc.New(slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer reaper.Close()
	a := &agent{reaper: reaper, opts: Options{Env: []string{"PATH=/usr/bin:/bin", "WANT=yes"}}}
	mux := http.NewServeMux()
	mux.HandleFunc("/health", func(http.ResponseWriter, *http.Request) {})
	srv := httptest.NewServer(mux)
	defer srv.Close()
	up := srv.Listener.Addr().String()
	_, port, _ := net.SplitHostPort(up)
	for _, tt := range []struct{ upstream, health, want string }{
		{up, "/health", ""},
		{"127.0.0.1:1", port + ":/health", ""},
		{up, "/no", "GET http://" + up + "/no: status 404, want 200–399"},
		{up, "tcp", ""},
		{"127.0.0.1:1", "tcp:" + port, ""},
		{"127.0.0.1:1", "tcp", "connect to 127.0.0.1:1: connection refused"},
		{up, `exec:sh -c 'test "$WANT" = yes'`, ""},
		{up, "exec:sh -c 'echo loading; exit 3'", "exec sh -c echo loading; exit 3: exit status 3, want exit status 0: loading"},
	} {
		check, err := a.newCheck(config.Route{Upstream: tt.upstream, Health: tt.health})
		if err != nil {
			t.Errorf("%q: %v", tt.health, err)
			continue
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		got := ""
		if err := check.Check(ctx); err != nil {
			got = err.Error()
		}
		cancel()
		if got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.health, got, tt.want)
		}
	}
}
