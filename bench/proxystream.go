package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// measureSSE is what a proxy adds to the way of a token.
func measureSSE(ctx context.Context, b *bench) (table, error) {
	var t table
	up, err := newUpstream()
	if err != nil {
		return t, err
	}
	defer up.stop()
	all, err := b.stand(ctx, &t, up.addr, b.proxies())
	if err != nil {
		return t, err
	}
	defer all.stop()
	all = append(stand{{name: direct, addr: up.addr}}, all...)
	middle, slow := samples{}, samples{}
	n := b.pick(400, 200)
	err = all.turns(ctx, b.pick(5, 2), func(p *proxy) error {
		delays, err := eventsOnce(ctx, p, n)
		if err != nil {
			return err
		}
		one := samples{p.name: delays}
		middle.add(p.name, one.median()[p.name])
		slow.add(p.name, one.at(0.99)[p.name])
		return nil
	})
	t.add("from sent to received, median", micros, lower, nil, middle.median())
	t.add("… p99", micros, lower, nil, slow.median())
	t.add("more than direct, median", micros, lower, below(1000), beyond(middle.median()))
	t.add("… p99", micros, lower, below(1000), beyond(slow.median()))
	t.note("%d events, one every %s, on one connection.", n, eventGap)
	return t, err
}

// beyond is what the figures have more than direct's.
func beyond(of map[string]float64) map[string]float64 {
	more := map[string]float64{}
	for name, v := range of {
		if name != direct {
			more[name] = v - of[direct]
		}
	}
	return more
}

// eventsOnce returns the delay of every event of a stream, in µs.
func eventsOnce(ctx context.Context, p *proxy, n int) (delays []float64, err error) {
	c, err := dial(ctx, p.addr, 30*time.Second)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	resp, err := c.get("/events?n=" + strconv.Itoa(n))
	if err != nil {
		return nil, err
	}
	var in []byte
	for buf := make([]byte, 4096); ; {
		n, err := resp.Body.Read(buf)
		at := monotonic()
		in = append(in, buf[:n]...)
		for {
			event, rest, found := strings.Cut(string(in), "\n\n")
			if !found {
				break
			}
			sent, err := strconv.ParseInt(strings.TrimPrefix(event, "data: "), 10, 64)
			if err != nil {
				return nil, fmt.Errorf("got the event %.100q", event)
			}
			delays = append(delays, float64(at-time.Duration(sent))/float64(time.Microsecond))
			in = []byte(rest)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read event %d: %w", len(delays), err)
		}
	}
	if len(delays) != n {
		return nil, fmt.Errorf("got %d events, want %d", len(delays), n)
	}
	return delays, nil
}

// measureUpload is how much of a body a proxy holds.
func measureUpload(ctx context.Context, b *bench) (table, error) {
	var t table
	up, err := newUpstream()
	if err != nil {
		return t, err
	}
	defer up.stop()
	var failed error
	for _, k := range []struct {
		what    string
		gb      int
		chunked bool
	}{{"with Content-Length", b.pick(10, 2), false}, {"chunked", b.pick(10, 2), true}} {
		rate, cpu, peak, rise := samples{}, samples{}, samples{}, samples{}
		failed = errors.Join(failed, b.fresh(ctx, &t, up.addr, 1, func(p *proxy) error {
			u, err := uploadOnce(ctx, p, k.gb*1e9, k.chunked)
			if err != nil {
				return err
			}
			rate.add(p.name, u.rate)
			cpu.add(p.name, u.cpu.Seconds()/float64(k.gb))
			peak.add(p.name, u.peak/1e6)
			rise.add(p.name, (u.peak-u.before)/1e6)
			return nil
		}))
		t.add(fmt.Sprintf("%d GB %s: highest RSS", k.gb, k.what), mega, lower, nil, peak.median())
		t.add("… more than before", mega, lower, nil, rise.median())
		t.add("… CPU of the proxy for a GB", seconds, lower, nil, cpu.median())
		t.add("… rate", megaRate, higher, nil, rate.median())
	}
	t.note("One PUT to a server that reads and forgets, each through a proxy just started; the answer says how much arrived.")
	return t, failed
}

type uploadOf struct {
	rate         float64 // MB/s
	cpu          time.Duration
	before, peak float64 // bytes
}

