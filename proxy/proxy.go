// Package proxy is the data plane: routes that listen for HTTP and pass requests on to a server in the pod.
//
// Enter at New and Apply; BeginDrain, StopAccepting and Wait take it down without losing a request. HTTP/1.1 runs on event
// loops of our own (proxy/poll), one a core: a client and its upstream are served by the same one, so a request wakes no
// goroutine and takes no lock but that of its route's limit. Heads are read by proxy/http1 and passed on line by line,
// bodies are streamed in both directions and never held whole. TLS and HTTP/2 are net/http's; what is HTTP/1.1 behind
// them enters the same loops. fasthttp writes the answers that inpod gives itself.
//
// In here: a worker is a loop, a client is a connection of a client, an exchange its present request, an upConn a
// connection to an upstream. Everything of a worker is touched by its loop alone; Proxy, route, limiter and upstream are
// shared and say how.
package proxy

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inpod/inpod/config"
	"github.com/inpod/inpod/proxy/poll"
	"golang.org/x/sys/unix"
)

// Options is what a Proxy needs of others.
type Options struct {
	Log *slog.Logger
	// NewCheck makes the health check that a route names; it is not called for those that name none.
	NewCheck func(config.Route) (Checker, error)
	// Loops is the number of event loops, 1 or more. One a core is right, with GOMAXPROCS one above: while a processor of
	// the scheduler is idle, sysmon leaves those alone whose loop waits in epoll, instead of looking every 20 µs.
	Loops int
	// Client, if there is one, is told of each connection of a client's, when Connections counts it already. It must not
	// block.
	Client func()
}

// Proxy serves routes. Make one with New.
type Proxy struct {
	log      *slog.Logger
	newCheck func(config.Route) (Checker, error)
	client   func() // Options.Client
	loops    int
	metrics  *metrics
	front    *front
	workers  []*worker // made with the first route, and then the same until Close

	draining       atomic.Bool
	waits          atomic.Int32 // calls of Wait
	accepting      atomic.Bool
	closing        atomic.Bool
	maxConnections atomic.Int64
	logs           atomic.Pointer[logPolicy]

	applying  sync.Mutex // held by Apply, StopAccepting and Close
	mu        sync.Mutex // guards what follows
	listeners map[string]*listener
	routes    []*route
	idle      sync.Cond // on mu; signalled when nothing is in flight any more
}

// New makes a proxy without routes. It opens nothing and starts nothing.
func New(opts Options) *Proxy {
	p := &Proxy{log: opts.Log.With("part", "proxy"), newCheck: opts.NewCheck, client: opts.Client, loops: max(opts.Loops, 1), metrics: newMetrics()}
	if p.client == nil {
		p.client = func() {}
	}
	p.listeners = map[string]*listener{}
	p.idle.L = &p.mu
	p.accepting.Store(true)
	p.logs.Store(&logPolicy{})
	p.front = newFront(p)
	return p
}

// Apply makes the routes those of cfg: it opens listeners that are new, changes the routes of those that stay and
// closes those that no route names any more, letting their requests end. A route that has not changed goes on with its
// connections, its queue and its health. When a new address cannot be had or a certificate not be read, nothing changes.
func (p *Proxy) Apply(cfg config.Proxy) error {
	p.applying.Lock()
	defer p.applying.Unlock()
	if !p.accepting.Load() {
		return nil
	}
	wanted := byListener(cfg)
	if len(wanted) > 0 && len(p.workers) == 0 {
		if err := p.startWorkers(); err != nil {
			return err
		}
	}
	secure, err := readCertificates(cfg, wanted)
	if err != nil {
		return err
	}
	next, err := p.makeRoutes(cfg)
	if err != nil {
		return err
	}
	fresh, err := p.bind(wanted)
	if err != nil {
		return err
	}
	p.logs.Store(newLogPolicy(cfg.AccessLog))
	p.maxConnections.Store(maxConnections(cfg.MaxConnections))
	p.front.keepAlive(cfg.KeepAlive)
	p.replace(cfg, wanted, next, secure, fresh)
	return nil
}

// maxConnections is the setting, or half of the open files that the kernel allows.
func maxConnections(n int) int64 {
	if n > 0 {
		return int64(n)
	}
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil || lim.Cur > 1<<30 {
		return 1 << 19
	}
	return max(int64(lim.Cur)/2, 16)
}

func (p *Proxy) startWorkers() error {
	workers := make([]*worker, 0, p.loops)
	for i := range p.loops {
		w, err := newWorker(p, i)
		if err != nil {
			return err
		}
		workers = append(workers, w)
	}
	p.mu.Lock()
	p.workers = workers
	p.mu.Unlock()
	for _, w := range workers {
		go w.loop.Run()
	}
	return nil
}

