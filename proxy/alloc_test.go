package proxy

import (
	"bytes"
	"net"
	"runtime"
	"testing"

	"github.com/inpod/inpod/config"
)

// A request on connections that are open allocates nothing: no garbage, no pauses.
func TestRequestsAllocateNothing(t *testing.T) {
	for _, tt := range []struct {
		name, request, response string
		route                   config.Route
	}{
		{"GET", crlf("GET /a/b?c HTTP/1.1", "Host: h", "User-Agent: x", "Accept: */*"), shortAnswer, config.Route{}},
		{"POST", crlf("POST / HTTP/1.1", "Host: h", "Content-Length: 4", "X-Forwarded-For: 10.0.0.1") + "body", shortAnswer, config.Route{Concurrency: 10, MaxBody: 100}},
		{
			"chunks both ways", crlf("POST / HTTP/1.1", "Host: h", "Transfer-Encoding: chunked") + "4\r\nbody\r\n0\r\n\r\n",
			crlf("HTTP/1.1 200 OK", "Transfer-Encoding: chunked") + "2\r\nok\r\n0\r\n\r\n",
			config.Route{StripPrefix: true},
		},
		{"error", crlf("HEAD / HTTP/1.1", "Host: h"), crlf("HTTP/1.1 500 Oh", "Content-Length: 10"), config.Route{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			go answerAll(ln, []byte(tt.response))
			tt.route.Upstream = ln.Addr().String()
			p := startWith(t, 1, config.Proxy{Routes: []config.Route{tt.route}, AccessLog: config.AccessLog{Errors: true}})
			c, err := dialQuietly(urlOf(p, "127.0.0.1:0"))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			request, buf := []byte(tt.request), make([]byte, 4<<10)
			one := func() bool {
				if _, err := c.Write(request); err != nil {
					return false
				}
				for n := 0; ; {
					m, err := c.Read(buf[n:])
					if n += m; err != nil {
						return false
					}
					if got := buf[:n]; bytes.HasSuffix(got, []byte("ok")) || bytes.HasSuffix(got, []byte("\r\n\r\n")) {
						return true
					}
				}
			}
			// The detector of races allocates on its own, but not with each request.
			const rounds, most = 2000, 0.05
			var before, after runtime.MemStats
			for range 200 {
				if !one() {
					t.Fatal("a request failed")
				}
			}
			per := 1.0
			for try := 0; try < 5 && per > most; try++ { // what earlier tests have left may allocate too, for a while
				runtime.ReadMemStats(&before)
				for range rounds {
					if !one() {
						t.Fatal("a request failed")
					}
				}
				runtime.ReadMemStats(&after)
				per = float64(after.Mallocs-before.Mallocs) / rounds
			}
			if per > most {
				t.Errorf("%.3f allocations a request, want at most %.2f", per, most)
			}
		})
	}
}

// answerAll serves one connection after the other: an answer for each read, as requests come one by one.
func answerAll(ln net.Listener, response []byte) {
	buf := make([]byte, 64<<10)
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		for err == nil {
			if _, err = c.Read(buf); err == nil {
				_, err = c.Write(response)
			}
		}
		c.Close()
	}
}
