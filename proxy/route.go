package proxy

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"github.com/inpod/inpod/config"
)

// route is a config.Route with what it needs at run time. It is shared by all workers.
type route struct {
	config.Route
	name     string
	debug    bool
	prefix   string // Path without the slash at its end
	upstream *upstream
	limiter  *limiter
	health   *health
	stat     []*series // by worker
}

// table holds the routes of a listener, the one to try first first.
type table []*route

// newTable sorts: an exact host before *.domain, the longer domain first, then any host; then the longer path first.
func newTable(routes []*route) table {
	t := slices.Clone(routes)
	slices.SortStableFunc(t, func(a, b *route) int {
		if n := rank(b.Host) - rank(a.Host); n != 0 {
			return n
		}
		return len(b.prefix) - len(a.prefix)
	})
	return t
}

func rank(host string) int {
	switch {
	case host == "":
		return 0
	case strings.HasPrefix(host, "*."):
		return len(host)
	}
	return 1 << 20
}

// match finds the route of a request, nil when there is none.
func (l *listener) match(host, path []byte) *route {
	for _, r := range *l.routes.Load() {
		if r.matchesHost(host) && r.matchesPath(path) {
			return r
		}
	}
	return nil
}

func (r *route) matchesPath(path []byte) bool {
	if r.prefix == "" {
		return true // OPTIONS * too
	}
	if len(path) < len(r.prefix) || string(path[:len(r.prefix)]) != r.prefix {
		return false
	}
	return len(path) == len(r.prefix) || path[len(r.prefix)] == '/'
}

var dot = []byte(".")

func (r *route) matchesHost(host []byte) bool {
	if r.Host == "" {
		return true
	}
	if i := bytes.LastIndexByte(host, ':'); i >= 0 && bytes.IndexByte(host[i:], ']') < 0 {
		host = host[:i]
	}
	host = bytes.TrimSuffix(host, dot) // a name that is absolute is the same name
	if domain, ok := strings.CutPrefix(r.Host, "*"); ok {
		return len(host) > len(domain) && equalFold(host[len(host)-len(domain):], strings.ToLower(domain))
	}
	return equalFold(host, strings.ToLower(r.Host))
}

// meanDuration is how long a request takes on average.
func (r *route) meanDuration() time.Duration {
	var sum, n int64
	for _, s := range r.stat {
		sum += s.duration.sum.Load()
		n += int64(s.duration.count())
	}
	if n == 0 {
		return 0
	}
	return time.Duration(sum / n)
}

// RouteState is what is told about a route.
type RouteState struct {
	Name     string `json:"name"`
	Listen   string `json:"listen"`
	Host     string `json:"host,omitempty"`
	Path     string `json:"path"`
	Upstream string `json:"upstream"`
	Ready    bool   `json:"ready"`
	Detail   string `json:"detail"` // why it is not ready, or ready without having been checked
	InFlight int    `json:"in_flight"`
	Queued   int    `json:"queued"`
	Limit    int    `json:"concurrency"` // 0: none
}

func (r *route) state() RouteState {
	s := RouteState{Name: r.name, Listen: r.Listen, Host: r.Host, Path: r.Path, Upstream: r.Upstream, Limit: r.Concurrency}
	s.Ready, s.Detail = r.health.Ready()
	s.InFlight, s.Queued = r.limiter.load()
	return s
}