// makeRoutes makes the routes of cfg, by their index; those that are the same as before are the very same.
func (p *Proxy) makeRoutes(cfg config.Proxy) ([]*route, error) {
	next := make([]*route, len(cfg.Routes))
	for i, r := range cfg.Routes {
		if r.Listen == config.Off {
			continue
		}
		old := p.routeNamed(r.Name())
		if old != nil && reflect.DeepEqual(old.Route, r) && old.debug == cfg.Debug {
			next[i] = old
			continue
		}
		var check Checker
		if r.Health != config.Off && p.newCheck != nil && !cfg.Debug {
			var err error
			if check, err = p.newCheck(r); err != nil {
				return nil, fmt.Errorf("cannot use proxy.routes[%d].health: %w", i, err)
			}
		}
		next[i] = p.newRoute(r, cfg.Debug, check, old)
	}
	return next, nil
}

func (p *Proxy) newRoute(r config.Route, debug bool, check Checker, old *route) *route {
	n := &route{Route: r, name: r.Name(), prefix: trimSlash(r.Path), debug: debug, stat: p.metrics.of(r.Name(), len(p.workers))}
	if old != nil { // what runs and waits there counts here too
		n.limiter = old.limiter
	} else {
		n.limiter = newLimiter(r.Concurrency, r.Queue)
	}
	if i := slices.IndexFunc(p.routes, func(o *route) bool { return o.Upstream == r.Upstream }); i >= 0 {
		n.upstream = p.routes[i].upstream
	} else {
		n.upstream = newUpstream(r.Upstream, len(p.workers))
	}
	if old != nil && old.health.serves(r, debug) {
		n.health = old.health
	} else {
		n.health = newHealth(p.log, r, debug, check, newWarmer(r.Upstream), nil)
	}
	return n
}

func trimSlash(path string) string {
	if path != "" && path[len(path)-1] == '/' {
		return path[:len(path)-1]
	}
	return path
}

func (p *Proxy) routeNamed(name string) *route {
	for _, r := range p.routes {
		if r.name == name {
			return r
		}
	}
	return nil
}

// bind opens the addresses that are new, all or none. They do not accept yet.
func (p *Proxy) bind(wanted map[string][]int) (map[string]*listener, error) {
	fresh := map[string]*listener{}
	var leaving []int // :80 may take the port from 127.0.0.1:80
	for addr, l := range p.listeners {
		if wanted[addr] == nil {
			leaving = append(leaving, l.fd)
		}
	}
	for addr, routes := range wanted {
		if p.listeners[addr] != nil {
			continue
		}
		l, err := open(p, p.workers[len(fresh)%len(p.workers)], addr, leaving)
		if err != nil {
			for _, l := range fresh {
				unix.Close(l.fd)
				l.back.close()
			}
			return nil, fmt.Errorf("cannot listen on %q (proxy.routes[%s].listen): %w", addr, strconv.Itoa(routes[0]), err)
		}
		fresh[addr] = l
	}
	return fresh, nil
}

// replace puts the new routes in force; nothing can fail any more.
func (p *Proxy) replace(cfg config.Proxy, wanted map[string][]int, next []*route, secure map[string]*certificates, fresh map[string]*listener) {
	p.mu.Lock()
	old, routes := p.routes, slices.DeleteFunc(slices.Clone(next), func(r *route) bool { return r == nil })
	p.routes = routes
	gone := []*listener{}
	for addr, l := range p.listeners {
		if wanted[addr] == nil {
			gone = append(gone, l)
			delete(p.listeners, addr)
		}
	}
	for addr, l := range fresh {
		p.listeners[addr] = l
	}
	for addr, indexes := range wanted {
		l := p.listeners[addr]
		var list []*route
		for _, i := range indexes {
			list = append(list, next[i])
		}
		t := newTable(list)
		l.keep.Store(int64(cfg.KeepAlive))
		l.secure.Store(secure[addr])
		l.routes.Store(&t)
	}
	p.mu.Unlock()
	for _, r := range routes {
		r.limiter.set(r.Concurrency, r.Queue)
		if !slices.ContainsFunc(old, func(o *route) bool { return o.health == r.health }) {
			r.health.start()
		}
	}
	for _, r := range old {
		if !slices.Contains(routes, r) {
			p.dismiss(r)
		}
	}
	for _, l := range fresh {
		l.start()
		p.log.Info("listening", "address", l.addr.String())
	}
	for _, l := range gone {
		l.retire()
		p.log.Info("stopped listening", "address", l.addr.String())
	}
}

// dismiss lets a route go that is not in force any more; its requests end as they would have.
func (p *Proxy) dismiss(r *route) {
	if !slices.ContainsFunc(p.routes, func(o *route) bool { return o.health == r.health }) {
		r.health.stop()
	}
	if slices.ContainsFunc(p.routes, func(o *route) bool { return o.upstream == r.upstream }) {
		return
	}
	for _, w := range p.workers {
		w.loop.Post(func() { w.closeIdle(r.upstream) })
	}
}

