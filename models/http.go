package models

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/inpod/inpod/config"
)

// newClient makes the client of all sources. HTTP/1.1 is the better one for few large files: a connection each, and the
// kernel's flow control alone.
func newClient() *http.Client {
	protocols := &http.Protocols{}
	protocols.SetHTTP1(true)
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: 15 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
			TLSHandshakeTimeout:   15 * time.Second,
			ResponseHeaderTimeout: time.Minute,
			IdleConnTimeout:       time.Minute,
			MaxIdleConnsPerHost:   atOnce,
			DisableCompression:    true, // what is fetched is what the checksum is of
			Protocols:             protocols,
		},
	}
}

// httpSource is one file of a web server.
type httpSource struct {
	u   *unit
	at  *url.URL
	own http.Header // what only the server of at may get
}

func newHTTPSource(u *unit, at *url.URL) (*httpSource, error) {
	s := &httpSource{u: u, at: at, own: http.Header{}}
	if path := u.model.TokenFile; path != "" {
		token, err := secret(path)
		if err != nil {
			return nil, fmt.Errorf("cannot read models[].token_file: %w", err)
		}
		s.own.Set("Authorization", "Bearer "+token)
	}
	if path := u.model.HeadersFile; path != "" {
		if err := readHeaders(path, s.own); err != nil {
			return nil, fmt.Errorf("cannot read models[].headers_file: %w", err)
		}
	}
	return s, nil
}

// secret reads a file that holds a secret alone.
func secret(path string) (string, error) {
	b, err := os.ReadFile(path)
	s := strings.TrimSpace(string(b))
	if err == nil && (s == "" || strings.ContainsFunc(s, unsendable)) {
		err = fmt.Errorf("%s does not hold one line of text", path)
	}
	return s, err
}

// unsendable tells of what no header field may hold (RFC 9110 section 5.5).
func unsendable(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }

// tokenRunes are those of a header field's name (section 5.6.2).
const tokenRunes = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

// readHeaders reads lines Name: value. No error repeats a value.
func readHeaders(path string, h http.Header) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || name == "" || strings.Trim(name, tokenRunes) != "" || strings.ContainsFunc(value, unsendable) {
			return fmt.Errorf("%s:%d is not Name: value", path, n)
		}
		h.Add(name, strings.TrimSpace(value))
	}
	return lines.Err()
}

func (s *httpSource) list(ctx context.Context, had *stamp) (*listing, error) {
	f := file{name: lastName(s.at.Path), size: -1, sha256: s.u.sha256, unpack: s.u.rule()}
	f.open = func(ctx context.Context, from int64, tag string) (*body, error) {
		return openRange(ctx, s.send, s.request, from, tag)
	}
	l := &listing{files: []file{f}}
	if had == nil || had.Version == "" {
		return l, nil
	}
	// A GET, as signed URLs allow that alone. The body of a changed file is not read.
	req, err := s.request(ctx)
	if err != nil {
		return nil, err
	}
	if date, ok := strings.CutPrefix(had.Version, dateTag); ok {
		req.Header.Set("If-Modified-Since", date)
	} else {
		req.Header.Set("If-None-Match", had.Version)
	}
	res, err := s.send(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusNotModified {
		l.version = had.Version
		return l, nil
	}
	if res.StatusCode != http.StatusOK {
		return nil, answered(res)
	}
	l.version = versionOf(res.Header) // of a server that knows no conditions
	return l, nil
}

func (s *httpSource) request(ctx context.Context) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.at.String(), nil)
	if err != nil {
		return nil, final(plainly(err))
	}
	for name, values := range s.own {
		req.Header[name] = values
	}
	return req, nil
}

// send follows redirects, which are normal with stores, but what is for the server of the URL stays with it: net/http
// keeps Authorization back, and knows nothing of a PRIVATE-TOKEN.
func (s *httpSource) send(req *http.Request) (*http.Response, error) {
	client := *s.u.client
	client.CheckRedirect = func(next *http.Request, via []*http.Request) error {
		if len(via) >= 10 {
			return errors.New("stopped after 10 redirects")
		}
		if next.URL.Host != s.at.Host || next.URL.Scheme != s.at.Scheme {
			for name := range s.own {
				next.Header.Del(name)
			}
		}
		return nil
	}
	return do(&client, req)
}

// doer is a client, or something that signs in first.
type doer interface {
	Do(*http.Request) (*http.Response, error)
}

func do(c doer, req *http.Request) (*http.Response, error) {
	req.Header.Set("User-Agent", "inpod")
	res, err := c.Do(req)
	if err != nil {
		var cert *tls.CertificateVerificationError
		err = plainly(err)
		if errors.As(err, &cert) {
			return nil, final(err)
		}
		return nil, err
	}
	return res, nil
}

