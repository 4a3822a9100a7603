package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// preset is what is known of a server: what a route need not say.
type preset struct {
	upstream string
	health   string // %s is the route's path without its last slash
	timeout  time.Duration
	idle     time.Duration
}

const (
	forAnswers = 3000 * time.Second // a model is loaded, or a long answer begins late; gateways wait as long
	forPeople  = time.Hour          // somebody looks at a page that says nothing
)

// presets are the servers that proxy.routes[].preset knows, with the ports and paths that they have by themselves. Those
// whose health has a %s keep the prefix of the path: they are told of it when they are started.
var presets = map[string]preset{
	"jupyter":     {"127.0.0.1:8888", "%s/api", time.Minute, forPeople},
	"tensorboard": {"127.0.0.1:6006", "%s/", time.Minute, forPeople},
	"ollama":      {"127.0.0.1:11434", "/api/version", forAnswers, 0},
	"vllm":        {"127.0.0.1:8000", "/health", forAnswers, 0},
	"triton":      {"127.0.0.1:8000", "/v2/health/ready", forAnswers, 0},
	"tfserving":   {"127.0.0.1:8501", "tcp", forAnswers, 0}, // its health has the model's name in it
	"torchserve":  {"127.0.0.1:8080", "/ping", forAnswers, 0},
	"onnxruntime": {"127.0.0.1:8001", "tcp", forAnswers, 0},
	"webui":       {"127.0.0.1:3000", "%s/", forAnswers, forPeople},
	"novnc":       {"127.0.0.1:6080", "tcp", time.Minute, forPeople},
}

func checkPreset(s string) string {
	if _, ok := presets[s]; ok || s == "" {
		return ""
	}
	names := slices.Sorted(maps.Keys(presets))
	return fmt.Sprintf("%q is not one of %s%s", clip(s), strings.Join(names, ", "), suggestion(s, names))
}

// applyPresets fills in what a route with a preset does not say.
func (c *Config) applyPresets() {
	for i := range c.Proxy.Routes {
		r := &c.Proxy.Routes[i]
		p, ok := presets[r.Preset]
		if !ok {
			continue
		}
		at := routeKey(i)
		if !c.IsSet(at + ".upstream") {
			r.Upstream = p.upstream
		}
		if !c.IsSet(at + ".health") {
			r.Health = strings.Replace(p.health, "%s", strings.TrimSuffix(r.Path, "/"), 1)
		}
		if !c.IsSet(at + ".timeout") {
			r.Timeout = p.timeout
		}
		if p.idle > 0 && !c.IsSet(at+".idle_timeout") {
			r.IdleTimeout = p.idle
		}
	}
}
