package proxy

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/inpod/inpod/config"
)

// A stream that the upstream resets is no connection that failed: it is called otherwise, and the route stays ready.
func TestGRPCCallThatIsReset(t *testing.T) {
	up := h2cServer(t, func(_ http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) })
	p, url := start(t, config.Route{Upstream: up})
	c := h2cClient(t)
	for range maxFailedConnections {
		resp, err := call(t, c, t.Context(), url+"/pkg.S/Do")
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.Header.Get("Grpc-Status") != "14" || resp.Header.Get(ErrorHeader) != "upstream_closed" || strings.Contains(resp.Header.Get("Grpc-Message"), "cannot") {
			t.Errorf("got %v, want 14 upstream_closed", resp.Header)
		}
	}
	if n := p.routes[0].health.failed.Load(); n != 0 {
		t.Errorf("%d connections count as failed, want none", n)
	}
}

// An upstream that takes few streams on a connection gets more connections.
func TestGRPCMoreCallsThanStreams(t *testing.T) {
	const calls = 150
	came, release := make(chan struct{}, calls), make(chan struct{})
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/Wait") {
			came <- struct{}{}
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
		w.Header().Set("Grpc-Status", "0")
	}))
	s.Config.Protocols = &http.Protocols{}
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 100}
	s.Start()
	t.Cleanup(s.Close)
	_, url := start(t, config.Route{Upstream: s.Listener.Addr().String()})
	c := h2cClient(t)
	resp, err := call(t, c, t.Context(), url+"/pkg.S/First") // after which the bound is known
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	done := make(chan string, calls)
	for range calls {
		go func() {
			resp, err := call(t, c, t.Context(), url+"/pkg.S/Wait")
			if err != nil {
				done <- err.Error()
				return
			}
			resp.Body.Close()
			done <- resp.Header.Get("Grpc-Status")
		}()
	}
	eventually(t, "all calls at the upstream", func() bool { return len(came) == calls })
	close(release)
	for range calls {
		if got := <-done; got != "0" {
			t.Errorf("got %s, want 0", got)
		}
	}
}
