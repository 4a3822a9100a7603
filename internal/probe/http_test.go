package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/inpod/inpod/internal/testport"
)

func TestHTTPStatus(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.UserAgent() != userAgent {
			t.Errorf("got %s by %q, want GET by %q", r.Method, r.UserAgent(), userAgent)
		}
		code, _ := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
		w.WriteHeader(code)
	}))
	defer srv.Close()
	for code, ok := range map[int]bool{200: true, 204: true, 299: true, 304: true, 399: true, 400: false, 404: false, 500: false, 503: false} {
		url := fmt.Sprintf("%s/%d", srv.URL, code)
		check, err := HTTP(url)
		if err != nil {
			t.Fatal(err)
		}
		want := ""
		if !ok {
			want = fmt.Sprintf("GET %s: status %d, want 200–399", url, code)
		}
		says(t, check.Check(within(t, patience)), want)
	}
}

func TestHTTPRedirects(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/good", func(w http.ResponseWriter, _ *http.Request) {})
	mux.Handle("/to-good", http.RedirectHandler("/good", http.StatusFound))
	mux.Handle("/to-bad", http.RedirectHandler("/bad", http.StatusFound))
	mux.Handle("/loop", http.RedirectHandler("/loop", http.StatusFound))
	mux.Handle("/away", http.RedirectHandler("http://elsewhere.invalid/bad", http.StatusFound))
	srv := httptest.NewServer(mux)
	defer srv.Close()
	for path, want := range map[string]string{
		"/to-good": "", "/to-bad": "status 404, want 200–399", "/loop": "stopped after 10 redirects", "/away": "",
	} {
		check, err := HTTP(srv.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		if want != "" {
			want = "GET " + srv.URL + path + ": " + want
		}
		says(t, check.Check(within(t, patience)), want)
	}
}

func TestHTTPFailures(t *testing.T) {
	hang := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/hang", func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	})
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 4096)); err != nil {
				return
			}
		}
	})
	srv := httptest.NewServer(mux)
	defer srv.Close()
	defer close(hang)
	closed := testport.Closed(t)
	raw := rawServer(t, "nonsense\r\n\r\n")
	tests := []struct{ target, want string }{
		{srv.URL + "/endless", ""},
		{srv.URL + "/hang", "no answer in time"},
		{"http://" + closed + "/", "connection refused"},
		{"http://" + rawServer(t, "") + "/", "EOF"},
		{"http://" + raw + "/", `net/http: HTTP/1.x transport connection broken: malformed HTTP response "nonsense"`},
	}
	for _, test := range tests {
		check, err := HTTP(test.target)
		if err != nil {
			t.Fatal(err)
		}
		timeout := patience
		if test.want == "no answer in time" {
			timeout = 50 * time.Millisecond
		}
		err = check.Check(within(t, timeout))
		want := test.want
		if want != "" {
			want = "GET " + test.target + ": " + want
		}
		says(t, err, want)
		if strings.HasSuffix(want, "in time") && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want it to be a deadline error", err)
		}
	}
}

func TestHTTPS(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer srv.Close()
	check, err := HTTP(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	says(t, check.Check(within(t, patience)), "")
}

// A check every second for a year must not keep connections, on either side.
func TestHTTPKeepsNoConnection(t *testing.T) {
	open := make(chan int, 100)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if !r.Close {
			t.Error("got a request that keeps its connection, want Connection: close")
		}
	}))
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
	check, err := HTTP(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	sum, events := 0, 0
	for range 5 {
		says(t, check.Check(within(t, patience)), "")
	}
	for events < 10 {
		select {
		case n := <-open:
			sum, events = sum+n, events+1
		case <-time.After(patience):
			t.Fatalf("got %d events, want 5 connections opened and closed", events)
		}
	}
	if sum != 0 {
		t.Errorf("got %d connections open, want 0", sum)
	}
}

func TestHTTPTargets(t *testing.T) {
	tests := []struct{ target, want string }{
		{"8000:/health", "GET http://127.0.0.1:8000/health"},
		{"8000:/v1/x?a=b", "GET http://127.0.0.1:8000/v1/x?a=b"},
		{"8000:", "GET http://127.0.0.1:8000/"},
		{"8000", "GET http://127.0.0.1:8000/"},
		{"10.0.0.1:8000/x", "GET http://10.0.0.1:8000/x"},
		{"http://[::1]:8000", "GET http://[::1]:8000/"},
		{"https://host/x", "GET https://host/x"},
		{"ftp://host/x", `cannot check "ftp://host/x": the scheme must be http or https`},
		{"99999:/x", `cannot read "99999:/x" as a URL or PORT:/path`},
		{"http://", `cannot read "http://" as a URL or PORT:/path`},
		{"", `cannot read "" as a URL or PORT:/path`},
		{"/health", `cannot read "/health" as a URL or PORT:/path`},
		{"http://a b/", `cannot read "http://a b/" as a URL or PORT:/path: invalid character " " in host name`},
	}
	for _, test := range tests {
		check, err := HTTP(test.target)
		if err != nil {
			says(t, err, test.want)
		} else if check.String() != test.want {
			t.Errorf("%q: got %q, want %q", test.target, check, test.want)
		}
	}
}

// rawServer answers every connection with text and hangs up.
func rawServer(t *testing.T, text string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { ln.Close(); <-done })
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 4096)) // the request, so that closing sends no reset
			_, _ = conn.Write([]byte(text))
			conn.Close()
		}
	}()
	return ln.Addr().String()
}
