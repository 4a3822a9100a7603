package agent

import (
	"testing"

	"github.com/inpod/inpod/config"
	"github.com/inpod/inpod/supervisor/ini"
)

func TestLoopbacks(t *testing.T) {
	for command, want := range map[string]bool{
		"jupyter lab --ip=127.0.0.1 --port=18888":           false, // a route leads there
		"jupyter lab --ip=127.0.0.1 --port=9999":            true,
		"jupyter lab --ServerApp.ip=127.0.0.1":              false, // some route leads somewhere
		"jupyter lab --ip=0.0.0.0 --port=9999":              false,
		"tensorboard --host localhost --port 6006":          true,
		"gunicorn -b 127.0.0.1:18888 app:app":               false,
		"gunicorn -b 127.0.0.1:8000 app:app":                true,
		"uvicorn app:app --host 127.0.0.1 --port 8000":      true,
		"curl http://127.0.0.1:8000/":                       false,
		"server --peers 127.0.0.1:1":                        false,
		"python -m vllm --host=127.0.0.1 --served --port=1": true,
	} {
		l := &loaded{
			cfg: &config.Config{Proxy: config.Proxy{Routes: []config.Route{{Upstream: "127.0.0.1:18888"}, {Upstream: "other:8000"}}}},
			ini: &ini.Config{Groups: []ini.Group{{Programs: []ini.Program{{Name: "p", Command: command, File: "f", Line: 3}}}}},
		}
		if got := loopbacks(l); (len(got) == 1) != want {
			t.Errorf("%s: got %q", command, got)
		}
	}
}
