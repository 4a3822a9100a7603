package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/inpod/inpod/injector"
	"github.com/prometheus/client_golang/prometheus"
)

// TestServe starts everything but the API server: TLS with the files' certificate, health, metrics, and the drain in
// which requests are still answered while readiness says no.
func TestServe(t *testing.T) {
	// A machine that stands still may take longer than the drain does: that says nothing, and a longer one is tried.
	for delay := 500 * time.Millisecond; ; delay *= 8 {
		drained, in := serveAndDrain(t, delay)
		if in < delay {
			for _, fault := range drained {
				t.Error(fault)
			}
			return
		}
		if delay > time.Minute {
			t.Fatalf("three requests took %s", in)
		}
	}
}

// serveAndDrain returns what was wrong about requests during the drain, and how long those took.
func serveAndDrain(t *testing.T, delay time.Duration) (faults []string, took time.Duration) {
	t.Helper()
	dir, roots := writeCertificate(t)
	registry := prometheus.NewRegistry()
	logs, w := io.Pipe()
	log := slog.New(slog.NewJSONHandler(w, nil))
	certs := &injector.Certificates{Dir: dir, Log: log, Metrics: injector.NewMetrics(registry), Now: time.Now}
	f := serveFlags{listen: "127.0.0.1:0", metricsListen: "127.0.0.1:0", drainDelay: delay}
	hook := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "answered") })
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- f.serve(ctx, log, hook, certs, registry, certs.Run)
		w.Close()
	}()
	await := follow(t, logs)
	hookAt, adminAt := await("listening")["address"].(string), await("listening")["address"].(string)
	await("serving with a certificate")

	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "hook"}, ForceAttemptHTTP2: true}}
	get := func(url string) (int, string) {
		resp, err := client.Get(url)
		if err != nil {
			return 0, err.Error()
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body)
	}
	for url, want := range map[string]int{
		"https://" + hookAt + "/mutate": 200, "https://" + hookAt + "/": 404, "http://" + adminAt + "/livez": 200,
		"http://" + adminAt + "/readyz": 200, "http://" + adminAt + "/metrics": 200,
	} {
		if code, body := get(url); code != want {
			t.Errorf("%s: %d %s, want %d", url, code, body, want)
		}
	}
	// The API server speaks HTTP/1.1 to webhooks.
	plain := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "hook"}}}
	closes := func() (bool, error) {
		resp, err := plain.Get("https://" + hookAt + "/mutate")
		if err != nil {
			return false, err
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.Close, nil
	}
	if closed, err := closes(); closed || err != nil {
		t.Errorf("a connection is closed after a review: %v, %v", closed, err)
	}
	began := time.Now()
	stop()
	await("draining")
	if closed, err := closes(); !closed || err != nil {
		faults = append(faults, fmt.Sprintf("a connection is kept for another review during the drain: %v", err))
	}
	if code, body := get("http://" + adminAt + "/readyz"); code != 503 {
		faults = append(faults, fmt.Sprintf("readyz during the drain: %d %s", code, body))
	}
	if code, body := get("https://" + hookAt + "/mutate"); code != 200 {
		faults = append(faults, fmt.Sprintf("a review during the drain: %d %s", code, body))
	}
	took = time.Since(began)
	if err := <-done; err != nil && err != http.ErrServerClosed {
		t.Errorf("it ended with %v", err)
	}
	if all := time.Since(began); all < delay {
		t.Errorf("it ended after %s, in the middle of the drain of %s", all, delay)
	}
	return faults, took
}

// follow reads a log. What it returns waits for a message.
func follow(t *testing.T, logs io.Reader) func(msg string) map[string]any {
	t.Helper()
	events := make(chan map[string]any, 64)
	go func() {
		defer close(events)
		for lines := bufio.NewScanner(logs); lines.Scan(); {
			var e map[string]any
			if json.Unmarshal(lines.Bytes(), &e) == nil {
				events <- e
			}
		}
	}()
	return func(msg string) map[string]any {
		for e := range events {
			if e["msg"] == msg {
				return e
			}
		}
		t.Fatalf("the log ended without %q", msg)
		return nil
	}
}

func TestServeOnATakenPort(t *testing.T) {
	dir, _ := writeCertificate(t)
	log := slog.New(slog.DiscardHandler)
	registry := prometheus.NewRegistry()
	certs := &injector.Certificates{Dir: dir, Log: log, Metrics: injector.NewMetrics(registry), Now: time.Now}
	f := serveFlags{listen: "127.0.0.1:0", metricsListen: "256.0.0.1:1"}
	if err := f.serve(t.Context(), log, http.NotFoundHandler(), certs, registry); err == nil {
		t.Error("no error")
	}
}

func writeCertificate(t *testing.T) (dir string, roots *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"hook"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	for name, block := range map[string]*pem.Block{"tls.crt": {Type: "CERTIFICATE", Bytes: der}, "tls.key": {Type: "EC PRIVATE KEY", Bytes: text}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	roots = x509.NewCertPool()
	roots.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return dir, roots
}
