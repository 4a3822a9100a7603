package xmlrpc

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// maxResponse bounds what a client takes from a server: a log of 64 MiB and its escapes.
const maxResponse = 512 << 20

// Client calls a supervisord or an agent.
type Client struct {
	base               string // for requests
	username, password string
	http               *http.Client
}

// StatusError is an answer other than 200, like 401 without the password.
type StatusError struct {
	Code   int
	Reason string // "Unauthorized"
	Path   string // "/RPC2"
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("the server answered %s with %d %s", e.Path, e.Code, e.Reason)
}

// NewClient takes unix:///path or http://[user:password@]host[:port]; username and password win over those in the URL.
func NewClient(serverURL, username, password string) (*Client, error) {
	var dialer net.Dialer
	tr := &http.Transport{MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute, DisableCompression: true}
	c := &Client{username: username, password: password, http: &http.Client{Transport: tr, CheckRedirect: noRedirect}}
	if path, ok := strings.CutPrefix(serverURL, "unix://"); ok {
		if path == "" {
			return nil, fmt.Errorf("cannot use serverurl %q: the path is missing", serverURL)
		}
		c.base = "http://localhost"
		tr.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return dialer.DialContext(ctx, "unix", path) }
		return c, nil
	}
	u, err := url.Parse(serverURL)
	if err != nil || u.Scheme != "http" || u.Host == "" {
		return nil, fmt.Errorf("cannot use serverurl %q: it is unix:///path or http://host:port", serverURL)
	}
	if c.username == "" && c.password == "" && u.User != nil {
		c.username = u.User.Username()
		c.password, _ = u.User.Password()
	}
	c.base = "http://" + u.Host
	tr.DialContext = dialer.DialContext
	return c, nil
}

func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// Call runs a method. Values come as bool, int, float64, string, time.Time, []any and map[string]any. The error is a
// *supervisor.Fault when the server answered with one, and a *StatusError for another HTTP status than 200.
func (c *Client) Call(ctx context.Context, method string, args ...any) (any, error) {
	body, err := MarshalCall(method, args)
	if err != nil {
		return nil, fmt.Errorf("cannot call %s: %w", method, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+"/RPC2", bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("cannot call %s: %w", method, err)
	}
	req.Header.Set("Content-Type", "text/xml")
	req.Header.Set("Accept", "text/xml")
	answer, err := c.do(req)
	if err != nil {
		return nil, fmt.Errorf("cannot call %s: %w", method, err)
	}
	defer answer.Close()
	data, err := io.ReadAll(io.LimitReader(answer, maxResponse))
	if err != nil {
		return nil, fmt.Errorf("cannot call %s: %w", method, err)
	}
	return ParseResponse(data)
}

// Stream opens a log that goes on for ever: /logtail/NAME/stdout or /mainlogtail. It ends with ctx or Close.
func (c *Client) Stream(ctx context.Context, path string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base, nil)
	if err == nil {
		req.URL.Path = path
		var body io.ReadCloser
		if body, err = c.do(req); err == nil {
			return body, nil
		}
	}
	return nil, fmt.Errorf("cannot follow %s: %w", path, err)
}

func (c *Client) do(req *http.Request) (io.ReadCloser, error) {
	if c.username != "" || c.password != "" {
		req.SetBasicAuth(c.username, c.password)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		_ = resp.Body.Close()
		reason := strings.TrimPrefix(resp.Status, fmt.Sprintf("%d ", resp.StatusCode))
		return nil, &StatusError{resp.StatusCode, reason, req.URL.Path}
	}
	return resp.Body, nil
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }
