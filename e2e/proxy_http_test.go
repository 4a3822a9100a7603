package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// heads is an upstream that notes each request's head as it came, and answers with what the test put in.
type heads struct {
	addr   string
	came   chan string // heads
	answer chan string
}

func newHeads(t *testing.T) *heads {
	h := &heads{came: make(chan string, 100), answer: make(chan string, 100)}
	h.addr = tcpServer(t, func(c *net.TCPConn, br *bufio.Reader) {
		for {
			var head strings.Builder
			for {
				line, err := br.ReadString('\n')
				if err != nil {
					return
				}
				if line == "\r\n" {
					break
				}
				head.WriteString(line)
			}
			h.came <- head.String()
			answer := "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
			select {
			case answer = <-h.answer:
			default:
			}
			_, _ = io.WriteString(c, answer)
			if strings.Contains(answer, "Connection: close") {
				return
			}
		}
	})
	return h
}

// field is the value of a field of a head, its lines joined; "-" when it has none.
func field(head, name string) string {
	var values []string
	for _, line := range strings.Split(head, "\r\n") {
		if n, v, ok := strings.Cut(line, ":"); ok && strings.EqualFold(n, name) {
			values = append(values, strings.TrimSpace(v))
		}
	}
	if values == nil {
		return "-"
	}
	return strings.Join(values, ", ")
}

