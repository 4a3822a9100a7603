package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/inpod/inpod/internal/testport"
)

// grpcServer serves the health service of google.golang.org/grpc, or what register registers.
func grpcServer(t *testing.T, register func(*grpc.Server)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	register(srv)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := srv.Serve(ln); err != nil && !errors.Is(err, grpc.ErrServerStopped) { // which came first, where the test was quick
			t.Error(err)
		}
	}()
	t.Cleanup(func() { srv.Stop(); <-done })
	return ln.Addr().String()
}

// fake answers a health call with a response or an error of its own.
type fake struct {
	healthpb.UnimplementedHealthServer
	answer func(context.Context, *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error)
}

func (f fake) Check(ctx context.Context, r *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	return f.answer(ctx, r)
}

func grpcSays(t *testing.T, addr, service, want string) {
	t.Helper()
	check, err := GRPC(addr, service)
	if err != nil {
		t.Fatal(err)
	}
	if want != "" {
		want = check.String() + ": " + want
	}
	says(t, check.Check(within(t, patience)), want)
}

func TestGRPC(t *testing.T) {
	var states *health.Server
	addr := grpcServer(t, func(s *grpc.Server) {
		states = health.NewServer()
		healthpb.RegisterHealthServer(s, states)
	})
	long := strings.Repeat("a.long.Name", 100) // its length takes two bytes
	states.SetServingStatus("inference.GRPCInferenceService", healthpb.HealthCheckResponse_SERVING)
	states.SetServingStatus(long, healthpb.HealthCheckResponse_SERVING)
	states.SetServingStatus("loading.Model", healthpb.HealthCheckResponse_NOT_SERVING)
	states.SetServingStatus("odd.Model", healthpb.HealthCheckResponse_UNKNOWN)
	for service, want := range map[string]string{
		"":                               "",
		"inference.GRPCInferenceService": "",
		long:                             "",
		"loading.Model":                  "status NOT_SERVING, want SERVING",
		"odd.Model":                      "status UNKNOWN, want SERVING",
		"nobody.Knows":                   "status NOT_FOUND (unknown service), want SERVING",
	} {
		grpcSays(t, addr, service, want)
	}
	states.Shutdown()
	grpcSays(t, addr, "", "status NOT_SERVING, want SERVING")
}

func TestGRPCFailures(t *testing.T) {
	type request = healthpb.HealthCheckRequest
	type response = healthpb.HealthCheckResponse
	hang := grpcServer(t, func(s *grpc.Server) {
		healthpb.RegisterHealthServer(s, fake{answer: func(ctx context.Context, _ *request) (*response, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}})
	})
	odd := grpcServer(t, func(s *grpc.Server) {
		healthpb.RegisterHealthServer(s, fake{answer: func(ctx context.Context, r *request) (*response, error) {
			md, _ := metadata.FromIncomingContext(ctx)
			if got := md.Get("user-agent"); !slices.Equal(got, []string{userAgent}) {
				t.Errorf("got user agent %q, want %q", got, userAgent)
			}
			switch r.Service {
			case "new":
				return &response{Status: 7}, nil
			case "words":
				return nil, status.Error(codes.Unavailable, "100 % loaded: Modell lädt")
			}
			return nil, status.Error(42, "")
		}})
	})
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	for _, tt := range []struct{ addr, service, want string }{
		{testport.Closed(t), "", "connection refused"},
		{odd, "new", "status 7, want SERVING"},
		{odd, "words", "status UNAVAILABLE (100 % loaded: Modell lädt), want SERVING"},
		{odd, "code", "status 42, want SERVING"},
		{
			grpcServer(t, func(*grpc.Server) {}), "",
			"status UNIMPLEMENTED (unknown service grpc.health.v1.Health), want SERVING",
		},
	} {
		grpcSays(t, tt.addr, tt.service, tt.want)
	}
	// Whether reading or writing fails first is open.
	for _, addr := range []string{web.Listener.Addr().String(), rawServer(t, ""), rawServer(t, "\x00\x00\x09garbage that is long enough")} {
		check, err := GRPC(addr, "")
		if err != nil {
			t.Fatal(err)
		}
		err = check.Check(within(t, patience))
		if prefix := check.String() + ": no answer of gRPC without TLS: "; err == nil || !strings.HasPrefix(err.Error(), prefix) {
			t.Errorf("got %v, want it to begin with %q", err, prefix)
		} else {
			t.Log(err)
		}
	}

	check, err := GRPC(hang, "")
	if err != nil {
		t.Fatal(err)
	}
	err = check.Check(within(t, 50*time.Millisecond))
	says(t, err, check.String()+": no answer in time")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want it to be a deadline error", err)
	}
}

