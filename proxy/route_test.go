package proxy

import (
	"io"
	"net/http"
	"testing"

	"github.com/inpod/inpod/config"
)

func TestRouteMatching(t *testing.T) {
	up := server(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
	at := func(host, path string) config.Route { return config.Route{Host: host, Path: path, Upstream: up} }
	routes := []config.Route{
		at("*.example.com", "/"), at("", "/a"), at("a.example.com", "/deep/er/"), at("a.Example.com", "/deep"), at("*.b.example.com", "/"),
		at("[::1]", "/"), at("127.0.0.9", "/"), at("only.org", "/p"), at("", "/a/b/c"),
	}
	p, _ := start(t, routes...)
	l := p.listeners["127.0.0.1:0"]
	for _, tt := range []struct{ host, path, want string }{
		{"a.example.com", "/deep", "a.Example.com/deep"},
		{"A.EXAMPLE.COM:8080", "/deep/x", "a.Example.com/deep"},
		{"a.example.com.", "/deep", "a.Example.com/deep"}, // the same name
		{"a.example.com.:80", "/deep", "a.Example.com/deep"},
		{"x.example.com.", "/", "*.example.com/"},
		{"a.example.com", "/deep/er", "a.example.com/deep/er/"},
		{"a.example.com", "/deep/er/x", "a.example.com/deep/er/"},
		{"a.example.com", "/deep/erx", "a.Example.com/deep"},
		{"a.example.com", "/deeper", "*.example.com/"}, // no route of the exact host is for it
		{"a.example.com", "/DEEP", "*.example.com/"},
		{"x.example.com:80", "/a/b/c", "*.example.com/"}, // the host counts first
		{"x.y.example.com", "/", "*.example.com/"},
		{"x.b.example.com", "/", "*.b.example.com/"},
		{"b.example.com", "/", "*.example.com/"},
		{"example.com", "/", ""},
		{"evilexample.com", "/", ""},
		{".example.com", "/", ""},
		{"[::1]", "/", "[::1]/"},
		{"[::1]:8080", "/a", "[::1]/"},
		{"[::2]:8080", "/a", "/a"},
		{"127.0.0.9:1", "/a", "127.0.0.9/"},
		{"only.org", "/p", "only.org/p"},
		{"only.org", "/a", "/a"}, // none of its own: any host
		{"only.org", "/q", ""},
		{"other", "/a", "/a"},
		{"other", "/a/", "/a"},
		{"other", "/a/b/c/d", "/a/b/c"},
		{"other", "/a/b/cd", "/a"},
		{"other", "/ab", ""},
		{"other", "/", ""},
		{"", "/a", "/a"},
		{"other", "*", ""},
		{"x.example.com", "*", "*.example.com/"},
	} {
		got := ""
		if r := l.match([]byte(tt.host), []byte(tt.path)); r != nil {
			got = r.Host + r.Path
		}
		if got != tt.want {
			t.Errorf("%q %q: got the route %q, want %q", tt.host, tt.path, got, tt.want)
		}
	}
}
