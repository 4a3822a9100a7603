package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/inpod/inpod/e2e/lab"
	"github.com/inpod/inpod/e2e/traffic"
)

// service is what a Kubernetes Service does: new connections go to one of the endpoints, open ones stay where they are.
type service struct {
	t    *testing.T
	up   *traffic.Server
	env  []string
	stop chan struct{}

	mu        sync.Mutex
	endpoints []*pod

	posts, seconds, streams, sockets traffic.Report
	echoes                           atomic.Int64 // messages that came back over WebSockets
	goneAway                         atomic.Int64 // WebSockets that were closed with 1001
}

// pod is an agent with a route.
type pod struct {
	*agent
	addr string
}

func (s *service) add() {
	a, addr := startProxy(s.t, setup{static: true, env: s.env}, route{"upstream": s.up.Addr()})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endpoints = append(s.endpoints, &pod{a, addr})
}

func (s *service) remove(p *pod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endpoints = slices.DeleteFunc(s.endpoints, func(e *pod) bool { return e == p })
}

func (s *service) oldest() *pod {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.endpoints[0]
}

func (s *service) pick() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.endpoints[rand.IntN(len(s.endpoints))].addr
}

func (s *service) over() bool {
	select {
	case <-s.stop:
		return true
	default:
		return false
	}
}

// begin starts the traffic: 120 clients that keep their connection, 20 that make a new one each time, 20 with streams, 20
// with WebSockets and 20 that speak HTTP/2. It returns once there is some of each.
func (s *service) begin(wg *sync.WaitGroup) {
	for i := range 200 {
		switch i % 10 {
		case 0:
			wg.Go(s.fresh)
		case 1:
			wg.Go(s.stream)
		case 2:
			wg.Go(s.socket)
		case 3:
			wg.Go(s.second)
		default:
			wg.Go(s.keep)
		}
	}
	lab.Until(patience, func() bool {
		return s.posts.Total() > 200 && s.seconds.Total() > 20 && s.streams.Total() > 0 && s.echoes.Load() > 100
	})
}

func (s *service) post(c *keptConn) {
	a := &traffic.Ask{
		ID: traffic.NewID(), Method: http.MethodPost, Path: "/", Mode: traffic.Length, Size: rand.IntN(2000), Up: rand.IntN(2000), Delay: rand.IntN(5),
	}
	s.note(&s.posts, a, c)
}

// note asks and counts everything but the right answer as wrong.
func (s *service) note(r *traffic.Report, a *traffic.Ask, c *keptConn) {
	o, err := c.do(a)
	if o != traffic.Right {
		if err == nil {
			err = fmt.Errorf("broken off")
		}
		o = traffic.Wrong
		<-time.After(20 * time.Millisecond) // no faster than that
	}
	r.Add(a, o, err)
}

func (s *service) keep() {
	c := &keptConn{}
	defer c.close()
	for !s.over() {
		if c.c == nil {
			c.addr = s.pick()
		}
		s.post(c)
		<-time.After(rand.N(200 * time.Millisecond))
	}
}

func (s *service) fresh() {
	for !s.over() {
		c := &keptConn{addr: s.pick()}
		s.post(c)
		c.close()
		<-time.After(rand.N(100 * time.Millisecond))
	}
}

// second is a client that speaks HTTP/2 and keeps a connection to each of the pods.
func (s *service) second() {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	client := &http.Client{Transport: &http.Transport{Protocols: &protocols}, Timeout: patience}
	defer client.CloseIdleConnections()
	for !s.over() {
		a := &traffic.Ask{
			ID: traffic.NewID(), Method: http.MethodPost, Path: "/", Mode: traffic.Chunked, Size: rand.IntN(2000), Up: rand.IntN(2000), Delay: rand.IntN(5),
		}
		req, _ := http.NewRequest(a.Method, "http://"+s.pick()+a.Target(), bytes.NewReader(traffic.Pattern(a.ID, a.Up)))
		req.Header.Set("X-Id", a.ID)
		o := traffic.Wrong
		resp, err := client.Do(req)
		if err == nil {
			if o, err = a.Check(resp); o != traffic.Right && err == nil {
				o, err = traffic.Wrong, fmt.Errorf("status %d %s", resp.StatusCode, resp.Header.Get("X-Inpod-Error"))
			}
			resp.Body.Close()
		}
		s.seconds.Add(a, o, err)
		<-time.After(rand.N(200 * time.Millisecond))
	}
}

func (s *service) stream() {
	for !s.over() {
		c := &keptConn{addr: s.pick()}
		a := &traffic.Ask{ID: traffic.NewID(), Method: http.MethodGet, Path: "/", Mode: traffic.Events, Up: -1, Size: 2 + rand.IntN(40), Delay: 100}
		s.note(&s.streams, a, c)
		c.close()
	}
}

func (s *service) socket() {
	for !s.over() {
		err := s.talk()
		o := traffic.Right
		if err != nil {
			o = traffic.Wrong
			<-time.After(20 * time.Millisecond) // no faster than that
		}
		s.sockets.Add(&traffic.Ask{}, o, err)
	}
}

