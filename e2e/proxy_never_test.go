package e2e

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/inpod/inpod/e2e/lab"
	"github.com/inpod/inpod/e2e/traffic"
)

// burst is a group of clients of one upstream that send at the same moment, wait, and send again on the same
// connections. So the upstream's connections have waited as long as the clients.
type burst struct {
	addr, path string
	up         *traffic.Server
	clients    int
	gap        func() time.Duration
	report     *traffic.Report
	raced      *atomic.Int64
	mode       traffic.Mode
}

func (b *burst) run(posts int, over func() bool) {
	kept := make([]*keptConn, b.clients)
	for i := range kept {
		kept[i] = &keptConn{addr: b.addr}
		defer kept[i].close()
	}
	for ; posts > 0 && !over(); posts -= b.clients {
		var wg sync.WaitGroup
		for _, c := range kept {
			wg.Go(func() {
				a := &traffic.Ask{ID: traffic.NewID(), Method: http.MethodPost, Path: b.path, Mode: b.mode, Size: 100, Up: 100}
				o, err := c.do(a)
				if o == traffic.Refused && b.up.Raced(a.ID) {
					b.raced.Add(1)
					return
				}
				if o != traffic.Right && err == nil {
					err = fmt.Errorf("refused or broken off")
				}
				if err != nil {
					o = traffic.Wrong
				}
				b.report.Add(a, o, err)
			})
		}
		wg.Wait()
		if posts > b.clients {
			<-time.After(b.gap())
		}
	}
}

// keptConn is a client's connection, made again when the answer before said so.
type keptConn struct {
	addr string
	c    net.Conn
	br   *bufio.Reader
	w    *bufio.Writer
}

func (k *keptConn) close() {
	if k.c != nil {
		k.c.Close()
		k.c = nil
	}
}

func (k *keptConn) do(a *traffic.Ask) (traffic.Outcome, error) {
	if k.c == nil {
		c, err := net.DialTimeout("tcp", k.addr, patience)
		if err != nil {
			return traffic.Wrong, err
		}
		k.c, k.br, k.w = c, bufio.NewReader(c), bufio.NewWriter(c)
	}
	_ = k.c.SetDeadline(time.Now().Add(patience))
	if err := a.Write(k.w, k.addr); err != nil {
		k.close()
		return traffic.Wrong, err
	}
	resp, err := http.ReadResponse(k.br, nil)
	if err != nil {
		k.close()
		return traffic.Wrong, fmt.Errorf("no answer: %w", err)
	}
	defer resp.Body.Close()
	o, err := a.Check(resp)
	if o == traffic.Refused {
		err = fmt.Errorf("status %d %s", resp.StatusCode, resp.Header.Get("X-Inpod-Error"))
	}
	if resp.Close || o == traffic.Aborted || o == traffic.Wrong {
		k.close()
	}
	return o, err
}

