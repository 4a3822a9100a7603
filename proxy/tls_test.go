package proxy

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/inpod/inpod/config"
)

// certificate writes a certificate for host, signed by itself, and returns its files.
func certificate(t *testing.T, host string) (cert, key string) {
	t.Helper()
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	writeCertificate(t, host, cert, key)
	return cert, key
}

func writeCertificate(t *testing.T, host, cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "EC PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// shown is the name in the certificate that a listener shows for a name.
func shown(t *testing.T, addr, name string) string {
	t.Helper()
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, ServerName: name})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].Subject.CommonName
}

// tlsClient is a client that believes everybody; with h2 it speaks HTTP/2, and else HTTP/1.1.
func tlsClient(t *testing.T, h2 bool) *http.Client {
	protocols := &http.Protocols{}
	protocols.SetHTTP1(!h2)
	protocols.SetHTTP2(h2)
	tr := &http.Transport{Protocols: protocols, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: patience}
}

func startTLS(t *testing.T, r config.Route) (p *Proxy, url string) {
	t.Helper()
	r.TLSCert, r.TLSKey = certificate(t, "any")
	p, url = start(t, r)
	return p, "https" + strings.TrimPrefix(url, "http")
}

func TestTLS(t *testing.T) {
	up := server(t, func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		w.Header().Set("X-Seen", fmt.Sprint(r.Method, " ", r.RequestURI, " ", r.Host == "h:1", " ", len(b), " ", err, " ", r.Header["X-Forwarded-For"], r.Header["X-Forwarded-Proto"],
			r.Header["X-Forwarded-Host"], r.Header["Forwarded"], r.Header["User-Agent"]))
		w.Write(b)
	})
	p, url := startTLS(t, config.Route{Upstream: up, Concurrency: 5})
	for _, h2 := range []bool{false, true} {
		c := tlsClient(t, h2)
		for range 3 {
			req, _ := http.NewRequest("POST", url+"/a%2Fb?x;y=%20", strings.NewReader(strings.Repeat("x", 100_000)))
			req.Host = "h:1"
			req.Header.Set("User-Agent", "")
			req.Header.Add("X-Forwarded-For", "10.0.0.1")
			resp, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			want := `POST /a%2Fb?x;y=%20 true 100000 <nil> [10.0.0.1, 127.0.0.1] [https] [h:1] [for=127.0.0.1;proto=https;host="h:1"] []`
			if got := resp.Header.Get("X-Seen"); err != nil || len(b) != 100_000 || got != want || (resp.ProtoMajor == 2) != h2 {
				t.Errorf("h2 %v: got %s, %d bytes, %v, seen\n%s, want\n%s", h2, resp.Proto, len(b), err, got, want)
			}
		}
		eventually(t, "one connection is told of", func() bool { return p.Connections() == 1 })
		c.CloseIdleConnections()
		eventually(t, "no connection", func() bool { return p.front.open.Load() == 0 })
	}
	running(t, p, 0, 0)
}

func TestCertificateByHost(t *testing.T) {
	up := server(t, func(http.ResponseWriter, *http.Request) {})
	route := func(host string) config.Route {
		r := config.Route{Host: host, Upstream: up}
		r.TLSCert, r.TLSKey = certificate(t, "for "+host)
		return r
	}
	p, _ := start(t, route("a.example.com"), route("*.Example.com"), route("*.b.example.com"), route("other.org"))
	addr := p.Addr("127.0.0.1:0").String()
	for name, want := range map[string]string{
		"a.example.com": "for a.example.com", "A.EXAMPLE.com": "for a.example.com", "x.example.com": "for *.Example.com", "x.y.example.com": "for *.Example.com",
		"x.b.example.com": "for *.b.example.com", "b.example.com": "for *.Example.com", "other.org": "for other.org",
		"example.com": "for a.example.com", "unknown.net": "for a.example.com", "": "for a.example.com",
	} {
		if got := shown(t, addr, name); got != want {
			t.Errorf("%q: got the certificate %q, want %q", name, got, want)
		}
	}
	p, _ = start(t, route("a.example.com"), route(""))
	if got := shown(t, p.Addr("127.0.0.1:0").String(), "unknown.net"); got != "for " {
		t.Errorf("a name that no route names: got %q, want the certificate of the route without a host", got)
	}
}

