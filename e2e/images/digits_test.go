//go:build images

package images

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime/multipart"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The accuracy over hundreds of digits that were held out of training is in there.
func TestDigits(t *testing.T) {
	t.Parallel()
	verify(t, "digits", build(t, "digits"))
}

func seven(t *testing.T) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(lab.root, "examples/digits/seven.jpg"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// client sends pictures over one connection that it keeps. It retries nothing, so that every failure is seen.
type client struct {
	addr string
	c    net.Conn
	br   *bufio.Reader
}

func newClient(addr string) *client { return &client{addr: addr} }

func (c *client) close() {
	if c.c != nil {
		c.c.Close()
		c.c = nil
	}
}

// predict sends a picture; the connection stays open unless the answer says otherwise.
func (c *client) predict(picture []byte) (int, error) {
	if c.c == nil {
		conn, err := net.DialTimeout("tcp", c.addr, 10*time.Second)
		if err != nil {
			return 0, err
		}
		c.c, c.br = conn, bufio.NewReader(conn)
	}
	digit, last, err := c.exchange(picture)
	if err != nil || last {
		c.close()
	}
	return digit, err
}

func (c *client) exchange(picture []byte) (digit int, last bool, err error) {
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("images", "seven.jpg")
	if err != nil {
		return 0, true, err
	}
	part.Write(picture)
	form.Close()
	if err := c.c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return 0, true, err
	}
	req, err := http.NewRequest(http.MethodPost, "http://"+c.addr+"/", &body)
	if err != nil {
		return 0, true, err
	}
	req.Header.Set("Content-Type", form.FormDataContentType())
	if err := req.Write(c.c); err != nil {
		return 0, true, fmt.Errorf("cannot send: %w", err)
	}
	resp, err := http.ReadResponse(c.br, req)
	if err != nil {
		return 0, true, fmt.Errorf("no answer: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, true, err
	}
	if resp.StatusCode != http.StatusOK {
		return 0, true, fmt.Errorf("status %d %s: %.200s", resp.StatusCode, resp.Header.Get("X-Inpod-Error"), text)
	}
	var result struct {
		Digit int `json:"mnist_result"`
	}
	err = json.Unmarshal(text, &result)
	return result.Digit, resp.Close, err
}

// pods is what a Service does: new connections go to a pod that is ready, open ones stay where they are.
type pods struct {
	mu    sync.Mutex
	addrs []string
	over  atomic.Bool
	ok    atomic.Int64
	wrong atomic.Int64
	late  atomic.Int64 // answered by the pod that was told to stop, after it was told
	told  atomic.Bool
	first string // that pod

	errs []error
}

func (p *pods) pick() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.addrs[rand.IntN(len(p.addrs))]
}

func (p *pods) remove(addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.addrs = slices.DeleteFunc(p.addrs, func(a string) bool { return a == addr })
}

func (p *pods) note(addr string, digit int, err error) {
	if err == nil && digit == 7 {
		p.ok.Add(1)
		if addr == p.first && p.told.Load() {
			p.late.Add(1)
		}
		return
	}
	p.wrong.Add(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.errs) < 10 {
		p.errs = append(p.errs, errors.Join(fmt.Errorf("%s: a seven is %d", addr, digit), err))
	}
}

func (p *pods) send(picture []byte, keep bool) {
	c := newClient("")
	defer c.close()
	for !p.over.Load() {
		if c.c == nil {
			c.addr = p.pick()
		}
		digit, err := c.predict(picture)
		p.note(c.addr, digit, err)
		if !keep {
			c.close()
		}
		<-time.After(rand.N(60 * time.Millisecond))
	}
}

// A pod of two is stopped under load, as a rolling update does it. Who keeps a connection and who makes a new one for
// each request: nobody may notice.
func TestDigitsStopUnderLoad(t *testing.T) {
	t.Parallel()
	image, picture := build(t, "digits"), seven(t)
	var all []*container
	p := &pods{}
	for range 2 {
		// As in Kubernetes, but for the length of the delay.
		c := start(t, image, "-e", "INPOD_DRAIN_DELAY=6s", "--read-only", "--tmpfs", "/tmp", "--tmpfs", "/run", "--cap-drop", "ALL")
		c.ready()
		all = append(all, c)
		p.addrs = append(p.addrs, c.addr(8080))
	}
	old := all[0]
	p.first = old.addr(8080)
	var clients sync.WaitGroup
	for i := range 12 {
		clients.Go(func() { p.send(picture, i%3 != 0) })
	}
	await(t, "some load", func() bool { return p.ok.Load() > 200 })

	type end struct {
		code int
		took time.Duration
	}
	ended := make(chan end)
	p.told.Store(true)
	go func() {
		code, took := old.stop(100 * time.Second)
		ended <- end{code, took}
	}()
	await(t, "the pod is not ready", func() bool {
		code, _ := old.get(9880, "/readyz")
		return code == http.StatusServiceUnavailable
	})
	if code, _ := old.get(9880, "/livez"); code != http.StatusOK {
		t.Errorf("GET /livez while draining: %d", code)
	}
	<-time.After(2 * time.Second) // until every node has heard of it
	p.remove(p.first)
	e := <-ended
	before := p.ok.Load()
	await(t, "the other one goes on", func() bool { return p.ok.Load() > before+100 })
	p.over.Store(true)
	clients.Wait()

	t.Logf("%d requests answered, %d of them by the pod that was told to stop; %d failed; it ended after %s",
		p.ok.Load(), p.late.Load(), p.wrong.Load(), e.took.Round(100*time.Millisecond))
	if p.wrong.Load() > 0 {
		t.Errorf("%d requests failed: %v", p.wrong.Load(), errors.Join(p.errs...))
	}
	if e.code != 0 {
		t.Errorf("exit code %d, want 0", e.code)
	}
	if p.late.Load() == 0 || e.took < 6*time.Second || e.took > 40*time.Second {
		t.Errorf("%d answers after the signal, ended after %s: want some, and at least the delay of 6 s", p.late.Load(), e.took)
	}
}

// A client's connection is kept for 200 seconds without a request, and not for ever.
func TestDigitsKeepAlive(t *testing.T) {
	t.Parallel()
	c := start(t, build(t, "digits"))
	c.ready()
	picture := seven(t)
	var both sync.WaitGroup
	both.Go(func() { // used again shortly before
		one := newClient(c.addr(8080))
		defer one.close()
		for round := range 2 {
			if round == 1 {
				<-time.After(195 * time.Second)
			}
			if digit, err := one.predict(picture); digit != 7 || err != nil || one.c == nil {
				t.Errorf("round %d: a seven is %d, %v, connection closed: %v", round, digit, err, one.c == nil)
				return
			}
		}
	})
	both.Go(func() { // left alone
		one := newClient(c.addr(8080))
		defer one.close()
		if digit, err := one.predict(picture); digit != 7 || err != nil || one.c == nil {
			t.Errorf("a seven is %d, %v, connection closed: %v", digit, err, one.c == nil)
			return
		}
		began := time.Now()
		if err := one.c.SetReadDeadline(began.Add(260 * time.Second)); err != nil {
			t.Error(err)
		}
		n, err := one.br.Read(make([]byte, 1))
		took := time.Since(began)
		t.Logf("the connection was closed after %s without a request", took.Round(100*time.Millisecond))
		if n != 0 || !errors.Is(err, io.EOF) || took < 199*time.Second || took > 220*time.Second {
			t.Errorf("after %s: %d bytes, %v; want the end after 200 s", took, n, err)
		}
	})
	both.Wait()
}
