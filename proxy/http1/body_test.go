package http1

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// chunkCases are chunked bodies with what they hold: data|trailer, an error's reason, or "more".
var chunkCases = []struct{ name, in, want string }{
	{"empty", "0\r\n\r\n", "|"},
	{"one", "5\r\nhello\r\n0\r\n\r\n", "hello|"},
	{"two", "5\r\nhello\r\n3\r\nyou\r\n0\r\n\r\n", "helloyou|"},
	{"more behind", "1\r\na\r\n0\r\n\r\nGET / HTTP/1.1\r\n", "a|"},
	{"hex", "A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789|"},
	{"leading zeros", "0005\r\nhello\r\n000\r\n\r\n", "hello|"},
	{"16 digits", "0000000000000001\r\na\r\n0000000000000000\r\n\r\n", "a|"},
	{"17 digits", "00000000000000001\r\na\r\n0\r\n\r\n", "chunk_size"},
	{"15 digits", "fffffffffffffff\r\na", "more"},
	{"16 digits and no zero", "1000000000000000\r\na", "chunk_size"},
	{"0x", "0x5\r\nhello\r\n0\r\n\r\n", "chunk_size"},
	{"plus", "+5\r\nhello\r\n0\r\n\r\n", "chunk_size"},
	{"minus", "-1\r\nhello\r\n0\r\n\r\n", "chunk_size"},
	{"none", "\r\nhello\r\n0\r\n\r\n", "chunk_size"},
	{"no digit", "g\r\nhello\r\n0\r\n\r\n", "chunk_size"},
	{"underscore", "1_0\r\n", "chunk_size"},
	{"space before", " 5\r\nhello\r\n0\r\n\r\n", "chunk_size"},
	{"space behind", "5 \r\nhello\r\n0\r\n\r\n", "chunk_size"},
	{"bare LF behind the size", "5\nhello\r\n0\r\n\r\n", "chunk_size"},
	{"bare CR behind the size", "5\rhello\r\n0\r\n\r\n", "chunk_size"},
	{"bare LF behind the data", "5\r\nhello\n0\r\n\r\n", "chunk_end"},
	{"LF LF behind the data", "5\r\nhello\n\n0\r\n\r\n", "chunk_end"},
	{"CR CR behind the data", "5\r\nhello\r\r0\r\n\r\n", "chunk_end"},
	{"CR CR behind the size", "5\r\rhello\r\n0\r\n\r\n", "chunk_size"},
	{"nothing behind the data", "5\r\nhello0\r\n\r\n", "chunk_end"},
	{"bare CR behind the data", "5\r\nhello\r0\r\n\r\n", "chunk_end"},
	{"more data than said", "4\r\nhello\r\n0\r\n\r\n", "chunk_end"},
	{"bare LF at the end", "0\r\n\n", "trailer"},
	{"bare LF behind the last chunk", "0\n\r\n", "chunk_size"},
	{"no end", "5\r\nhello\r\n0\r\n", "more"},
	{"no last chunk", "5\r\nhello\r\n", "more"},
	{"half the data", "5\r\nhel", "more"},

	{"extension", "5;a=b\r\nhello\r\n0;c\r\n\r\n", "hello|"},
	{"extension in quotes", "5;a=\"b;c\"\r\nhello\r\n0\r\n\r\n", "hello|"},
	{"extension with blanks", "5; a = b \r\nhello\r\n0\r\n\r\n", "hello|"},
	{"extension with a bare LF", "5;a\nhello\r\n0\r\n\r\n", "chunk_extension"},
	{"extension with a bare CR", "5;a\rb\r\nhello\r\n0\r\n\r\n", "chunk_size"},
	{"extension with NUL", "5;\x00\r\nhello\r\n0\r\n\r\n", "chunk_extension"},
	{"long extension", "5;" + strings.Repeat("a", 1023) + "\r\nhello\r\n0\r\n\r\n", "hello|"},
	{"too long an extension", "5;" + strings.Repeat("a", 1024) + "\r\nhello\r\n0\r\n\r\n", "chunk_extension"},
	{"too many extensions", strings.Repeat("1;"+strings.Repeat("a", 1000)+"\r\na\r\n", 9) + "0\r\n\r\n", "chunk_extension"},

	{"trailer", "0\r\nX-Sum: 1\r\nServer-Timing: a\r\n\r\n", "|X-Sum: 1\r\nServer-Timing: a\r\n"},
	{
		"forbidden trailer", "0\r\nContent-Length: 5\r\nA: b\r\nTransfer-Encoding: chunked\r\nhost: c\r\nAuthorization: d\r\nCookie: e\r\n" +
			"Set-Cookie: f\r\nContent-Type: g\r\nX-Forwarded-For: h\r\nconnection: i\r\nContent_Length: j\r\nTrailer: k\r\nTE: l\r\n" +
			"Expect: m\r\nUpgrade: n\r\nproxy-authorization: o\r\nIf-Match: p\r\nB: q\r\nKeep-Alive: r\r\nMax-Forwards: s\r\n\r\n",
		"|A: b\r\nB: q\r\n",
	},
	{"trailer with space before the colon", "0\r\nA : b\r\n\r\n", "trailer"},
	{"trailer without a colon", "0\r\nA\r\n\r\n", "trailer"},
	{"trailer without a name", "0\r\n: b\r\n\r\n", "trailer"},
	{"trailer folded", "0\r\nA: b\r\n c\r\n\r\n", "trailer"},
	{"trailer with bare LF", "0\r\nA: b\n\r\n", "trailer"},
	{"trailer with bare CR", "0\r\nA: b\rc\r\n\r\n", "trailer"},
	{"trailer with NUL", "0\r\nA: \x00\r\n\r\n", "trailer"},
	{"long trailer", "0\r\nA: " + strings.Repeat("b", 8000) + "\r\n\r\n", "|A: " + strings.Repeat("b", 8000) + "\r\n"},
	{"too long a trailer", "0\r\nA: " + strings.Repeat("b", 8192) + "\r\n\r\n", "trailer"},
	{"too long a dropped trailer", "0\r\n" + strings.Repeat("Cookie: b\r\n", 1000) + "\r\n", "trailer"},
}

