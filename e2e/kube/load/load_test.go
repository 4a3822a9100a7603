package load

import (
	"context"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/inpod/inpod/e2e/traffic"
)

func server(t *testing.T) *traffic.Server {
	t.Helper()
	s, err := traffic.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve()
	t.Cleanup(s.Close)
	return s
}

// More than one request, of each kind, and nothing fails while the server stays.
func TestLoad(t *testing.T) {
	t.Parallel()
	s := server(t)
	ctx, cancel := context.WithCancel(t.Context())
	l := &Load{Addr: s.Addr(), Kept: 10, Fresh: 5, Streams: 2, Pause: 20 * time.Millisecond}
	r := l.Run(ctx)
	await(t, func() bool { return r.Total() > 200 && eachKind(r, func(row []string) bool { return row[1] != "0" }) })
	cancel()
	<-r.Ended()
	for _, row := range r.Lines() {
		if row[1] == "0" || row[2] != "0" || row[3] != "" {
			t.Errorf("got %q", row)
		}
	}
	if r.Failed() != 0 || r.Closed() != 0 || len(r.Told()) != 0 {
		t.Errorf("%d failed, %d closed: %q", r.Failed(), r.Closed(), r.Told())
	}
	if got := s.Twice(); len(got) > 0 {
		t.Errorf("sent twice: %q", got)
	}
}

// A server that goes away at once, as one that knows nothing of endpoints: each kind of client sees it.
func TestLoadSeesAServerGo(t *testing.T) {
	t.Parallel()
	s := server(t)
	ctx, cancel := context.WithCancel(t.Context())
	// Of ten streams, which take seconds each and follow each other at once, some are on their way when one has ended.
	r := (&Load{Addr: s.Addr(), Kept: 10, Fresh: 5, Streams: 10, Pause: 5 * time.Millisecond}).Run(ctx)
	await(t, func() bool { return r.Total() > 200 && r.Lines()[Stream][1] != "0" })
	s.Close()
	await(t, func() bool {
		return eachKind(r, func(row []string) bool { return strings.Contains(row[3], "connection refused") }) && len(r.Told()) >= maxTold
	})
	cancel()
	<-r.Ended()
	if got := r.Lines()[Stream][3]; !strings.Contains(got, "broken off in the answer") {
		t.Errorf("got %q, want streams that were broken off", got)
	}
	if told := r.Told(); len(told) != maxTold {
		t.Errorf("%d failures are told: %q", len(told), told)
	}
}

// eachKind tells whether ok holds for what was sent of each kind so far.
func eachKind(r *Report, ok func(row []string) bool) bool {
	return !slices.ContainsFunc(r.Lines(), func(row []string) bool { return !ok(row) })
}

func TestReasons(t *testing.T) {
	t.Parallel()
	s := server(t)
	for mode, want := range map[traffic.Mode]string{
		traffic.Length:  "",
		traffic.Mute:    "closed without an answer",
		traffic.Cut:     "broken off in the answer",
		traffic.Short:   "broken off in the answer",
		traffic.Garbage: "no HTTP",
		traffic.ToClose: "",
	} {
		c := &conn{addr: s.Addr()}
		err := c.do(&traffic.Ask{ID: traffic.NewID(), Method: http.MethodPost, Path: "/", Mode: mode, Size: 100, Up: 10})
		if got := reasonOf(err); got != want {
			t.Errorf("%s: got %q (%v), want %q", mode, got, err, want)
		}
		if kept := c.c != nil; kept != (mode == traffic.Length) {
			t.Errorf("%s: the connection is kept: %v", mode, kept)
		}
		c.close()
	}
}

func reasonOf(err error) string {
	if err == nil {
		return ""
	}
	return err.(*failure).reason
}

// A connection that the server closed while it was idle is seen before the next request.
func TestLeft(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c := &conn{addr: ln.Addr().String()}
	defer c.close()
	if c.left() {
		t.Error("there is no connection yet")
	}
	dialed, err := net.Dial("tcp", c.addr)
	if err != nil {
		t.Fatal(err)
	}
	c.c = dialed.(*net.TCPConn)
	peer, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if c.left() {
		t.Error("the connection is there")
	}
	peer.Close()
	await(t, c.left)
}

// The rate is bounded by the pause, whatever the server takes.
func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		r := (&Load{Addr: "no address", Fresh: 10, Pause: time.Second}).Run(ctx)
		<-r.Ended()
		if n := r.Total(); n < 80 || n > 210 || r.Failed() != n {
			t.Errorf("10 clients with a pause of a second sent %d requests in 10 s, of which %d failed", n, r.Failed())
		}
	})
}

// Failures to connect are one span unless some time lies between them.
func TestGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &Report{}
		for i, pause := range []time.Duration{0, 300 * time.Millisecond, 400 * time.Millisecond, time.Minute, 100 * time.Millisecond} {
			time.Sleep(pause)
			err := []error{syscall.ECONNREFUSED, syscall.EHOSTUNREACH}[i%2]
			r.add(Fresh, &failure{connectReason(err), err})
		}
		if got := r.Gone(); got != 700*time.Millisecond {
			t.Errorf("got %s, want 700ms", got)
		}
	})
}

func await(t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(time.Minute)
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatal("not within a minute")
		}
	}
}