// Upstreams that close their connections when they like, and POSTs, which must not be sent twice: none may fail. A
// request that came to the upstream in the moment in which it closed is not counted: nobody can save that one.
func TestUpstreamClosesIdleConnections(t *testing.T) {
	t.Parallel()
	between := func(from, to time.Duration) func() time.Duration {
		return func() time.Duration { return from + rand.N(to-from) }
	}
	s := time.Second
	ms := time.Millisecond
	limit := 33 * s
	kinds := []struct {
		name      string
		upstreams int
		clients   int
		posts     int // of each upstream
		idle, gap func() time.Duration
		mode      traffic.Mode
	}{
		{"after 1 to 6 s", 60, 20, 240, between(1*s, 6*s), between(200*ms, 5*s), traffic.Length},
		{"when inpod does", 10, 20, 160, between(4*s, 4*s+1), between(3980*ms, 4020*ms), traffic.Length},
		{"when the client sends", 10, 20, 400, between(1500*ms, 1500*ms+1), between(1497*ms, 1504*ms), traffic.Length},
		{"after each answer", 4, 10, 500, nil, between(1, 3*ms), traffic.Leaves},
	}
	var routes []route
	var bursts []*burst
	var posts []int
	reports := make([]traffic.Report, len(kinds))
	var raced atomic.Int64
	for k, kind := range kinds {
		for range kind.upstreams {
			up := upstream(t, kind.idle)
			if kind.mode == traffic.Length {
				up.Delay = 10 * ms // so that each client of a burst needs a connection
			}
			path := fmt.Sprintf("/u%d", len(routes))
			routes = append(routes, route{"path": path, "upstream": up.Addr()})
			bursts = append(bursts, &burst{
				path: path, up: up, clients: kind.clients, gap: kind.gap, report: &reports[k], raced: &raced, mode: kind.mode,
			})
			n := kind.posts
			if testing.Short() {
				n /= 10
			}
			posts = append(posts, n)
		}
	}
	_, addr := startProxy(t, setup{static: true}, routes...)
	sum := func() (n int) {
		for k := range reports {
			n += reports[k].Total()
		}
		return n
	}
	want := 15_000
	if testing.Short() {
		want = 0
	}
	begin := time.Now()
	over := func() bool { // a slow machine takes longer for as many
		took := time.Since(begin)
		return took > limit && sum() >= want || took > 5*patience
	}
	var wg sync.WaitGroup
	for i, b := range bursts {
		b.addr = addr
		wg.Go(func() { b.run(posts[i], over) })
	}
	wg.Wait()
	total := sum()
	for k := range kinds {
		r := &reports[k]
		t.Logf("closed %s: %s", kinds[k].name, r)
		if n := r.Count(traffic.Wrong); n > 0 {
			t.Errorf("closed %s: %d of %d POSTs failed: %q", kinds[k].name, n, r.Total(), r.Wrongs())
		}
	}
	t.Logf("%d POSTs, and %d in the moment of the closing", total, raced.Load())
	if total < want {
		t.Errorf("got %d POSTs in %s, want %d", total, time.Since(begin), want)
	}
	if raced.Load()*100 > int64(total) {
		t.Errorf("%d of %d POSTs met the moment of the closing: too many to say anything", raced.Load(), total)
	}
}

// Every answer is the one to its request, whatever the others on the connection and the upstream do.
func TestNoAnswerIsMixedUp(t *testing.T) {
	t.Parallel()
	up := upstream(t, nil)
	_, addr := startProxy(t, setup{static: true}, route{"upstream": up.Addr()})
	want, clients := 100_000, 32
	if testing.Short() {
		want = 5000
	}
	var report traffic.Report
	end := time.Now().Add(5 * patience)
	var wg sync.WaitGroup
	for i := range clients {
		m := &traffic.Mixed{
			Addr: addr, Path: "/", Report: &report, Broken: 0.03, Deep: 8, Rand: rand.New(rand.NewPCG(uint64(i), 1)), Raced: up.Raced,
		}
		wg.Go(func() {
			m.Run(func() bool {
				return report.Total() < want && report.Count(traffic.Wrong) < 20 && time.Now().Before(end)
			})
		})
	}
	wg.Wait()
	t.Logf("%s", &report)
	if n := report.Count(traffic.Wrong); n > 0 {
		t.Errorf("%d wrong answers: %q", n, report.Wrongs())
	} else if report.Total() < want/4 { // a slow machine does not come to all of them
		t.Errorf("%d requests, want %d", report.Total(), want)
	}
	if report.Count(traffic.Refused) == 0 || report.Count(traffic.Aborted) == 0 {
		t.Errorf("%s: want some of each but wrong ones, or the test shows nothing", &report)
	}
}

