package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"github.com/inpod/inpod/e2e/lab"
)

// proxyParts are the measurements of the proxy beside other proxies, all in front of the same upstream.
func proxyParts() []part {
	return []part{
		{"proxy-small", "Proxy: answers of 1 kB", nginx, measureSmall},
		{"proxy-large", "Proxy: answers of 64 kB and 1 MB", nginx, measureLarge},
		{"proxy-rate", "Proxy: latency at a fixed rate", nginx, measureRate},
		{"proxy-idle", "Proxy: memory of idle connections", nginx, measureIdleConns},
		{"proxy-sse", "Proxy: delay of server-sent events", nginx, measureSSE},
		{"proxy-upload", "Proxy: memory while a large body goes up", nginx, measureUpload},
		{"proxy-cancel", "Proxy: from the client's end to the upstream's", nginx, measureCancel},
	}
}

// proxies are those measured, in the order of their turns.
func (b *bench) proxies(also ...string) []string {
	names := []string{ours}
	for _, n := range append(also, nginx, haproxy, queueProxy, reverseProxy) {
		if b.peers.MatchString(n) {
			names = append(names, n)
		}
	}
	return names
}

// proxy is a running one. Direct is none: the upstream is its address.
type proxy struct {
	name, addr string
	daemon     *lab.Daemon
	pids       []int
}

// stand is proxies that all run at once, in front of one upstream.
type stand []*proxy

// stand starts the proxies; one that cannot be built is left out, and a note says so.
func (b *bench) stand(ctx context.Context, t *table, upstream string, names []string) (stand, error) {
	var s stand
	for _, n := range names {
		p, err := b.proxy(ctx, n, upstream)
		var missing *missingError
		if errors.As(err, &missing) {
			t.note("%s is not measured: %v", n, err)
			continue
		}
		if err != nil {
			s.stop()
			return nil, err
		}
		s = append(s, p)
	}
	return s, nil
}

func (s stand) stop() {
	for _, p := range s {
		p.stop()
	}
}

// turns gives every proxy n turns, one after the other. One that fails gets no more: the part then fails, with the
// figures of the others.
func (s stand) turns(ctx context.Context, n int, measure func(*proxy) error) error {
	failed := map[string]error{}
	for range n {
		for _, p := range s {
			if failed[p.name] != nil {
				continue
			}
			if err := measure(p); err != nil {
				failed[p.name] = fmt.Errorf("%s: %w", p.name, err)
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
	}
	var all error
	for _, p := range s {
		all = errors.Join(all, failed[p.name])
	}
	return all
}

// proxy starts name in front of upstream and waits until an answer comes through.
func (b *bench) proxy(ctx context.Context, name, upstream string) (*proxy, error) {
	if name == direct {
		return &proxy{name: name, addr: upstream}, nil
	}
	dir, err := b.dir()
	if err != nil {
		return nil, err
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	argv, env, err := b.proxyArgv(ctx, name, dir, addr, upstream)
	if err != nil {
		return nil, err
	}
	return startProxy(ctx, name, dir, addr, argv, env)
}

// startProxy starts any server and waits until it answers.
func startProxy(ctx context.Context, name, dir, addr string, argv, env []string) (*proxy, error) {
	p := &proxy{name: name, addr: addr}
	var err error
	env = append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + dir, "LANG=C.UTF-8"}, env...)
	if p.daemon, err = lab.Start(dir, env, argv...); err != nil {
		return nil, err
	}
	var last error
	if !lab.Until(20*time.Second, func() bool {
		last = askOnce(ctx, addr)
		return last == nil || p.daemon.Exited()
	}) || p.daemon.Exited() {
		said := p.daemon.Output()
		p.stop()
		return nil, fmt.Errorf("%s does not answer: %w; it said: %.500s", name, last, said)
	}
	p.pids = append([]int{p.daemon.PID()}, lab.Children(p.daemon.PID())...)
	return p, nil
}

func askOnce(ctx context.Context, addr string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/", nil)
	if err != nil {
		return err
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err = io.Copy(io.Discard, resp.Body); err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d", resp.StatusCode)
	}
	return err
}

// stop ends the proxy. nginx's master takes its workers with it only when it is asked.
func (p *proxy) stop() {
	if p.daemon == nil {
		return
	}
	if p.name == nginx {
		_ = p.daemon.Signal(syscall.SIGTERM) // it has exited, or it will
		p.daemon.WaitExit(5 * time.Second)
	}
	p.daemon.Kill()
	_ = os.RemoveAll(p.daemon.Dir)
}

// cpu is what all processes of the proxy have used so far, in ticks of 10 ms.
func (p *proxy) cpu() (sum time.Duration, err error) {
	for _, pid := range p.pids {
		u, err := lab.ReadUsage(pid)
		if err != nil {
			return 0, fmt.Errorf("a process of %s is gone: %w", p.name, err)
		}
		sum += u.CPU
	}
	return sum, nil
}

// memory sums over the processes of the proxy.
func (p *proxy) memory() (sum memory, err error) {
	for _, pid := range p.pids {
		m, err := memoryOf(pid)
		if err != nil {
			return sum, fmt.Errorf("a process of %s is gone: %w", p.name, err)
		}
		sum.rss += m.rss
		sum.peak += m.peak
		sum.private += m.private
	}
	return sum, nil
}

// freeAddr is a loopback address that nobody listens on at the moment.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("cannot find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}
