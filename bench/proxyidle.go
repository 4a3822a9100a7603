package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// measureIdleConns is what a connection costs that does nothing: notebooks, consoles and load balancers keep them.
func measureIdleConns(ctx context.Context, b *bench) (table, error) {
	var t table
	up, err := b.files(ctx)
	if err != nil {
		return t, err
	}
	defer up.stop()
	n := b.pick(8000, 2000)
	before, after, each := samples{}, samples{}, samples{}
	err = b.fresh(ctx, &t, up.addr, b.pick(3, 1), func(p *proxy) error {
		low, high, err := idleOnce(ctx, p, n)
		if err != nil {
			return err
		}
		before.add(p.name, low.rss/1e6)
		after.add(p.name, high.rss/1e6)
		each.add(p.name, (high.rss-low.rss)/float64(n)/1e3)
		return nil
	})
	t.add("RSS before", mega, lower, nil, before.median())
	t.add(fmt.Sprintf("RSS with %d connections", n), mega, lower, nil, after.median())
	t.add("… more for each connection", kilo, lower, nil, each.median())
	t.note("Every connection made one request of 1 kB, was looked at 2 s later, and then made another one: it was kept. nginx is three processes, whose shared pages count for each.")
	return t, err
}

// fresh is turns of proxies that are each started for their turn: what is measured must not be left from before.
func (b *bench) fresh(ctx context.Context, t *table, upstream string, n int, measure func(*proxy) error) error {
	var s stand
	for _, name := range b.proxies() {
		s = append(s, &proxy{name: name})
	}
	return s.turns(ctx, n, func(of *proxy) error {
		p, err := b.proxy(ctx, of.name, upstream)
		var missing *missingError
		if errors.As(err, &missing) {
			if of.addr == "" {
				t.note("%s is not measured: %v", of.name, err)
			}
			of.addr = "none"
			return nil
		}
		if err != nil {
			return err
		}
		defer p.stop()
		return measure(p)
	})
}

// client is one raw connection to a proxy.
type client struct {
	*net.TCPConn
	r *bufio.Reader
}

func dial(ctx context.Context, addr string, limit time.Duration) (*client, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	tcp := c.(*net.TCPConn)
	_ = tcp.SetLinger(0) // a close leaves no port waiting
	return &client{tcp, bufio.NewReaderSize(c, 4096)}, tcp.SetDeadline(time.Now().Add(limit))
}

// get asks for a path and reads the head of the answer, which must be a 200.
func (c *client) get(path string) (*http.Response, error) {
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, c.RemoteAddr()); err != nil {
		return nil, err
	}
	return c.answer()
}

func (c *client) answer() (*http.Response, error) {
	resp, err := http.ReadResponse(c.r, nil)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("got status %d", resp.StatusCode)
	}
	return resp, err
}

// whole gets a path and reads all of the answer, which has n bytes.
func (c *client) whole(path string) (n int64, err error) {
	resp, err := c.get(path)
	if err != nil {
		return 0, err
	}
	n, err = io.Copy(io.Discard, resp.Body)
	if err == nil && n != resp.ContentLength && resp.ContentLength >= 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func idleOnce(ctx context.Context, p *proxy, n int) (low, high memory, err error) {
	conns := make([]*client, 0, n)
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	for i := range n + 100 {
		if i == 100 { // a few first, so that what is made once is there
			if low, err = p.memory(); err != nil {
				return low, high, err
			}
		}
		c, err := dial(ctx, p.addr, 2*time.Minute)
		if err != nil {
			return low, high, fmt.Errorf("cannot open connection %d: %w", i, err)
		}
		conns = append(conns, c)
		if _, err := c.whole("/"); err != nil {
			return low, high, fmt.Errorf("cannot ask on connection %d: %w", i, err)
		}
	}
	pause(ctx, 2*time.Second)
	if high, err = p.memory(); err != nil {
		return low, high, err
	}
	for i, c := range conns {
		if _, err := c.whole("/"); err != nil {
			return low, high, fmt.Errorf("connection %d was not kept: %w", i, err)
		}
	}
	return low, high, ctx.Err()
}
