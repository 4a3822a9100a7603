package config

import "testing"

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"", "log: {level: debug}\n", "proxy:\n  routes:\n  - {listen: ':8080', path: /, upstream: 127.0.0.1:80}\n",
		"a: &a [*a]", "a: &a {b: *a}", "? [x]\n: y", "<<: {}", "\x00", "log: !!binary aGVsbG8=", "drain: {delay: 9223372036854775807ns}",
	} {
		f.Add([]byte(s), s)
	}
	f.Fuzz(func(t *testing.T, file []byte, env string) {
		c, err := Parse("f", file, Options{Env: []string{"INPOD_PROXY_ROUTES=" + env, "INPOD_DRAIN_DELAY=" + env}})
		if err != nil {
			if len(err.Error()) == 0 {
				t.Error("an error without a text")
			}
			return
		}
		if _, err := Parse("again", []byte(c.YAML()), Options{}); err != nil {
			t.Errorf("what was printed is not read again: %v\n%s", err, c.YAML())
		}
	})
}
