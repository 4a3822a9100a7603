package probe

import (
	"context"
	"fmt"
	"net"
	"strings"
)

type tcpCheck struct{ addr string }

// TCP returns a check that is content when addr takes a connection. addr is "host:port", ":port" or "port"; the
// host is this one by default.
func TCP(addr string) (Check, error) {
	full, err := parseAddr(addr)
	if err != nil {
		return nil, err
	}
	return &tcpCheck{addr: full}, nil
}

func parseAddr(addr string) (string, error) {
	full := addr
	if isPort(addr) {
		full = ":" + addr
	}
	host, port, err := net.SplitHostPort(full)
	if err != nil || !isPort(port) || strings.ContainsAny(host, "/ ") {
		return "", fmt.Errorf("cannot read %q as HOST:PORT or PORT", addr)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port), nil
}

func (c *tcpCheck) String() string { return "connect to " + c.addr }

// Check connects and hangs up.
func (c *tcpCheck) Check(ctx context.Context) error {
	d := net.Dialer{KeepAlive: -1}
	conn, err := d.DialContext(ctx, "tcp", c.addr)
	if err != nil {
		return fmt.Errorf("%v: %w", c, reason(ctx, err))
	}
	conn.Close()
	return nil
}
