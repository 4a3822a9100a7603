package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/inpod/inpod/e2e/framing"
	"github.com/valyala/fasthttp"
)

// framingCases is the least that the corpus must hold.
const framingCases = 400

// end is the request that shows that a connection is still in step.
const end = "GET /end HTTP/1.1\r\nHost: end\r\nConnection: close\r\n\r\n"

// TestFraming sends raw requests through inpod, each case through a route and to an upstream of its own, and checks
// the answers and every byte that reached the upstream. nginx and HAProxy get the same; where they differ is logged.
func TestFraming(t *testing.T) {
	t.Parallel()
	cases, err := framing.Load("testdata/framing")
	if err != nil {
		t.Fatal(err)
	}
	if len(cases) < framingCases {
		t.Fatalf("got %d cases, want at least %d", len(cases), framingCases)
	}
	inpod := newFramingSide(t, len(cases))
	nginx, haproxy := newFramingSide(t, len(cases)), newFramingSide(t, len(cases))

	routes := make([]route, len(cases))
	for i, addr := range inpod.front {
		routes[i] = route{"listen": addr, "upstream": inpod.echo[i].Addr(), "health": "off"}
	}
	a := startAgent(t, setup{env: []string{routesEnv(t, routes...)}})
	a.untilPhase("ready")
	peers := []peer{startNginx(t, nginx), startHAProxy(t, haproxy)}

	whole := make([]string, len(cases))
	bytewise := make([]string, len(cases))
	twice := make([]bool, len(cases))
	inTurn(len(cases), func(i int) { whole[i] = converse(inpod.front[i], cases[i], false) })
	inTurn(len(cases), func(i int) {
		// What is right must not depend on how the bytes come.
		if twice[i] = len(cases[i].Raw) < 2000; twice[i] {
			bytewise[i] = converse(inpod.front[i], cases[i], true)
		}
	})
	for _, p := range peers {
		inTurn(len(cases), func(i int) { p.side.heard[i] = listen(p.side.front[i], cases[i]) })
		p.stop()
	}
	_ = a.d.Signal(syscall.SIGTERM)
	a.wantExit("exit 0")

	for i, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			for how, got := range map[string]string{"": whole[i], ", a byte at a time": bytewise[i]} {
				if want := verdict(c); got != want && (how == "" || twice[i]) {
					t.Errorf("answers%s: got %s, want %s", how, got, want)
				}
			}
			times := 1
			if twice[i] {
				times = 2
			}
			conns, got := inpod.echo[i].Stop()
			for _, fault := range slices.Concat(wantRequests(c, got, times), wantUnambiguous(c, conns)) {
				t.Error(fault)
			}
			if t.Failed() {
				t.Logf("sent %.1000q", c.Raw)
				for _, conn := range conns {
					t.Logf("a connection brought the upstream %.2000q", conn.Raw)
				}
			}
		})
	}
	logPeers(t, cases, whole, peers)
}

// TestFramingCanFail plays the cases without inpod in between: what it refuses or takes away reaches the upstream, and
// the checks must say so. They would not if the cases or the checks were worthless.
func TestFramingCanFail(t *testing.T) {
	t.Parallel()
	cases, err := framing.Load("testdata/framing")
	if err != nil {
		t.Fatal(err)
	}
	side := newFramingSide(t, len(cases))
	inTurn(len(cases), func(i int) { listen(side.echo[i].Addr(), cases[i]) })
	count := 0
	for i, c := range cases {
		conns, got := side.echo[i].Stop()
		want := *c
		want.End = framing.Close // nobody has sent the last request
		if len(wantRequests(&want, got, 1)) > 0 || len(wantUnambiguous(c, conns)) > 0 {
			count++
		}
	}
	t.Logf("%d of %d cases fail without inpod", count, len(cases))
	if count < len(cases)*2/3 {
		t.Errorf("%d of %d cases fail without inpod, want at least two thirds", count, len(cases))
	}
}

// framingSide is a proxy, and for each case an address of it and an upstream behind.
type framingSide struct {
	front []string
	echo  []*framing.Echo
	heard []string
}

