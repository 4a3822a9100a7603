package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/inpod/inpod/config"
)

const warmupAgent = "inpod-warmup"

// newWarmer returns what sends one warm-up request to upstream. It goes there directly, on a connection of its own,
// and so is in none of the route's limits and metrics. Success is a status from 200 to 399 and a whole body.
func newWarmer(upstream string) func(ctx context.Context, w config.Warmup) error {
	transport := &http.Transport{
		DialContext:            (&net.Dialer{KeepAlive: -1}).DialContext,
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: 64 << 10,
	}
	return func(ctx context.Context, w config.Warmup) error {
		req, err := http.NewRequestWithContext(ctx, w.Method, "http://"+upstream+w.Path, strings.NewReader(w.Body))
		if err != nil {
			return fmt.Errorf("cannot make the request: %w", err)
		}
		req.Header.Set("User-Agent", warmupAgent)
		switch {
		case w.ContentType != "":
			req.Header.Set("Content-Type", w.ContentType)
		case w.Body != "":
			req.Header.Set("Content-Type", "application/json")
		}
		// Not a Client: it would follow redirects, perhaps away from the upstream.
		res, err := transport.RoundTrip(req)
		if err != nil {
			return warmupCause(ctx, err)
		}
		defer res.Body.Close()
		if res.StatusCode < 200 || res.StatusCode > 399 {
			return fmt.Errorf("status %d, want 200–399", res.StatusCode)
		}
		// The answer ends when the model has done its work.
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			return fmt.Errorf("status %d, but the body broke off: %w", res.StatusCode, warmupCause(ctx, err))
		}
		return nil
	}
}

// warmupCause strips what net puts around the cause, and words a deadline for people.
func warmupCause(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return errLate{ctx.Err()}
	}
	var oe *net.OpError
	if errors.As(err, &oe) && oe.Op == "dial" && oe.Err != nil {
		err = oe.Err
		if cause := errors.Unwrap(err); cause != nil && strings.HasPrefix(err.Error(), "connect: ") {
			err = cause
		}
	}
	return err
}

// errLate is a deadline.
type errLate struct{ err error }

func (e errLate) Error() string { return "no answer in time" }
func (e errLate) Unwrap() error { return e.err }
