package proxy

import (
	"crypto/tls"
	"fmt"
	"strings"

	"github.com/inpod/inpod/config"
)

// certificates are those of a listener.
type certificates struct {
	config *tls.Config
	byHost map[string]*tls.Certificate // "" and *.domain among them
	first  *tls.Certificate
}

// readCertificates reads the files of every listener whose routes name some.
func readCertificates(cfg config.Proxy, wanted map[string][]int) (map[string]*certificates, error) {
	all := map[string]*certificates{}
	for addr, routes := range wanted {
		for _, i := range routes {
			r := cfg.Routes[i]
			if r.TLSCert == "" {
				continue
			}
			cert, err := tls.LoadX509KeyPair(r.TLSCert, r.TLSKey)
			if err != nil {
				return nil, fmt.Errorf("cannot use proxy.routes[%d].tls_cert %q with tls_key %q: %w", i, r.TLSCert, r.TLSKey, err)
			}
			c := all[addr]
			if c == nil {
				c = &certificates{byHost: map[string]*tls.Certificate{}, first: &cert}
				c.config = &tls.Config{GetCertificate: c.of, NextProtos: []string{"h2", "http/1.1"}, MinVersion: tls.VersionTLS12}
				all[addr] = c
			}
			if host := strings.ToLower(r.Host); c.byHost[host] == nil {
				c.byHost[host] = &cert
			}
		}
	}
	return all, nil
}

// of finds the certificate for the name that the client asked for.
func (c *certificates) of(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := strings.ToLower(hello.ServerName)
	for try := name; try != ""; {
		if cert := c.byHost[try]; cert != nil {
			return cert, nil
		}
		_, domain, ok := strings.Cut(strings.TrimPrefix(try, "*."), ".")
		if !ok {
			break
		}
		try = "*." + domain
	}
	if cert := c.byHost[""]; cert != nil {
		return cert, nil
	}
	return c.first, nil
}
