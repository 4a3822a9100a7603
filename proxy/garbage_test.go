package proxy

import (
	"io"
	"testing"

	"github.com/inpod/inpod/config"
)

// A body that cannot be read and comes together with its head is answered by a status, for nothing has been sent yet. And
// the request is not sent again, whatever stands in front of the loop.
func TestBrokenBodyWithItsHead(t *testing.T) {
	for _, version := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(version, func(t *testing.T) {
			u := newRawUpstream(t)
			p := startWith(t, 1, config.Proxy{Routes: []config.Route{{Upstream: u.addr()}}})
			url := urlOf(p, "127.0.0.1:0")
			c := httpClient(t)
			if version == "HTTP/2.0" {
				c = h2cClient(t)
			}
			go func() {
				up := u.accept()
				up.head()
				up.send(crlf("HTTP/1.1 200 OK", "Content-Length: 0")) // the connection in between has served before
				up.head()
				up.send(crlf("HTTP/1.1 200 OK", "Transfer-Encoding: chunked") + "zz\r\n")
				up.rest()
				up.Close()
			}()
			get(t, c, url)
			keepIdle(p)
			resp, err := c.Get(url)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			b, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != 502 || resp.Header.Get(ErrorHeader) != "upstream_bad_response" {
				t.Errorf("got %d %v %q, want 502 upstream_bad_response", resp.StatusCode, resp.Header, b)
			}
			u.noMore()
		})
	}
}
