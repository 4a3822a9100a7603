package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// worker is an upstream whose requests go on until the test lets them end.
type worker struct {
	addr    string
	began   chan string // paths, in the order in which they came
	mu      sync.Mutex
	now     int
	most    int
	release chan struct{}
}

func newWorker(t *testing.T) *worker {
	w := &worker{began: make(chan string, 10_000), release: make(chan struct{}, 10_000)}
	up := httptest.NewServer(w)
	t.Cleanup(func() {
		up.CloseClientConnections()
		up.Close()
	})
	w.addr = strings.TrimPrefix(up.URL, "http://")
	return w
}

func (w *worker) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	w.now++
	w.most = max(w.most, w.now)
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		w.now--
		w.mu.Unlock()
	}()
	_, _ = io.Copy(io.Discard, r.Body)
	if strings.HasPrefix(r.URL.Path, "/quick") {
		<-time.After(2 * time.Millisecond)
		return
	}
	if strings.HasPrefix(r.URL.Path, "/stream") {
		_, _ = io.WriteString(rw, "begun\n")
		_ = http.NewResponseController(rw).Flush()
	}
	w.began <- r.URL.Path
	select {
	case <-w.release:
		_, _ = io.WriteString(rw, r.URL.Path)
	case <-r.Context().Done():
	}
}

// next is the path of the next request that reaches the upstream.
func (w *worker) next(t *testing.T) string {
	t.Helper()
	select {
	case path := <-w.began:
		return path
	case <-time.After(patience):
		t.Fatal("no request reaches the upstream")
		return ""
	}
}

// none checks that no request is at the upstream that was not asked for.
func (w *worker) none(t *testing.T, when string) {
	t.Helper()
	select {
	case path := <-w.began:
		t.Errorf("%s: %s reached the upstream", when, path)
	case <-time.After(150 * time.Millisecond):
	}
}

// load is what /load says.
func (a *agent) load() (inFlight, queued int) {
	_, body := a.get("/load")
	var l struct {
		InFlight int `json:"in_flight"`
		Queued   int `json:"queued"`
	}
	if err := json.Unmarshal([]byte(body), &l); err != nil {
		a.t.Fatalf("/load: %v: %s", err, body)
	}
	return l.InFlight, l.Queued
}

func (a *agent) untilQueued(n int) {
	a.t.Helper()
	a.until(fmt.Sprintf("%d requests are queued", n), func() bool { _, q := a.load(); return q == n })
}

func (a *agent) untilQuiet() {
	a.t.Helper()
	a.until("no request is in flight", func() bool { f, q := a.load(); return f == 0 && q == 0 })
}

// send writes a request and returns what reads its answer.
func send(t *testing.T, addr, request string) (net.Conn, func() (*http.Response, string)) {
	t.Helper()
	c := dial(t, addr)
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	return c, func() (*http.Response, string) {
		t.Helper()
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatalf("%.60q: %v", request, err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Errorf("%.60q: the body: %v", request, err)
		}
		return resp, string(body)
	}
}

