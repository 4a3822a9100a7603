//go:build kube

package kube

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// apiServer is the API server's address, and whom kubectl is to it.
func apiServer(t *testing.T) (string, *tls.Config) {
	t.Helper()
	var config struct {
		Clusters []struct {
			Cluster struct {
				Server string `json:"server"`
				CA     []byte `json:"certificate-authority-data"`
			} `json:"cluster"`
		} `json:"clusters"`
		Users []struct {
			User struct {
				Cert []byte `json:"client-certificate-data"`
				Key  []byte `json:"client-key-data"`
			} `json:"user"`
		} `json:"users"`
	}
	if err := json.Unmarshal([]byte(kubectl(t, "config", "view", "--minify", "--flatten", "-o", "json")), &config); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(config.Clusters[0].Cluster.CA)
	cert, err := tls.X509KeyPair(config.Users[0].User.Cert, config.Users[0].User.Key)
	if err != nil {
		t.Fatal(err)
	}
	return config.Clusters[0].Cluster.Server, &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{cert}}
}

// labelledPod and otherPod are what streams create, as dry runs: every admission plugin and webhook sees them, no node does.
const (
	labelledPod = `{"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "labelled-", "labels": {"app": "a", "inpod.dev/inject": "wrap"}},
		"spec": {"containers": [{"name": "main", "image": "main", "command": ["main"], "ports": [{"containerPort": 8000}]}]}}`
	otherPod = `{"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "other-", "labels": {"app": "a"}},
		"spec": {"containers": [{"name": "main", "image": "main", "command": ["main"], "ports": [{"containerPort": 8000}]}]}}`
)

// outcome is what the API server made of a pod.
type outcome string

const (
	injected  outcome = "injected"
	unchanged outcome = "unchanged" // admitted as it was sent
	refused   outcome = "refused"   // by the webhook's failurePolicy: the message names the webhook
	odd       outcome = "odd"       // something else, such as half of an injection
	away      outcome = "away"      // the API server itself does not answer
)

// stream creates a pod, always the same, at a steady rate, each a dry run, and counts what becomes of it.
type stream struct {
	url    string
	client *http.Client
	pod    string

	mu   sync.Mutex
	seen tally
	row  int // how often the last outcome came in a row
	last outcome
}

// tally is what became of the pods of a stage.
type tally struct {
	count   map[outcome]int
	said    map[outcome]string // one of the messages
	slowest time.Duration      // of those that were admitted
}

func (c tally) String() string {
	text := fmt.Sprintf("%d injected, %d unchanged, %d refused, %d odd, %d while the API server was away; the slowest took %s",
		c.count[injected], c.count[unchanged], c.count[refused], c.count[odd], c.count[away], c.slowest.Round(time.Millisecond))
	for _, o := range []outcome{refused, odd, away} {
		if c.said[o] != "" {
			text += fmt.Sprintf("\n  %s: %s", o, c.said[o])
		}
	}
	return text
}

// newStream begins a stream, which ends with the test.
func newStream(t *testing.T, namespace, pod string, every time.Duration) *stream {
	t.Helper()
	server, config := apiServer(t)
	s := &stream{
		url: server + "/api/v1/namespaces/" + namespace + "/pods?dryRun=All", pod: pod,
		client: &http.Client{Transport: &http.Transport{TLSClientConfig: config}, Timeout: 30 * time.Second},
	}
	s.take()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				wg.Go(func() { s.create(ctx) }) // one that waits holds up no other
			}
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		s.client.CloseIdleConnections()
	})
	return s
}

func (s *stream) create(ctx context.Context) {
	began := time.Now()
	o, said := s.ask(ctx)
	if ctx.Err() != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen.count[o]++
	if s.seen.said[o] == "" {
		s.seen.said[o] = said
	}
	if o == injected || o == unchanged {
		s.seen.slowest = max(s.seen.slowest, time.Since(began))
	}
	if s.row++; o != s.last {
		s.last, s.row = o, 1
	}
}

func (s *stream) ask(ctx context.Context) (outcome, string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, strings.NewReader(s.pod))
	if err != nil {
		return odd, err.Error()
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.client.Do(req)
	if err != nil {
		return away, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return away, err.Error()
	case resp.StatusCode == http.StatusCreated:
		return judge(body)
	case bytes.Contains(body, []byte(`failed calling webhook \"pods.inpod.dev\"`)):
		return refused, message(body)
	case resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable || resp.Header.Get("Retry-After") != "":
		return away, resp.Status + ": " + message(body)
	}
	return odd, resp.Status + ": " + message(body)
}

// message is what a Status says.
func message(body []byte) string {
	var status struct{ Message string }
	if json.Unmarshal(body, &status) != nil {
		return string(body)
	}
	return status.Message
}

// judge looks at a pod that was admitted.
func judge(body []byte) (outcome, string) {
	var pod struct {
		Metadata struct{ Annotations, Labels map[string]string }
		Spec     struct {
			InitContainers []any
			Volumes        []any
			Containers     []struct{ Command []string }
		}
	}
	if err := json.Unmarshal(body, &pod); err != nil {
		return odd, err.Error()
	}
	status, command := pod.Metadata.Annotations["inpod.dev/status"], strings.Join(pod.Spec.Containers[0].Command, " ")
	switch {
	case status != "" && strings.HasPrefix(command, "/opt/inpod/inpod ") && len(pod.Spec.InitContainers) > 0:
		return injected, status
	// The one volume is the service account's token.
	case len(pod.Metadata.Annotations) == 0 && len(pod.Spec.InitContainers) == 0 && len(pod.Spec.Volumes) == 1 && command == "main" &&
		len(pod.Spec.Containers) == 1 && pod.Metadata.Labels["inpod.dev/injected"] == "":
		return unchanged, ""
	}
	return odd, string(body)
}

// take returns what was counted since the last time.
func (s *stream) take() tally {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.seen
	s.seen = tally{count: map[outcome]int{}, said: map[outcome]string{}}
	s.row = 0
	return before
}

// until waits until an outcome has come ten times in a row, counted from now.
func (s *stream) until(t *testing.T, o outcome) {
	t.Helper()
	s.mu.Lock()
	s.row = 0
	s.mu.Unlock()
	eventually(t, fmt.Sprintf("ten times %s: %s", o, s.pod), func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.last == o && s.row >= 10
	})
}
