package agent

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// dialHTTP opens a connection and asks for path; "" asks for nothing.
func dialHTTP(t *testing.T, addr, path string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	if path != "" {
		if _, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	return c, bufio.NewReader(c)
}

func statusOf(t *testing.T, r *bufio.Reader) int {
	t.Helper()
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// awaitIdle waits until the server has seen the end of its answers, which a client sees first.
func (l *connections) awaitIdle(t *testing.T, want int) {
	t.Helper()
	poll(t, fmt.Sprint(want, " connections are idle"), func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.idle.Len() == want
	})
}

func TestConnectionsAreBounded(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	const most = 4
	s := newHTTPServer(ln, slog.New(slog.DiscardHandler))
	s.conns.most = most
	asked, answer := make(chan struct{}), make(chan struct{})
	s.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/wait") {
			asked <- struct{}{}
			<-answer
		}
	}))
	defer s.close()
	addr := ln.Addr().String()

	_, oldest := dialHTTP(t, addr, "/one")
	if got := statusOf(t, oldest); got != 200 {
		t.Fatalf("got status %d, want 200", got)
	}
	s.conns.awaitIdle(t, 1)
	for i := range 3 * most { // each stays open and idle
		_, r := dialHTTP(t, addr, "/one")
		if got := statusOf(t, r); got != 200 {
			t.Fatalf("with idle connections: got status %d, want 200", got)
		}
		s.conns.awaitIdle(t, min(i+2, most))
	}
	if _, err := oldest.ReadByte(); err != io.EOF {
		t.Errorf("the oldest idle connection: got %v, want it closed", err)
	}
	var waiting []*bufio.Reader
	for range most {
		_, r := dialHTTP(t, addr, "/wait")
		select {
		case <-asked:
		case <-time.After(patience):
			close(answer)
			t.Fatal("a call was not heard")
		}
		waiting = append(waiting, r)
	}
	c, r := dialHTTP(t, addr, "")
	if got := statusOf(t, r); got != 503 {
		t.Errorf("with %d calls that wait: got status %d, want 503", most, got)
	}
	_ = c.Close()
	close(answer)
	for _, r := range waiting {
		if got := statusOf(t, r); got != 200 {
			t.Errorf("a call that waited: got status %d, want 200", got)
		}
	}
	s.conns.awaitIdle(t, most)
	_, r = dialHTTP(t, addr, "/one")
	if got := statusOf(t, r); got != 200 {
		t.Errorf("afterwards: got status %d, want 200", got)
	}
}
