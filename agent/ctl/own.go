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

// PhaseStopping is the last of the phases of DESIGN §3: starting, ready, draining, stopping.
const PhaseStopping = "stopping"

// Phase asks the agent for its phase.
func Phase(ctx context.Context, server Server) (string, error) {
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

// Drain takes the pod out of service. With wait it returns once nothing is in flight any more and
// the programs are being stopped, or the agent is gone.
func Drain(ctx context.Context, server Server, wait bool) error {
	if _, err := admin(ctx, server, http.MethodPost, pathDrain); err != nil {
		return fmt.Errorf("cannot drain: %w", err)
	}
	for wait {
		phase, err := Phase(ctx, server)
		if phase == PhaseStopping || gone(err) {
			return nil
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("cannot wait for the end of the drain: %w", err)
		}
	}
	return nil
}

// Ready asks whether the agent is ready. With wait it asks until it is, or ctx ends; a server that
// does not answer yet is not ready. detail is the agent's list of checks.
func Ready(ctx context.Context, server Server, wait bool) (ready bool, detail string, err error) {
	for {
		status, body, err := server.Admin(ctx, http.MethodGet, pathReady+"?verbose")
		switch {
		case err == nil && status == http.StatusOK:
			return true, string(body), nil
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
		if perr := pause(ctx); perr != nil {
			return false, detail, fmt.Errorf("cannot wait for readiness: %w", perr)
		}
	}
}

// gone tells whether err means that no agent listens there, or no longer.
func gone(err error) bool {
	for _, e := range []error{syscall.ECONNREFUSED, syscall.ENOENT, syscall.ECONNRESET, syscall.EPIPE, io.EOF, io.ErrUnexpectedEOF} {
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
func admin(ctx context.Context, server Server, method, path string) ([]byte, error) {
	status, body, err := server.Admin(ctx, method, path)
	switch {
	case err != nil:
		return nil, err
	case status == http.StatusNotFound:
		return nil, errors.New("the server is no inpod agent")
	case status/100 != 2:
		return nil, fmt.Errorf("%d %s: %s", status, http.StatusText(status), strings.TrimSpace(string(body)))
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
