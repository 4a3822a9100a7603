package agent

import (
	"fmt"
	"net"
	"regexp"
	"strings"
)

var (
	// loopbackFlag is how the servers of this trade are told to listen on the loopback only, portFlag how they are told the port.
	loopbackFlag = regexp.MustCompile(`(?:^|\s)(?:-b|-H|--(?:[a-zA-Z.]*\.)?(?:host|ip|bind|listen|addr|address|http-address))[= ](?:https?://)?(?:127\.0\.0\.1|localhost)(?::(\d+))?(?:\s|$)`)
	portFlag     = regexp.MustCompile(`(?:^|\s)(?:-p|--(?:[a-zA-Z.]*\.)?(?:port|http-port))[= ](\d+)(?:\s|$)`)
)

// loopbacks warns of programs that nobody outside can reach: they listen on 127.0.0.1, as far as their command tells, and
// no route leads there. It is a guess, and some mean it so.
func loopbacks(l *loaded) []string {
	var out []string
	for i := range l.ini.Groups {
		for j := range l.ini.Groups[i].Programs {
			p := &l.ini.Groups[i].Programs[j]
			m := loopbackFlag.FindStringSubmatch(p.Command)
			if m == nil {
				continue
			}
			port := m[1]
			if f := portFlag.FindStringSubmatch(p.Command); f != nil && port == "" {
				port = f[1]
			}
			if !l.leadsTo(port) {
				out = append(out, fmt.Sprintf("%s:%d: [program:%s] seems to listen on 127.0.0.1 only, and no route leads there: from outside the container it cannot be reached",
					p.File, p.Line, p.Name))
			}
		}
	}
	return out
}

// leadsTo tells whether a route has an upstream on the loopback at port; "" is any.
func (l *loaded) leadsTo(port string) bool {
	for _, r := range l.cfg.Proxy.Routes {
		host, p, err := net.SplitHostPort(r.Upstream)
		if err == nil && (host == "localhost" || strings.HasPrefix(host, "127.")) && (port == "" || p == port) {
			return true
		}
	}
	return false
}
