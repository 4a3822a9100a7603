package admissions

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Histogram is what was counted of one duration, over all series that were asked for.
type Histogram struct {
	Buckets []Bucket // by their limit; the last is +Inf
}

// Bucket counts what took no longer than Most seconds.
type Bucket struct {
	Most  float64
	Count float64
}

var label = regexp.MustCompile(`([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"`)

// ReadHistogram adds up the series of the histogram name that have all of the labels, in Prometheus' text format.
func ReadHistogram(text io.Reader, name string, labels map[string]string) (Histogram, error) {
	sums := map[float64]float64{}
	lines := bufio.NewScanner(text)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		rest, ok := strings.CutPrefix(lines.Text(), name+"_bucket{")
		end := strings.LastIndex(rest, "} ")
		if !ok || end < 0 {
			continue
		}
		has := map[string]string{}
		for _, m := range label.FindAllStringSubmatch(rest[:end], -1) {
			has[m[1]] = m[2]
		}
		for key, value := range labels {
			ok = ok && has[key] == value
		}
		if !ok {
			continue
		}
		most, err := strconv.ParseFloat(has["le"], 64)
		if err != nil {
			return Histogram{}, fmt.Errorf("cannot read le of %q: %w", lines.Text(), err)
		}
		n, err := strconv.ParseFloat(strings.Fields(rest[end+2:])[0], 64)
		if err != nil {
			return Histogram{}, fmt.Errorf("cannot read the count of %q: %w", lines.Text(), err)
		}
		sums[most] += n
	}
	if err := lines.Err(); err != nil {
		return Histogram{}, err
	}
	var h Histogram
	for most, n := range sums {
		h.Buckets = append(h.Buckets, Bucket{most, n})
	}
	slices.SortFunc(h.Buckets, func(a, b Bucket) int {
		if a.Most < b.Most {
			return -1
		}
		return 1
	})
	return h, nil
}

// Since is what was counted after before was.
func (h Histogram) Since(before Histogram) Histogram {
	out := Histogram{Buckets: slices.Clone(h.Buckets)}
	for i, b := range out.Buckets {
		j := slices.IndexFunc(before.Buckets, func(old Bucket) bool { return old.Most == b.Most })
		if j >= 0 {
			out.Buckets[i].Count -= before.Buckets[j].Count
		}
	}
	return out
}

// And is what both counted, whose limits must be the same: those of the replicas of a webhook.
func (h Histogram) And(other Histogram) Histogram {
	if len(h.Buckets) == 0 {
		return other
	}
	out := Histogram{Buckets: slices.Clone(h.Buckets)}
	for i, b := range out.Buckets {
		for _, o := range other.Buckets {
			if o.Most == b.Most {
				out.Buckets[i].Count += o.Count
			}
		}
	}
	return out
}

// Count is how many there are.
func (h Histogram) Count() float64 {
	if len(h.Buckets) == 0 {
		return 0
	}
	return h.Buckets[len(h.Buckets)-1].Count
}

// Below is the share of those that surely took no more than most seconds.
func (h Histogram) Below(most float64) float64 {
	if h.Count() == 0 {
		return 0
	}
	n := 0.
	for _, b := range h.Buckets {
		if b.Most <= most {
			n = b.Count
		}
	}
	return n / h.Count()
}

// Within is the least limit in seconds which a share p did not exceed; NaN when nothing was counted.
func (h Histogram) Within(p float64) float64 {
	for _, b := range h.Buckets {
		if h.Count() > 0 && b.Count >= p*h.Count() {
			return b.Most
		}
	}
	return math.NaN()
}
