package http1

import (
	"fmt"
	"strings"
	"testing"
)

type responseCase struct{ name, method, in, want string }

func ok(lines ...string) string { return head(append([]string{"HTTP/1.1 200 OK"}, lines...)...) }

var responseCases = []responseCase{
	{"length", "GET", ok("Content-Length: 5"), "200 OK length=5 keep"},
	{"length 0", "GET", ok("Content-Length: 0"), "200 OK length=0 keep"},
	{"chunked", "GET", ok("Transfer-Encoding: chunked"), "200 OK chunked keep"},
	{"until close", "GET", ok(), "200 OK close close"},
	{"until close, though keep-alive", "GET", ok("Connection: keep-alive"), "200 OK close close"},
	{"close", "GET", ok("Content-Length: 5", "Connection: close"), "200 OK length=5 close"},
	{"HTTP/1.0", "GET", head("HTTP/1.0 200 OK", "Content-Length: 5"), "200 OK length=5 close"},
	{"HTTP/1.0 keep-alive", "GET", head("HTTP/1.0 200 OK", "Content-Length: 5", "Connection: keep-alive"), "200 OK length=5 keep"},
	{"nothing", "GET", "", "more"},
	{"a beginning", "GET", "HTTP/1.1 20", "more"},
	{"no empty line", "GET", "HTTP/1.1 200 OK\r\nA: b\r\n", "more"},

	{"HEAD", "HEAD", ok("Content-Length: 5"), "200 OK none -> 5 keep"},
	{"HEAD without length", "HEAD", ok(), "200 OK none keep"},
	{"HEAD of chunked", "HEAD", ok("Transfer-Encoding: chunked"), "200 OK none keep"},
	{"HEAD, length twice", "HEAD", ok("Content-Length: 5", "Content-Length: 5"), "502 content_length"},
	{"head is another method", "head", ok("Content-Length: 5"), "200 OK length=5 keep"},
	{"204", "GET", head("HTTP/1.1 204 No Content"), "204 No Content none keep"},
	{"204 with length", "GET", head("HTTP/1.1 204 No Content", "Content-Length: 5"), "204 No Content none close"},
	{"204 with length 0", "GET", head("HTTP/1.1 204 No Content", "Content-Length: 0"), "204 No Content none keep"},
	{"204 chunked", "GET", head("HTTP/1.1 204 No Content", "Transfer-Encoding: chunked"), "204 No Content none close"},
	{"304", "GET", head("HTTP/1.1 304 Not Modified", "Content-Length: 5"), "304 Not Modified none -> 5 keep"},
	{"304 chunked", "GET", head("HTTP/1.1 304 Not Modified", "Transfer-Encoding: chunked"), "304 Not Modified none close"},
	{"205", "GET", head("HTTP/1.1 205 Reset Content", "Content-Length: 0"), "205 Reset Content length=0 keep"},
	{"100", "POST", head("HTTP/1.1 100 Continue"), "100 Continue none keep"},
	{"103", "GET", head("HTTP/1.1 103 Early Hints", "Link: </a>"), "103 Early Hints none keep"},
	{
		"101", "GET", head("HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", "Upgrade: websocket"),
		"101 Switching Protocols none keep upgrade=websocket",
	},
	{"101 to nothing", "GET", head("HTTP/1.1 101 Switching Protocols"), "101 Switching Protocols none keep"},
	{"an upgrade offered", "GET", ok("Content-Length: 5", "Upgrade: h2c"), "200 OK length=5 keep"},

	{"no reason", "GET", head("HTTP/1.1 200 ", "Content-Length: 5"), "200  length=5 keep"},
	{"no space", "GET", head("HTTP/1.1 200", "Content-Length: 5"), "200  length=5 keep"},
	{"reason not ASCII", "GET", head("HTTP/1.1 200 \xe4\t", "Content-Length: 5"), "200 \xe4\t length=5 keep"},
	{"value not ASCII", "GET", ok("A: \xe4", "Content-Length: 5"), "200 OK length=5 keep"},
	{"status 999", "GET", head("HTTP/1.1 999 x", "Content-Length: 5"), "999 x length=5 keep"},
	{"status 99", "GET", head("HTTP/1.1 099 x"), "502 bad_status_line"},
	{"two digits", "GET", head("HTTP/1.1 20 x"), "502 bad_status_line"},
	{"four digits", "GET", head("HTTP/1.1 2000 x"), "502 bad_status_line"},
	{"no status", "GET", head("HTTP/1.1 OK"), "502 bad_status_line"},
	{"two spaces", "GET", head("HTTP/1.1  200 OK"), "502 bad_status_line"},
	{"HTTP/2", "GET", head("HTTP/2.0 200 OK"), "502 bad_status_line"},
	{"HTTP/1.2", "GET", head("HTTP/1.2 200 OK"), "502 bad_status_line"},
	{"ICY", "GET", head("ICY 200 OK"), "502 bad_status_line"},
	{"empty line before", "GET", "\r\n" + ok(), "502 bad_status_line"},
	{"html", "GET", "<html>", "502 bad_status_line"},
	{"NUL in the reason", "GET", head("HTTP/1.1 200 O\x00K"), "502 line_end"},
	{"bare LF", "GET", "HTTP/1.1 200 OK\nContent-Length: 5\n\n", "502 line_end"},
	{"bare CR", "GET", ok("A: b\rc"), "502 line_end"},
	{"obs-fold", "GET", ok("A: b", " c"), "502 obs_fold"},
	{"space before the colon", "GET", ok("Content-Length : 5"), "502 field_name"},
	{"length twice", "GET", ok("Content-Length: 5", "Content-Length: 5"), "502 content_length"},
	{"length list", "GET", ok("Content-Length: 5, 5"), "502 content_length"},
	{"length +5", "GET", ok("Content-Length: +5"), "502 content_length"},
	{"chunked and length", "GET", ok("Content-Length: 5", "Transfer-Encoding: chunked"), "502 transfer_encoding"},
	{"HEAD with chunked and length", "HEAD", ok("Content-Length: 5", "Transfer-Encoding: chunked"), "502 transfer_encoding"},
	{"chunked in HTTP/1.0", "GET", head("HTTP/1.0 200 OK", "Transfer-Encoding: chunked"), "502 transfer_encoding"},
	{"gzip, chunked", "GET", ok("Transfer-Encoding: gzip, chunked"), "502 transfer_encoding"},
	{"chunked twice", "GET", ok("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), "502 transfer_encoding"},
	{"too many fields", "GET", ok(many(257, "A: b")...), "502 too_many_fields"},
	{"a head too long", "GET", ok("A: " + strings.Repeat("a", MaxHead)), "502 head_too_large"},
	{"a status line too long", "GET", "HTTP/1.1 200 " + strings.Repeat("a", MaxHead), "502 head_too_large"},
}

func TestResponse(t *testing.T) {
	var r Response
	for _, test := range responseCases {
		t.Run(test.name, func(t *testing.T) {
			in, method := []byte(test.in), []byte(test.method)
			wantSameInParts(t, in, func(buf []byte) (int, error) { return r.Parse(buf, method) })
			n, err := r.Parse(in, method)
			got := verdict(n, err, func() string {
				s := fmt.Sprintf("%d %s", r.Status, r.Reason)
				switch {
				case r.Framing == NoBody && r.Length >= 0:
					s += fmt.Sprint(" none -> ", r.Length)
				case r.Framing == NoBody:
					s += " none"
				case r.Framing == Length:
					s += fmt.Sprint(" length=", r.Length)
				case r.Framing == Chunked:
					s += " chunked"
				case r.Framing == UntilClose:
					s += " close"
				}
				s += map[bool]string{true: " keep", false: " close"}[r.KeepAlive]
				if r.Upgrade != nil {
					s += " upgrade=" + string(r.Upgrade)
				}
				return s
			})
			if got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			if err != nil || n == 0 {
				return
			}
			if n != len(in) {
				t.Errorf("got a head of %d bytes, want %d", n, len(in))
			}
			if err := agreeOnResponse(in, &r, n, test.method); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestResponseHop(t *testing.T) {
	var r Response
	in := ok("Connection: x-a, set-cookie", "X-A: 1", "Set-Cookie: a=b", "Keep-Alive: 5", "Content-Length: 1", "Trailer: x",
		"Proxy-Authenticate: y", "Upgrade: h2c", "X_Forwarded_For: z")
	if n, err := r.Parse([]byte(in), []byte("GET")); n != len(in) || err != nil {
		t.Fatal(n, err)
	}
	var kept []string
	for _, f := range r.Fields {
		if !f.Hop {
			kept = append(kept, string(f.Name))
		}
	}
	want := "Set-Cookie Trailer Proxy-Authenticate X_Forwarded_For"
	if got := strings.Join(kept, " "); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := string(r.Get("x-a")); got != "1" {
		t.Errorf("got %q, want 1", got)
	}
}
