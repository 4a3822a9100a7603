package proxy

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/inpod/inpod/config"
)

// crlf makes a message of lines.
func crlf(lines ...string) string { return strings.Join(lines, "\r\n") + "\r\n\r\n" }

// The very bytes that an upstream gets.
func TestRequestBytes(t *testing.T) {
	forwarded := []string{
		"X-Forwarded-For: 127.0.0.1", "X-Forwarded-Proto: http", "X-Forwarded-Host: h", `Forwarded: for=127.0.0.1;proto=http;host="h"`,
	}
	with := func(lines ...string) string { return crlf(append(lines, forwarded...)...) }
	for _, tt := range []struct{ name, request, want string }{
		{"plain", crlf("GET /a%2fb//../c;d?x=%20&&y HTTP/1.1", "Host: h"), with("GET /a%2fb//../c;d?x=%20&&y HTTP/1.1", "Host: h")},
		{
			"names, order, case and repetition are kept",
			crlf("PURGE / HTTP/1.1", "uSER-aGENT: me", "Accept:*/*", "X-A:  1 ", "Host: h", "x-a: 2", "Empty:", "Cookie: a=1", "Cookie: b=2", "Bytes: \xff\tx"),
			with("PURGE / HTTP/1.1", "Host: h", "uSER-aGENT: me", "Accept: */*", "X-A: 1", "x-a: 2", "Empty: ", "Cookie: a=1", "Cookie: b=2", "Bytes: \xff\tx"),
		},
		{
			"X-Forwarded-For goes on", crlf("GET / HTTP/1.1", "Host: h", "X-Forwarded-For: 10.0.0.1", "A: b"),
			crlf("GET / HTTP/1.1", "Host: h", "A: b", "X-Forwarded-For: 10.0.0.1, 127.0.0.1", forwarded[1], forwarded[2], forwarded[3]),
		},
		{
			"X-Forwarded-For of several lines becomes one",
			crlf("GET / HTTP/1.1", "Host: h", "X-Forwarded-For: 10.0.0.1, 10.0.0.2", "A: b", "x-forwarded-for:", "X-FORWARDED-FOR: 10.0.0.3"),
			crlf("GET / HTTP/1.1", "Host: h", "A: b", "X-Forwarded-For: 10.0.0.1, 10.0.0.2, 10.0.0.3, 127.0.0.1", forwarded[1], forwarded[2], forwarded[3]),
		},
		{
			"of very many lines the last says who the client is",
			crlf("GET / HTTP/1.1", "Host: h", "X-Forwarded-For: 1", "X-Forwarded-For: 2", "X-Forwarded-For: 3", "X-Forwarded-For: 4", "X-Forwarded-For: 5"),
			crlf("GET / HTTP/1.1", "Host: h", "X-Forwarded-For: 5", "X-Forwarded-For: 1, 2, 3, 4, 127.0.0.1", forwarded[1], forwarded[2], forwarded[3]),
		},
		{
			"Forwarded goes on", crlf("GET / HTTP/1.1", "Host: h", `Forwarded: for="[2001:db8::1]"`, "forwarded: for=_x;proto=https"),
			crlf("GET / HTTP/1.1", "Host: h", forwarded[0], forwarded[1], forwarded[2], `Forwarded: for="[2001:db8::1]", for=_x;proto=https, for=127.0.0.1;proto=http;host="h"`),
		},
		{
			"protocol and host of the ingress are kept", crlf("GET / HTTP/1.1", "Host: h", "X-Forwarded-Proto: https", "x-forwarded-host: public.example"),
			crlf("GET / HTTP/1.1", "Host: h", "X-Forwarded-Proto: https", "x-forwarded-host: public.example", forwarded[0], forwarded[3]),
		},
		{
			"fields of the connection are dropped",
			crlf("GET / HTTP/1.1", "Host: h", "Connection: keep-alive, X-Mine", "Keep-Alive: timeout=5", "X-Mine: 1", "Proxy-Connection: x", "TE: trailers",
				"Upgrade: foo", "Proxy-Authorization: Basic eA==", "X_Forwarded_For: 6.6.6.6", "Authorization: Bearer x", "Z: z"),
			with("GET / HTTP/1.1", "Host: h", "Authorization: Bearer x", "Z: z"),
		},
		{
			"forwarded fields cannot be struck out", crlf("GET / HTTP/1.1", "Host: h", "Connection: X-Forwarded-For, Forwarded, Cookie", "X-Forwarded-For: 10.0.0.1", "Cookie: a"),
			crlf("GET / HTTP/1.1", "Host: h", "Cookie: a", "X-Forwarded-For: 10.0.0.1, 127.0.0.1", forwarded[1], forwarded[2], forwarded[3]),
		},
		{"HTTP/1.0", crlf("GET / HTTP/1.0", "Host: h"), with("GET / HTTP/1.1", "Host: h")},
		{
			"HTTP/1.0 without Host", crlf("GET / HTTP/1.0"),
			crlf("GET / HTTP/1.1", "Host: UPSTREAM", forwarded[0], forwarded[1], "Forwarded: for=127.0.0.1;proto=http"),
		},
		{"absolute-form", crlf("GET http://h/p?q HTTP/1.1", "Host: other"), with("GET /p?q HTTP/1.1", "Host: h")},
		{"absolute-form without a path", crlf("GET http://h?q HTTP/1.1", "Host: h"), with("GET /?q HTTP/1.1", "Host: h")},
		{"OPTIONS *", crlf("OPTIONS * HTTP/1.1", "Host: h"), with("OPTIONS * HTTP/1.1", "Host: h")},
		{
			"body of a known length", crlf("POST / HTTP/1.1", "content-length: 3", "Host: h", "A: b") + "abc",
			crlf(append([]string{"POST / HTTP/1.1", "Host: h", "A: b", "Content-Length: 3"}, forwarded...)...) + "abc",
		},
		{
			"empty body of a known length", crlf("POST / HTTP/1.1", "Host: h", "Content-Length: 0"),
			crlf(append([]string{"POST / HTTP/1.1", "Host: h", "Content-Length: 0"}, forwarded...)...),
		},
		{
			"chunks without their extensions", crlf("POST / HTTP/1.1", "Host: h", "Transfer-Encoding: chunked") + "005;a=b\r\nhello\r\n1\r\n!\r\n00\r\n\r\n",
			crlf(append([]string{"POST / HTTP/1.1", "Host: h", "Transfer-Encoding: chunked"}, forwarded...)...) + "5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n",
		},
		{
			"trailer", crlf("POST / HTTP/1.1", "Host: h", "Transfer-Encoding: chunked", "Trailer: Digest") + "1\r\nx\r\n0\r\nDigest: y\r\nContent-Length: 5\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n",
			crlf(append([]string{"POST / HTTP/1.1", "Host: h", "Trailer: Digest", "Transfer-Encoding: chunked"}, forwarded...)...) + "1\r\nx\r\n0\r\nDigest: y\r\n\r\n",
		},
		{
			"upgrade", crlf("GET /ws HTTP/1.1", "Host: h", "upgrade: websocket", "connection: Upgrade, keep-alive", "Sec-WebSocket-Key: k"),
			crlf("GET /ws HTTP/1.1", "Host: h", "Sec-WebSocket-Key: k", forwarded[0], forwarded[1], forwarded[2], forwarded[3], "Connection: Upgrade", "Upgrade: websocket"),
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u := newRawUpstream(t)
			_, url := start(t, config.Route{Upstream: u.addr(), WebSocket: true})
			want := strings.ReplaceAll(tt.want, "UPSTREAM", u.addr())
			for _, together := range []bool{true, false} {
				c := connect(t, url)
				if together {
					c.send(tt.request)
				} else {
					for _, b := range []byte(tt.request) {
						c.send(string([]byte{b}))
					}
				}
				up := u.accept()
				got := up.head()
				if !together && strings.Contains(got, "chunked") {
					continue // chunks are those that came
				}
				if len(want) > len(got) {
					got += up.read(len(want) - len(got))
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("together %v: what the upstream got (-want +got):\n%s", together, diff)
				}
				if n := up.br.Buffered(); n > 0 {
					t.Errorf("together %v: %d more bytes came", together, n)
				}
				c.Close()
				up.Close()
			}
		})
	}
}

