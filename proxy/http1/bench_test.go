package http1

import (
	"bufio"
	"bytes"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"
)

// benchHeads are requests as wrk, curl-like clients and browsers send them.
var benchHeads = []struct{ name, head string }{
	{"1", "GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n"},
	{"4", "POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\nContent-Length: 1024\r\n\r\n"},
	{"10", strings.ReplaceAll(`POST /v1/chat/completions?stream=true HTTP/1.1
Host: models.example.com
User-Agent: OpenAI/Python 1.59.6
Accept: application/json
Accept-Encoding: gzip, deflate, br
Connection: keep-alive
Content-Type: application/json
Authorization: Bearer sk-0123456789abcdef0123456789abcdef
X-Request-Id: 6c5f5c1e-9d33-4e0a-8a0a-0c1f7a3f5d11
X-Forwarded-For: 10.1.2.3
Content-Length: 2048

`, "\n", "\r\n")},
}

func BenchmarkRequest(b *testing.B) {
	for _, h := range benchHeads {
		buf := []byte(h.head)
		b.Run(h.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(buf)))
			var r Request
			for b.Loop() {
				if n, err := r.Parse(buf); n != len(buf) || err != nil {
					b.Fatal(n, err)
				}
			}
		})
	}
}

func BenchmarkFasthttp(b *testing.B) {
	for _, h := range benchHeads {
		buf := []byte(h.head)
		b.Run(h.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(buf)))
			var r fasthttp.RequestHeader
			in := bytes.NewReader(buf)
			br := bufio.NewReader(in)
			for b.Loop() {
				in.Reset(buf)
				br.Reset(in)
				if err := r.Read(br); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkResponse(b *testing.B) {
	buf := []byte("HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Mon, 02 Jan 2006 15:04:05 GMT\r\n" +
		"Content-Type: application/octet-stream\r\nContent-Length: 1024\r\nConnection: keep-alive\r\n\r\n")
	method := []byte("GET")
	b.ReportAllocs()
	b.SetBytes(int64(len(buf)))
	var r Response
	for b.Loop() {
		if n, err := r.Parse(buf, method); n != len(buf) || err != nil {
			b.Fatal(n, err)
		}
	}
}

func BenchmarkChunked(b *testing.B) {
	var buf []byte
	for range 16 {
		buf = AppendChunkHead(buf, 200)
		buf = append(buf, bytes.Repeat([]byte("d"), 200)...)
		buf = append(buf, "\r\n"...)
	}
	buf = AppendLastChunk(buf, nil)
	b.ReportAllocs()
	b.SetBytes(int64(len(buf)))
	var body Body
	for b.Loop() {
		body.Begin(Chunked, 0)
		for rest := buf; !body.Done(); {
			_, n, err := body.Decode(rest)
			if n == 0 || err != nil {
				b.Fatal(n, err)
			}
			rest = rest[n:]
		}
	}
}
