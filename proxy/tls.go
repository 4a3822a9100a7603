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

// KeyError is what is wrong with a setting that could only be found out by looking at what it names.
type KeyError struct {
	Key string // as "proxy.routes[0].tls_cert"
	Err error
}

func (e *KeyError) Error() string { return e.Key + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *KeyError) Unwrap() error { return e.Err }

// Check looks at the files that cfg names. Its error is a *KeyError.
func Check(cfg config.Proxy) error {
	_, err := readCertificates(cfg, byListener(cfg))
	return err
}

// byListener groups the routes, by their index.
func byListener(cfg config.Proxy) map[string][]int {
	wanted := map[string][]int{}
	for i, r := range cfg.Routes {
		if r.Listen != config.Off {
			wanted[r.Listen] = append(wanted[r.Listen], i)
		}
	}
	return wanted
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
				return nil, &KeyError{fmt.Sprintf("proxy.routes[%d].tls_cert", i), fmt.Errorf("cannot use %q with tls_key %q: %w", r.TLSCert, r.TLSKey, err)}
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