func uploadOnce(ctx context.Context, p *proxy, total int, chunked bool) (u uploadOf, err error) {
	before, err := p.memory()
	if err != nil {
		return u, err
	}
	cpu, err := p.cpu()
	if err != nil {
		return u, err
	}
	c, err := dial(ctx, p.addr, 4*time.Minute)
	if err != nil {
		return u, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	const block = 250_000 // a divisor of every total
	body, field, end := make([]byte, block), fmt.Sprintf("Content-Length: %d", total), ""
	if chunked {
		body = []byte(fmt.Sprintf("%x\r\n%s\r\n", block, body))
		field, end = "Transfer-Encoding: chunked", "0\r\n\r\n"
	}
	began := monotonic()
	_, err = fmt.Fprintf(c, "PUT /sink HTTP/1.1\r\nHost: %s\r\n%s\r\n\r\n", p.addr, field)
	for left := total; left > 0 && err == nil; left -= block {
		_, err = c.Write(body)
	}
	if err == nil {
		_, err = io.WriteString(c, end)
	}
	if err != nil {
		return u, fmt.Errorf("cannot send the body: %w", err)
	}
	resp, err := c.answer()
	if err != nil {
		return u, fmt.Errorf("cannot read the answer: %w", err)
	}
	if said, err := io.ReadAll(resp.Body); string(said) != strconv.Itoa(total) {
		return u, fmt.Errorf("the upstream got %.100q bytes, want %d (%v)", said, total, err)
	}
	u.rate = float64(total) / 1e6 / (monotonic() - began).Seconds()
	after, err := p.cpu()
	if err != nil {
		return u, err
	}
	m, err := p.memory()
	u.cpu, u.before, u.peak = after-cpu, before.rss, m.peak
	return u, err
}

const cancelLimit = 2 * time.Second

// measureCancel is how long a model works on for nobody.
func measureCancel(ctx context.Context, b *bench) (table, error) {
	var t table
	up, err := newUpstream()
	if err != nil {
		return t, err
	}
	defer up.stop()
	all, err := b.stand(ctx, &t, up.addr, b.proxies(direct))
	if err != nil {
		return t, err
	}
	defer all.stop()
	n := b.pick(100, 30)
	var failed error
	for _, k := range []struct{ what, query string }{{"before the answer", ""}, {"in the middle of a body", "&body=1"}} {
		took, never := samples{}, samples{}
		failed = errors.Join(failed, all.turns(ctx, 1, func(p *proxy) error {
			missed := 0.0
			for i := range n {
				d, err := cancelOnce(ctx, p, up, k.query, time.Duration(rand.IntN(40))*time.Millisecond)
				if errors.Is(err, errUnseen) {
					d = cancelLimit
					missed++
				} else if err != nil {
					return fmt.Errorf("try %d: %w", i, err)
				}
				took.add(p.name, d.Seconds()*1e3)
				if missed == 10 { // the others would take minutes to say the same
					break
				}
			}
			never.add(p.name, missed)
			return nil
		}))
		t.add(k.what+": median", millis, lower, nil, took.median())
		t.add("… highest", millis, lower, below(100), took.at(1))
		t.add(fmt.Sprintf("… not within %s", cancelLimit), count, lower, below(0), never.median())
	}
	t.note("%d tries each, at a moment up to 40 ms after the request reached the upstream: from the client's close until the upstream's connection ends.", n)
	return t, failed
}

// errUnseen is what cancelOnce returns when the upstream does not see the end in time.
var errUnseen = errors.New("the upstream does not see that the client has gone")

func cancelOnce(ctx context.Context, p *proxy, up *upstream, query string, after time.Duration) (time.Duration, error) {
	c, err := dial(ctx, p.addr, 10*time.Second)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	id := strconv.FormatUint(rand.Uint64(), 36)
	h := up.expect(id)
	if _, err := fmt.Fprintf(c, "GET /hang?id=%s%s HTTP/1.1\r\nHost: %s\r\n\r\n", id, query, p.addr); err != nil {
		return 0, err
	}
	limit := time.NewTimer(5 * time.Second)
	defer limit.Stop()
	select {
	case <-h.began:
	case <-limit.C:
		return 0, errors.New("the request does not reach the upstream")
	}
	if query != "" {
		resp, err := c.answer()
		if err != nil {
			return 0, err
		}
		if _, err := io.ReadFull(resp.Body, make([]byte, 1)); err != nil {
			return 0, fmt.Errorf("cannot read the first byte of the body: %w", err)
		}
	}
	pause(ctx, after)
	closed := monotonic()
	_ = c.SetLinger(-1) // an ordinary end, not a reset
	if err := c.Close(); err != nil {
		return 0, err
	}
	limit.Reset(cancelLimit)
	select {
	case at := <-h.ended:
		return at - closed, ctx.Err()
	case <-limit.C:
		return 0, errUnseen
	}
}