// An upstream that is killed, stopped in its tracks and started again: clear errors or aborted answers meanwhile,
// right ones after.
func TestUpstreamComesAndGoes(t *testing.T) {
	t.Parallel()
	upAddr := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	dir := shortDir(t)
	launch := func() *lab.Daemon {
		d, err := lab.Start(dir, baseEnv(), bins.Prog, "upstream", upAddr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(d.Kill)
		return d
	}
	d := launch()
	_, addr := startProxy(t, setup{static: true}, route{"upstream": upAddr, "timeout": "2s"})
	answers := func() bool {
		o, _ := (&keptConn{addr: addr}).do(&traffic.Ask{ID: traffic.NewID(), Method: "POST", Path: "/", Mode: traffic.Length, Size: 9, Up: 9})
		return o == traffic.Right
	}
	var report traffic.Report
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 12 {
		m := &traffic.Mixed{
			Addr: addr, Path: "/", Report: &report, Deep: 3, Lenient: true, Rand: rand.New(rand.NewPCG(uint64(i), 2)), Pause: 2 * time.Millisecond,
		}
		wg.Go(func() {
			m.Run(func() bool {
				select {
				case <-stop:
					return false
				default:
					return report.Count(traffic.Wrong) < 20
				}
			})
		})
	}
	rounds := 4
	for range rounds {
		before := report.Count(traffic.Right)
		if !lab.Until(patience, func() bool { return report.Count(traffic.Right) > before+100 }) {
			t.Error("no right answers while the upstream is there")
			break
		}
		d.Kill()
		before = report.Count(traffic.Refused)
		if !lab.Until(patience, func() bool { return report.Count(traffic.Refused) > before }) {
			t.Error("no clear error while the upstream is gone")
			break
		}
		d = launch()
		if !lab.Until(patience, answers) {
			t.Error("no right answer after the upstream came back")
			break
		}
	}
	// It accepts and says nothing; then it goes on as if nothing had been.
	_ = d.Signal(syscall.SIGSTOP)
	if !lab.Until(patience, func() bool { u, err := lab.ReadUsage(d.PID()); return err == nil && u.State == "T" }) {
		t.Fatal("the upstream does not stop")
	}
	c := &keptConn{addr: addr}
	begin := time.Now()
	o, err := c.do(&traffic.Ask{ID: traffic.NewID(), Method: "GET", Path: "/", Mode: traffic.Length, Size: 9, Up: -1})
	c.close()
	if o != traffic.Refused || time.Since(begin) > patience/2 {
		t.Errorf("an upstream that hangs: got outcome %d, %v after %s, want a refusal after 2s", o, err, time.Since(begin))
	}
	_ = d.Signal(syscall.SIGCONT)
	if !lab.Until(patience, answers) {
		t.Error("no right answer after the upstream went on")
	}
	close(stop)
	wg.Wait()
	t.Logf("%s", &report)
	if n := report.Count(traffic.Wrong); n > 0 {
		t.Errorf("%d wrong answers: %q", n, report.Wrongs())
	}
}

// A hanging upstream gets 504, one that is not there 502 or 503, at once and with the reason.
func TestUpstreamErrorsAreClear(t *testing.T) {
	t.Parallel()
	up := upstream(t, nil)
	// Its port is none that the kernel would give to somebody else once it is free.
	gone, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", freePort(t)))
	if err != nil {
		t.Fatal(err)
	}
	hung, err := net.Listen("tcp", "127.0.0.1:0") // accepts, as the kernel does, and never reads
	if err != nil {
		t.Fatal(err)
	}
	defer hung.Close()
	_, addr := startProxy(t, setup{}, route{"path": "/up", "upstream": up.Addr()}, route{"path": "/hangs", "upstream": up.Addr(), "timeout": "300ms"},
		route{"path": "/gone", "upstream": gone.Addr().String()}, route{"path": "/hung", "upstream": hung.Addr().String(), "timeout": "300ms"})
	gone.Close()
	for _, tt := range []struct {
		path   string
		mode   traffic.Mode
		status []int
	}{
		{"/hangs", traffic.Hangs, []int{504}},
		{"/hung", traffic.Length, []int{504}},
		{"/gone", traffic.Length, []int{502, 503}},
		{"/up", traffic.Mute, []int{502}},
		{"/up", traffic.Garbage, []int{502}},
		{"/up", traffic.HalfHead, []int{502}},
		{"/nowhere", traffic.Length, []int{404}},
	} {
		a := &traffic.Ask{ID: traffic.NewID(), Method: "POST", Path: tt.path, Mode: tt.mode, Up: 10, Size: 10}
		c := dial(t, addr)
		if err := a.Write(bufio.NewWriter(c), addr); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Errorf("%s %s: %v", tt.path, tt.mode, err)
			continue
		}
		ok := false
		for _, s := range tt.status {
			ok = ok || s == resp.StatusCode
		}
		if reason := resp.Header.Get("X-Inpod-Error"); !ok || reason == "" {
			t.Errorf("%s %s: got %d with the reason %q, want %d and a reason", tt.path, tt.mode, resp.StatusCode, reason, tt.status)
		}
		resp.Body.Close()
	}
}
