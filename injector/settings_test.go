package injector

import (
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