// What stands in a request's head when it reaches the upstream.
func TestRequestHeads(t *testing.T) {
	t.Parallel()
	h := newHeads(t)
	_, addr := startProxy(t, setup{}, route{"upstream": h.addr, "health": "off"},
		route{"path": "/strip", "upstream": h.addr, "health": "off", "strip_prefix": true},
		route{"host": "model.example.com", "path": "/strip", "upstream": h.addr, "health": "off"})
	for _, tt := range []struct {
		name, request string
		want          map[string]string // "" is the request line
	}{
		{"forwarded fields are set", "GET /a%20b?x=%41 HTTP/1.1\r\nHost: pod.example:81\r\nx-OdD-cAsE: Kept\r\n\r\n", map[string]string{
			"": "GET /a%20b?x=%41 HTTP/1.1", "Host": "pod.example:81", "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http",
			"X-Forwarded-Host": "pod.example:81", "X-Odd-Case": "Kept",
		}},
		{"forwarded fields are added to", "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.1.2.3\r\nX-Forwarded-For: 10.4.5.6\r\nX-Forwarded-Proto: https\r\n" +
			"X-Forwarded-Host: outside.example\r\n\r\n", map[string]string{
			"X-Forwarded-For": "10.1.2.3, 10.4.5.6, 127.0.0.1", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "outside.example",
		}},
		{"tokens of Connection", "GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Mine, keep-alive, Host, content-length\r\nX-Mine: 1\r\nX-Yours: 2\r\n\r\n", map[string]string{
			"X-Mine": "-", "X-Yours": "2", "Host": "a",
		}},
		{"hop by hop", "GET / HTTP/1.1\r\nHost: a\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\nUpgrade: foo\r\n" +
			"Authorization: Bearer x\r\nCookie: a=1\r\nCookie: b=2\r\n\r\n", map[string]string{
			"Keep-Alive": "-", "Proxy-Connection": "-", "Upgrade": "-", "Authorization": "Bearer x", "Cookie": "a=1, b=2",
		}},
		{"HTTP/1.0 without Host", "GET /old HTTP/1.0\r\nX-A: 1\r\n\r\n", map[string]string{"": "GET /old HTTP/1.1", "X-A": "1"}},
		{"HTTP/1.0 with Host", "GET /old HTTP/1.0\r\nHost: a\r\n\r\n", map[string]string{"Host": "a"}},
		{"close concerns the client", "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", map[string]string{"Connection": "-"}},
		{"range", "GET / HTTP/1.1\r\nHost: a\r\nRange: bytes=0-1,5-\r\nIf-Range: \"x\"\r\n\r\n", map[string]string{"Range": "bytes=0-1,5-", "If-Range": `"x"`}},
		{"prefix is stripped", "GET /strip/v1?q HTTP/1.1\r\nHost: a\r\n\r\n", map[string]string{"": "GET /v1?q HTTP/1.1", "X-Forwarded-Prefix": "/strip"}},
		{"prefix alone", "GET /strip HTTP/1.1\r\nHost: a\r\n\r\n", map[string]string{"": "GET / HTTP/1.1"}},
		{"no prefix", "GET /stripped HTTP/1.1\r\nHost: a\r\n\r\n", map[string]string{"": "GET /stripped HTTP/1.1", "X-Forwarded-Prefix": "-"}},
		{"host of a route", "GET /strip/v1 HTTP/1.1\r\nHost: Model.example.com:8080\r\n\r\n", map[string]string{"": "GET /strip/v1 HTTP/1.1"}},
		{"OPTIONS *", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", map[string]string{"": "OPTIONS * HTTP/1.1"}},
		{"a method of its own", "PURGE / HTTP/1.1\r\nHost: a\r\n\r\n", map[string]string{"": "PURGE / HTTP/1.1"}},
	} {
		c := dial(t, addr)
		io.WriteString(c, tt.request)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if body, err := io.ReadAll(resp.Body); resp.StatusCode != 200 || string(body) != "ok" {
			t.Errorf("%s: got %d %q, %v", tt.name, resp.StatusCode, body, err)
			continue
		}
		head := <-h.came
		for name, want := range tt.want {
			got := field(head, name)
			if name == "" {
				got, _, _ = strings.Cut(head, "\r\n")
			}
			if got != want {
				t.Errorf("%s: %s: got %q, want %q", tt.name, name, got, want)
			}
		}
		if f := field(head, "Forwarded"); !strings.Contains(f, "for=") {
			t.Errorf("%s: Forwarded: got %q", tt.name, f)
		}
		c.Close()
	}
}

// What stands in an answer when it reaches the client, byte for byte where it matters.
func TestResponses(t *testing.T) {
	t.Parallel()
	h := newHeads(t)
	_, addr := startProxy(t, setup{}, route{"upstream": h.addr, "health": "off"})
	get := "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
	for _, tt := range []struct {
		name, request, answer string
		has, hasNot           []string
		end                   string // what stands behind the last head; "*" anything
	}{
		{
			"fields as they came", get, "HTTP/1.1 200 Fine Indeed\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nx-LOWER: v\r\nContent-Length: 1\r\n\r\nx",
			[]string{"HTTP/1.1 200 Fine Indeed\r\n", "Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n", "x-LOWER: v\r\n", "Connection: close\r\n"},
			[]string{"Server:", "Content-Type:"},
			"x",
		},
		{
			"hop by hop", get, "HTTP/1.1 200 OK\r\nConnection: X-Mine\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: x\r\nContent-Length: 0\r\n\r\n",
			nil,
			[]string{"X-Mine", "Keep-Alive:", "Proxy-Connection"},
			"",
		},
		{
			"HEAD", "HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n",
			[]string{"Content-Length: 12345\r\n"},
			nil, "",
		},
		{"204", get, "HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n", []string{"HTTP/1.1 204 ", "X-A: 1\r\n"}, []string{"Transfer-Encoding", "Content-Length"}, ""},
		{"304", get, "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 99\r\n\r\n", []string{"ETag: \"a\"\r\n"}, nil, ""},
		{
			"early hints", get, "HTTP/1.1 103 Early Hints\r\nLink: </s.css>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
			[]string{"HTTP/1.1 103 Early Hints\r\n", "Link: </s.css>\r\n", "HTTP/1.1 200 OK\r\n"},
			nil, "x",
		},
		{
			"early hints are not for HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nLink: </s.css>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
			nil,
			[]string{"103", "Link"},
			"x",
		},
		{
			"no chunks for HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
			nil,
			[]string{"Transfer-Encoding"},
			"abc",
		},
		{
			"range", get, "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 1-3/9\r\nContent-Length: 3\r\n\r\nabc",
			[]string{"HTTP/1.1 206 ", "Content-Range: bytes 1-3/9\r\n"},
			nil, "abc",
		},
		{
			"trailers", get, "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n3;ext=1\r\nabc\r\n0\r\nX-Sum: 7\r\n\r\n",
			[]string{"Transfer-Encoding: chunked\r\n"},
			nil, "3\r\nabc\r\n0\r\nX-Sum: 7\r\n\r\n",
		},
		{"an HTTP/1.0 server", get, "HTTP/1.0 200 OK\r\nConnection: close\r\n\r\nto the end", []string{"HTTP/1.1 200 OK\r\n"}, nil, "*"},
		{
			"large fields", get, "HTTP/1.1 200 OK\r\nX-Large: " + strings.Repeat("v", 14_000) + "\r\nContent-Length: 0\r\n\r\n",
			[]string{strings.Repeat("v", 14_000)},
			nil, "",
		},
	} {
		h.answer <- tt.answer
		c := dial(t, addr)
		io.WriteString(c, tt.request)
		raw, err := io.ReadAll(c)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		got := string(raw)
		<-h.came
		last := strings.LastIndex(got, "HTTP/1.1 ")
		if last < 0 {
			t.Errorf("%s: got %q", tt.name, got)
			continue
		}
		_, end, _ := strings.Cut(got[last:], "\r\n\r\n")
		for _, want := range tt.has {
			if !strings.Contains(got, want) {
				t.Errorf("%s: got %.500q, want %.100q in it", tt.name, got, want)
			}
		}
		for _, not := range tt.hasNot {
			if strings.Contains(got, not) {
				t.Errorf("%s: got %.500q, want no %q in it", tt.name, got, not)
			}
		}
		if tt.end != "*" && end != tt.end {
			t.Errorf("%s: got the body %.200q, want %q", tt.name, end, tt.end)
		}
		c.Close()
	}
}

// Trailers of a request reach the upstream; of two bodies in pieces each piece arrives before the next one is sent,
// so that nothing is held back on the way, in either direction.
func TestBodiesStreamBothWays(t *testing.T) {
	t.Parallel()
	pieces := make(chan string)
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		_ = rc.EnableFullDuplex()
		w.Header().Set("Trailer", "X-Back")
		_ = rc.Flush()
		buf := make([]byte, 100)
		for {
			n, err := r.Body.Read(buf)
			if n > 0 {
				pieces <- string(buf[:n])
				_, _ = w.Write(bytes.ToUpper(buf[:n]))
				_ = rc.Flush()
			}
			if err != nil {
				break
			}
		}
		w.Header().Set("X-Back", r.Trailer.Get("X-Sum"))
	}))
	t.Cleanup(up.Close)
	_, addr := startProxy(t, setup{}, route{"upstream": strings.TrimPrefix(up.URL, "http://")})
	c := dial(t, addr)
	io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n")
	br := bufio.NewReader(c)
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatalf("the answer's head, before the request's body: %v", err)
	}
	buf := make([]byte, 100)
	for i := range 20 {
		piece := fmt.Sprintf("piece %d", i)
		fmt.Fprintf(c, "%x\r\n%s\r\n", len(piece), piece)
		select {
		case got := <-pieces:
			if got != piece {
				t.Fatalf("the upstream got %q, want %q", got, piece)
			}
		case <-time.After(patience):
			t.Fatalf("%q does not reach the upstream before the next one", piece)
		}
		n, err := resp.Body.Read(buf)
		if string(buf[:n]) != strings.ToUpper(piece) {
			t.Fatalf("the client got %q, %v before the next one, want %q", buf[:n], err, strings.ToUpper(piece))
		}
	}
	io.WriteString(c, "0\r\nX-Sum: 42\r\n\r\n")
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 || resp.Trailer.Get("X-Back") != "42" {
		t.Errorf("at the end: got %q, %v and the trailer %q, want 42", rest, err, resp.Trailer.Get("X-Back"))
	}
}

