package config

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

const (
	maxWarmup = 10_000
	minBuffer = 4 << 10 // a response head must fit
	maxBuffer = 1 << 30
)

// reporter reports a problem where key was set.
type reporter func(key, format string, args ...any)

// checkRoutes applies the rules that concern several keys of a route, or several routes.
func (c *Config) checkRoutes(report reporter) {
	type place struct{ listen, host, path string }
	seen := map[place]int{}
	for i, r := range c.Proxy.Routes {
		at := routeKey(i)
		if r.Upstream == "" && c.IsSet(at+".upstream") {
			report(at+".upstream", "is empty; want host:port, such as 127.0.0.1:8000")
			continue
		} else if r.Upstream == "" {
			report(at+".upstream", "is missing")
			continue
		}
		if _, err := r.HealthCheck(); err != nil {
			report(at+".health", "%v", err)
		}
		if r.Listen == Off || r.Listen == "" {
			continue
		}
		here := place{r.Listen, r.Host, strings.TrimSuffix(r.Path, "/")}
		if first, dup := seen[here]; dup && r.Host == "" {
			report(at, "has the same listen and path as %s (%s %s)", routeKey(first), r.Listen, r.Path)
		} else if dup {
			report(at, "has the same listen, host and path as %s (%s %s %s)", routeKey(first), r.Listen, r.Host, r.Path)
		} else {
			seen[here] = i
		}
		if sameAddress(r.Listen, c.Admin.Listen) {
			report(at+".listen", "%q is taken by admin.listen (%q)", r.Listen, c.Admin.Listen)
		}
		if r.Upstream != "" && sameAddress(r.Listen, r.Upstream) {
			report(at+".upstream", "%q is the route's own listen address: requests would go in a circle", r.Upstream)
		}
	}
	c.checkTLS(report)
}

// checkTLS: a listener speaks TLS or it does not, and shows one certificate for a name.
func (c *Config) checkTLS(report reporter) {
	type name struct{ listen, host string }
	shown := map[name]int{}
	firsts := map[string]int{} // the first route of each listen
	for i, r := range c.Proxy.Routes {
		at := routeKey(i)
		if r.Listen == Off || r.Listen == "" {
			continue
		}
		if r.TLSCert != "" && r.TLSKey == "" {
			report(at+".tls_cert", "is set without tls_key; want both or none")
			continue
		} else if r.TLSCert == "" && r.TLSKey != "" {
			report(at+".tls_key", "is set without tls_cert; want both or none")
			continue
		}
		if first, shared := firsts[r.Listen]; !shared {
			firsts[r.Listen] = i
		} else if has := c.Proxy.Routes[first].TLSCert != ""; has != (r.TLSCert != "") {
			with, without := at, routeKey(first)
			if has {
				with, without = without, with
			}
			report(at, "shares listen %q with %s, but %s has tls_cert and %s has not", r.Listen, routeKey(first), with, without)
			continue
		}
		if r.TLSCert == "" {
			continue
		}
		if first, ok := shown[name{r.Listen, r.Host}]; !ok {
			shown[name{r.Listen, r.Host}] = i
		} else if f := c.Proxy.Routes[first]; f.TLSCert != r.TLSCert || f.TLSKey != r.TLSKey {
			report(at+".tls_cert", "%q is not the certificate of %s (%q), which has the same listen and host",
				clip(r.TLSCert), routeKey(first), clip(f.TLSCert))
		}
	}
}

func routeKey(i int) string { return "proxy.routes[" + strconv.Itoa(i) + "]" }

// checkHost takes what a Host field can name, without a port, or "*." before it.
func checkHost(s string) string {
	if s == "" {
		return ""
	}
	if _, rest, ok := strings.Cut(s, "://"); ok {
		return fmt.Sprintf("%q is a URL; want a host such as %s", clip(s), clip(strings.TrimSuffix(rest, "/")))
	}
	if inner, ok := strings.CutPrefix(s, "["); ok {
		if ip, err := netip.ParseAddr(strings.TrimSuffix(inner, "]")); err == nil && ip.Is6() && strings.HasSuffix(s, "]") {
			return ""
		}
		return fmt.Sprintf("%q is not an IPv6 address in brackets, such as [::1]", clip(s))
	}
	if host, port, err := net.SplitHostPort(s); err == nil {
		if host == "" {
			return fmt.Sprintf("%q is a port; listen has that", clip(s))
		}
		return fmt.Sprintf("%q has a port (%s), which listen has; did you mean %s?", clip(s), clip(port), clip(host))
	}
	name := strings.TrimPrefix(s, "*.")
	if strings.Contains(name, "*") {
		return fmt.Sprintf("%q has a * that is not a whole first label; want one such as *.example.com", clip(s))
	}
	if i := strings.IndexFunc(name, func(r rune) bool {
		return !(r == '-' || r == '_' || r == '.' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z')
	}); i >= 0 {
		return fmt.Sprintf("%q holds %q, which no host name does", clip(s), []rune(name[i:])[0])
	}
	if name == "" || strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".") || strings.Contains(name, "..") {
		return fmt.Sprintf("%q is not a host, such as model.example.com or *.example.com", clip(s))
	}
	return ""
}

// checkTarget takes a path with or without a query, as it stands in a request line.
func checkTarget(s string) string {
	path, query, _ := strings.Cut(s, "?")
	if msg := checkURLPath(path); msg != "" {
		return msg
	}
	if i := strings.IndexFunc(query, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '#' }); i >= 0 {
		return fmt.Sprintf("%q holds %q, which no query does", clip(s), query[i])
	}
	for i := range len(path) {
		if path[i] == '%' && (i+2 >= len(path) || !hex(path[i+1]) || !hex(path[i+2])) {
			return fmt.Sprintf("%q has a %% without two hexadecimal digits; write %%25 for one that is meant", clip(s))
		}
	}
	return ""
}

func hex(b byte) bool { return '0' <= b && b <= '9' || 'a' <= b && b <= 'f' || 'A' <= b && b <= 'F' }

func checkMethod(s string) string {
	if s == "" {
		return "is empty; want one such as GET or POST"
	}
	if up := strings.ToUpper(s); up != s && strings.Trim(up, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == "" {
		return fmt.Sprintf("%q is not in capitals; did you mean %s?", clip(s), clip(up))
	}
	if strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-") != "" || s == "CONNECT" {
		return fmt.Sprintf("%q is not a method such as GET or POST", clip(s))
	}
	return ""
}

func checkHeaderValue(s string) string {
	if i := strings.IndexFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }); i >= 0 {
		return fmt.Sprintf("%q holds %q, which no header field may", clip(s), s[i])
	}
	return ""
}