// plainly takes the URL out of an error of net/http: it may be signed.
func plainly(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		at := ue.URL
		if u, perr := url.Parse(ue.URL); perr == nil {
			at = u.Host
		}
		return fmt.Errorf("%s %s: %w", strings.ToUpper(ue.Op), config.MaskQuery(at), ue.Err)
	}
	return err
}

// dateTag begins a tag or version that is a Last-Modified.
const dateTag = "date:"

// versionOf is what changes with the file, "" where the server tells nothing of the kind.
func versionOf(h http.Header) string {
	if e := h.Get("ETag"); e != "" {
		return e
	}
	if d := h.Get("Last-Modified"); d != "" {
		return dateTag + d
	}
	return ""
}

// tagOf is a validator that is strong enough for a range (RFC 9110 section 13.1.5): no weak ETag, and a date only when it
// was a second old already (section 8.8.2.2).
func tagOf(h http.Header) string {
	if e := h.Get("ETag"); strings.HasPrefix(e, `"`) {
		return e
	} else if e != "" {
		return ""
	}
	modified, err := http.ParseTime(h.Get("Last-Modified"))
	now, nowErr := http.ParseTime(h.Get("Date"))
	if err != nil || nowErr != nil || now.Sub(modified) < time.Second {
		return ""
	}
	return dateTag + h.Get("Last-Modified")
}

// openRange asks for a file from an offset on. A server that does not know ranges, or whose file has changed, sends the
// whole of it (section 14.2).
func openRange(ctx context.Context, send func(*http.Request) (*http.Response, error), request func(context.Context) (*http.Request, error), from int64, tag string) (*body, error) {
	req, err := request(ctx)
	if err != nil {
		return nil, err
	}
	if from > 0 {
		req.Header.Set("Range", "bytes="+strconv.FormatInt(from, 10)+"-")
		if tag != "" {
			req.Header.Set("If-Range", strings.TrimPrefix(tag, dateTag))
		}
	}
	res, err := send(req)
	if err != nil {
		return nil, err
	}
	b := &body{ReadCloser: res.Body, total: res.ContentLength, tag: tagOf(res.Header), version: versionOf(res.Header)}
	switch {
	case res.StatusCode == http.StatusOK:
		return b, nil
	case res.StatusCode == http.StatusPartialContent && from > 0:
		first, total, ok := contentRange(res.Header.Get("Content-Range"))
		if ok && first == from && (tag == "" || b.tag == "" || b.tag == tag) {
			b.from, b.total = from, total
			return b, nil
		}
	case res.StatusCode == http.StatusRequestedRangeNotSatisfiable && from > 0:
		// The file is shorter than what is here, so it is another one.
	default:
		defer res.Body.Close()
		return nil, answered(res)
	}
	_ = res.Body.Close()
	return openRange(ctx, send, request, 0, "")
}

// contentRange reads bytes FIRST-LAST/TOTAL; total is -1 where it is a *.
func contentRange(s string) (first, total int64, ok bool) {
	s, ok = strings.CutPrefix(s, "bytes ")
	span, size, cut := strings.Cut(s, "/")
	low, high, dash := strings.Cut(span, "-")
	first, err := strconv.ParseInt(low, 10, 64)
	last, lastErr := strconv.ParseInt(high, 10, 64)
	if !ok || !cut || !dash || err != nil || lastErr != nil || first < 0 || last < first {
		return 0, 0, false
	}
	if size == "*" {
		return first, -1, true
	}
	total, err = strconv.ParseInt(size, 10, 64)
	return first, total, err == nil && last == total-1
}

// unsigned takes out of a server's text what it repeats of the URL's query, where signatures are.
func unsigned(text []byte, at *url.URL) []byte {
	const masked, shortest = "********", 8 // shorter ones are no secrets, and words of any text
	hide := []string{at.RawQuery}
	for _, values := range at.Query() {
		hide = append(hide, values...)
	}
	for _, s := range hide {
		if len(s) >= shortest {
			text = bytes.ReplaceAll(text, []byte(s), []byte(masked))
		}
	}
	return text
}

// answered makes an error of a status: what is the server's trouble may pass, what is ours does not.
func answered(res *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(res.Body, 4<<10)) // it explains, no more
	err := fmt.Errorf("%s answered %s%s", res.Request.URL.Host, res.Status, explanation(unsigned(text, res.Request.URL)))
	switch {
	case res.StatusCode >= 500, res.StatusCode == http.StatusTooManyRequests, res.StatusCode == http.StatusRequestTimeout, res.StatusCode == http.StatusTooEarly:
		if after, aerr := strconv.Atoi(res.Header.Get("Retry-After")); aerr == nil && after > 0 {
			return &laterError{err, time.Duration(min(after, 3600)) * time.Second}
		}
		return err
	}
	return final(err)
}