func get(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: a\r\n\r\n" }

// Requests over the limit wait in order; those over the queue are refused, at once and clearly.
func TestQueue(t *testing.T) {
	t.Parallel()
	w := newWorker(t)
	a, addr := startProxy(t, setup{}, route{"upstream": w.addr, "concurrency": 2, "queue": 6, "queue_timeout": "5m", "timeout": "5m"})
	var answers []func() (*http.Response, string)
	for i := range 2 {
		_, answer := send(t, addr, get(fmt.Sprintf("/running%d", i)))
		answers = append(answers, answer)
		w.next(t)
	}
	var leaver net.Conn
	for i := range 6 {
		c, answer := send(t, addr, get(fmt.Sprintf("/waiting%d", i)))
		answers = append(answers, answer)
		if i == 2 {
			leaver = c
		}
		a.untilQueued(i + 1)
	}
	begin := time.Now()
	for _, tt := range []struct{ accept, kind string }{{"", "application/json"}, {"Accept: text/html,*/*\r\n", "text/"}, {"Accept: application/json\r\n", "application/json"}} {
		_, answer := send(t, addr, "GET /over HTTP/1.1\r\nHost: a\r\n"+tt.accept+"\r\n")
		resp, body := answer()
		if n, err := strconv.Atoi(resp.Header.Get("Retry-After")); resp.StatusCode != 503 || err != nil || n < 1 || resp.Header.Get("X-Inpod-Error") == "" {
			t.Errorf("over the queue: got %d, Retry-After %q, X-Inpod-Error %q", resp.StatusCode, resp.Header.Get("Retry-After"), resp.Header.Get("X-Inpod-Error"))
		}
		if kind := resp.Header.Get("Content-Type"); !strings.HasPrefix(kind, tt.kind) || json.Valid([]byte(body)) != (tt.kind == "application/json") {
			t.Errorf("over the queue, with %q: got %s: %q; want %s", tt.accept, kind, body, tt.kind)
		}
	}
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("over the queue: refused after %s, want at once", took)
	}
	w.none(t, "two are running")
	leaver.Close()
	a.untilQueued(5)
	_, last := send(t, addr, get("/waiting6")) // has the place of the one that left
	a.untilQueued(6)
	want := []string{"/waiting0", "/waiting1", "/waiting3", "/waiting4", "/waiting5", "/waiting6"}
	var got []string
	for range want {
		w.release <- struct{}{}
		got = append(got, w.next(t))
	}
	if !slices.Equal(got, want) {
		t.Errorf("the order: got %q, want %q", got, want)
	}
	w.release <- struct{}{}
	w.release <- struct{}{}
	for i, answer := range append(answers, last) {
		if i == 4 {
			continue // left
		}
		if resp, body := answer(); resp.StatusCode != 200 || !strings.HasPrefix(body, "/") {
			t.Errorf("answer %d: got %d %q", i, resp.StatusCode, body)
		}
	}
	if w.most != 2 {
		t.Errorf("%d requests were at the upstream at once, want 2", w.most)
	}
	a.untilQuiet()
}

// A place is held until the answer's body has ended, HTTP/2 counts as well, and nobody waits for longer than
// queue_timeout.
func TestPlacesAreHeldToTheEnd(t *testing.T) {
	t.Parallel()
	w := newWorker(t)
	a, addr := startProxy(t, setup{}, route{"upstream": w.addr, "concurrency": 1, "queue": 3, "queue_timeout": "5m", "timeout": "5m"},
		route{"path": "/short", "upstream": w.addr, "concurrency": 1, "queue": 3, "queue_timeout": "400ms", "overload_status": "429"})
	c, _ := send(t, addr, get("/stream"))
	br := bufio.NewReader(c)
	for line := ""; line != "begun\n"; {
		var err error
		if line, err = br.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	w.next(t)
	_, second := send(t, addr, get("/second"))
	a.untilQueued(1)
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	h2 := &http.Client{Transport: &http.Transport{Protocols: &protocols}}
	defer h2.CloseIdleConnections()
	third := make(chan string, 1)
	go func() {
		resp, err := h2.Get("http://" + addr + "/third")
		if err != nil {
			third <- err.Error()
			return
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		third <- string(body)
	}()
	a.untilQueued(2)
	w.none(t, "a stream is on its way")
	for _, want := range []string{"/second", "/third"} {
		w.release <- struct{}{}
		if got := w.next(t); got != want {
			t.Errorf("got %s at the upstream, want %s", got, want)
		}
		w.none(t, want+" is running")
	}
	w.release <- struct{}{}
	if resp, _ := second(); resp.StatusCode != 200 {
		t.Errorf("second: got %d", resp.StatusCode)
	}
	if got := <-third; got != "/third" {
		t.Errorf("third, over HTTP/2: got %q", got)
	}
	_, _ = send(t, addr, get("/short/1"))
	w.next(t)
	begin := time.Now()
	_, late := send(t, addr, get("/short/2"))
	resp, _ := late()
	if took := time.Since(begin); resp.StatusCode != 429 || resp.Header.Get("Retry-After") == "" || took < 350*time.Millisecond {
		t.Errorf("queue_timeout: got %d, Retry-After %q after %s; want 429 after 400ms", resp.StatusCode, resp.Header.Get("Retry-After"), took)
	}
	w.release <- struct{}{}
	a.untilQuiet()
}

// Whatever becomes of a request, its place is free afterwards.
func TestNoPlaceIsLost(t *testing.T) {
	t.Parallel()
	w := newWorker(t)
	up := upstream(t, nil)
	const limit = 3
	a, addr := startProxy(t, setup{}, route{"upstream": w.addr, "concurrency": limit, "queue": 500, "timeout": "5m"},
		route{"path": "/odd", "upstream": up.Addr(), "concurrency": limit, "queue": 500, "timeout": "300ms"})
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 50}}
	defer client.CloseIdleConnections()
	var wg sync.WaitGroup
	for i := range 24 {
		wg.Go(func() {
			for j := range 20 {
				ctx, cancel := context.WithCancel(t.Context())
				// Those that leave go where nobody counts: their place is free before their upstream has noticed.
				path, id := "/quick", fmt.Sprintf("%dx%d", i, j)
				switch (i + j) % 5 {
				case 0: // leaves while it waits, or later
					path = "/odd?do=length&id=" + id + "&n=500&up=-1&d=10"
					time.AfterFunc(time.Duration(j)*time.Millisecond, cancel)
				case 1:
					mode := []string{"reset", "mute", "garbage", "cut", "hangs", "length"}[j%6]
					path = fmt.Sprintf("/odd?do=%s&id=%s&n=500&up=-1&d=0", mode, id)
				}
				req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+path, nil)
				req.Header.Set("X-Id", id)
				if resp, err := client.Do(req); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				cancel()
			}
		})
	}
	wg.Wait()
	a.untilQuiet()
	if w.most != limit {
		t.Errorf("%d requests were at the upstream at once, want %d", w.most, limit)
	}
	for range limit {
		send(t, addr, get("/held"))
	}
	for range limit {
		w.next(t) // as many as the limit run at once still
	}
	send(t, addr, get("/queued"))
	a.untilQueued(1)
	w.none(t, "all places are taken")
	for range limit + 1 {
		w.release <- struct{}{}
	}
	a.untilQuiet()
}

