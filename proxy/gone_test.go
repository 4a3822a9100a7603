package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/inpod/inpod/config"
)

// A client of HTTP/1.0 knows no chunks: the end of the connection is the end of the body.
func TestHTTP10GetsNoChunks(t *testing.T) {
	up := server(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/broken" {
			w.Write([]byte("part"))
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
		for _, s := range []string{"one ", "two ", "three"} {
			io.WriteString(w, s)
			w.(http.Flusher).Flush()
		}
	})
	p, url := start(t, config.Route{Upstream: up})
	ask := func(path string) (string, error) {
		c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		fmt.Fprintf(c, "GET %s HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", path)
		b, err := io.ReadAll(c)
		return string(b), err
	}
	for range 3 {
		got, err := ask("/")
		head, body, _ := strings.Cut(got, "\r\n\r\n")
		if err != nil || body != "one two three" || strings.Contains(strings.ToLower(head), "transfer-encoding") || !strings.Contains(head, "Connection: close") {
			t.Errorf("got %q, %v; want the body as it is, no chunks and Connection: close", got, err)
		}
	}
	if got, err := ask("/broken"); err == nil {
		t.Errorf("a body that broke off: got %q and a clean end, want a reset", got)
	}
	waited(t, p)
}

// A client that goes away takes its request back from the upstream, before the answer begins and in the middle of it.
func TestClientThatGoesAwayCancelsTheRequest(t *testing.T) {
	began, ended := make(chan string, 1), make(chan string, 1)
	up := server(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/streams" {
			io.WriteString(w, "first")
			w.(http.Flusher).Flush()
		}
		io.Copy(io.Discard, r.Body)
		began <- r.URL.Path
		<-r.Context().Done()
		ended <- r.URL.Path
	})
	p, url := start(t, config.Route{Upstream: up})
	for _, tt := range []struct{ method, path, body string }{{"GET", "/waits", ""}, {"POST", "/waits", "text"}, {"GET", "/streams", ""}} {
		ctx, cancel := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, tt.method, url+tt.path, strings.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			if resp, err := httpClient(t).Do(req); err == nil {
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		}()
		<-began
		cancel()
		select {
		case got := <-ended:
			if got != tt.path {
				t.Errorf("%s ended, want %s", got, tt.path)
			}
		case <-time.After(patience):
			t.Fatalf("%s %s: the upstream still works for a client that is gone", tt.method, tt.path)
		}
	}
	waited(t, p)
}

// Slow answers on one connection, one request sent before the answer to the one ahead of it: the watch over the client
// leaves no deadline behind and takes nothing away.
func TestSlowAnswersOnOneConnection(t *testing.T) {
	up := server(t, func(w http.ResponseWriter, r *http.Request) {
		<-time.After(60 * time.Millisecond)
		io.WriteString(w, r.URL.Path)
	})
	_, url := start(t, config.Route{Upstream: up})
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	br := bufio.NewReader(c)
	for _, round := range [][]string{{"/1"}, {"/2", "/3"}, {"/4"}, {"/5"}} {
		for _, path := range round {
			fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", path)
		}
		for _, path := range round {
			resp, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(resp.Body); err != nil || string(b) != path {
				t.Fatalf("got %q, %v; want %q", b, err, path)
			}
		}
	}
}