func TestChunked(t *testing.T) {
	var b Body
	for _, test := range chunkCases {
		t.Run(test.name, func(t *testing.T) {
			for _, cuts := range [][]byte{nil, {0}, {1}, {0, 2, 5}} {
				b.Begin(Chunked, 0)
				data, used, err := decode(&b, []byte(test.in), cuts)
				got := fmt.Sprintf("%s|%s", data, b.Trailer())
				var e *Error
				switch {
				case errors.As(err, &e):
					got = e.Reason
				case err != nil:
					t.Fatal(err)
				case !b.Done():
					got = "more"
					if b.Remaining() != -1 || b.EOF() == nil {
						t.Errorf("got %d remaining and no error at the end", b.Remaining())
					}
				default:
					if b.Remaining() != 0 || b.EOF() != nil || !strings.HasSuffix(test.in[:used], "\r\n\r\n") {
						t.Errorf("got %d remaining, %v, %d bytes used", b.Remaining(), b.EOF(), used)
					}
				}
				if got != test.want {
					t.Errorf("in parts of %d: got %q, want %q", cuts, got, test.want)
				}
			}
		})
	}
}

// A small body is one call, so that it can be one write.
func TestChunkedInOneCall(t *testing.T) {
	var b Body
	b.Begin(Chunked, 0)
	in := []byte("5\r\nhello\r\n0\r\n\r\nGET")
	data, used, err := b.Decode(in)
	if string(data) != "hello" || used != len(in)-3 || err != nil || !b.Done() {
		t.Errorf("got %q, %d, %v, %v", data, used, err, b.Done())
	}
	if data, used, err := b.Decode(in[used:]); data != nil || used != 0 || err != nil {
		t.Errorf("behind the end: got %q, %d, %v", data, used, err)
	}
}

func TestLength(t *testing.T) {
	var b Body
	b.Begin(Length, 5)
	for _, step := range []struct {
		in, want string
		left     int64
	}{{"", "", 5}, {"he", "he", 3}, {"llo GET", "llo", 0}, {" GET", "", 0}} {
		data, used, err := b.Decode([]byte(step.in))
		if string(data) != step.want || used != len(step.want) || err != nil || b.Remaining() != step.left || b.Done() != (step.left == 0) {
			t.Errorf("%q: got %q, %d, %v, %d remaining, %v", step.in, data, used, err, b.Remaining(), b.Done())
		}
		if (b.EOF() == nil) != b.Done() {
			t.Errorf("%q: got %v at the end", step.in, b.EOF())
		}
	}
	for _, framing := range []Framing{NoBody, Length} {
		b.Begin(framing, 0)
		if data, used, err := b.Decode([]byte("GET")); !b.Done() || len(data) != 0 || used != 0 || err != nil || b.EOF() != nil {
			t.Errorf("empty body: got %q, %d, %v, %v", data, used, err, b.Done())
		}
	}
	b.Begin(Length, 1<<62)
	if _, used, _ := b.Decode(make([]byte, 100)); used != 100 || b.Remaining() != 1<<62-100 {
		t.Errorf("got %d, %d remaining", used, b.Remaining())
	}
}

func TestUntilClose(t *testing.T) {
	var b Body
	b.Begin(UntilClose, 0)
	data, used, err := b.Decode([]byte("abc"))
	if string(data) != "abc" || used != 3 || err != nil || b.Done() || b.Remaining() != -1 {
		t.Errorf("got %q, %d, %v, %v, %d", data, used, err, b.Done(), b.Remaining())
	}
	if err := b.EOF(); err != nil || !b.Done() {
		t.Errorf("at the end: got %v, %v", err, b.Done())
	}
}

// A trailer is rare, so its memory does not stay.
func TestTrailerMemory(t *testing.T) {
	var b Body
	for _, size := range []int{100, 8000} {
		b.Begin(Chunked, 0)
		in := AppendLastChunk(nil, []byte("A: "+strings.Repeat("b", size)+"\r\n"))
		if _, used, err := b.Decode(in); used != len(in) || err != nil || !bytes.Equal(b.Trailer(), in[3:len(in)-2]) {
			t.Fatalf("got %d, %v, %q", used, err, b.Trailer())
		}
		b.Begin(Chunked, 0)
		if len(b.Trailer()) != 0 || cap(b.trailer) > keepTrailer {
			t.Errorf("got %d bytes of trailer, %d kept", len(b.Trailer()), cap(b.trailer))
		}
	}
}
