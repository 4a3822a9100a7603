package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	maxBody      = 10 << 10 // bytes read of an answer, as the kubelet does
	maxRedirects = 10
	userAgent    = "inpod-probe"
)

// httpCheck is one GET.
type httpCheck struct {
	url    string
	client *http.Client
}

// HTTP returns a check that is content when a GET of target answers with a status from 200 to 399. target is a
// URL, "PORT:/path" (on this host) or "HOST:PORT/path". A redirect on the same host is followed, one that leads to
// another host counts as success, because what was asked did answer.
func HTTP(target string) (Check, error) {
	u, err := parseTarget(target)
	if err != nil {
		return nil, err
	}
	return &httpCheck{url: u.String(), client: newClient(u.Hostname())}, nil
}

func parseTarget(target string) (*url.URL, error) {
	text := target
	if port, path, ok := strings.Cut(target, ":"); ok && isPort(port) && (path == "" || path[0] == '/') {
		text = "http://127.0.0.1:" + port + path
	} else if isPort(target) {
		text = "http://127.0.0.1:" + target
	} else if !strings.Contains(target, "://") {
		text = "http://" + target
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, fmt.Errorf("cannot read %q as a URL or PORT:/path: %w", target, errors.Unwrap(err))
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("cannot check %q: the scheme must be http or https", target)
	case strings.Trim(u.Hostname(), "0123456789") == "" || u.Port() != "" && !isPort(u.Port()): // no host is a number
		return nil, fmt.Errorf("cannot read %q as a URL or PORT:/path", target)
	}
	if u.Path == "" {
		u.Path = "/"
	}
	return u, nil
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

// newClient makes a client that holds nothing between two checks: no idle connection, no goroutine, no proxy from
// the environment.
func newClient(host string) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext: (&net.Dialer{KeepAlive: -1}).DialContext,
			// A pod checks itself, mostly by address: as for the kubelet, the certificate does not matter.
			TLSClientConfig:        &tls.Config{InsecureSkipVerify: true},
			DisableKeepAlives:      true,
			DisableCompression:     true,
			MaxResponseHeaderBytes: 64 << 10,
			ExpectContinueTimeout:  time.Second,
		},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if req.URL.Hostname() != host {
				return http.ErrUseLastResponse
			}
			if len(via) >= maxRedirects {
				return fmt.Errorf("stopped after %d redirects", maxRedirects)
			}
			return nil
		},
	}
}

func (c *httpCheck) String() string { return "GET " + c.url }

// Check asks once. Without a deadline in ctx it waits as long as the server does.
func (c *httpCheck) Check(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url, nil)
	if err != nil {
		return fmt.Errorf("%v: %w", c, err)
	}
	req.Header.Set("User-Agent", userAgent)
	req.Header.Set("Accept", "*/*")
	res, err := c.client.Do(req)
	if err != nil {
		return fmt.Errorf("%v: %w", c, reason(ctx, err))
	}
	defer res.Body.Close()
	// The server sees its answer taken; how it ends does not matter once the status is known.
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, maxBody))
	if res.StatusCode < 200 || res.StatusCode > 399 {
		return fmt.Errorf("%v: status %d, want 200–399", c, res.StatusCode)
	}
	return nil
}

// reason strips what net/http and net put around the cause and which the check already says.
func reason(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return errTimeout{ctx.Err()}
		}
		return context.Cause(ctx)
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	var oe *net.OpError
	if errors.As(err, &oe) && oe.Op == "dial" && oe.Err != nil {
		err = oe.Err
	}
	var se interface{ Unwrap() error }
	if errors.As(err, &se) && strings.HasPrefix(err.Error(), "connect: ") {
		err = se.Unwrap()
	}
	return err
}

// errTimeout words a deadline for people.
type errTimeout struct{ err error }

func (e errTimeout) Error() string { return "no answer in time" }
func (e errTimeout) Unwrap() error { return e.err }