// A client that waits for 100 Continue gets it once its request has been admitted, not before, and not at all when its
// body will not be taken.
func TestExpectContinue(t *testing.T) {
	t.Parallel()
	working, finish := make(chan struct{}, 8), make(chan struct{})
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path == "/first" {
			working <- struct{}{}
			<-finish
		}
		_, _ = w.Write(body)
	}))
	t.Cleanup(up.Close)
	_, addr := startProxy(t, setup{}, route{"upstream": strings.TrimPrefix(up.URL, "http://"), "concurrency": 1, "max_body": 1000})
	first := dial(t, addr)
	io.WriteString(first, "GET /first HTTP/1.1\r\nHost: a\r\n\r\n")
	<-working
	second := dial(t, addr)
	io.WriteString(second, "POST /second HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
	_ = second.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	br := bufio.NewReader(second)
	if b, err := br.Peek(1); err == nil {
		t.Errorf("while the request waits: got %q, want nothing", b)
	}
	close(finish)
	_ = second.SetReadDeadline(time.Now().Add(patience))
	for _, want := range []string{"HTTP/1.1 100 Continue\r\n", "\r\n"} {
		if line, err := br.ReadString('\n'); line != want {
			t.Fatalf("once it is admitted: got %q, %v; want %q", line, err, want)
		}
	}
	io.WriteString(second, "hello")
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != 200 || string(body) != "hello" {
		t.Errorf("got %d %q, want 200 hello", resp.StatusCode, body)
	}
	large := dial(t, addr)
	io.WriteString(large, "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5000\r\n\r\n")
	if resp, err := http.ReadResponse(bufio.NewReader(large), nil); err != nil || resp.StatusCode != 413 {
		t.Errorf("a body that is too large: got %v, %v; want 413 at once", resp, err)
	}
}

