//go:build images

package images

import (
	"path/filepath"
	"strings"
	"testing"
)

// settingsOf are the flags that put the files of an image, which cannot be built here, into another one.
func settingsOf(name string, files ...string) (flags []string) {
	for _, file := range files {
		flags = append(flags, "-v", filepath.Join(lab.root, "images", name, "root", file)+":/"+file+":ro")
	}
	return flags
}

// Ollama's release cannot be fetched here. What is tested is the rest: the settings are right, and the agent says
// clearly that the server is missing.
func TestOllamaSettings(t *testing.T) {
	t.Parallel()
	flags := settingsOf("ollama", "etc/supervisord/ollama.ini", "etc/inpod/inpod.yaml")
	flags = append(flags, "-e", "OLLAMA_MODELS=/models", "--user", "1000:1000", "--read-only", "--tmpfs", "/tmp")
	c := start(t, build(t, "base"), flags...)
	out, code := c.try("/inpod", "check", "--strict")
	if code != 0 || !strings.Contains(out, `upstream: "127.0.0.1:21434"`) || !strings.Contains(out, `health: "/api/version"`) {
		t.Errorf("inpod check: %d\n%s", code, out)
	}
	status := func() string { out, _ := c.try("/inpod", "ctl", "status"); return out }
	await(t, "FATAL", func() bool { return strings.Contains(status(), "FATAL") })
	if got := status(); !strings.Contains(got, "can't find command '/usr/bin/ollama'") {
		t.Errorf("status: got %q", got)
	}
	if code, body := c.get(9880, "/readyz?verbose"); code != 503 || !strings.Contains(body, "[-]program/ollama") || !strings.Contains(body, "[-]route/:11434/") {
		t.Errorf("/readyz: %d %s", code, body)
	}
	if code, body := c.get(11434, "/api/tags"); code != 502 || !strings.Contains(body, "127.0.0.1:21434") {
		t.Errorf("the route: %d %s, want 502 and the server's name", code, body)
	}
	if code, _ := c.get(9880, "/livez"); code != 200 || !c.running() {
		t.Errorf("/livez: %d; a missing tool must not end the container", code)
	}
	if got := c.metric(`inpod_program_up{group="ollama",program="ollama"}`); got != "0" {
		t.Errorf("inpod_program_up: got %q, want 0", got)
	}
}
