package probe

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// grpcCheck is one call of grpc.health.v1.Health/Check
// (github.com/grpc/grpc/blob/master/doc/health-checking.md). Two messages of one field each are no reason to hold
// a gRPC library, which is larger than the rest of inpod.
type grpcCheck struct{ addr, service string }

// GRPC returns a check that is content when a gRPC server at target says, without TLS, that service is SERVING; ""
// is the server as a whole. target is as for TCP.
func GRPC(target, service string) (Check, error) {
	addr, err := parseAddr(target)
	if err != nil {
		return nil, err
	}
	if strings.ContainsFunc(service, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return nil, fmt.Errorf("cannot ask for the service %q: it holds a control character", service)
	}
	return &grpcCheck{addr: addr, service: service}, nil
}

func (c *grpcCheck) String() string {
	if c.service == "" {
		return "grpc health of " + c.addr
	}
	return "grpc health of " + c.service + " at " + c.addr
}

// Check asks once, on a connection of its own.
func (c *grpcCheck) Check(ctx context.Context) error {
	conn, err := (&net.Dialer{KeepAlive: -1}).DialContext(ctx, "tcp", c.addr)
	if err != nil {
		return fmt.Errorf("%v: %w", c, reason(ctx, err))
	}
	// Closed here, not by the transport: that keeps a connection which a call has not quite left.
	defer conn.Close()
	status, err := c.ask(ctx, conn)
	switch {
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("%v: %w", c, reason(ctx, err))
	case err != nil:
		return fmt.Errorf("%v: no answer of gRPC without TLS: %w", c, reason(ctx, err))
	}
	if status != "SERVING" {
		return fmt.Errorf("%v: status %s, want SERVING", c, status)
	}
	return nil
}

// ask returns the name of the health status, or of the status with which the call failed.
func (c *grpcCheck) ask(ctx context.Context, conn net.Conn) (string, error) {
	used := false
	transport := &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			if used {
				return nil, errHungUp
			}
			used = true
			return conn, nil
		},
		Protocols:              new(http.Protocols),
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: 64 << 10,
	}
	transport.Protocols.SetUnencryptedHTTP2(true)
	u := url.URL{Scheme: "http", Host: c.addr, Path: "/grpc.health.v1.Health/Check"}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(healthRequest(c.service)))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	req.Header.Set("User-Agent", userAgent)
	res, err := transport.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	if kind := res.Header.Get("Content-Type"); res.StatusCode != http.StatusOK || !strings.HasPrefix(kind, "application/grpc") {
		return "", fmt.Errorf("status %d with content type %q", res.StatusCode, kind)
	}
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	if err != nil {
		return "", err
	}
	// A call that fails at once has its status in the header block (PROTOCOL-HTTP2.md, Trailers-Only).
	trailer := res.Trailer
	if trailer.Get("Grpc-Status") == "" {
		trailer = res.Header
	}
	if code := trailer.Get("Grpc-Status"); code != "0" {
		return callStatus(code, trailer.Get("Grpc-Message")), nil
	}
	return healthStatus(answer)
}

// healthRequest is a HealthCheckRequest behind the five bytes before each message: not compressed, its length.
func healthRequest(service string) []byte {
	var message []byte
	if service != "" {
		message = append(message, 1<<3|2) // field 1, length-delimited
		message = binary.AppendUvarint(message, uint64(len(service)))
		message = append(message, service...)
	}
	frame := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
	return append(frame, message...)
}

var (
	errNoHealth = errors.New("its message is not a HealthCheckResponse")
	errHungUp   = errors.New("the server hung up")
)

// healthStatus reads the status of a framed HealthCheckResponse; a field that it does not know is passed over.
func healthStatus(frame []byte) (string, error) {
	if len(frame) < 5 || frame[0] != 0 || uint64(binary.BigEndian.Uint32(frame[1:])) != uint64(len(frame)-5) {
		return "", errNoHealth
	}
	var status uint64
	for m := frame[5:]; len(m) > 0; {
		tag, n := binary.Uvarint(m)
		if n <= 0 {
			return "", errNoHealth
		}
		m = m[n:]
		var value uint64
		size := 0
		switch tag & 7 {
		case 0, 2:
			if value, size = binary.Uvarint(m); size <= 0 {
				return "", errNoHealth
			}
			if tag&7 == 2 {
				if value > uint64(len(m)-size) {
					return "", errNoHealth
				}
				size += int(value)
			}
		case 1:
			size = 8
		case 5:
			size = 4
		default:
			return "", errNoHealth
		}
		if size > len(m) {
			return "", errNoHealth
		}
		if tag == 1<<3 {
			status = value
		}
		m = m[size:]
	}
	names := []string{"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"}
	if status >= uint64(len(names)) {
		return strconv.FormatUint(status, 10), nil
	}
	return names[status], nil
}

// callStatus names the status of a failed call (github.com/grpc/grpc/blob/master/doc/statuscodes.md).
func callStatus(code, message string) string {
	names := []string{
		"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
		"RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE",
		"DATA_LOSS", "UNAUTHENTICATED",
	}
	name := "none of gRPC"
	if n, err := strconv.Atoi(code); err == nil && n >= 0 && n < len(names) {
		name = names[n]
	} else if code != "" {
		name = lastLine([]byte(code))
	}
	if text, err := url.PathUnescape(message); err == nil {
		message = text
	}
	if said := lastLine([]byte(message)); said != "" {
		name += " (" + said + ")"
	}
	return name
}