func TestStripPrefixBytes(t *testing.T) {
	for _, tt := range []struct{ prefix, target, want, named string }{
		{"/a", "/a", "/", "/a"},
		{"/a", "/a/", "/", "/a"},
		{"/a", "/a?q=/a", "/?q=/a", "/a"},
		{"/a", "/a/b/../a/%61?q", "/b/../a/%61?q", "/a"},
		{"/a", "/a//b", "//b", "/a"},
		{"/a/", "/a/b", "/b", "/a"},
		{"/a/", "/a", "/", "/a"},
		{"/a", "http://h/a/b", "/b", "/a"},
		{"/", "/a/b", "/a/b", ""},
		{"/", "*", "*", ""},
	} {
		t.Run(tt.prefix+" "+tt.target, func(t *testing.T) {
			u := newRawUpstream(t)
			_, url := start(t, config.Route{Upstream: u.addr(), Path: tt.prefix, StripPrefix: true})
			c := connect(t, url)
			method := "GET "
			if tt.target == "*" {
				method = "OPTIONS "
			}
			c.send(crlf(method+tt.target+" HTTP/1.1", "Host: h"))
			got := u.accept().head()
			want := []string{
				method + tt.want + " HTTP/1.1", "Host: h", "X-Forwarded-For: 127.0.0.1", "X-Forwarded-Proto: http", "X-Forwarded-Host: h",
				`Forwarded: for=127.0.0.1;proto=http;host="h"`,
			}
			if tt.named != "" {
				want = append(want, "X-Forwarded-Prefix: "+tt.named)
			}
			if diff := cmp.Diff(crlf(want...), got); diff != "" {
				t.Errorf("what the upstream got (-want +got):\n%s", diff)
			}
		})
	}
}

