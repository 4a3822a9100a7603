// Package proxy is the data plane: routes that listen for HTTP/1.1 and pass requests on to a server in the pod.
//
// Enter at New and Apply; BeginDrain, StopAccepting and Wait take it down without losing a request. Bodies are
// streamed in both directions and never held whole. It does no TLS, no HTTP/2 and no upgrades. fasthttp's types
// stay inside this package.
package proxy

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sort"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inpod/inpod/config"
)

// Proxy serves routes. Make one with New.
type Proxy struct {
	log      *slog.Logger
	metrics  *metrics
	draining atomic.Bool
	inFlight atomic.Int64
	lastSeen atomic.Int64 // when the last request began, Unix nanoseconds

	mu        sync.Mutex
	closed    bool // StopAccepting has been called
	listeners map[string]*listener
	idle      sync.Cond // on mu; signalled when inFlight falls to 0
}

// New makes a proxy without routes. It opens nothing.
func New(log *slog.Logger) *Proxy {
	p := &Proxy{log: log, metrics: newMetrics(), listeners: map[string]*listener{}}
	p.idle.L = &p.mu
	p.metrics.inFlight = func() float64 { return float64(p.inFlight.Load()) }
	return p
}

// Apply makes the routes those of cfg: it opens listeners that are new, changes the routes of those that stay and
// closes those that no route names any more, letting their requests end. When a new address cannot be had,
// nothing changes.
func (p *Proxy) Apply(cfg config.Proxy) error {
	tables := map[string][]*route{}
	keys := map[string]string{}
	for i, r := range cfg.Routes {
		if r.Listen == config.Off {
			continue
		}
		tables[r.Listen] = append(tables[r.Listen], newRoute(r, p.metrics))
		if keys[r.Listen] == "" {
			keys[r.Listen] = "proxy.routes[" + strconv.Itoa(i) + "].listen"
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	fresh := map[string]net.Listener{}
	for addr := range tables {
		if p.listeners[addr] != nil {
			continue
		}
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			for _, ln := range fresh {
				ln.Close()
			}
			return fmt.Errorf("cannot listen on %q (%s): %w", addr, keys[addr], err)
		}
		fresh[addr] = ln
	}
	for addr, routes := range tables {
		// The longest path first: the first that matches is the best.
		sort.SliceStable(routes, func(i, j int) bool { return len(routes[i].Path) > len(routes[j].Path) })
		l := p.listeners[addr]
		if l == nil {
			l = newListener(p, fresh[addr], cfg.KeepAlive)
			p.listeners[addr] = l
			p.log.Info("listening", "part", "proxy", "address", l.Addr().String())
		}
		l.setRoutes(routes)
		l.start()
	}
	for addr, l := range p.listeners {
		if tables[addr] == nil {
			l.retire()
			delete(p.listeners, addr)
			p.log.Info("stopped listening", "part", "proxy", "address", addr)
		}
	}
	return nil
}

// Addr is the address that a listen setting was bound to, for ":0"; nil when there is no such listener.
func (p *Proxy) Addr(listen string) net.Addr {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l := p.listeners[listen]; l != nil {
		return l.Addr()
	}
	return nil
}

// InFlight is the number of requests whose response has not been sent to its end.
func (p *Proxy) InFlight() int { return int(p.inFlight.Load()) }

// LastRequest is when the last request began; zero when there was none.
func (p *Proxy) LastRequest() time.Time {
	if ns := p.lastSeen.Load(); ns != 0 {
		return time.Unix(0, ns)
	}
	return time.Time{}
}

// BeginDrain asks every client, with its next response, to close its connection. Requests are still accepted.
func (p *Proxy) BeginDrain() { p.draining.Store(true) }

// StopAccepting closes the listeners. Connections stay open: a request that comes on one is still answered.
func (p *Proxy) StopAccepting() {
	p.BeginDrain()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, l := range p.listeners {
		l.stopAccepting()
	}
}

// Wait returns when no request is in flight, or with ctx's error.
func (p *Proxy) Wait(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.idle.Broadcast()
	})
	defer stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.inFlight.Load() > 0 {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("%d requests are still in flight: %w", p.inFlight.Load(), err)
		}
		p.idle.Wait()
	}
	return nil
}

// Close cuts every connection and returns when no goroutine of the proxy is left.
func (p *Proxy) Close() {
	p.StopAccepting()
	p.mu.Lock()
	listeners := p.listeners
	p.listeners = map[string]*listener{}
	p.mu.Unlock()
	for _, l := range listeners {
		l.cut()
	}
	for _, l := range listeners {
		l.wait()
	}
}

// requestBegins and requestEnded keep the count that Wait waits for.
func (p *Proxy) requestBegins(now time.Time) {
	p.inFlight.Add(1)
	p.lastSeen.Store(now.UnixNano())
}

func (p *Proxy) requestEnded() {
	if p.inFlight.Add(-1) == 0 {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.idle.Broadcast()
	}
}
