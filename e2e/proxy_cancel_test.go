package e2e

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/inpod/inpod/e2e/lab"
)

// cancelTimes is when each request reached the upstream, when its client left, and when the upstream noticed.
type cancelTimes struct {
	mu                 sync.Mutex
	began, left, ended map[string]time.Time
}

func (c *cancelTimes) note(m map[string]time.Time, id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m[id] = time.Now()
}

// ServeHTTP works for as long as the client is there.
func (c *cancelTimes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := r.Header.Get("X-Id")
	c.note(c.began, id)
	defer c.note(c.ended, id)
	// Of /upload this is all: it does not end before the client leaves. A server that got half of a body learns nothing
	// more, so that is the end too.
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return
	}
	switch r.URL.Path {
	case "/unary":
		<-r.Context().Done()
	case "/stream":
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		rc := http.NewResponseController(w)
		for {
			if _, err := fmt.Fprintf(w, "data: %s\n\n", id); err != nil {
				return
			}
			_ = rc.Flush()
			select {
			case <-tick.C:
			case <-r.Context().Done():
				return
			}
		}
	case "/quiet": // begins to answer, and then has nothing to say
		_, _ = io.WriteString(w, "data: first\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
}

// leave sends one request and takes it back after a while. How says what the client is.
func (c *cancelTimes) leave(addr, path, id, how string, stay time.Duration, h2 *http.Client) {
	if how == "h2c" {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		var body io.Reader
		if path == "/upload" {
			body = &drip{ctx: ctx}
		}
		req, _ := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+path, body)
		req.Header.Set("X-Id", id)
		timer := time.AfterFunc(stay, func() {
			c.note(c.left, id)
			cancel()
		})
		defer timer.Stop()
		if resp, err := h2.Do(req); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		<-ctx.Done()
		return
	}
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	length, body := 5, "hello"
	if path == "/upload" {
		length = 1 << 20
	}
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: a\r\nX-Id: %s\r\nContent-Length: %d\r\n\r\n%s", path, id, length, body)
	go func() { _, _ = io.Copy(io.Discard, conn) }() // a client that has read everything
	<-time.After(stay)
	if how == "reset" {
		_ = conn.(*net.TCPConn).SetLinger(0)
	}
	c.note(c.left, id)
	conn.Close()
}

// drip is a body that never ends.
type drip struct{ ctx context.Context }

func (d *drip) Read(p []byte) (int, error) {
	select {
	case <-time.After(5 * time.Millisecond):
		return copy(p, "drip"), nil
	case <-d.ctx.Done():
		return 0, d.ctx.Err()
	}
}

// A client that leaves takes its request from the upstream within 100 ms, at whatever moment: nobody's GPU works for
// nobody. This process is both ends, so there is one clock. What else runs on the machine is seen by requests that go
// straight to the upstream, in the same minute. It is not parallel: beside other tests, which take all of the machine,
// a tenth of those are late as well. What only inpod stands still for, those requests do not see: so a round that was
// late is followed by others, and what counts is that there are some in time.
func TestCancellationReachesTheUpstream(t *testing.T) {
	c := &cancelTimes{began: map[string]time.Time{}, left: map[string]time.Time{}, ended: map[string]time.Time{}}
	up := httptest.NewUnstartedServer(c)
	up.Config.Protocols = new(http.Protocols)
	up.Config.Protocols.SetHTTP1(true)
	up.Config.Protocols.SetUnencryptedHTTP2(true)
	up.Start()
	defer up.Close()
	defer up.CloseClientConnections() // what never ends would be waited for
	direct := strings.TrimPrefix(up.URL, "http://")
	_, addr := startProxy(t, setup{static: true}, route{"upstream": direct})
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	h2 := &http.Client{Transport: &http.Transport{Protocols: &protocols}}
	defer h2.CloseIdleConnections()
	most, want := 40, 4
	if testing.Short() {
		want = 1
	}
	good, last := 0, ""
	for i := 0; i < most && good < want && !t.Failed(); i++ {
		if late := c.round(t, fmt.Sprintf("r%d", i), addr, direct, h2); late != "" {
			last = late
			t.Logf("round %d: %s", i, late)
		} else {
			good++
		}
	}
	if good < want && !t.Failed() {
		t.Errorf("%d of %d rounds were in time, want %d; the last that was not: %s", good, most, want, last)
	}
}

