package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/inpod/inpod/e2e/lab"
)

// hello is an upstream that answers at once, and with 64 MB below /large.
func hello(t *testing.T) string {
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/large" {
			w.Header().Set("Content-Length", fmt.Sprint(64<<20))
			_, _ = io.Copy(w, io.LimitReader(zeros{}, 64<<20))
			return
		}
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "hello %d", n)
	}))
	t.Cleanup(up.Close)
	return strings.TrimPrefix(up.URL, "http://")
}

// served checks that somebody else gets an answer, and soon.
func served(t *testing.T, addr, when string) {
	t.Helper()
	for range 5 {
		begin := time.Now()
		_, answer := send(t, addr, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		resp, body := answer()
		if resp.StatusCode != 200 || body != "hello 0" {
			t.Errorf("%s: another client got %d %q, want 200", when, resp.StatusCode, body)
		}
		if took := time.Since(begin); took > 20*time.Second { // less than any timeout that would free what holds it up
			t.Errorf("%s: another client waited %s", when, took)
		}
	}
}

func openFiles(t *testing.T, pid int) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// hears sends a request and reads the answer.
func hears(c net.Conn) error {
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, get("/")); err != nil {
		return err
	}
	buf := make([]byte, 4096)
	n, err := c.Read(buf)
	if err != nil || !strings.HasPrefix(string(buf[:n]), "HTTP/1.1 200 ") {
		return fmt.Errorf("got %q, %v", buf[:n], err)
	}
	return nil
}

// As many idle connections as the limits on open files allow to both sides: little memory, others are served, and
// nothing is left of them afterwards.
func TestManyIdleConnections(t *testing.T) {
	t.Parallel()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	count := min(9000, int(limit.Cur)/2-500)
	if testing.Short() {
		count = min(count, 1000)
	}
	a, addr := startProxy(t, setup{static: true}, route{"upstream": hello(t)})
	served(t, addr, "at first")
	before, files := rss(t, a.d.PID()), openFiles(t, a.d.PID())
	conns := make([]net.Conn, count)
	defer func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	}()
	open := func(from, to int, speak bool) {
		var wg sync.WaitGroup
		for part := range 8 {
			wg.Go(func() {
				for i := from + part; i < to; i += 8 {
					c, err := net.DialTimeout("tcp", addr, patience)
					if err == nil {
						conns[i] = c
						if speak {
							err = hears(c)
						}
					}
					if err != nil {
						t.Errorf("connection %d: %v", i, err)
						return
					}
				}
			})
		}
		wg.Wait()
	}
	open(0, count*9/10, true)
	open(count*9/10, count, false) // these never say a word; they are let in for 30 s only, so they come last
	if t.Failed() {
		return
	}
	// Connected is what the kernel says; inpod takes them one by one.
	a.until(fmt.Sprintf("%d open files more", count), func() bool { return openFiles(t, a.d.PID())-files >= count-count/100 })
	each := (rss(t, a.d.PID()) - before) / count
	t.Logf("%d connections, %d bytes each", count, each)
	if each > 16<<10 {
		t.Errorf("inpod takes %d bytes for an idle connection, want no more than 16 KB", each)
	}
	served(t, addr, "beside idle connections")
	for _, i := range []int{0, count / 2, count - 1} {
		if err := hears(conns[i]); err != nil {
			t.Errorf("connection %d, which was idle: %v", i, err)
		}
	}
	for _, c := range conns {
		c.Close()
	}
	a.until("the connections are closed", func() bool { return openFiles(t, a.d.PID()) < files+20 })
}

// Over max_connections new clients are held off or refused; once there is room they are served.
func TestMaxConnections(t *testing.T) {
	t.Parallel()
	const most = 50
	a, addr := startProxy(t, setup{env: []string{fmt.Sprintf("INPOD_PROXY_MAX_CONNECTIONS=%d", most)}}, route{"upstream": hello(t)})
	served(t, addr, "at first")
	files := openFiles(t, a.d.PID())
	var conns []net.Conn
	for range most * 3 {
		c, err := net.DialTimeout("tcp", addr, patience)
		if err != nil {
			break // refused
		}
		defer c.Close()
		conns = append(conns, c)
	}
	lab.Until(time.Second, func() bool { return openFiles(t, a.d.PID()) > files+most+20 })
	if got := openFiles(t, a.d.PID()) - files; got > most+20 {
		t.Errorf("inpod has %d files more open, want some %d", got, most)
	}
	for _, c := range conns {
		c.Close()
	}
	if !lab.Until(patience, func() bool { code, _ := a.request(http.MethodGet, "http://"+addr+"/"); return code == 200 }) {
		t.Error("no answer once there was room")
	}
	served(t, addr, "once there was room")
}

