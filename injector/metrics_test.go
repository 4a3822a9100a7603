package injector

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// TestMetricNames lists what there is, so that dashboards and rules can be held against it.
func TestMetricNames(t *testing.T) {
	m := NewMetrics(prometheus.NewRegistry())
	ch := make(chan *prometheus.Desc, 64)
	for _, c := range []prometheus.Collector{m.reviews, m.bad, m.took, m.lookups, m.lookup, m.events, m.expires, m.rotation} {
		c.Describe(ch)
	}
	close(ch)
	var names []string
	fqName := regexp.MustCompile(`fqName: "([^"]+)"`)
	for d := range ch {
		names = append(names, fqName.FindStringSubmatch(fmt.Sprint(d))[1])
	}
	slices.Sort(names)
	golden(t, "testdata/metrics.txt", []byte(strings.Join(names, "\n")+"\n"))
}
