package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/inpod/inpod/config"
	"github.com/inpod/inpod/internal/testport"
)

func TestWarmer(t *testing.T) {
	hang := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/status/{code}", func(w http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.PathValue("code"))
		w.Header().Set("Location", "/status/500")
		w.WriteHeader(code)
	})
	mux.HandleFunc("/v1/models/{name}", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.PathValue("name") != "a b" || r.Method != "POST" || r.UserAgent() != "inpod-warmup" || r.URL.RawQuery != "x=1&y=%20" || string(body) != `{"a": 1}` || !r.Close {
			t.Errorf("got %s %s by %q with %q, close %v", r.Method, r.RequestURI, r.UserAgent(), body, r.Close)
		}
		w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
		if want := r.Header.Get("Content-Type"); want != "application/json" && want != "text/plain" {
			w.WriteHeader(http.StatusUnsupportedMediaType)
		}
	})
	mux.HandleFunc("/hang", func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	})
	mux.HandleFunc("/half", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "10")
		_, _ = io.WriteString(w, "half")
	})
	mux.HandleFunc("/stalls", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "token")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	ended := false
	mux.HandleFunc("/stream", func(w http.ResponseWriter, _ *http.Request) {
		for range 100 {
			_, _ = w.Write(make([]byte, 10_000))
		}
		ended = true
	})
	srv := httptest.NewServer(mux)
	defer srv.Close()
	defer close(hang)
	up := srv.Listener.Addr().String()
	closed := testport.Closed(t)

	const late = "no answer in time"
	const model = "/v1/models/a%20b?x=1&y=%20"
	for _, tt := range []struct {
		upstream string
		w        config.Warmup
		want     string
	}{
		{up, config.Warmup{Method: "GET", Path: "/status/200"}, ""},
		{up, config.Warmup{Method: "HEAD", Path: "/status/204"}, ""},
		{up, config.Warmup{Method: "GET", Path: "/status/302"}, ""}, // not followed
		{up, config.Warmup{Method: "GET", Path: "/status/399"}, ""},
		{up, config.Warmup{Method: "GET", Path: "/status/400"}, "status 400, want 200–399"},
		{up, config.Warmup{Method: "GET", Path: "/status/503"}, "status 503, want 200–399"},
		{up, config.Warmup{Method: "POST", Path: model, Body: `{"a": 1}`}, ""},
		{up, config.Warmup{Method: "POST", Path: model, Body: `{"a": 1}`, ContentType: "text/plain"}, ""},
		{up, config.Warmup{Method: "POST", Path: model, Body: `{"a": 1}`, ContentType: "x/y"}, "status 415, want 200–399"},
		{up, config.Warmup{Method: "GET", Path: "/stream"}, ""},
		{up, config.Warmup{Method: "GET", Path: "/half"}, "status 200, but the body broke off: unexpected EOF"},
		{up, config.Warmup{Method: "GET", Path: "/hang"}, "no answer in time"},
		{up, config.Warmup{Method: "GET", Path: "/stalls"}, "status 200, but the body broke off: no answer in time"},
		{closed, config.Warmup{Method: "GET", Path: "/"}, "connection refused"},
	} {
		timeout := patience
		if strings.HasSuffix(tt.want, late) {
			timeout = 100 * time.Millisecond
		}
		got := warmed(t, tt.upstream, tt.w, timeout)
		for got == late && got != tt.want && timeout < patience { // the answer did not even begin
			timeout *= 4
			got = warmed(t, tt.upstream, tt.w, timeout)
		}
		if got != tt.want {
			t.Errorf("%s %s: got %q, want %q", tt.w.Method, tt.w.Path, got, tt.want)
		}
	}
	if !ended {
		t.Error("the stream was not read to its end")
	}
}

// warmed sends a warm-up request and says what became of it; "" is success.
func warmed(t *testing.T, upstream string, w config.Warmup, timeout time.Duration) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	err := newWarmer(upstream)(ctx, w)
	if err == nil {
		return ""
	}
	if strings.HasSuffix(err.Error(), "in time") && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%s: got %v, want it to be a deadline error", w.Path, err)
	}
	return err.Error()
}