func newFramingSide(t *testing.T, n int) *framingSide {
	t.Helper()
	s := &framingSide{heard: make([]string, n)}
	for range n {
		e, err := framing.Listen()
		if err != nil {
			t.Fatal(err)
		}
		s.echo = append(s.echo, e)
		s.front = append(s.front, fmt.Sprintf("127.0.0.1:%d", freePort(t)))
	}
	return s
}

// inTurn calls do for 0 to n-1, some at a time.
func inTurn(n int, do func(i int)) {
	var wg sync.WaitGroup
	next := make(chan int)
	for range 32 {
		wg.Go(func() {
			for i := range next {
				do(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

// framingClient is a connection that plays a case.
type framingClient struct {
	net.Conn
	br   *bufio.Reader
	sent chan struct{} // closed when all has been sent, or cannot be
	head bool          // the next answer is to HEAD
	h2   bool          // what comes are frames
}

func playCase(addr string, c *framing.Case, bytewise bool) (*framingClient, error) {
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(patience / 2)) // many may fail at once
	k := &framingClient{
		Conn: conn, br: bufio.NewReader(conn), sent: make(chan struct{}), head: bytes.HasPrefix(c.Raw, []byte("HEAD ")),
	}
	go func() {
		defer close(k.sent)
		step := len(c.Raw)
		if bytewise {
			step = 1
		}
		for part := range slices.Chunk(c.Raw, step) {
			if _, err := conn.Write(part); err != nil {
				return // answered and closed before the end
			}
		}
	}()
	return k, nil
}

// answer reads one response and returns its status.
func (k *framingClient) answer() (string, error) {
	first, err := k.br.Peek(9)
	if err == nil && first[3] == 4 && first[0] == 0 { // a SETTINGS frame
		_, _ = k.br.Discard(9)
		k.h2 = true
		return "h2", nil
	}
	if len(first) == 0 {
		return "", err
	}
	method := http.MethodGet
	if k.head {
		method, k.head = http.MethodHead, false
	}
	resp, err := http.ReadResponse(k.br, &http.Request{Method: method})
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return "", fmt.Errorf("%d and a body that breaks off: %w", resp.StatusCode, err)
	}
	return fmt.Sprint(resp.StatusCode), nil
}

// verdict is what converse returns when all is well.
func verdict(c *framing.Case) string {
	return strings.Join(append(slices.Clone(c.Answers), string(c.End)), " ")
}

// converse plays a case with inpod: the answers, and what the connection does behind them.
func converse(addr string, c *framing.Case, bytewise bool) string {
	k, err := playCase(addr, c, bytewise)
	if err != nil {
		return err.Error()
	}
	defer k.Close()
	var got []string
	for len(got) < len(c.Answers) {
		status, err := k.answer()
		if err != nil {
			return strings.Join(append(got, err.Error()), " ")
		}
		if status == "100" && c.MayContinue {
			continue
		}
		if got = append(got, status); status != c.Answers[len(got)-1] {
			return strings.Join(got, " ")
		}
	}
	return strings.Join(append(got, k.end(c.End)), " ")
}

func (k *framingClient) end(want framing.End) string {
	switch want {
	case framing.Open:
		<-k.sent
		if _, err := io.WriteString(k, end); err != nil {
			return "closed: " + err.Error()
		}
		if status, err := k.answer(); status != "200" {
			return fmt.Sprintf("%s %v for one more request", status, err)
		}
	case framing.Wait:
		<-k.sent
		_ = k.SetReadDeadline(time.Now().Add(quiet))
	}
	data, err := io.ReadAll(k.br)
	switch {
	case len(data) > 0 && !k.h2:
		return fmt.Sprintf("and then %.200q", data)
	case errors.Is(err, syscall.ECONNRESET) || err == nil:
		if want == framing.Open {
			return string(want)
		}
		return string(framing.Close)
	case want == framing.Wait:
		return string(want)
	}
	return err.Error()
}

// quiet is how long nothing must come where nothing is expected.
const quiet = 300 * time.Millisecond

// listen plays a case with somebody of whom nothing is expected: what is answered until nothing more comes.
func listen(addr string, c *framing.Case) string {
	k, err := playCase(addr, c, false)
	if err != nil {
		return err.Error()
	}
	defer k.Close()
	var got []string
	for {
		_ = k.SetReadDeadline(time.Now().Add(quiet))
		status, err := k.answer()
		var wait net.Error
		switch {
		case err == nil:
			if status != "100" || !c.MayContinue {
				got = append(got, status)
			}
			continue
		case errors.As(err, &wait) && wait.Timeout():
			got = append(got, "…")
		case !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET):
			got = append(got, "garbage")
		}
		return strings.Join(got, " ")
	}
}

// wantRequests checks that the upstream got what it should, so many times.
func wantRequests(c *framing.Case, got []*framing.Got, times int) (faults []string) {
	once := slices.Clone(c.Requests)
	if c.End == framing.Open {
		once = append(once, framing.Want{Method: "GET", Target: "/end"})
	}
	want := slices.Repeat(once, times)
	if len(got) != len(want) {
		return []string{fmt.Sprintf("the upstream got %d requests, want %d: %.1000s", len(got), len(want), fmt.Sprint(got))}
	}
	for i, w := range want {
		g := got[i]
		if g.Method != w.Method || g.Target != w.Target || g.Body != w.Body {
			faults = append(faults, fmt.Sprintf("request %d: got %.500s, want %s %.100s %.300q", i, g, w.Method, w.Target, w.Body))
		}
		lines := strings.Split(g.Head, "\r\n")
		for _, line := range w.Has {
			if !slices.Contains(lines, line) {
				faults = append(faults, fmt.Sprintf("request %d: no line %q in %.1000q", i, line, g.Head))
			}
		}
		for _, name := range w.Not {
			if slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(strings.ToLower(l), strings.ToLower(name)+":") }) {
				faults = append(faults, fmt.Sprintf("request %d: a field %s in %.1000q", i, name, g.Head))
			}
		}
	}
	return faults
}

// wantUnambiguous checks that nobody can read what reached the upstream otherwise.
func wantUnambiguous(c *framing.Case, conns []*framing.Conn) (faults []string) {
	for _, conn := range conns {
		if conn.Err != nil && (!c.Broken || !errors.Is(conn.Err, io.ErrUnexpectedEOF)) {
			faults = append(faults, fmt.Sprintf("net/http cannot read %.500q: %v", conn.Left, conn.Err))
		}
		for _, g := range conn.Got {
			if plain := strings.ReplaceAll(g.Head, "\r\n", ""); strings.ContainsAny(plain, "\r\n\x00") {
				faults = append(faults, fmt.Sprintf("a bare CR or LF or a NUL in %.1000q", g.Head))
			}
			framed := strings.Count(strings.ToLower(g.Head), "\r\ncontent-length:") + strings.Count(strings.ToLower(g.Head), "\r\ntransfer-encoding:")
			if framed > 1 {
				faults = append(faults, fmt.Sprintf("framed %d times: %.1000q", framed, g.Head))
			}
		}
		if diff := readByFasthttp(conn); diff != "" {
			faults = append(faults, diff)
		}
	}
	return faults
}

// readByFasthttp reads what a connection brought once more, and says what fasthttp sees otherwise.
func readByFasthttp(conn *framing.Conn) string {
	br := bufio.NewReaderSize(bytes.NewReader(conn.Raw[:len(conn.Raw)-len(conn.Left)]), 64<<10)
	for i, g := range conn.Got {
		var req fasthttp.Request
		if err := req.Read(br); err != nil {
			return fmt.Sprintf("fasthttp cannot read request %d of %.1000q: %v", i, conn.Raw, err)
		}
		if req.MayContinue() {
			if err := req.ContinueReadBody(br, 0); err != nil {
				return fmt.Sprintf("fasthttp cannot read the body of request %d of %.1000q: %v", i, conn.Raw, err)
			}
		}
		got := framing.Got{
			Method: string(req.Header.Method()), Target: string(req.Header.RequestURI()), Host: string(req.Header.Host()),
			Body: string(req.Body()), Head: g.Head,
		}
		if got != *g {
			return fmt.Sprintf("fasthttp reads %s of %s, net/http %s of %s", &got, got.Host, g, g.Host)
		}
	}
	if rest, _ := io.ReadAll(br); len(rest) > 0 {
		return fmt.Sprintf("fasthttp leaves %.500q", rest)
	}
	return ""
}