// Large bodies pass in memory that does not grow with them.
func TestLargeBodiesInConstantMemory(t *testing.T) {
	t.Parallel()
	const size = 256 << 20
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		w.Header().Set("X-Got", fmt.Sprint(n))
		if r.Method == http.MethodGet {
			w.Header().Set("Content-Length", fmt.Sprint(size))
			_, _ = io.Copy(w, io.LimitReader(zeros{}, size))
		}
	}))
	t.Cleanup(up.Close)
	a, addr := startProxy(t, setup{static: true}, route{"upstream": strings.TrimPrefix(up.URL, "http://")})
	before := rss(t, a.d.PID())
	req, _ := http.NewRequest(http.MethodPost, "http://"+addr+"/", io.LimitReader(zeros{}, size))
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got := resp.Header.Get("X-Got"); got != fmt.Sprint(size) {
		t.Errorf("the upstream got %s bytes, want %d", got, size)
	}
	if resp, err = client.Get("http://" + addr + "/"); err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	if n != size || err != nil {
		t.Errorf("the client got %d bytes, %v; want %d", n, err, size)
	}
	a.wantGrown(before, 24<<20)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// curl is a client that many have.
func TestCurl(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("0123456789", 1000)
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			http.ServeContent(w, r, "text.txt", time.Time{}, strings.NewReader(text))
			return
		}
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %d %v", r.Method, len(body), r.TransferEncoding)
	}))
	t.Cleanup(up.Close)
	a, addr := startProxy(t, setup{}, route{"upstream": strings.TrimPrefix(up.URL, "http://")})
	a.write("large", strings.Repeat("x", 3<<20))
	for _, tt := range []struct {
		args  []string
		stdin string
		want  string
	}{
		{[]string{"/"}, "", text},
		{[]string{"--http1.0", "/"}, "", text},
		{[]string{"--http2-prior-knowledge", "/"}, "", text},
		{[]string{"--range", "10-14", "/"}, "", "01234"},
		{[]string{"--http2-prior-knowledge", "--range", "-3", "/"}, "", "789"},
		{[]string{"-I", "-o", "/dev/null", "-w", "%{http_code} %header{content-length}", "/"}, "", "200 10000"},
		{[]string{"-T", "-", "/up"}, "from stdin", "PUT 10 [chunked]"},
		{[]string{"--http2-prior-knowledge", "-T", "-", "/up"}, "from stdin", "PUT 10 *"},
		{[]string{"--data-binary", "@" + a.path("large"), "/up"}, "", "POST 3145728 []"}, // with Expect: 100-continue
		{[]string{"--http1.0", "--data-binary", "@" + a.path("large"), "/up"}, "", "POST 3145728 []"},
		{[]string{"-F", "images=@" + a.path("large"), "-o", "/dev/null", "-w", "%{http_code}", "/up"}, "", "200"},
		{[]string{"-Z", "/?[1-20]", "-o", "/dev/null", "-w", "%{http_code} "}, "", strings.Repeat("200 ", 20)},
	} {
		args := append([]string{"-q", "-sS", "--max-time", "60"}, tt.args...) // -q: no ~/.curlrc
		for i, s := range args {
			if strings.HasPrefix(s, "/") && s != "/dev/null" {
				args[i] = "http://" + addr + s
			}
		}
		cmd := exec.Command("curl", args...)
		var said strings.Builder
		cmd.Env, cmd.Stdin, cmd.Stderr = append(os.Environ(), "no_proxy=*"), strings.NewReader(tt.stdin), &said
		out, err := cmd.Output()
		got := string(out)
		if want, any := strings.CutSuffix(tt.want, "*"); err != nil || got != tt.want && (!any || !strings.HasPrefix(got, want)) {
			t.Errorf("curl %s: got %.100q, %v (%s); want %.100q", strings.Join(tt.args, " "), got, err, said.String(), tt.want)
		}
	}
}
