package load

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Kind is a kind of clients.
type Kind int

const (
	Kept   Kind = iota // POSTs on connections that are kept
	Fresh              // POSTs that make a new connection each
	Stream             // event streams
	kinds
)

func (k Kind) String() string {
	return [kinds]string{"POSTs on kept connections", "POSTs on new connections", "event streams"}[k]
}

const (
	// maxTold is how many failures are kept word for word.
	maxTold = 20
	// lull is how long nobody is refused where nobody is sent to a pod that is gone any more.
	lull = 500 * time.Millisecond
)

// Report is what came of the requests so far. It may be read while the load goes on.
type Report struct {
	ended  chan struct{}
	closed atomic.Int64

	mu      sync.Mutex
	total   [kinds]int
	reasons [kinds]map[string]int
	told    []string
	gone    struct{ from, to time.Time } // the latest failures to connect without a lull
	longest time.Duration
}

func (r *Report) add(kind Kind, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.total[kind]++
	if err == nil {
		return
	}
	reason := "other"
	if f := (*failure)(nil); errors.As(err, &f) {
		reason = f.reason
	}
	if r.reasons[kind] == nil {
		r.reasons[kind] = map[string]int{}
	}
	r.reasons[kind][reason]++
	if reason == refused || reason == noRoute {
		now := time.Now()
		if now.Sub(r.gone.to) > lull {
			r.gone.from = now
		}
		r.gone.to = now
		r.longest = max(r.longest, now.Sub(r.gone.from))
	}
	if len(r.told) < maxTold {
		r.told = append(r.told, fmt.Sprintf("%s: %v", kind, err))
	}
}

// Ended is closed when the last client has ended.
func (r *Report) Ended() <-chan struct{} { return r.ended }

// Total is how many requests came to an end.
func (r *Report) Total() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, c := range r.total {
		n += c
	}
	return n
}

// Failed is how many of them failed.
func (r *Report) Failed() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for k := range kinds {
		n += r.failed(k)
	}
	return n
}

func (r *Report) failed(k Kind) (n int) {
	for _, c := range r.reasons[k] {
		n += c
	}
	return n
}

// Told are the first failures.
func (r *Report) Told() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.told)
}

// Closed is how many kept connections the server closed while nothing was asked, without having said so in an answer. A client
// whose next request is on its way at that moment loses it.
func (r *Report) Closed() int { return int(r.closed.Load()) }

// Gone is the longest time through which clients were sent to a pod that was gone.
func (r *Report) Gone() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.longest
}

// Lines are the rows of a table: kind, requests, failed, and the failures by reason.
func (r *Report) Lines() (rows [][]string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k := range kinds {
		var why []string
		for _, reason := range slices.Sorted(maps.Keys(r.reasons[k])) {
			why = append(why, fmt.Sprintf("%d %s", r.reasons[k][reason], reason))
		}
		rows = append(rows, []string{k.String(), fmt.Sprint(r.total[k]), fmt.Sprint(r.failed(k)), strings.Join(why, ", ")})
	}
	return rows
}
