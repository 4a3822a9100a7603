package http1

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// requestCase is a head and what Parse says: an error as "status reason", "more", or a summary.
type requestCase struct{ name, in, want string }

func head(lines ...string) string { return strings.Join(lines, "\r\n") + "\r\n\r\n" }

// getHead makes a GET in HTTP/1.1 with more lines.
func getHead(lines ...string) string {
	return head(append([]string{"GET / HTTP/1.1", "Host: a"}, lines...)...)
}

func post(lines ...string) string {
	return head(append([]string{"POST / HTTP/1.1", "Host: a"}, lines...)...)
}

func many(n int, line string) []string {
	lines := make([]string, n)
	for i := range lines {
		lines[i] = line
	}
	return lines
}

// plainGet is what a GET / with Host: a gives.
const plainGet = `GET / host=a none keep`

var requestCases = []requestCase{
	{"plain", getHead(), plainGet},
	{"nothing", "", "more"},
	{"a beginning", "GET / HTT", "more"},
	{"no empty line", "GET / HTTP/1.1\r\nHost: a\r\n", "more"},
	{"half an end", "GET / HTTP/1.1\r\nHost: a\r\n\r", "more"},
	{"empty line before", "\r\n" + getHead(), plainGet},
	{"two empty lines before", "\r\n\r\n" + getHead(), "400 bad_request_line"},
	{"bare LF before", "\n" + getHead(), "400 bad_request_line"},
	{"bare CR before", "\r" + getHead(), "400 line_end"},
	{"blank before", " " + getHead(), "400 bad_request_line"},
	{"TLS", "\x16\x03\x01\x02\x00\x01", "400 bad_request_line"},

	{"method in lower case", head("get / HTTP/1.1", "Host: a"), "400 bad_method"},
	{"method in mixed case", head("Head / HTTP/1.1", "Host: a"), "400 bad_method"},
	{"odd method", head("M-SEARCH / HTTP/1.1", "Host: a"), "M-SEARCH / host=a none keep"},
	{"no method", head("/ HTTP/1.1", "Host: a"), "400 bad_request_line"},
	{"method no token", head("GE(T / HTTP/1.1", "Host: a"), "400 bad_request_line"},
	{"NUL in the method", head("G\x00ET / HTTP/1.1", "Host: a"), "400 bad_request_line"},
	{"CONNECT", head("CONNECT a:443 HTTP/1.1", "Host: a:443"), "501 connect_not_supported"},
	{"TRACE", head("TRACE / HTTP/1.1", "Host: a"), "TRACE / host=a none keep"},

	{"two spaces", head("GET  / HTTP/1.1", "Host: a"), "400 bad_request_line"},
	{"two spaces before the version", head("GET /  HTTP/1.1", "Host: a"), "400 bad_request_line"},
	{"tab", head("GET\t/ HTTP/1.1", "Host: a"), "400 bad_request_line"},
	{"tab before the version", head("GET /\tHTTP/1.1", "Host: a"), "400 bad_target"},
	{"space behind the version", head("GET / HTTP/1.1 ", "Host: a"), "400 bad_request_line"},
	{"space in the target", head("GET /a b HTTP/1.1", "Host: a"), "400 bad_request_line"},
	{"HTTP/0.9", "GET /\r\n", "400 bad_request_line"},
	{"HTTP/0.9 with a space", "GET / \r\n\r\n", "400 bad_request_line"},
	{"HTTP/1.2", head("GET / HTTP/1.2", "Host: a"), "505 version"},
	{"HTTP/2.0", head("GET / HTTP/2.0", "Host: a"), "505 version"},
	{"HTTP/0.9 named", head("GET / HTTP/0.9"), "505 version"},
	{"HTTP/1.10", head("GET / HTTP/1.10", "Host: a"), "400 bad_request_line"},
	{"HTTP/1", head("GET / HTTP/1", "Host: a"), "400 bad_request_line"},
	{"HTTP/01.1", head("GET / HTTP/01.1", "Host: a"), "400 bad_request_line"},
	{"http/1.1", head("GET / http/1.1", "Host: a"), "400 bad_request_line"},
	{"HTTPS/1.1", head("GET / HTTPS/1.1", "Host: a"), "400 bad_request_line"},
	{"bare LF behind the version", "GET / HTTP/1.1\nHost: a\r\n\r\n", "400 line_end"},
	{"CR CR LF", "GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", "400 line_end"},

	{"query", head("GET /a?b=c?d HTTP/1.1", "Host: a"), "GET /a query=?b=c?d host=a none keep"},
	{"empty query", head("GET /? HTTP/1.1", "Host: a"), "GET / query=? host=a none keep"},
	{"two slashes", head("GET //b/c HTTP/1.1", "Host: a"), "GET //b/c host=a none keep"},
	{"no slash", head("GET a HTTP/1.1", "Host: a"), "400 bad_target"},
	{"fragment", head("GET /a#b HTTP/1.1", "Host: a"), "400 bad_target"},
	{"not ASCII", head("GET /\xc3\xa4 HTTP/1.1", "Host: a"), "400 bad_target"},
	{"NUL in the target", head("GET /\x00 HTTP/1.1", "Host: a"), "400 bad_target"},
	{"DEL in the target", head("GET /\x7f HTTP/1.1", "Host: a"), "400 bad_target"},
	{"bare CR in the target", head("GET /\rb HTTP/1.1", "Host: a"), "400 bad_request_line"},
	{"escapes", head("GET /%2F%e4 HTTP/1.1", "Host: a"), "GET /%2F%e4 host=a none keep"},
	{"bad escape", head("GET /%zz HTTP/1.1", "Host: a"), "400 bad_target"},
	{"half an escape", head("GET /%4 HTTP/1.1", "Host: a"), "400 bad_target"},
	{"bad escape in the query", head("GET /?%z HTTP/1.1", "Host: a"), "GET / query=?%z host=a none keep"},
	{"OPTIONS *", head("OPTIONS * HTTP/1.1", "Host: a"), "OPTIONS * host=a none keep"},
	{"GET *", head("GET * HTTP/1.1", "Host: a"), "400 bad_target"},
	{"absolute", head("GET http://b:80/c?d HTTP/1.1", "Host: a"), "GET /c query=?d host=b:80 none keep"},
	{"absolute, https", head("GET HTTPS://b/c HTTP/1.1", "Host: a"), "GET /c host=b none keep"},
	{"absolute, no path", head("GET http://b HTTP/1.1", "Host: a"), "GET / host=b none keep"},
	{"absolute, query only", head("GET http://b?c HTTP/1.1", "Host: a"), "GET / query=?c host=b none keep"},
	{"absolute, OPTIONS", head("OPTIONS http://b HTTP/1.1", "Host: a"), "OPTIONS * host=b none keep"},
	{"absolute, no Host", head("GET http://b/ HTTP/1.1"), "400 host"},
	{"absolute, bad Host", head("GET http://b/ HTTP/1.1", "Host: a b"), "400 host"},
	{"absolute, no authority", head("GET http:///c HTTP/1.1", "Host: a"), "400 bad_target"},
	{"absolute, user", head("GET http://u@b/ HTTP/1.1", "Host: a"), "400 bad_target"},
	{"absolute, ftp", head("GET ftp://b/ HTTP/1.1", "Host: a"), "400 bad_target"},
	{"absolute, one slash", head("GET http:/b HTTP/1.1", "Host: a"), "400 bad_target"},
	{"absolute, HTTP/1.0", head("GET http://b/ HTTP/1.0"), "GET / host=b none close 1.0"},

	{"no Host", head("GET / HTTP/1.1"), "400 host"},
	{"no Host in HTTP/1.0", head("GET / HTTP/1.0"), "GET / host= none close 1.0"},
	{"empty Host in HTTP/1.0", head("GET / HTTP/1.0", "Host:"), "GET / host= none close 1.0"},
	{"empty Host", head("GET / HTTP/1.1", "Host:"), "400 host"},
	{"two Hosts", head("GET / HTTP/1.1", "Host: a", "Host: b"), "400 host"},
	{"the same Host twice", head("GET / HTTP/1.1", "Host: a", "hOST: a"), "400 host"},
	{"Host with port", head("GET / HTTP/1.1", "Host: a_b.c:8080"), "GET / host=a_b.c:8080 none keep"},
	{"Host with empty port", head("GET / HTTP/1.1", "Host: a:"), "GET / host=a: none keep"},
	{"Host with a bad port", head("GET / HTTP/1.1", "Host: a:8o"), "400 host"},
	{"Host with a long port", head("GET / HTTP/1.1", "Host: a:123456"), "400 host"},
	{"Host with two ports", head("GET / HTTP/1.1", "Host: a:1:2"), "400 host"},
	{"Host with only a port", head("GET / HTTP/1.1", "Host: :80"), "400 host"},
	{"Host with a user", head("GET / HTTP/1.1", "Host: u@a"), "400 host"},
	{"Host with a path", head("GET / HTTP/1.1", "Host: a/b"), "400 host"},
	{"Host list", head("GET / HTTP/1.1", "Host: a, b"), "400 host"},
	{"Host not ASCII", head("GET / HTTP/1.1", "Host: \xc3\xa4"), "400 host"},
	{"Host IPv6", head("GET / HTTP/1.1", "Host: [::1]:80"), "GET / host=[::1]:80 none keep"},
	{"Host bad IPv6", head("GET / HTTP/1.1", "Host: [::g]"), "400 host"},
	{"Host IPv4 in brackets", head("GET / HTTP/1.1", "Host: [1.2.3.4]"), "400 host"},
	{"Host IPv6 with a zone", head("GET / HTTP/1.1", "Host: [fe80::1%25a]"), "400 host"},
	{"Host IPv6 not closed", head("GET / HTTP/1.1", "Host: [::1"), "400 host"},
	{"Host behind IPv6", head("GET / HTTP/1.1", "Host: [::1]a"), "400 host"},

	{"space before the colon", getHead("A : b"), "400 field_name"},
	{"tab before the colon", getHead("A\t: b"), "400 field_name"},
	{"no colon", getHead("A"), "400 line_end"},
	{"empty name", getHead(": b"), "400 field_name"},
	{"obs-fold", getHead("A: b", " c"), "400 obs_fold"},
	{"obs-fold with a tab", getHead("A: b", "\tc"), "400 obs_fold"},
	{"fold before the first field", head("GET / HTTP/1.1", " Host: a"), "400 obs_fold"},
	{"blank line as the end", "GET / HTTP/1.1\r\nHost: a\r\n \r\n\r\n", "400 obs_fold"},
	{"name no token", getHead("A(b): c"), "400 field_name"},
	{"name not ASCII", getHead("\xc3\xa4: c"), "400 field_name"},
	{"NUL in a name", getHead("A\x00: c"), "400 line_end"},
	{"NUL in a value", getHead("A: b\x00c"), "400 line_end"},
	{"DEL in a value", getHead("A: b\x7fc"), "400 line_end"},
	{"bell in a value", getHead("A: bbbbbbbbbbbbbbbbb\x07"), "400 line_end"},
	{"bare CR in a value", getHead("A: b\rc"), "400 line_end"},
	{"bare LF in a value", getHead("A: b\nC: d"), "400 line_end"},
	{"CR as the end", "GET / HTTP/1.1\r\nHost: a\r\n\rb", "400 line_end"},
	{"LF as the end", "GET / HTTP/1.1\r\nHost: a\r\n\n", "400 line_end"},
	{"tab in a value", getHead("A: b\tc\xff"), plainGet},
	{"no space behind the colon", getHead("A:b"), plainGet},
	{"blanks around a value", head("GET / HTTP/1.1", "Host:\t a \t"), plainGet},
	{"empty value", getHead("A:", "B: "), plainGet},

	{"length", post("Content-Length: 5"), "POST / host=a length=5 keep"},
	{"length 0", post("content-length:0"), "POST / host=a length=0 keep"},
	{"length largest", post("Content-Length: 4611686018427387904"), "POST / host=a length=4611686018427387904 keep"},
	{"length too large", post("Content-Length: 4611686018427387905"), "400 content_length"},
	{"length far too large", post("Content-Length: 18446744073709551621"), "400 content_length"},
	{"length +5", post("Content-Length: +5"), "400 content_length"},
	{"length -1", post("Content-Length: -1"), "400 content_length"},
	{"length 0x5", post("Content-Length: 0x5"), "400 content_length"},
	{"length 05", post("Content-Length: 05"), "400 content_length"},
	{"length 5,5", post("Content-Length: 5,5"), "400 content_length"},
	{"length empty", post("Content-Length:"), "400 content_length"},
	{"length 5 5", post("Content-Length: 5 5"), "400 content_length"},
	{"length 1_0", post("Content-Length: 1_0"), "400 content_length"},
	{"length twice", post("Content-Length: 5", "Content-Length: 5"), "400 content_length"},
	{"length twice, unlike", post("Content-Length: 5", "content-length: 6"), "400 content_length"},
	{"chunked", post("Transfer-Encoding: chunked"), "POST / host=a chunked keep"},
	{"Chunked", post("transfer-encoding:\tChunked "), "POST / host=a chunked keep"},
	{"gzip", post("Transfer-Encoding: gzip"), "501 transfer_encoding"},
	{"gzip, chunked", post("Transfer-Encoding: gzip, chunked"), "501 transfer_encoding"},
	{"chunked, identity", post("Transfer-Encoding: chunked, identity"), "501 transfer_encoding"},
	{"identity", post("Transfer-Encoding: identity"), "501 transfer_encoding"},
	{"xchunked", post("Transfer-Encoding: xchunked"), "501 transfer_encoding"},
	{"chunked in quotes", post(`Transfer-Encoding: "chunked"`), "501 transfer_encoding"},
	{"coding empty", post("Transfer-Encoding:"), "501 transfer_encoding"},
	{"coding with VT", post("Transfer-Encoding: \vchunked"), "400 line_end"},
	{"chunked twice", post("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), "400 transfer_encoding"},
	{"chunked, then identity", post("Transfer-Encoding: chunked", "Transfer-Encoding: identity"), "400 transfer_encoding"},
	{"chunked and length", post("Transfer-Encoding: chunked", "Content-Length: 5"), "400 transfer_encoding"},
	{"length and chunked", post("Content-Length: 5", "Transfer-Encoding: chunked"), "400 transfer_encoding"},
	{"chunked in HTTP/1.0", head("POST / HTTP/1.0", "Transfer-Encoding: chunked"), "400 transfer_encoding"},
	{"trailer announced", post("Transfer-Encoding: chunked", "Trailer: X-Sum"), "POST / host=a chunked keep"},
	{
		"trailer that is dropped", getHead("Trailer: Cookie", "Trailer: A,, B", "trailer: a, X-Forwarded-For, te"),
		plainGet + " hop=Trailer,Trailer,trailer",
	},
	{"trailer that frames", post("Transfer-Encoding: chunked", "Trailer: X-Sum, content-length"), "400 trailer"},

	{"expect", post("Content-Length: 5", "Expect: 100-Continue"), "POST / host=a length=5 keep hop=Content-Length,Expect continue"},
	{"expect without a body", getHead("Expect: 100-continue"), plainGet + " hop=Expect"},
	{"expect, empty body", post("Content-Length: 0", "Expect: 100-continue"), "POST / host=a length=0 keep hop=Content-Length,Expect"},
	{
		"expect in HTTP/1.0", head("POST / HTTP/1.0", "Content-Length: 5", "Expect: 100-continue"),
		"POST / host= length=5 close 1.0 hop=Content-Length,Expect",
	},
	{"expect else", post("Content-Length: 5", "Expect: 200-ok"), "417 expectation"},
	{"expect more", post("Content-Length: 5", "Expect: 100-continue, x"), "417 expectation"},

	{"close", getHead("Connection: close"), "GET / host=a none close hop=Connection"},
	{"CLOSE in a list", getHead("Connection: x, CLOSE"), "GET / host=a none close hop=Connection"},
	{"close and keep-alive", getHead("Connection: keep-alive", "Connection: close"), "GET / host=a none close hop=Connection,Connection"},
	{"keep-alive in HTTP/1.0", head("GET / HTTP/1.0", "Connection: Keep-Alive"), "GET / host= none keep 1.0 hop=Connection"},
	{"named fields", getHead("X-B: 1", "Connection: x-a, ,X-b", "X-A: 2", "X-C: 3"), plainGet + " hop=X-B,Connection,X-A"},
	{
		"fields that must stay", getHead("Connection: close, host, content-type, authorization, cookie, x-forwarded-for, forwarded, origin",
			"Content-Type: a", "Authorization: b", "Cookie: c", "X-Forwarded-For: d", "Forwarded: e", "Origin: f"),
		"GET / host=a none close hop=Connection",
	},
	{
		"length named", post("Connection: content-length, transfer-encoding", "Content-Length: 5"),
		"POST / host=a length=5 keep hop=Connection,Content-Length",
	},
	{"options at the limit", getHead("Connection: " + strings.Repeat("x,", 32)), plainGet + " hop=Connection"},
	{"too many options", getHead("Connection: " + strings.Repeat("x,", 33)), "400 connection"},
	{
		"hop by hop", getHead("TE: trailers", "Keep-Alive: 5", "Proxy-Connection: close", "Proxy-Authorization: x", "Upgrade: y", "Trailer: z"),
		plainGet + " hop=TE,Keep-Alive,Proxy-Connection,Proxy-Authorization,Upgrade",
	},
	{
		"underscores", getHead("Content_Length: 5", "Transfer-Encoding_: x", "TRANSFER_ENCODING: chunked", "X_Forwarded-For: b",
			"x_real_ip: c", "My_Field: d", "HOST_: e", "Content_Type: f"),
		plainGet + " hop=Content_Length,TRANSFER_ENCODING,X_Forwarded-For,x_real_ip,Content_Type",
	},

	{"websocket", getHead("Connection: keep-alive, Upgrade", "Upgrade: websocket"), plainGet + " hop=Connection,Upgrade upgrade=websocket"},
	{"upgrade not named", getHead("Upgrade: websocket"), plainGet + " hop=Upgrade"},
	{"upgrade twice", getHead("Connection: Upgrade", "Upgrade: a", "Upgrade: b"), plainGet + " hop=Connection,Upgrade,Upgrade"},
	{"upgrade to nothing", getHead("Connection: Upgrade", "Upgrade:"), plainGet + " hop=Connection,Upgrade"},
	{
		"upgrade with a body", post("Connection: Upgrade", "Upgrade: a", "Content-Length: 1"),
		"POST / host=a length=1 keep hop=Connection,Upgrade,Content-Length",
	},
	{
		"upgrade in HTTP/1.0", head("GET / HTTP/1.0", "Connection: Upgrade", "Upgrade: a"),
		"GET / host= none close 1.0 hop=Connection,Upgrade",
	},
	{
		"h2c", getHead("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: x"),
		plainGet + " hop=Connection,Upgrade,HTTP2-Settings",
	},
	{"h2c in a list", getHead("Connection: Upgrade", "Upgrade: websocket, H2C"), plainGet + " hop=Connection,Upgrade"},

	{"fields at the limit", getHead(many(255, "A: b")...), plainGet},
	{"too many fields", getHead(many(256, "A: b")...), "431 too_many_fields"},
	{"a long target", head("GET /"+strings.Repeat("a", 30000)+" HTTP/1.1", "Host: a"), "GET /" + strings.Repeat("a", 30000) + " host=a none keep"},
	{"a target too long", "GET /" + strings.Repeat("a", MaxHead), "414 uri_too_long"},
	{"a head too long", getHead("A: " + strings.Repeat("a", MaxHead)), "431 head_too_large"},
	{"a head at the limit", getHead("A: " + strings.Repeat("a", MaxHead-len(getHead("A: ")))), plainGet},
	{"a head over the limit", getHead("A: " + strings.Repeat("a", MaxHead+1-len(getHead("A: ")))), "431 head_too_large"},
}

// summary says what matters of r, in the form of requestCase.want.
func summary(r *Request) string {
	s := fmt.Sprintf("%s %s", r.Method, r.Path)
	if len(r.Query) > 0 {
		s += " query=" + string(r.Query)
	}
	s += " host=" + string(r.Host)
	switch r.Framing {
	case NoBody:
		s += " none"
	case Length:
		s += fmt.Sprint(" length=", r.Length)
	case Chunked:
		s += " chunked"
	}
	s += map[bool]string{true: " keep", false: " close"}[r.KeepAlive]
	if r.Minor == 0 {
		s += " 1.0"
	}
	return s
}

func details(r *Request) (s string) {
	var hop []string
	for _, f := range r.Fields {
		if f.Hop {
			hop = append(hop, string(f.Name))
		}
	}
	if len(hop) > 0 {
		s += " hop=" + strings.Join(hop, ",")
	}
	if r.Continue {
		s += " continue"
	}
	if r.Upgrade != nil {
		s += " upgrade=" + string(r.Upgrade)
	}
	return s
}

func verdict(n int, err error, ok func() string) string {
	var e *Error
	switch {
	case errors.As(err, &e):
		return fmt.Sprintf("%d %s", e.Status, e.Reason)
	case err != nil:
		return "no *Error: " + err.Error()
	case n == 0:
		return "more"
	}
	return ok()
}

func TestRequest(t *testing.T) {
	var r Request
	for _, test := range requestCases {
		t.Run(test.name, func(t *testing.T) {
			in := []byte(test.in)
			wantSameInParts(t, in, r.Parse)
			n, err := r.Parse(append(in, "GET"...))
			got := verdict(n, err, func() string {
				// The fields that frame the body are told by the framing; cases that say nothing else need not list them.
				s := summary(&r)
				if strings.HasPrefix(test.want, s+" ") {
					s += details(&r)
				}
				return s
			})
			if test.want == "more" {
				n, err = r.Parse(in)
				got = verdict(n, err, func() string { return "a head" })
			}
			if got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			if err != nil || n == 0 {
				return
			}
			if n != len(in) {
				t.Errorf("got a head of %d bytes, want %d", n, len(in))
			}
			if err := agree(in, &r, n); err != nil {
				t.Error(err)
			}
		})
	}
}

// What is no longer valid must not show in what is parsed next.
func TestRequestIsReset(t *testing.T) {
	var r, fresh Request
	full := head("POST http://b/c?d HTTP/1.1", "Host: a", "Content-Length: 5", "Expect: 100-continue", "Connection: close")
	if n, err := r.Parse([]byte(full)); n != len(full) || err != nil {
		t.Fatal(n, err)
	}
	for _, next := range []string{getHead(), "GET / HT", "GET / HTTP/3.0\r\n"} {
		n, err := r.Parse([]byte(next))
		m, err2 := fresh.Parse([]byte(next))
		if n != m || fmt.Sprint(err) != fmt.Sprint(err2) || fmt.Sprintf("%+v", r) != fmt.Sprintf("%+v", fresh) {
			t.Errorf("after another request %q gives %+v, else %+v", next, r, fresh)
		}
	}
}

func TestHostOfTheTargetWins(t *testing.T) {
	var r Request
	in := head("GET http://b:8080/ HTTP/1.1", "X: y", "host: a")
	if n, err := r.Parse([]byte(in)); n != len(in) || err != nil {
		t.Fatal(n, err)
	}
	if got := string(r.Get("HOST")); got != "b:8080" {
		t.Errorf("got Host %q, want that of the target", got)
	}
	if r.Get("y") != nil || string(r.Get("x")) != "y" {
		t.Errorf("got %q and %q for no field and X", r.Get("y"), r.Get("x"))
	}
}

func TestPreface(t *testing.T) {
	full := "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	for i := range len(full) {
		if is, maybe := Preface([]byte(full[:i])); is || !maybe {
			t.Errorf("%q: got %v, %v, want it to be possible", full[:i], is, maybe)
		}
		if is, maybe := Preface([]byte(full[:i] + "x")); is || maybe {
			t.Errorf("%q: got %v, %v, want no preface", full[:i]+"x", is, maybe)
		}
	}
	for _, more := range []string{"", "\x00\x00\x00\x04"} {
		if is, maybe := Preface([]byte(full + more)); !is || maybe {
			t.Errorf("%q: got %v, %v, want a preface", full+more, is, maybe)
		}
	}
}

func TestNoAllocations(t *testing.T) {
	var r Request
	var resp Response
	var body Body
	in := []byte(post("Transfer-Encoding: chunked", "Connection: x, close", "X: y") + "5;a=b\r\nhello\r\n0\r\nA: b\r\n\r\n")
	out := []byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
	get := []byte("GET")
	got := testing.AllocsPerRun(100, func() {
		n, err := r.Parse(in)
		if n == 0 || err != nil {
			t.Fatal(n, err)
		}
		body.Begin(r.Framing, r.Length)
		if data, used, err := body.Decode(in[n:]); string(data) != "hello" || used != len(in)-n || err != nil || !body.Done() {
			t.Fatal(data, used, err)
		}
		if n, err := resp.Parse(out, get); n == 0 || err != nil {
			t.Fatal(n, err)
		}
	})
	if got != 0 {
		t.Errorf("got %v allocations, want none", got)
	}
}