// New files are taken by Apply; connections that are open, and what runs on them, go on.
func TestCertificateReload(t *testing.T) {
	release := make(chan struct{})
	up := server(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "begin ")
		w.(http.Flusher).Flush()
		if r.URL.Path == "/slow" {
			<-release
		}
		io.WriteString(w, "end")
	})
	route := config.Route{Upstream: up}
	route.TLSCert, route.TLSKey = certificate(t, "old")
	p, _ := start(t, route)
	addr := p.Addr("127.0.0.1:0").String()
	clients := []*http.Client{tlsClient(t, false), tlsClient(t, true)}
	bodies := []io.ReadCloser{}
	for _, c := range clients {
		resp, err := c.Get("https://" + addr + "/slow")
		if err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, resp.Body)
	}
	if got := shown(t, addr, ""); got != "old" {
		t.Errorf("before: got %q, want old", got)
	}
	if err := os.WriteFile(route.TLSKey, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := p.Apply(filled(config.Proxy{Routes: []config.Route{route}}))
	for _, want := range []string{"proxy.routes[0].tls_cert", route.TLSCert, route.TLSKey} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to name %s", err, want)
		}
	}
	if got := shown(t, addr, ""); got != "old" {
		t.Errorf("after files that are bad: got %q, want old", got)
	}
	writeCertificate(t, "new", route.TLSCert, route.TLSKey)
	apply(t, p, config.Proxy{Routes: []config.Route{route}})
	if got := shown(t, addr, ""); got != "new" {
		t.Errorf("after: got %q, want new", got)
	}
	close(release)
	for i, body := range bodies {
		b, err := io.ReadAll(body)
		body.Close()
		if string(b) != "begin end" || err != nil {
			t.Errorf("client %d: got %q, %v; want begin end", i, b, err)
		}
		resp, body := get(t, clients[i], "https://"+addr+"/")
		if got := resp.TLS.PeerCertificates[0].Subject.CommonName; got != "old" || body != "begin end" {
			t.Errorf("client %d: got %q over the certificate %q, want the same connection", i, body, got)
		}
	}
}

// A body that breaks off must not look whole, whatever its framing was.
func TestTruncatedBodyOverTLS(t *testing.T) {
	u := newRawUpstream(t)
	_, url := startTLS(t, config.Route{Upstream: u.addr()})
	for _, framing := range []string{"Content-Length: 10", "Transfer-Encoding: chunked"} {
		for _, version := range []string{"HTTP/1.0", "HTTP/1.1", "HTTP/2.0"} {
			t.Run(version+" "+framing, func(t *testing.T) {
				done := make(chan error, 1)
				go func() {
					b, err := readOver(t, url, version)
					if !strings.Contains(b, "part") {
						err = nil
						t.Errorf("got %q, want what there was", b)
					}
					done <- err
				}()
				up := u.accept()
				up.head()
				up.send(crlf("HTTP/1.1 200 OK", framing) + map[bool]string{true: "part", false: "4\r\npart\r\n"}[framing[0] == 'C'])
				up.Close()
				if err := <-done; err == nil {
					t.Error("the body ended without an error")
				}
			})
		}
	}
}

// readOver reads a whole response. Of HTTP/1.0 it reads until the end.
func readOver(t *testing.T, url, version string) (string, error) {
	if version != "HTTP/1.0" {
		resp, err := tlsClient(t, version == "HTTP/2.0").Get(url)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return string(b), err
	}
	c, err := tls.Dial("tcp", strings.TrimPrefix(url, "https://"), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		return "", err
	}
	defer c.Close()
	io.WriteString(c, crlf("GET / HTTP/1.0", "Host: h"))
	b, err := io.ReadAll(c)
	head, body, _ := strings.Cut(string(b), "\r\n\r\n")
	if err == nil && strings.Contains(head, "Content-Length: 10") && len(body) < 10 {
		err = io.ErrUnexpectedEOF
	}
	return body, err
}

// A client that does not speak TLS, or says nothing, costs nobody anything.
func TestNoTLSOnATLSListener(t *testing.T) {
	up := server(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
	p, url := startTLS(t, config.Route{Upstream: up})
	silent, err := net.Dial("tcp", strings.TrimPrefix(url, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	c := connect(t, strings.TrimPrefix(url, "https://"))
	c.send(ask("/"))
	if got, _ := c.rest(); strings.Contains(got, "200 OK") {
		t.Errorf("got %q in the clear", got)
	}
	if _, body := get(t, tlsClient(t, false), url); body != "ok" {
		t.Errorf("got %q, want ok", body)
	}
	p.StopAccepting()
	if err := p.Wait(context.Background()); err != nil {
		t.Error(err)
	}
	p.Close() // does not wait for the silent one
}
