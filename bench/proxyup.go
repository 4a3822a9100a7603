package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// upstream is the server behind the proxies where it matters when something arrives: it shares this process and so
// its clock with the client.
//
//	/         answers at once
//	/events   sends ?n= events, one every 5 ms, each with the time at which it was sent
//	/sink     reads a body and answers with its size
//	/hang     waits for the client's end, with ?body= in the middle of one; see hung
type upstream struct {
	addr string
	srv  *http.Server

	mu   sync.Mutex
	hung map[string]*hang
}

// hang is one request for /hang.
type hang struct {
	began chan struct{}
	ended chan time.Duration // gets the time at which the upstream saw the end
}

const eventGap = 5 * time.Millisecond

func newUpstream() (*upstream, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("cannot listen: %w", err)
	}
	u := &upstream{addr: l.Addr().String(), hung: map[string]*hang{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "here\n") })
	mux.HandleFunc("/events", u.events)
	mux.HandleFunc("/sink", u.sink)
	mux.HandleFunc("/hang", u.hang)
	u.srv = &http.Server{Handler: mux}
	go func() {
		if err := u.srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			panic(err) // BUG: nobody else closes the listener
		}
	}()
	return u, nil
}

func (u *upstream) stop() { _ = u.srv.Close() }

func (u *upstream) events(w http.ResponseWriter, r *http.Request) {
	n, _ := strconv.Atoi(r.FormValue("n"))
	w.Header().Set("Content-Type", "text/event-stream")
	flusher := http.NewResponseController(w)
	tick := time.NewTicker(eventGap)
	defer tick.Stop()
	for range n {
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		}
		if _, err := fmt.Fprintf(w, "data: %d\n\n", monotonic()); err != nil {
			return
		}
		if err := flusher.Flush(); err != nil {
			return
		}
	}
}

func (u *upstream) sink(w http.ResponseWriter, r *http.Request) {
	buf := make([]byte, 256<<10)
	for sum := 0; ; {
		n, err := r.Body.Read(buf)
		sum += n
		if errors.Is(err, io.EOF) {
			_, _ = fmt.Fprint(w, sum)
			return
		}
		if err != nil {
			return
		}
	}
}

// expect announces a request for /hang?id=.
func (u *upstream) expect(id string) *hang {
	h := &hang{began: make(chan struct{}), ended: make(chan time.Duration, 1)}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.hung[id] = h
	return h
}

func (u *upstream) hang(w http.ResponseWriter, r *http.Request) {
	id := r.FormValue("id")
	u.mu.Lock()
	h := u.hung[id]
	delete(u.hung, id)
	u.mu.Unlock()
	if h == nil {
		http.Error(w, "nobody expects this request, or it came twice", http.StatusGone)
		return
	}
	if r.FormValue("body") != "" {
		_, _ = io.WriteString(w, "first\n")
		_ = http.NewResponseController(w).Flush()
	}
	close(h.began)
	<-r.Context().Done()
	h.ended <- monotonic()
}
