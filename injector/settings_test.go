package injector

import (
	"os"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// TestFromYAML: what the real reader makes of on, off, numbers and texts is taken as it was meant.
func TestFromYAML(t *testing.T) {
	file := `
ssh: off
ssh-forward: no
scrape: on
inject-anyway: on
mode: "off"
concurrency: 1048576
cpu-limit: 0.5
drain-delay: 20s
`
	want := map[string]string{
		"ssh": off, "ssh-forward": off, "scrape": on, "inject-anyway": yes, "mode": "off", "concurrency": "1048576", "cpu-limit": "0.5", "drain-delay": "20s",
	}
	var values map[string]any
	if err := yaml.Unmarshal([]byte(file), &values); err != nil {
		t.Fatal(err)
	}
	for name, value := range values {
		if got, ok := FromYAML(name, value); !ok || got != want[name] {
			t.Errorf("%s: %v became %q, want %q", name, value, got, want[name])
		}
	}
	if got, ok := FromYAML("ssh-users", []any{}); ok {
		t.Errorf("a list became %q", got)
	}
}

// TestProblemsHoldNoPassword: what is wrong with users is said without what was written.
func TestProblemsHoldNoPassword(t *testing.T) {
	for _, text := range []string{"[{name: a, password: secret123", "secret123", "{password: secret123}", "[{? [a] : secret123}]"} {
		err := CheckDefaults(map[string]string{"ssh-users": text})
		if err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "ssh-users cannot be read; want a list") {
			t.Errorf("%s: got %v", text, err)
		}
	}
}

// TestChartKnowsOnAndOff: the chart inpod-app writes annotations, and has to know of which settings on and off are.
func TestChartKnowsOnAndOff(t *testing.T) {
	text, err := os.ReadFile("../charts/inpod-app/templates/_helpers.tpl")
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(text), "(has .name (list ")
	list, _, _ = strings.Cut(list, ")")
	for _, s := range table {
		if got, want := strings.Contains(list, `"`+s.name+`"`), slices.Contains(strings.Split(s.kind, "|"), on); got != want {
			t.Errorf("the chart takes on and off for %s: %v, want %v", s.name, got, want)
		}
	}
}