// round sends many requests and takes them back. It fails the test where a cancellation is lost, and returns what is wrong
// that may be the machine's.
func (c *cancelTimes) round(t *testing.T, name, addr, direct string, h2 *http.Client) string {
	t.Helper()
	const tries = 240
	type try struct{ id, path, how, addr string }
	work := make(chan try)
	var clients sync.WaitGroup
	for range 24 {
		clients.Go(func() {
			for w := range work {
				c.leave(w.addr, w.path, w.id, w.how, rand.N(150*time.Millisecond), h2)
			}
		})
	}
	proxied, straight := map[string]string{}, map[string]string{}
	paths, hows := []string{"/unary", "/stream", "/quiet", "/upload"}, []string{"close", "reset", "h2c", "h2c"}
	for i := range tries {
		w := try{fmt.Sprintf("%s-t%d", name, i), paths[i%4], hows[i/4%4], addr}
		proxied[w.id] = w.path + " " + w.how
		work <- w
		if i/16%3 == 0 {
			w.id, w.addr = fmt.Sprintf("%s-s%d", name, i), direct
			straight[w.id] = w.path + " " + w.how
			work <- w
		}
	}
	close(work)
	clients.Wait()
	_, noise := c.report(t, "without inpod", straight)
	came, late := c.report(t, "through inpod", proxied)
	if came < tries*8/10 {
		return fmt.Sprintf("%d of %d requests reached the upstream: too few to say anything", came, tries)
	}
	if allowed := tries/200 + 3*noise*len(proxied)/len(straight); late > allowed {
		return fmt.Sprintf("%d of %d were seen later than %s, and %d of %d without inpod; at most %d are the machine's",
			late, tries, cancelBar, noise, len(straight), allowed)
	}
	return ""
}

const (
	// cancelBar is how late an upstream may see that a client has gone.
	cancelBar = 100 * time.Millisecond
	// lostBar is how late none may see it, whatever the machine does.
	lostBar = 15 * time.Second
)

// end is when the upstream noticed that a client had left; false when it does not.
func (c *cancelTimes) end(id string) (end time.Time, ok bool) {
	lab.Until(patience, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		end, ok = c.ended[id]
		return ok
	})
	return end, ok
}

// report counts what reached the upstream and what was seen late.
func (c *cancelTimes) report(t *testing.T, what string, kinds map[string]string) (came, late int) {
	t.Helper()
	var longest time.Duration
	for id, kind := range kinds {
		c.mu.Lock()
		began, ok := c.began[id]
		left, gone := c.left[id]
		c.mu.Unlock()
		if !ok {
			continue // the client had gone before the request was on its way
		}
		came++
		end, ok := c.end(id)
		if !ok {
			t.Fatalf("%s, %s: the upstream still works for a client that left %s after the request had come", kind, what, left.Sub(began))
		}
		if !gone || end.Before(left) {
			t.Errorf("%s, %s: the upstream's context ended %s before the client left, %s after it began", kind, what, left.Sub(end), end.Sub(began))
			continue
		}
		if began.After(left) {
			left = began
		}
		took := end.Sub(left)
		longest = max(longest, took)
		if took > lostBar {
			t.Errorf("%s, %s: seen after %s, want %s", kind, what, took, cancelBar)
		}
		if took > cancelBar {
			if late++; late > 10 {
				continue
			}
			t.Logf("%s, %s: seen after %s", kind, what, took)
		}
	}
	t.Logf("%s: %d tries reached the upstream, %d were seen later than %s, the longest took %s", what, came, late, cancelBar, longest)
	return came, late
}
