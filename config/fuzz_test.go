package config

import "testing"

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"", "log: {level: debug}\n", "proxy:\n  routes:\n  - {listen: ':8080', path: /, upstream: 127.0.0.1:80}\n",
		"a: &a [*a]", "a: &a {b: *a}", "? [x]\n: y", "<<: {}", "\x00", "log: !!binary aGVsbG8=", "drain: {delay: 9223372036854775807ns}",
		everyKey, startYAML, "proxy: {max_connections: 1e3, access_log: {sample: .5}}", "proxy: {routes: [{listen: x, buffer: 1GiB, max_body: -1Ti}]}",
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
		again, err := Parse("again", []byte(c.YAML()), Options{})
		if err != nil {
			t.Fatalf("what was printed is not read again: %v\n%s", err, c.YAML())
		}
		if again.YAML() != c.YAML() {
			t.Errorf("what was printed means something else when it is read again:\n%s\n%s", c.YAML(), again.YAML())
		}
	})
}
