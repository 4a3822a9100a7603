package proxy

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/inpod/inpod/config"
	"github.com/inpod/inpod/internal/testport"
)

// records collects what is logged.
type records struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (r *records) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(p)
}

// requests are the lines of the access log.
func (r *records) requests(t *testing.T) (list []map[string]any) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for line := range strings.Lines(r.text.String()) {
		m := map[string]any{}
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(err)
		}
		if m["msg"] == "request" {
			list = append(list, m)
		}
	}
	return list
}

func startLogged(t *testing.T, log config.AccessLog, routes ...config.Route) (*Proxy, string, *records) {
	t.Helper()
	r := &records{}
	p := New(Options{Log: slog.New(slog.NewJSONHandler(r, nil)), Loops: 1})
	t.Cleanup(p.Close)
	apply(t, p, config.Proxy{Routes: routes, AccessLog: log})
	return p, urlOf(p, "127.0.0.1:0"), r
}

func TestAccessLogFields(t *testing.T) {
	u := newRawUpstream(t)
	p, url, r := startLogged(t, config.AccessLog{Sample: 1}, config.Route{Path: "/a", Upstream: u.addr()})
	c := connect(t, url)
	c.send(crlf("POST /a?q=%20\" HTTP/1.1", "Host: h:1", "User-Agent: me", "Content-Length: 4") + "body")
	up := u.accept()
	up.head()
	up.send(shortAnswer)
	head := c.head()
	c.read(2)
	c.send(ask("/none"))
	_, body := c.response("GET")
	c.send(ask("/a/left"))
	u.again(up).head()
	c.Close()
	eventually(t, "nothing in flight", func() bool { return p.InFlight() == 0 })
	c = connect(t, url)
	c.send("GET\r\n\r\n")
	c.rest()
	eventually(t, "nothing in flight", func() bool { return p.InFlight() == 0 })
	_ = body
	list := r.requests(t)
	want := []map[string]any{
		{"route": "127.0.0.1:0/a", "method": "POST", "target": `/a?q=%20"`, "host": "h:1", "agent": "me", "status": 200.0, "received": 4.0, "sent": float64(len(head) + 2)},
		{"method": "GET", "target": "/none", "host": "a", "status": 404.0, "received": 0.0, "reason": "no_route"},
		{"route": "127.0.0.1:0/a", "method": "GET", "target": "/a/left", "host": "a", "status": 499.0, "received": 0.0, "sent": 0.0, "reason": "client_gone"},
		{"status": 400.0, "received": 0.0, "reason": "bad_request_line"},
	}
	for i, line := range list {
		if line["client"] != "127.0.0.1" || line["level"] != "INFO" || line["part"] != "proxy" {
			t.Errorf("line %d: got %v, want the client, the part and level INFO", i, line)
		}
		if s, ok := line["seconds"].(float64); !ok || s < 0 || s > 10 {
			t.Errorf("line %d: took %v seconds", i, line["seconds"])
		}
		if _, ok := line["first_byte_seconds"]; ok != (i == 0) {
			t.Errorf("line %d: first byte %v, want it of answers of the upstream", i, line["first_byte_seconds"])
		}
		for _, k := range []string{"client", "level", "part", "msg", "time", "seconds", "first_byte_seconds"} {
			delete(line, k)
		}
		if i == 1 || i == 3 {
			if line["sent"].(float64) < 100 {
				t.Errorf("line %d: %v bytes sent, want the answer", i, line["sent"])
			}
			delete(line, "sent")
		}
	}
	if diff := cmp.Diff(want, list); diff != "" {
		t.Errorf("the log (-want +got):\n%s", diff)
	}
}

func TestAccessLogPicks(t *testing.T) {
	var p *Proxy
	up := server(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			clients(p, func(c *client) { c.x.start -= int64(2 * time.Hour) })
		}
		if r.URL.Path == "/500" {
			w.WriteHeader(500)
		}
		io.WriteString(w, "ok")
	})
	for _, tt := range []struct {
		name string
		log  config.AccessLog
		want string
	}{
		{"nothing", config.AccessLog{}, ""},
		{"errors", config.AccessLog{Errors: true}, "/down"},
		{"slow", config.AccessLog{Slow: time.Hour}, "/slow"},
		{"slow and errors", config.AccessLog{Slow: time.Hour, Errors: true}, "/slow /down"},
		{"all", config.AccessLog{Sample: 1}, "/fast /slow /500 /down"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var url string
			var r *records
			p, url, r = startLogged(t, tt.log, config.Route{Upstream: up}, config.Route{Path: "/down", Upstream: testport.Closed(t)})
			c := connect(t, url)
			for _, path := range []string{"/fast", "/slow", "/500", "/down"} {
				c.send(ask(path))
				c.response("GET")
			}
			eventually(t, "nothing in flight", func() bool { return p.InFlight() == 0 })
			var got []string
			for _, line := range r.requests(t) {
				got = append(got, line["target"].(string))
			}
			if got := strings.Join(got, " "); got != tt.want {
				t.Errorf("logged %q, want %q", got, tt.want)
			}
		})
	}
}

func TestAccessLogSample(t *testing.T) {
	p := newLogPolicy(config.AccessLog{Sample: 0.25})
	n := 0
	for range 10_000 {
		if p.picks(&exchange{}, 0) {
			n++
		}
	}
	if n < 2200 || n > 2800 {
		t.Errorf("picked %d of 10,000, want about 2,500", n)
	}
	all := newLogPolicy(config.AccessLog{Sample: 1})
	for range 1000 {
		if !all.picks(&exchange{}, 0) {
			t.Fatal("a sample of 1 leaves one out")
		}
	}
}

// What is very long is cut: the log is no way to fill a disk.
func TestAccessLogIsBounded(t *testing.T) {
	up := server(t, func(http.ResponseWriter, *http.Request) {})
	p, url, r := startLogged(t, config.AccessLog{Sample: 1}, config.Route{Upstream: up})
	c := connect(t, url)
	c.send(crlf("GET /"+strings.Repeat("t", 9000)+" HTTP/1.1", "Host: a", "User-Agent: "+strings.Repeat("u", 9000)))
	c.response("GET")
	eventually(t, "nothing in flight", func() bool { return p.InFlight() == 0 })
	list := r.requests(t)
	if len(list) != 1 || len(list[0]["target"].(string)) != logged || len(list[0]["agent"].(string)) != logged {
		t.Errorf("got %v, want one line with %d bytes of each", list, logged)
	}
}
