package e2e

import (
	"fmt"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"testing"
)

// normaliser takes out of a text what may differ between two right answers: paths, pids, ports, times.
type normaliser struct {
	pairs *strings.Replacer
	port  *regexp.Regexp
}

func newNormaliser(dir string, port int, prog string) *normaliser {
	return &normaliser{
		pairs: strings.NewReplacer(dir, "$DIR", prog, "$PROG"),
		// a whole number: the digits may also be in the middle of a random name
		port: regexp.MustCompile(`\b` + strconv.Itoa(port) + `\b`),
	}
}

var rules = []struct {
	re   *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`pid \d+, uptime (\d+ days?, )?\d+:\d\d:\d\d`), "pid $$PID, uptime $$T"},
	{regexp.MustCompile(`(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) \d\d \d\d:\d\d (AM|PM)`), "$$DATE"},
	{regexp.MustCompile(`\bpid:\d+`), "pid:$$PID"},
	{regexp.MustCompile(`\bpid \d+`), "pid $$PID"},
	{regexp.MustCompile(`\bserial:\d+`), "serial:$$N"},
	{regexp.MustCompile(`\bwhen:\d+`), "when:$$T"},
	// mkstemp's letters in the name of an AUTO log
	{regexp.MustCompile(`(---[^/ "]*-)[A-Za-z0-9_]+(\.log)`), "${1}$$RAND$2"},
	{regexp.MustCompile(`(?m)^\d+$`), "$$NUMBER"}, // supervisorctl pid
	{regexp.MustCompile(`<(\w+) object at 0x[0-9a-f]+>`), "<$1 object>"},
}

func (n *normaliser) text(s string) string {
	s = n.pairs.Replace(s)
	for _, r := range rules {
		s = r.re.ReplaceAllString(s, r.with)
	}
	return n.port.ReplaceAllString(s, "$$PORT") // last: a pid may be the same number
}

// value writes a decoded XML-RPC value in one fixed form.
func (n *normaliser) value(v any) string {
	switch v := v.(type) {
	case string:
		return strconv.Quote(n.text(v))
	case []any:
		parts := make([]string, len(v))
		for i, e := range v {
			parts[i] = n.value(e)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case map[string]any:
		keys := make([]string, 0, len(v))
		for k := range v {
			keys = append(keys, k)
		}
		sort.Strings(keys)
		parts := make([]string, len(keys))
		for i, k := range keys {
			parts[i] = k + "=" + n.field(k, v[k])
		}
		return "{" + strings.Join(parts, " ") + "}"
	}
	return fmt.Sprintf("%v", v)
}

// field hides the numbers that no two runs share, but tells zero from anything else.
func (n *normaliser) field(key string, v any) string {
	i, isInt := v.(int)
	switch key {
	case "pid", "start", "stop", "now":
		if isInt && i != 0 {
			return "$" + strings.ToUpper(key)
		}
	}
	return n.value(v)
}

func TestNormaliser(t *testing.T) {
	n := newNormaliser("/tmp/d", 12345, "/tmp/prog")
	got := n.text("/tmp/prog: pid 12345 from /tmp/d at 127.0.0.1:12345, uid 123456")
	if want := "$PROG: pid $PID from $DIR at 127.0.0.1:$PORT, uid 123456"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
