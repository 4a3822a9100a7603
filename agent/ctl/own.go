package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"time"
)

// The paths of the admin API that the own actions use.
const (
	pathPhase = "/api/v1/phase"
	pathDrain = "/api/v1/drain"
	pathReady = "/readyz"

	pollEvery = 200 * time.Millisecond
)

// AdminAPI is the part of a Server that the own actions need. Server and DialAdmin have it.
type AdminAPI interface {
	// Admin asks the admin API for path and returns the status and the body, which it bounds.
	Admin(ctx context.Context, method, path string) (status int, body []byte, err error)
}

// Phase asks the agent for its phase.
func Phase(ctx context.Context, server AdminAPI) (string, error) {
	body, err := admin(ctx, server, http.MethodGet, pathPhase)
	if err != nil {
		return "", fmt.Errorf("cannot get the phase: %w", err)
	}
	var answer struct {
		Phase string `json:"phase"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.Phase == "" {
		return "", fmt.Errorf("cannot get the phase: the server is no inpod agent")
	}
	return answer.Phase, nil
}

// Drain takes the pod out of service. With wait it returns once nothing is in flight any more, which is just before
// the programs are stopped, or when the agent is gone.
func Drain(ctx context.Context, server AdminAPI, wait bool) error {
	path := pathDrain
	if wait {
		path += "?wait=true"
	}
	_, err := admin(ctx, server, http.MethodPost, path)
	switch {
	case err == nil:
		return nil
	case wait && errors.Is(err, context.DeadlineExceeded):
		return errors.New("requests are still in flight; the drain goes on")
	case wait && cutOff(err):
		return nil // the agent was ended in some other way, and nothing is in flight any more
	}
	return fmt.Errorf("cannot drain: %w", err)
}

// Ready asks whether the agent is ready. With wait it asks until it is, or ctx ends; a server that
// does not answer yet is not ready. detail is the agent's list of checks.
func Ready(ctx context.Context, server AdminAPI, wait bool) (ready bool, detail string, err error) {
	for last := error(nil); ; {
		status, body, err := server.Admin(ctx, http.MethodGet, pathReady+"?verbose")
		switch {
		case err == nil && status == http.StatusOK:
			return true, string(body), nil
		case err != nil && wait && ctx.Err() != nil: // in the middle of asking
			return false, detail, notInTime(last)
		case err == nil && status != http.StatusServiceUnavailable:
			return false, "", fmt.Errorf("cannot ask for readiness: %d %s", status, http.StatusText(status))
		case err != nil && !(wait && gone(err)):
			return false, "", fmt.Errorf("cannot ask for readiness: %w", err)
		}
		if err == nil {
			detail = string(body)
		}
		if !wait {
			return false, detail, nil
		}
		if last = err; pause(ctx) != nil {
			return false, detail, notInTime(last)
		}
	}
}

// notInTime is the end of waiting; last is what came of asking, nil when the agent answered that it is not ready.
func notInTime(last error) error {
	if last != nil {
		return fmt.Errorf("no agent in time: %w", last)
	}
	return errors.New("not ready in time")
}

// gone tells whether err means that no agent listens there, or no longer.
func gone(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT) || cutOff(err)
}

// cutOff tells whether the agent ended in the middle of an answer.
func cutOff(err error) bool {
	for _, e := range []error{syscall.ECONNRESET, syscall.EPIPE, io.EOF, io.ErrUnexpectedEOF} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func pause(ctx context.Context) error {
	t := time.NewTimer(pollEvery)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// admin returns the body of a 2xx answer.
func admin(ctx context.Context, server AdminAPI, method, path string) ([]byte, error) {
	status, body, err := server.Admin(ctx, method, path)
	switch {
	case err != nil:
		return nil, err
	case status == http.StatusNotFound:
		return nil, errors.New("the server is no inpod agent")
	case status/100 != 2:
		var answer struct {
			Error string `json:"error"`
		}
		if json.Unmarshal(body, &answer) != nil || answer.Error == "" {
			answer.Error = strings.TrimSpace(string(body))
		}
		return nil, fmt.Errorf("%s (%d %s)", answer.Error, status, http.StatusText(status))
	}
	return body, nil
}

func (c *Controller) drain(ctx context.Context, arg string) error {
	if arg != "" && arg != "--wait" {
		c.fail(exitInvalidArgs, "Error: drain accepts only --wait")
		c.output(helpOf("drain"))
		return nil
	}
	server, err := c.connect()
	if err == nil {
		err = Drain(ctx, server, arg == "--wait")
	}
	return c.plainError(ctx, err)
}

func (c *Controller) phase(ctx context.Context, arg string) error {
	if arg != "" {
		return c.noArguments("phase")
	}
	server, err := c.connect()
	if err != nil {
		return c.plainError(ctx, err)
	}
	phase, err := Phase(ctx, server)
	if err == nil {
		c.output(phase)
	}
	return c.plainError(ctx, err)
}

// plainError tells an error of our own actions in our own words. The end of ctx is left to the caller.
func (c *Controller) plainError(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	c.fail(exitGeneric, "ERROR: "+err.Error())
	return nil
}