// Servers that speak HTTP/2 and no gRPC, or half of it.
func TestGRPCAnswersThatAreNone(t *testing.T) {
	var next atomic.Value // of the next request; one before may still be at it
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mode := next.Load().(string)
		if r.ProtoMajor != 2 || r.Header.Get("Te") != "trailers" {
			t.Errorf("got a request by %s with %v", r.Proto, r.Header)
		}
		if mode == "html" {
			_, _ = io.WriteString(w, "<html>")
			return
		}
		w.Header().Set("Content-Type", "application/grpc+proto")
		w.Header().Set("Trailer", "Grpc-Status")
		if mode == "endless" {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 4096)); err != nil {
					return
				}
			}
		}
		if mode == "short" {
			_, _ = w.Write([]byte{0, 0, 0})
		} else if mode != "no status" {
			_, _ = w.Write(healthRequest(""))
		}
		if mode != "no status" {
			w.Header().Set("Grpc-Status", "0")
		}
	}))
	srv.Config.Protocols = new(http.Protocols)
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
	srv.Start()
	defer srv.Close()
	for m, want := range map[string]string{
		"html":      `no answer of gRPC without TLS: status 200 with content type "text/html; charset=utf-8"`,
		"endless":   "status none of gRPC, want SERVING",
		"no status": "status none of gRPC, want SERVING",
		"short":     "no answer of gRPC without TLS: its message is not a HealthCheckResponse",
		"empty":     "status UNKNOWN, want SERVING",
	} {
		next.Store(m)
		grpcSays(t, srv.Listener.Addr().String(), "", want)
	}
}

// A check every second for a year must not keep connections.
func TestGRPCKeepsNoConnection(t *testing.T) {
	open := make(chan int, 100)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Grpc-Status", "12")
	}))
	srv.Config.Protocols = new(http.Protocols)
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			open <- 1
		case http.StateClosed:
			open <- -1
		}
	}
	srv.Start()
	defer srv.Close()
	for range 5 {
		grpcSays(t, srv.Listener.Addr().String(), "", "status UNIMPLEMENTED, want SERVING")
	}
	sum := 0
	for events := range 10 {
		select {
		case n := <-open:
			sum += n
		case <-time.After(patience):
			t.Fatalf("got %d events, want 5 connections opened and closed", events)
		}
	}
	if sum != 0 {
		t.Errorf("got %d connections open, want 0", sum)
	}
}

func TestHealthMessages(t *testing.T) {
	frame := func(message ...byte) []byte {
		return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
	}
	for _, tt := range []struct {
		frame []byte
		want  string // "" is no HealthCheckResponse
	}{
		{frame(), "UNKNOWN"}, // a field with its default is left out
		{frame(8, 1), "SERVING"},
		{frame(8, 2), "NOT_SERVING"},
		{frame(8, 3), "SERVICE_UNKNOWN"},
		{frame(8, 0x80, 1), "128"},
		{frame(8, 2, 8, 1), "SERVING"}, // the last one counts
		{frame(8, 1, 0x12, 2, 'h', 'i', 0x18, 5, 0x25, 1, 2, 3, 4, 0x29, 1, 2, 3, 4, 5, 6, 7, 8), "SERVING"}, // fields of a later version
		{nil, ""},
		{[]byte{0, 0, 0, 0}, ""},
		{[]byte{1, 0, 0, 0, 2, 8, 1}, ""}, // compressed
		{[]byte{0, 0, 0, 0, 9, 8, 1}, ""},
		{append(frame(8, 1), 0), ""},
		{frame(8), ""},
		{frame(8, 0x80), ""},
		{frame(0x80), ""},
		{frame(0x12, 3, 'h', 'i'), ""},
		{frame(0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1), ""},
		{frame(0x25, 1, 2, 3), ""},
		{frame(0x29, 1), ""},
		{frame(0x0b, 1), ""}, // a group
	} {
		got, err := healthStatus(tt.frame)
		if got != tt.want || (err != nil) != (tt.want == "") {
			t.Errorf("% x: got %q, %v, want %q", tt.frame, got, err, tt.want)
		}
	}
}

func TestGRPCTargets(t *testing.T) {
	for _, tt := range []struct{ addr, service, want string }{
		{"8001", "", "grpc health of 127.0.0.1:8001"},
		{"[::1]:8001", "a.B", "grpc health of a.B at [::1]:8001"},
		{"http://h:1", "", `cannot read "http://h:1" as HOST:PORT or PORT`},
		{"h:1", "a\nb", `cannot ask for the service "a\nb": it holds a control character`},
	} {
		check, err := GRPC(tt.addr, tt.service)
		if err != nil {
			says(t, err, tt.want)
		} else if check.String() != tt.want {
			t.Errorf("%q: got %q, want %q", tt.addr, check, tt.want)
		}
	}
}
