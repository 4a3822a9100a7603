package injector

import (
	"slices"
	"testing"
)

func TestReference(t *testing.T) {
	golden(t, "../docs/reference/injector.md", []byte(Reference()))
}

// TestTable: the defaults pass their own rules, the names are unique, and profiles name what there is.
func TestTable(t *testing.T) {
	for i, s := range table {
		if wrong := s.check(s.def); wrong != "" {
			t.Errorf("%s: its default %q: %s", s.name, s.def, wrong)
		}
		if slices.Contains(Names()[:i], s.name) || s.doc == "" {
			t.Errorf("%s is there twice or has no doc", s.name)
		}
	}
	for name, values := range profiles {
		if _, problems := newOptions([]layer{{"profile " + name, "", values}}); len(problems) > 0 {
			t.Errorf("profile %s: %q", name, problems)
		}
	}
}

func TestValuesThatAreRefused(t *testing.T) {
	tests := []struct{ name, value string }{
		{"port", "0"},
		{"port", "http,,8000"},
		{"port", "70000"},
		{"port", "1,2,3,4,5,6,7,8,9"},
		{"proxy-port", ""},
		{"proxy-port", "http"},
		{"timeout", "5"},
		{"timeout", "-1s"},
		{"drain-delay", "never"},
		{"queue", "1.5"},
		{"cpu-limit", "x"},
		{"memory-limit", "-1Mi"},
		{"mode", ""},
		{"mode", "Wrap"},
		{"profile", "gpu"},
		{"config", "a b"},
		{"ssh-users", "{a: b}"},
		{"ssh-users", "[{1: b}]"},
		{"ssh-users", "[.nan]"},
		{"container", "a.b"},
		{"inject-anyway", "yes"},
	}
	for _, tt := range tests {
		if _, problems := newOptions([]layer{{"annotation", Domain, map[string]string{tt.name: tt.value}}}); len(problems) != 1 {
			t.Errorf("%s: %q: problems %q, want one", tt.name, tt.value, problems)
		}
	}
	if _, problems := newOptions([]layer{{"annotation", Domain, map[string]string{"profile": "", "config": "", "ssh-users": ""}}}); len(problems) > 0 {
		t.Errorf("empty values: %q", problems)
	}
}

func TestSuggest(t *testing.T) {
	for name, want := range map[string]string{
		"intercpt": "intercept", "drain_delay": "drain-delay", "Port": "port", "sshkeys": "ssh-keys", "proxy.port": "proxy-port",
	} {
		if got := suggest(Domain, name); got != "; did you mean "+Domain+want+"?" {
			t.Errorf("%s: %q", name, got)
		}
	}
}
