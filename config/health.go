package config

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// HealthKind is a way to check an upstream.
type HealthKind int

// The ways that proxy.routes[].health knows.
const (
	HealthOff HealthKind = iota
	HealthHTTP
	HealthTCP
	HealthExec
	HealthGRPC
)

// Health is what proxy.routes[].health says, with the upstream's address in the place of what it leaves out.
type Health struct {
	Kind    HealthKind
	Target  string // HTTP: a URL; TCP and gRPC: host:port
	Command string // exec: the command line, quoted as in a shell
	Service string // gRPC: "" is the whole server
}

// HealthCheck reads the health key. Its error says what would be right; a Route that Load returned has none.
func (r Route) HealthCheck() (Health, error) {
	s := r.Health
	kind, rest, colon := strings.Cut(s, ":")
	switch {
	case s == "":
		return Health{}, fmt.Errorf("is empty; want %s", healthForms)
	case s == Off:
		return Health{}, nil
	case s[0] == '/':
		return httpHealth(s, r.Upstream, s)
	case kind == "http" || kind == "https":
		return urlHealth(s)
	case kind == "tcp":
		return tcpHealth(s, rest, colon, r.Upstream)
	case kind == "exec":
		return execHealth(s, rest)
	case kind == "grpc":
		return grpcHealth(s, rest, colon, r.Upstream)
	case validPort(kind):
		if rest == "" {
			return Health{}, fmt.Errorf("%q is a bare port; did you mean %s:/health or tcp:%s?", clip(s), kind, kind)
		}
		return httpHealth(s, net.JoinHostPort(hostOf(r.Upstream), kind), rest)
	case kind == "" && validPort(rest): // ":8080"
		return Health{}, fmt.Errorf("%q is a bare port; did you mean %s:/health or tcp:%s?", clip(s), rest, rest)
	case strings.Trim(kind, "0123456789") == "" && colon:
		return Health{}, fmt.Errorf("%q has no valid port; want 1 to 65535", clip(s))
	}
	kinds := []string{"tcp", "exec", "grpc", "off", "http", "https"}
	if addr, path, _ := strings.Cut(s, "/"); validAddr(addr) && !slices.Contains(kinds, strings.ToLower(kind)) {
		return Health{}, fmt.Errorf("%q is no URL; did you mean http://%s/%s?", clip(s), clip(addr), clip(path))
	}
	return Health{}, fmt.Errorf("%q is not a health check%s; want %s", clip(s), suggestion(kind, kinds), healthForms)
}

const healthForms = "a path such as /health, PORT:/path, a URL, tcp, tcp:PORT, exec:COMMAND, grpc, grpc:SERVICE or off"

func httpHealth(s, addr, target string) (Health, error) {
	if msg := checkTarget(target); msg != "" {
		return Health{}, fmt.Errorf("%s", msg)
	}
	return Health{Kind: HealthHTTP, Target: "http://" + addr + target}, nil
}

func urlHealth(s string) (Health, error) {
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" || u.Opaque != "" || u.Port() != "" && !validPort(u.Port()) {
		return Health{}, fmt.Errorf("%q is not a URL such as http://127.0.0.1:8000/health", clip(s))
	}
	return Health{Kind: HealthHTTP, Target: s}, nil
}

func tcpHealth(s, port string, colon bool, upstream string) (Health, error) {
	switch {
	case !colon:
		return Health{Kind: HealthTCP, Target: upstream}, nil
	case !validPort(port):
		return Health{}, fmt.Errorf("%q has no valid port; want tcp:PORT, such as tcp:8000", clip(s))
	}
	return Health{Kind: HealthTCP, Target: net.JoinHostPort(hostOf(upstream), port)}, nil
}

func execHealth(s, command string) (Health, error) {
	command = strings.TrimSpace(command)
	switch {
	case command == "":
		return Health{}, fmt.Errorf("%q names no command; want one such as exec:/usr/bin/test -e /run/ready", clip(s))
	case strings.ContainsRune(command, 0):
		return Health{}, fmt.Errorf("holds a NUL byte")
	case !quotesClosed(command):
		return Health{}, fmt.Errorf("%q has a quote that is not closed", clip(s))
	}
	return Health{Kind: HealthExec, Command: command}, nil
}

func grpcHealth(s, service string, colon bool, upstream string) (Health, error) {
	// A service's name is package.Service; grpc:8001 and grpc:host:8001 are meant as addresses.
	bad := strings.IndexFunc(service, func(r rune) bool {
		return !(r == '.' || r == '_' || r == '-' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z')
	}) >= 0
	if colon && (service == "" || bad || strings.Trim(service, "0123456789") == "") {
		return Health{}, fmt.Errorf("%q names no gRPC service; want grpc, or grpc:SERVICE such as grpc:inference.GRPCInferenceService", clip(s))
	}
	return Health{Kind: HealthGRPC, Target: upstream, Service: service}, nil
}

func hostOf(addr string) string {
	host, _, _ := net.SplitHostPort(addr)
	return host
}

func validAddr(s string) bool {
	host, port, err := net.SplitHostPort(s)
	return err == nil && host != "" && validPort(port)
}

func validPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

// quotesClosed tells whether a command line can be split as a shell does.
func quotesClosed(s string) bool {
	var quote byte
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && quote != '\'':
			if i++; i == len(s) {
				return false
			}
		case quote != 0:
			if s[i] == quote {
				quote = 0
			}
		case s[i] == '\'' || s[i] == '"':
			quote = s[i]
		}
	}
	return quote == 0
}
