package admissions

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// api takes pods as an API server does, and refuses what fail says.
func api(t *testing.T, fail func(body string) bool) (string, *tls.Config, func() map[string]int) {
	t.Helper()
	var mu sync.Mutex
	seen := map[string]int{}
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil || req.Method != http.MethodPost || req.Header.Get("Content-Type") != "application/yaml" || req.URL.RawQuery != "dryRun=All" ||
			req.Header.Get("Authorization") != "Bearer t" {
			t.Errorf("%s %s %v, %v", req.Method, req.URL, req.Header, err)
		}
		mu.Lock()
		seen[string(body)]++
		mu.Unlock()
		if fail(string(body)) {
			http.Error(w, "denied", http.StatusForbidden)
			return
		}
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(map[string]string{"kind": "Pod"})
	}))
	t.Cleanup(s.Close)
	return s.URL + "/pods?dryRun=All", s.Client().Transport.(*http.Transport).TLSClientConfig, func() map[string]int {
		mu.Lock()
		defer mu.Unlock()
		return seen
	}
}

func TestLoad(t *testing.T) {
	url, config, seen := api(t, func(body string) bool { return body == "name: p-3" })
	load := Load{URL: url, TLS: config, Header: http.Header{"Authorization": {"Bearer t"}}, Pod: "name: p-{n}", Rate: 500, Count: 50, Connections: 2}
	began := time.Now()
	got, err := load.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 98*time.Millisecond {
		t.Errorf("50 at 500 a second took %s", took)
	}
	if len(got.Took) != 50 || got.Failed != 1 || len(got.Errors) != 1 || got.Errors[0].Error() != "pod 3: answered 403 Forbidden: denied" {
		t.Errorf("got %s, %v", got, got.Errors)
	}
	if all := seen(); len(all) != 50 || all["name: p-49"] != 1 {
		t.Errorf("the server saw %v", all)
	}
	load.Check = func(pod []byte) error {
		if strings.Contains(string(pod), "Pod") {
			return errors.New("is not injected")
		}
		return nil
	}
	if got, err := load.Run(t.Context()); err != nil || got.Failed != 50 || len(got.Errors) != maxTold {
		t.Errorf("with a check that fails: %s, %v", got, err)
	}
}

// TestLate: the clock goes on while the server does not answer.
func TestLate(t *testing.T) {
	first := make(chan struct{}, 1)
	url, config, _ := api(t, func(string) bool {
		select {
		case first <- struct{}{}:
			<-time.After(300 * time.Millisecond) // the server's stop, which is what is tested
		default:
		}
		return false
	})
	load := Load{URL: url, TLS: config, Header: http.Header{"Authorization": {"Bearer t"}}, Rate: 100, Count: 20, Connections: 1}
	got, err := load.Run(t.Context())
	if err != nil || got.Failed != 0 || got.Late < 200*time.Millisecond || got.Quantile(1) < 300*time.Millisecond {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestLoadEnds(t *testing.T) {
	url, config, _ := api(t, func(string) bool { return false })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	load := Load{URL: url, TLS: config, Rate: 1, Count: 1000}
	if got, err := load.Run(ctx); !errors.Is(err, context.Canceled) || len(got.Took) != 0 {
		t.Errorf("got %s, %v", got, err)
	}
	if _, err := (Load{URL: url}).Run(t.Context()); err == nil {
		t.Error("a load of nothing has no error")
	}
}

func TestResult(t *testing.T) {
	var r Result
	if r.Quantile(.99) != 0 || r.Below(time.Second) != 0 {
		t.Error("nothing has a quantile")
	}
	for i := range 200 {
		r.Took = append(r.Took, time.Duration(i+1)*time.Millisecond)
	}
	if r.Quantile(.5) != 100*time.Millisecond || r.Quantile(.99) != 198*time.Millisecond || r.Quantile(0) != time.Millisecond || r.Below(50*time.Millisecond) != .25 {
		t.Errorf("got %s", r)
	}
}

func TestHistogram(t *testing.T) {
	const text = `# TYPE seconds histogram
seconds_bucket{name="a",rejected="false",le="0.01"} 90
seconds_bucket{name="a",rejected="false",le="0.05"} 98
seconds_bucket{name="a",rejected="false",le="+Inf"} 100
seconds_bucket{name="a",rejected="true",le="0.01"} 1
seconds_bucket{name="a",rejected="true",le="0.05"} 1
seconds_bucket{name="a",rejected="true",le="+Inf"} 1
seconds_bucket{name="b \"}",le="+Inf"} 7
seconds_count{name="a"} 100
`
	read := func(labels map[string]string) Histogram {
		t.Helper()
		h, err := ReadHistogram(strings.NewReader(text), "seconds", labels)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	h := read(map[string]string{"name": "a", "rejected": "false"})
	if h.Count() != 100 || h.Below(.05) != .98 || h.Below(.04) != .9 || h.Within(.9) != .01 || !math.IsInf(h.Within(.99), 1) {
		t.Errorf("got %+v", h)
	}
	if both := read(map[string]string{"name": "a"}); both.Count() != 101 || both.Since(h).Count() != 1 || h.And(h).Count() != 200 {
		t.Errorf("got %+v", both)
	}
	if other := read(map[string]string{"name": "c"}); other.Count() != 0 || !math.IsNaN(other.Within(.5)) || other.Below(1) != 0 {
		t.Errorf("got %+v", other)
	}
	if _, err := ReadHistogram(strings.NewReader(`x_bucket{le="much"} 1`), "x", nil); err == nil {
		t.Error("a limit that is no number was read")
	}
}