// Heads that come byte by byte end with 408, and nobody else is kept waiting.
func TestSlowHeads(t *testing.T) {
	t.Parallel()
	a, addr := startProxy(t, setup{static: true}, route{"upstream": hello(t)})
	served(t, addr, "at first")
	before := rss(t, a.d.PID())
	const count = 300
	var wg sync.WaitGroup
	var mu sync.Mutex
	ends := map[string]int{}
	begin := time.Now()
	for i := range count {
		c := dial(t, addr)
		_ = c.SetDeadline(begin.Add(2 * patience))
		wg.Go(func() {
			if i%3 == 0 {
				io.WriteString(c, get("/")) // slow with its second request
			}
			text := "GET / HTTP/1.1\r\nHost: a\r\nX-Long: " + strings.Repeat("x", 4000)
			stop := make(chan struct{})
			go func() {
				for b := range len(text) {
					select {
					case <-time.After(200 * time.Millisecond):
					case <-stop:
						return
					}
					if _, err := io.WriteString(c, text[b:b+1]); err != nil {
						return
					}
				}
			}()
			all, _ := io.ReadAll(c)
			close(stop)
			c.Close()
			end := "closed without a word"
			if strings.Contains(string(all), "HTTP/1.1 408 ") && strings.Contains(string(all), "X-Inpod-Error: ") {
				end = "408"
			}
			mu.Lock()
			defer mu.Unlock()
			ends[end]++
		})
	}
	<-time.After(2 * time.Second)
	served(t, addr, "beside slow heads")
	wg.Wait()
	t.Logf("%d slow heads ended after %s: %v", count, time.Since(begin).Round(time.Second), ends)
	if took := time.Since(begin); took > 110*time.Second { // those that are not ended, the test ends after 120
		t.Errorf("the slow heads were let in for %s", took)
	}
	// A byte that crosses with the end of the connection makes a reset of it, which takes the answer away.
	if ends["408"] < count*8/10 {
		t.Errorf("the ends: %v, want 408", ends)
	}
	a.wantGrown(before, 16<<20)
}

// A body that stops coming ends with 408; one that is only slow is none of our business.
func TestSlowBodies(t *testing.T) {
	t.Parallel()
	_, addr := startProxy(t, setup{static: true}, route{"upstream": hello(t), "idle_timeout": "6s"})
	steady, answer := send(t, addr, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\n")
	stopped, broken := send(t, addr, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\nabc")
	for range 50 {
		<-time.After(150 * time.Millisecond)
		if _, err := io.WriteString(steady, "x"); err != nil {
			t.Fatal(err)
		}
	}
	if resp, body := answer(); resp.StatusCode != 200 || body != "hello 50" {
		t.Errorf("a body of 50 bytes in 7.5 s: got %d %q, want 200", resp.StatusCode, body)
	}
	if resp, body := broken(); resp.StatusCode != 408 || resp.Header.Get("X-Inpod-Error") == "" {
		t.Errorf("a body that stopped: got %d %q, want 408", resp.StatusCode, body)
	}
	if n, err := io.Copy(io.Discard, stopped); n > 0 || err != nil {
		t.Errorf("a body that stopped: got %d bytes, %v after the answer; want the end", n, err)
	}
}

// Heads without an end are refused before they take memory.
func TestHeaderBombs(t *testing.T) {
	t.Parallel()
	a, addr := startProxy(t, setup{static: true}, route{"upstream": hello(t)})
	served(t, addr, "at first")
	before := rss(t, a.d.PID())
	bombs := []struct {
		name, text string
		want       []string
	}{
		{"one long field", "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 1<<20), []string{"431"}},
		{"many fields", "GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X-Y: z\r\n", 100_000), []string{"431"}},
		{"a long name", "GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("x", 1<<20), []string{"431", "400"}},
		{"a long target", "GET /" + strings.Repeat("x", 1<<20), []string{"414", "431"}},
		{"a long method", strings.Repeat("G", 1<<20), []string{"400", "414", "431", "501"}},
		{"long trailers", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + strings.Repeat("X-Y: z\r\n", 100_000), []string{"431", "400"}},
		{"a long chunk extension", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;" + strings.Repeat("x", 1<<20), []string{"431", "400"}},
	}
	var wg sync.WaitGroup
	for _, b := range bombs {
		for range 40 {
			c := dial(t, addr)
			wg.Go(func() {
				defer c.Close()
				go func() { _, _ = io.WriteString(c, b.text) }()
				br := bufio.NewReader(c)
				line, err := br.ReadString('\n')
				if err != nil && strings.Contains(err.Error(), "reset") {
					return // what was still coming took the answer away
				}
				ok := false
				for _, w := range b.want {
					ok = ok || strings.HasPrefix(line, "HTTP/1.1 "+w+" ")
				}
				if !ok {
					t.Errorf("%s: got %q, %v; want %q", b.name, line, err, b.want)
				}
			})
		}
	}
	served(t, addr, "beside header bombs")
	wg.Wait()
	a.wantGrown(before, 32<<20)
}

// Clients that do not read, or a byte now and then: what they do not take is not held for them, and others go on.
func TestClientsThatDoNotRead(t *testing.T) {
	t.Parallel()
	a, addr := startProxy(t, setup{static: true}, route{"upstream": hello(t)})
	served(t, addr, "at first")
	before := rss(t, a.d.PID())
	var slow []net.Conn
	for range 60 {
		c, _ := send(t, addr, get("/large"))
		slow = append(slow, c)
	}
	// These do not even wait for answers.
	var wg sync.WaitGroup
	for range 10 {
		c := dial(t, addr)
		_ = c.SetWriteDeadline(time.Now().Add(2 * time.Second))
		wg.Go(func() {
			requests := strings.Repeat(get("/"), 200)
			for {
				if _, err := io.WriteString(c, requests); err != nil {
					return
				}
			}
		})
		slow = append(slow, c)
	}
	one := make([]byte, 1)
	for range 3 {
		for _, c := range slow[:60] {
			if _, err := c.Read(one); err != nil {
				t.Fatalf("a slow client: %v", err)
			}
		}
		served(t, addr, "beside slow readers")
		<-time.After(time.Second)
	}
	wg.Wait()
	a.wantGrown(before, 48<<20)
	// One of them changes its mind and gets all of it.
	_ = slow[0].SetDeadline(time.Now().Add(patience))
	if rest, err := io.CopyN(io.Discard, slow[0], 64<<20); err != nil {
		t.Errorf("a slow client that reads on: got %d bytes, %v; want 64 MB", rest, err)
	}
	for _, c := range slow {
		c.Close()
	}
	a.untilQuiet()
}