// resolve finds the address of an upstream that has a name, for a client that waits.
func (p *Proxy) resolve(c *client, u *upstream) {
	seq := c.seq
	p.front.spawn(func() {
		ctx, cancel := context.WithTimeout(p.front.life, dialTimeout)
		defer cancel()
		to, err := u.resolve(ctx)
		c.w.loop.Post(func() { c.resolved(seq, u, to, err) })
	})
}

// Addr is the address that a listen setting was bound to, for ":0"; nil when there is no such listener.
func (p *Proxy) Addr(listen string) net.Addr {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l := p.listeners[listen]; l != nil {
		return l.addr
	}
	return nil
}

// Routes tells of every route, in the order of the settings.
func (p *Proxy) Routes() []RouteState {
	p.mu.Lock()
	routes := p.routes
	p.mu.Unlock()
	states := make([]RouteState, len(routes))
	for i, r := range routes {
		states[i] = r.state()
	}
	return states
}

// InFlight is the number of requests whose response has not been sent to its end, upgraded connections among them.
func (p *Proxy) InFlight() int {
	n := p.front.flying.Load()
	for _, w := range p.crew() {
		n += w.flying.Load()
	}
	return int(n)
}

// Connections is the number of clients' connections that are open.
func (p *Proxy) Connections() int64 {
	n := p.front.open.Load()
	for _, w := range p.crew() {
		n += w.open.Load()
	}
	return n
}

// descriptors is what the limit of connections bounds: they, and the socket pairs behind TLS and HTTP/2. To each belong as
// many descriptors again.
func (p *Proxy) descriptors() int64 {
	n := p.Connections()
	for _, w := range p.crew() {
		n += w.pairs.Load()
	}
	return n
}

// crew is the workers, for those who are not on a loop.
func (p *Proxy) crew() []*worker {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.workers
}

// LastRequest is when the last request began; zero when there was none.
func (p *Proxy) LastRequest() time.Time {
	last := p.front.last.Load()
	for _, w := range p.crew() {
		last = max(last, w.last.Load())
	}
	if last == 0 {
		return time.Time{}
	}
	return time.Now().Add(time.Duration(last - poll.Now()))
}

// BeginDrain asks every client, with its next response, to close its connection. Requests are still accepted.
func (p *Proxy) BeginDrain() {
	if !p.draining.Swap(true) {
		p.front.goAway()
	}
}

// StopAccepting closes the listeners and tells WebSockets that the server goes away. Other connections stay open: a
// request that comes on one is still answered, once.
func (p *Proxy) StopAccepting() {
	p.BeginDrain()
	p.applying.Lock()
	defer p.applying.Unlock()
	p.accepting.Store(false)
	p.mu.Lock()
	listeners := p.listeners
	p.mu.Unlock()
	for _, l := range listeners {
		l.stopAccepting()
	}
	for _, w := range p.workers {
		w.do(func() {
			w.each(func(c *client) {
				if c.state == tunnelling {
					c.goAway()
				}
			})
		})
	}
}

// announce wakes Wait.
func (p *Proxy) announce() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle.Broadcast()
}

// Wait returns when no request is in flight, or with ctx's error.
func (p *Proxy) Wait(ctx context.Context) error {
	p.waits.Add(1)
	defer p.waits.Add(-1)
	stop := context.AfterFunc(ctx, p.announce)
	defer stop()
	for {
		p.mu.Lock()
		n := p.front.flying.Load()
		for _, w := range p.workers {
			n += w.flying.Load()
		}
		if n == 0 {
			p.mu.Unlock()
			return nil
		}
		if err := ctx.Err(); err != nil {
			p.mu.Unlock()
			return fmt.Errorf("%d requests are still in flight: %w", n, err)
		}
		p.idle.Wait()
		p.mu.Unlock()
	}
}

// Close cuts every connection and returns when no goroutine of the proxy is left.
func (p *Proxy) Close() {
	p.StopAccepting()
	p.applying.Lock()
	defer p.applying.Unlock()
	if p.closing.Swap(true) {
		return
	}
	for _, r := range p.routes {
		r.health.stop()
	}
	p.front.settle()
	for _, w := range p.workers { // before the front, whose goroutines wait for them
		w.do(w.cut)
	}
	p.front.close()
	for _, l := range p.listeners {
		l.back.close()
	}
	for _, w := range p.workers {
		w.loop.Stop()
	}
}

// cut closes every connection of a worker. A reset tells a client that what it has is not all: with FIN a body without
// a length would look whole.
func (w *worker) cut() {
	w.each(func(c *client) {
		if c.x.active {
			c.x.reason = "cut_off"
			c.abort()
			return
		}
		c.close()
	})
	for _, r := range w.p.routes {
		w.closeIdle(r.upstream)
	}
}
