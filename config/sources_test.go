package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const neolinkYAML = `imageNames: [registry/jupyter]
type: ingress
httpRules:
- {port: 8888, name: jupyterlab, path: /jupyter}
- port: "6006"
  name: tensorboard
  path: /monitor
- {port: 11434, name: ollama}
tcpRules:
- {port: 22, name: ssh}
`

const configJSON = `{
	"model_algorithm": "image_classification",
	"apis": [
		{"url": "/", "method": "post", "request": {"Content-type": "multipart/form-data"}, "response": {"Content-type": "application/json"}},
		{"url": "/", "method": "get"}, {"url": "/v1/predict", "method": "post"}
	],
	"health": {"url": "/health", "protocol": "HTTP", "initial_delay_seconds": "10", "timeout_seconds": "5", "period_seconds": 30, "failure_threshold": "4"}
}`

func TestSources(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	neolink, modelarts := write("neolink.yaml", neolinkYAML), write("config.json", configJSON)
	c, err := parse(t, fmt.Sprintf(`proxy:
  routes: [{listen: ":1234", upstream: "127.0.0.1:1"}]
  sources:
  - {file: %s}
  - {file: %s, listen: ":8080", upstream: "127.0.0.1:8501"}
  - {file: /nosuch, optional: true}
`, neolink, modelarts))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range c.Proxy.Routes {
		got = append(got, fmt.Sprint(r.Name(), " ", r.Upstream, " ", r.Health, " ", r.Timeout))
	}
	want := []string{
		":1234/ 127.0.0.1:1 tcp 1m0s", ":8888/jupyter 127.0.0.1:18888 tcp 1m0s", ":6006/monitor 127.0.0.1:16006 tcp 1m0s", ":11434/ 127.0.0.1:21434 tcp 1m0s",
		":8080/ 127.0.0.1:8501 /health 1m0s", ":8080/v1/predict 127.0.0.1:8501 /health 1m0s",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if r := c.Proxy.Routes[4]; r.HealthTimeout != 5*time.Second || r.HealthPeriod != 30*time.Second || r.HealthFailures != 4 {
		t.Errorf("health: %+v", r)
	}
	if got := strings.Join(c.SourceFiles, " "); got != neolink+" "+modelarts+" /nosuch" {
		t.Errorf("files: %s", got)
	}
	again, err := parse(t, c.YAML())
	if err != nil || again.YAML() != c.YAML() {
		t.Errorf("what was printed is not read again: %v", err)
	}
	exec := write("exec.json", `{"apis": [{"url": "http://127.0.0.1:8080/a"}], "health": {"check_method": "EXEC", "command": "cat /tmp/up"}}`)
	if c, err = parse(t, "proxy: {sources: [{file: "+exec+"}]}"); err != nil || c.Proxy.Routes[0].Health != "exec:cat /tmp/up" || c.Proxy.Routes[0].Path != "/a" {
		t.Errorf("exec: %v", err)
	}

	for text, want := range map[string]string{
		"":                                "has neither httpRules nor tcpRules, nor apis",
		"httpRules: 5":                    "line 1: httpRules is a single value; want a list",
		"httpRules: [{name: a}]":          "line 1: httpRules: port is missing",
		"httpRules: [{port: 99999}]":      `line 1: httpRules: port: "99999" is not a number from 1 to 65535`,
		"httpRules: [{port: 9, path: a}]": `line 1: httpRules: path: "a" does not begin with a /; did you mean /a?`,
		"a: [":                            "is not valid YAML: ",
		`{"apis": []}`:                    "has no apis with a url",
		`{"apis": 5}`:                     "is not a config.json: json: cannot unmarshal number",
		`{"apis": [{"url": "x y"}]}`:      `apis[0].url: "x y" does not begin with a /`,
		`{"apis": [{"url": "/"}], "health": {"period_seconds": "soon"}}`:    `health.period_seconds: "soon" is not a number of seconds`,
		`{"apis": [{"url": "/"}], "health": {"failure_threshold": "many"}}`: `health.failure_threshold: "many" is not a number from 1`,
	} {
		file := write("bad", text)
		_, err := parse(t, "proxy: {sources: [{file: "+file+"}]}")
		if err == nil || !strings.HasPrefix(err.Error(), "inpod.yaml:1: proxy.sources[0].file: "+file+": "+want) {
			t.Errorf("%s:\ngot  %v\nwant %s", text, err, want)
		}
	}
	high := write("high.yaml", "httpRules:\n- {port: 60000, path: /a}\n")
	highWant := "inpod.yaml:1: proxy.sources[0].shift: " + high + " has the port 60000, and with 10000 that is more than 65535; want a smaller shift"
	if _, err := parse(t, "proxy: {sources: [{file: "+high+"}]}"); err == nil || err.Error() != highWant {
		t.Errorf("a port and the shift:\ngot  %v\nwant %s", err, highWant)
	}
	if _, err := parse(t, "proxy: {sources: [{file: /nosuch}]}"); err == nil || !strings.Contains(err.Error(), "/nosuch: cannot open it: no such file or directory") {
		t.Errorf("missing: %v", err)
	}
}

func TestPresets(t *testing.T) {
	for name := range presets {
		c, err := parse(t, "proxy: {routes: [{listen: ':80', path: /x/, preset: "+name+"}]}")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if r := c.Proxy.Routes[0]; r.Upstream == "" || strings.Contains(r.Health, "%") || strings.Contains(r.Health, "//") {
			t.Errorf("%s: %+v", name, r)
		}
	}
	c, err := parse(t, "proxy: {routes: [{listen: ':80', preset: vllm, health: tcp, timeout: 5s}]}")
	if err != nil || c.Proxy.Routes[0].Health != "tcp" || c.Proxy.Routes[0].Timeout != 5*time.Second {
		t.Errorf("what is set stays: %v", err)
	}
}

func FuzzParseRules(f *testing.F) {
	for _, s := range []string{neolinkYAML, configJSON, "", "{", "httpRules: &a [*a]", "tcpRules:\n- port: 1\n", `{"apis":[{"url":1}]}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ParseRules(data)
		if err != nil {
			return
		}
		for _, rule := range r.HTTP {
			if rule.Port < 1 || rule.Port > 65535 || checkURLPath(rule.Path) != "" {
				t.Errorf("%+v", rule)
			}
		}
		for _, path := range r.APIs {
			if checkURLPath(path) != "" {
				t.Errorf("%q", path)
			}
		}
	})
}

// TestSourcesElsewhere: whoever judges settings for another machine reads none of its own files for them.
func TestSourcesElsewhere(t *testing.T) {
	file := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(file, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{file, "/is/not/here"} {
		text := []byte("proxy: {sources: [{file: " + name + "}]}")
		if c, err := Parse("x.yaml", text, Options{}); err == nil {
			t.Errorf("%s: here it gives %v", name, c.Proxy.Routes)
		}
		c, err := Parse("x.yaml", text, Options{Elsewhere: true})
		if err != nil || len(c.Proxy.Routes) != 0 || len(c.SourceFiles) != 1 {
			t.Errorf("%s: elsewhere it gives %v, %v", name, c, err)
		}
	}
	for text, want := range map[string]string{
		"{file: relative}":         `x.yaml:1: proxy.sources[0].file: "relative" is a relative path; want an absolute one`,
		"{file: /a, listen: none}": "x.yaml:1: proxy.sources[0].listen: ",
		"{file: /a, shift: -4}":    "x.yaml:1: proxy.sources[0].shift: ",
	} {
		_, err := Parse("x.yaml", []byte("proxy: {sources: ["+text+"]}"), Options{Elsewhere: true})
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: got %v, want %s…", text, err, want)
		}
	}
}