// The very bytes that a client gets.
func TestResponseBytes(t *testing.T) {
	const get, get10, head = "GET / HTTP/1.1", "GET / HTTP/1.0", "HEAD / HTTP/1.1"
	for _, tt := range []struct {
		name, request, response string
		closes                  bool // the upstream, behind it
		want                    string
		open                    bool // the client's connection stays
	}{
		{
			"length", get, crlf("HTTP/1.1 200 Fine", "x-a: 1", "Content-Length: 2", "X-a:2", "Empty:") + "ok", false,
			crlf("HTTP/1.1 200 Fine", "x-a: 1", "X-a: 2", "Empty: ", "Content-Length: 2") + "ok", true,
		},
		{"no reason", get, crlf("HTTP/1.1 299", "Content-Length: 0"), false, crlf("HTTP/1.1 299 ", "Content-Length: 0"), true},
		{
			"chunks", get, crlf("HTTP/1.1 200 OK", "Transfer-Encoding: chunked") + "02;x\r\nok\r\n0\r\n\r\n", false,
			crlf("HTTP/1.1 200 OK", "Transfer-Encoding: chunked") + "2\r\nok\r\n0\r\n\r\n", true,
		},
		{
			"chunks with a trailer", get, crlf("HTTP/1.1 200 OK", "Trailer: Digest", "Transfer-Encoding: chunked") + "2\r\nok\r\n0\r\nDigest: x\r\n\r\n", false,
			crlf("HTTP/1.1 200 OK", "Trailer: Digest", "Transfer-Encoding: chunked") + "2\r\nok\r\n0\r\nDigest: x\r\n\r\n", true,
		},
		{"until the end", get, crlf("HTTP/1.1 200 OK") + "ok", true, crlf("HTTP/1.1 200 OK", "Transfer-Encoding: chunked") + "2\r\nok\r\n0\r\n\r\n", true},
		{"until the end, of HTTP/1.0", get, crlf("HTTP/1.0 200 OK") + "ok", true, crlf("HTTP/1.1 200 OK", "Transfer-Encoding: chunked") + "2\r\nok\r\n0\r\n\r\n", true},
		{
			"fields of the connection", get, crlf("HTTP/1.1 200 OK", "Connection: close, x-mine", "Keep-Alive: 5", "X-Mine: 1", "Set-Cookie: a", "Content-Length: 0"), true,
			crlf("HTTP/1.1 200 OK", "Set-Cookie: a", "Content-Length: 0"), true,
		},
		{"HEAD with a length", head, crlf("HTTP/1.1 200 OK", "Content-Length: 7"), false, crlf("HTTP/1.1 200 OK", "Content-Length: 7"), true},
		{"HEAD of chunks", head, crlf("HTTP/1.1 200 OK", "Transfer-Encoding: chunked"), false, crlf("HTTP/1.1 200 OK"), true},
		{"HEAD without", head, crlf("HTTP/1.1 200 OK"), false, crlf("HTTP/1.1 200 OK"), true},
		{"204", get, crlf("HTTP/1.1 204 No Content"), false, crlf("HTTP/1.1 204 No Content"), true},
		{"204 with a length", get, crlf("HTTP/1.1 204 No Content", "Content-Length: 0"), false, crlf("HTTP/1.1 204 No Content"), true},
		{"304 with a length", get, crlf("HTTP/1.1 304 Not Modified", "Content-Length: 7", "Etag: x"), false, crlf("HTTP/1.1 304 Not Modified", "Etag: x", "Content-Length: 7"), true},
		{"100 is dropped", get, crlf("HTTP/1.1 100 Continue") + crlf("HTTP/1.1 200 OK", "Content-Length: 2") + "ok", false, crlf("HTTP/1.1 200 OK", "Content-Length: 2") + "ok", true},
		{
			"103 is passed on", get, crlf("HTTP/1.1 103 Early Hints", "Link: x", "Connection: y") + crlf("HTTP/1.1 102 Processing") + crlf("HTTP/1.1 200 OK", "Content-Length: 2") + "ok", false,
			crlf("HTTP/1.1 103 Early Hints", "Link: x") + crlf("HTTP/1.1 102 Processing") + crlf("HTTP/1.1 200 OK", "Content-Length: 2") + "ok", true,
		},
		{
			"HTTP/1.0: no 103", get10, crlf("HTTP/1.1 103 Early Hints", "Link: x") + crlf("HTTP/1.1 200 OK", "Content-Length: 2") + "ok", false,
			crlf("HTTP/1.1 200 OK", "Content-Length: 2", "Connection: close") + "ok", false,
		},
		{
			"HTTP/1.0: kept", get10 + "\r\nConnection: keep-alive", crlf("HTTP/1.1 200 OK", "Content-Length: 2") + "ok", false,
			crlf("HTTP/1.1 200 OK", "Content-Length: 2", "Connection: keep-alive") + "ok", true,
		},
		{
			"HTTP/1.0: no chunks", get10 + "\r\nConnection: keep-alive", crlf("HTTP/1.1 200 OK", "Transfer-Encoding: chunked") + "2\r\nok\r\n0\r\n\r\n", false,
			crlf("HTTP/1.1 200 OK", "Connection: close") + "ok", false,
		},
		{"HTTP/1.0: until the end", get10, crlf("HTTP/1.1 200 OK") + "ok", true, crlf("HTTP/1.1 200 OK", "Connection: close") + "ok", false},
		{"close", get + "\r\nConnection: close", crlf("HTTP/1.1 200 OK", "Content-Length: 2") + "ok", false, crlf("HTTP/1.1 200 OK", "Content-Length: 2", "Connection: close") + "ok", false},
	} {
		t.Run(tt.name, func(t *testing.T) { checkResponseBytes(t, tt.request, tt.response, tt.closes, tt.want, tt.open) })
	}
}

