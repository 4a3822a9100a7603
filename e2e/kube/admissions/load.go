// Package admissions asks an API server for pods at a steady rate, and measures how long each takes: what a webhook
// costs those who deploy. It knows nothing of Kubernetes but HTTP. Start with Load; ReadHistogram reads the same time
// as the API server and the webhook count it themselves.
package admissions

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Number stands in a manifest where each pod gets its own number.
const Number = "{n}"

const (
	defaultConnections = 8
	requestTimeout     = 30 * time.Second
	maxTold            = 10  // failures whose answer is kept
	maxAnswer          = 300 // bytes of it
)

// Load is one stream of creations.
type Load struct {
	// URL takes the pods, such as https://127.0.0.1:6443/api/v1/namespaces/team/pods?dryRun=All.
	URL    string
	TLS    *tls.Config
	Header http.Header // such as Authorization; may be nil
	// Pod is a manifest, as YAML or JSON.
	Pod  string
	Rate float64 // a second
	// Count is how many in all.
	Count int
	// Connections bounds how many are on their way at once; 0 means 8.
	Connections int
	// Check, when set, says what is wrong with the pod of an answer 201.
	Check func(pod []byte) error
}

// Result is what became of a Load.
type Result struct {
	// Took are the times from the request to the end of the answer, sorted, also of those that failed.
	Took []time.Duration
	// Late is how far behind its time the latest request was sent: all connections were busy, or the machine was.
	Late   time.Duration
	Failed int
	Errors []error // the first ones
}

// Run sends the load. It goes by the clock and not by the answers, as deployments do: a server that stops for a second
// finds all that came meanwhile.
func (l Load) Run(ctx context.Context) (Result, error) {
	if l.Rate <= 0 || l.Count <= 0 {
		return Result{}, fmt.Errorf("got rate %v and count %d; want both above 0", l.Rate, l.Count)
	}
	if l.Connections <= 0 {
		l.Connections = defaultConnections
	}
	transport := &http.Transport{TLSClientConfig: l.TLS, MaxIdleConnsPerHost: l.Connections, MaxConnsPerHost: l.Connections}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: requestTimeout}
	type due struct {
		n  int
		at time.Time
	}
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		got  Result
		work = make(chan due, l.Count) // the clock never waits
	)
	for range l.Connections {
		wg.Go(func() {
			for d := range work {
				if ctx.Err() != nil {
					continue
				}
				began := time.Now()
				err := l.create(ctx, client, d.n)
				took := time.Since(began)
				mu.Lock()
				got.Took = append(got.Took, took)
				got.Late = max(got.Late, began.Sub(d.at))
				if err != nil {
					if got.Failed++; len(got.Errors) < maxTold {
						got.Errors = append(got.Errors, fmt.Errorf("pod %d: %w", d.n, err))
					}
				}
				mu.Unlock()
			}
		})
	}
	begin := time.Now()
	for n := range l.Count {
		at := begin.Add(time.Duration(float64(n) / l.Rate * float64(time.Second)))
		select {
		case <-time.After(time.Until(at)):
		case <-ctx.Done():
		}
		work <- due{n, at}
	}
	close(work)
	wg.Wait()
	slices.Sort(got.Took)
	return got, ctx.Err()
}

func (l Load) create(ctx context.Context, client *http.Client, n int) error {
	body := strings.ReplaceAll(l.Pod, Number, strconv.Itoa(n))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.URL, strings.NewReader(body))
	if err != nil {
		return err
	}
	for name, values := range l.Header {
		req.Header[name] = values
	}
	req.Header.Set("Content-Type", "application/yaml")
	req.Header.Set("Accept", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusCreated {
		return fmt.Errorf("answered %s: %s", resp.Status, bytes.TrimSpace(text[:min(len(text), maxAnswer)]))
	}
	if l.Check != nil {
		return l.Check(text)
	}
	return nil
}

// Quantile is the time that a share p of the requests, 0 to 1, did not exceed.
func (r Result) Quantile(p float64) time.Duration {
	if len(r.Took) == 0 {
		return 0
	}
	i := int(math.Ceil(p*float64(len(r.Took)))) - 1
	return r.Took[min(max(i, 0), len(r.Took)-1)]
}

// Below is the share of the requests that took no longer than most.
func (r Result) Below(most time.Duration) float64 {
	if len(r.Took) == 0 {
		return 0
	}
	n, _ := slices.BinarySearch(r.Took, most+1)
	return float64(n) / float64(len(r.Took))
}

// String says it in one line.
func (r Result) String() string {
	ms := func(d time.Duration) string { return strconv.FormatFloat(d.Seconds()*1000, 'f', 1, 64) }
	return fmt.Sprintf("%d requests, %d failed: p50 %s, p90 %s, p99 %s, max %s ms; %.2f %% below 50 ms; sent up to %s ms late",
		len(r.Took), r.Failed, ms(r.Quantile(.5)), ms(r.Quantile(.9)), ms(r.Quantile(.99)), ms(r.Quantile(1)), 100*r.Below(50*time.Millisecond), ms(r.Late))
}