// talk is one WebSocket, from the handshake to the end: the server's 1001, or ours when the test is over.
func (s *service) talk() error {
	ws, err := traffic.Dial(s.pick(), "/socket", "")
	if err != nil {
		return err
	}
	defer ws.Close()
	for n := 0; ; n++ {
		_ = ws.SetDeadline(time.Now().Add(patience))
		f := traffic.Frame{Bits: traffic.Fin | traffic.Binary, Payload: traffic.Pattern(traffic.NewID(), rand.IntN(3000))}
		if s.over() {
			f = traffic.CloseFrame(1000, "")
		}
		if err := ws.Send(f); err != nil {
			return fmt.Errorf("message %d: %w", n, err)
		}
		got, err := traffic.ReadFrame(ws.R)
		switch {
		case err != nil:
			return fmt.Errorf("no echo of message %d, and no close: %w", n, err)
		case got.Opcode() == traffic.Close && got.CloseCode() == 1001 && !s.over():
			s.goneAway.Add(1)
			_ = ws.Send(got)
			return nil
		case got.Opcode() == traffic.Close && s.over():
			return nil
		case got.Bits != f.Bits || !bytes.Equal(got.Payload, f.Payload):
			return fmt.Errorf("message %d came back as %x with %d bytes, code %d", n, got.Bits, len(got.Payload), got.CloseCode())
		}
		s.echoes.Add(1)
		<-time.After(rand.N(100 * time.Millisecond))
	}
}

// endpointDelay is how long new connections still come after SIGTERM. A pod serves on for drainDelay, which is much longer:
// a client may rest between the moment in which it was told where to go and its connection.
const (
	endpointDelay = 2 * time.Second
	drainDelay    = 15 * time.Second
)

// roll replaces pods one after the other, as a rolling update does, and returns them.
func (s *service) roll(terms int, terminate func(*pod)) (old []*pod) {
	for range terms {
		p := s.oldest()
		terminate(p)
		<-time.After(endpointDelay)
		s.remove(p)
		s.add()
		old = append(old, p)
	}
	return old
}

// A pod that is told to go while its clients go on: not one request of any kind may fail.
func TestDrainLosesNothing(t *testing.T) {
	t.Parallel()
	terms, services, want := 5, 2, 50_000
	if testing.Short() {
		terms, services, want = 1, 1, 500
	}
	var wg sync.WaitGroup
	total := make([]int, services)
	for i := range services {
		s := &service{t: t, up: upstream(t, nil), stop: make(chan struct{}), env: []string{
			fmt.Sprintf("INPOD_DRAIN_DELAY=%s", drainDelay), fmt.Sprintf("INPOD_DRAIN_DEADLINE=%s", drainDelay+patience),
		}}
		s.add()
		s.add()
		wg.Go(func() {
			var clients sync.WaitGroup
			s.begin(&clients)
			begin := time.Now()
			old := s.roll(terms, func(p *pod) { _ = p.d.Signal(syscall.SIGTERM) })
			for _, p := range old {
				if got := p.d.WaitExit(drainDelay + 2*patience); got != "exit 0" {
					t.Errorf("a pod ended with %s, want exit 0", got)
				}
			}
			// A slow machine takes longer for as many requests, or does not come to as many.
			lab.Until(5*patience, func() bool {
				n := s.posts.Total()
				return n >= want/services || n >= want/services/4 && time.Since(begin) > 25*time.Second
			})
			close(s.stop)
			clients.Wait()
			total[i] = s.posts.Total() + s.seconds.Total() + s.streams.Total() + s.sockets.Total()
			t.Logf("%d pods were told to go: POSTs: %s; over HTTP/2: %s; streams: %s; WebSockets: %s, %d of them told that it goes away",
				terms, &s.posts, &s.seconds, &s.streams, &s.sockets, s.goneAway.Load())
			for _, r := range []*traffic.Report{&s.posts, &s.seconds, &s.streams, &s.sockets} {
				if r.Count(traffic.Wrong) > 0 {
					t.Errorf("%s: %q", r, r.Wrongs())
				}
			}
			if s.goneAway.Load() == 0 {
				t.Error("no WebSocket got Close 1001")
			}
		})
	}
	wg.Wait()
	sum := 0
	for _, n := range total {
		sum += n
	}
	t.Logf("%d requests in all", sum)
	if sum < want/4 {
		t.Errorf("got %d requests, want some %d", sum, want)
	}
}

// The same traffic, and pods that close at SIGTERM, as servers do that know nothing of endpoints: if this lost
// nothing, the test above would show nothing.
func TestDrainTestCanFail(t *testing.T) {
	t.Parallel()
	s := &service{t: t, up: upstream(t, nil), stop: make(chan struct{}), env: []string{"INPOD_DRAIN_DELAY=0s", "INPOD_DRAIN_DEADLINE=0s"}}
	s.add()
	s.add()
	var clients sync.WaitGroup
	s.begin(&clients)
	s.roll(1, func(p *pod) {
		_ = p.d.Signal(syscall.SIGTERM)
		_ = p.d.Signal(syscall.SIGTERM)
	})
	close(s.stop)
	clients.Wait()
	t.Logf("POSTs: %s; over HTTP/2: %s; streams: %s; WebSockets: %s", &s.posts, &s.seconds, &s.streams, &s.sockets)
	if s.posts.Count(traffic.Wrong) == 0 {
		t.Error("closing at SIGTERM lost no POST: this traffic shows nothing")
	}
	if s.streams.Count(traffic.Wrong) == 0 {
		t.Error("closing at SIGTERM broke off no stream: this traffic shows nothing")
	}
}