// An answer that does not come in time, and a body that is too large: errors that say what to do.
func TestTimeoutAndMaxBody(t *testing.T) {
	t.Parallel()
	w := newWorker(t)
	a, addr := startProxy(t, setup{}, route{"upstream": w.addr, "timeout": "300ms"},
		route{"path": "/stream", "upstream": w.addr, "timeout": "4s", "idle_timeout": "1m"},
		route{"path": "/idle", "upstream": upstream(t, nil).Addr(), "idle_timeout": "300ms"},
		route{"path": "/quick", "upstream": w.addr, "max_body": "1Ki"})
	_, answer := send(t, addr, get("/never"))
	resp, body := answer()
	if resp.StatusCode != 504 || resp.Header.Get("X-Inpod-Error") == "" || !strings.Contains(body, "timeout") {
		t.Errorf("timeout: got %d %q, want 504 and what to do about the timeout", resp.StatusCode, body)
	}
	if !strings.Contains(strings.ToLower(body), "async") {
		t.Errorf("timeout: got %q, want the asynchronous mode named", body)
	}
	w.next(t)
	// Once the answer has begun there is no limit on the whole.
	_, answer = send(t, addr, get("/stream"))
	w.next(t)
	<-time.After(5 * time.Second)
	w.release <- struct{}{}
	if resp, body := answer(); resp.StatusCode != 200 || body != "begun\n/stream" {
		t.Errorf("a stream that takes longer than timeout: got %d %q", resp.StatusCode, body)
	}
	// A body that stands still for idle_timeout is broken off, which the client can see.
	c, _ := send(t, addr, "GET /idle?do=events&id=slow&n=3&up=-1&d=5000 HTTP/1.1\r\nHost: a\r\nX-Id: slow\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("a body that stood still for idle_timeout: got %q and a proper end", text)
	}

	large := strings.Repeat("x", 5000)
	for _, tt := range []struct {
		name, request string
		want          int
	}{
		{"small", "POST /quick/a HTTP/1.1\r\nHost: a\r\nContent-Length: 1024\r\n\r\n" + large[:1024], 200},
		{"small, in chunks", "POST /quick/b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n" + large[:1024] + "\r\n0\r\n\r\n", 200},
		{"large", "POST /quick/c HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n" + large, 413},
		{"large, in chunks", "POST /quick/d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n200\r\n" + large[:512] + "\r\n1000\r\n" + large[:4096] + "\r\n0\r\n\r\n", 413},
		{"immense", "POST /quick/e HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n" + large, 413},
	} {
		_, answer := send(t, addr, tt.request)
		if resp, body := answer(); resp.StatusCode != tt.want || tt.want == 413 && resp.Header.Get("X-Inpod-Error") == "" {
			t.Errorf("max_body, %s: got %d %q, want %d", tt.name, resp.StatusCode, body, tt.want)
		}
	}
	a.untilQuiet()
}
