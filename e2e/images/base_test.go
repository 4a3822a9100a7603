//go:build images

package images

import (
	"strings"
	"testing"
	"time"
)

// The base image is the binary alone: it runs without a shell, without /etc/passwd, with nothing but itself.
func TestBaseAlone(t *testing.T) {
	t.Parallel()
	c := start(t, build(t, "base"), "--read-only", "--cap-drop", "ALL", "--user", "4321:4321")
	c.ready()
	if code, body := c.get(9880, "/health"); code != 200 || body != `{"health": "true"}`+"\n" && body != `{"health": "true"}` {
		t.Errorf("GET /health: %d %q", code, body)
	}
	if out, code := c.try("/inpod", "version"); code != 0 || !strings.HasPrefix(out, "inpod ") {
		t.Errorf("inpod version: %d %q", code, out)
	}
	code, took := c.stop(20 * time.Second)
	if code != 0 || took > 5*time.Second {
		t.Errorf("docker stop: exit code %d after %s, want 0 at once", code, took)
	}
}