// checkResponseBytes has the upstream answer at once, and in single bytes.
func checkResponseBytes(t *testing.T, request, response string, closes bool, want string, open bool) {
	u := newRawUpstream(t)
	_, url := start(t, config.Route{Upstream: u.addr()})
	for _, together := range []bool{true, false} {
		c := connect(t, url)
		c.send(crlf(request, "Host: h"))
		up := u.accept()
		up.head()
		if together {
			up.send(response)
		} else {
			for _, b := range []byte(response) {
				up.send(string([]byte{b}))
			}
		}
		if closes {
			up.Close()
		}
		var got string
		if together {
			got = c.read(len(want))
		} else {
			resp, body := c.response(strings.Fields(request)[0])
			for resp.StatusCode < 200 {
				resp, body = c.response(strings.Fields(request)[0])
			}
			if _, wanted, _ := strings.Cut(want, "\r\n\r\n"); strings.Contains(wanted, "ok") != (body == "ok") {
				t.Errorf("in single bytes: got the body %q", body)
			}
			got = want
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("what the client got (-want +got):\n%s", diff)
		}
		if !open {
			if rest, err := c.rest(); rest != "" || err != nil {
				t.Errorf("then %q, %v; want the end of the connection", rest, err)
			}
		} else {
			c.send(crlf("GET /next HTTP/1.1", "Host: h", "Connection: close"))
			next := up
			if _, err := up.br.Peek(1); err != nil {
				next = u.accept()
			}
			next.head()
			next.send(shortAnswer)
			if got, err := c.rest(); got != crlf("HTTP/1.1 200 OK", "Content-Length: 2", "Connection: close")+"ok" || err != nil {
				t.Errorf("the next response is %q, %v; want it whole and alone", got, err)
			}
		}
		c.Close()
		up.Close()
	}
}
