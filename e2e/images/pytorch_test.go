//go:build images

package images

import (
	"encoding/json"
	"math"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// predict asks the model behind the route.
func (c *container) predict(body string) (int, string) {
	return c.ask(http.MethodPost, c.url(8080, "/predict"), strings.NewReader(body), "application/json")
}

// No CUDA, and none asked for: the model runs on the CPU, as any user, with nothing that can be written.
func TestPyTorch(t *testing.T) {
	t.Parallel()
	image := build(t, "pytorch")
	models := t.TempDir()
	if err := os.Chmod(models, 0o777); err != nil {
		t.Fatal(err)
	}
	c := start(t, image, "--user", "4321:4321", "--read-only", "--tmpfs", "/tmp", "--tmpfs", "/run", "--cap-drop", "ALL",
		"-e", "NVIDIA_VISIBLE_DEVICES=none", "-v", models+":/models")
	c.ready()
	if code, body := c.get(8080, "/health"); code != 200 || !strings.Contains(body, `"device":"cpu"`) {
		t.Errorf("/health: %d %s", code, body)
	}
	code, body := c.predict(`{"instances": [[-2.5], [-1], [0], [0.5], [3]]}`)
	var answer struct{ Predictions [][]float64 }
	if err := json.Unmarshal([]byte(body), &answer); err != nil || code != 200 || len(answer.Predictions) != 5 {
		t.Fatalf("a prediction: %d %s", code, body)
	}
	for i, x := range []float64{-2.5, -1, 0, 0.5, 3} {
		if y := answer.Predictions[i][0]; math.Abs(y-math.Sin(x)) > 0.02 {
			t.Errorf("the model says %v of %v, the sine is %v", y, x, math.Sin(x))
		}
	}
	for body, want := range map[string]string{
		"no JSON": "error", `[]`: "want {", `{"instances": [["a"]]}`: "error", `{"instances": [[1, 2]]}`: "cannot be multiplied",
	} {
		if code, answer := c.predict(body); code != 400 || !strings.Contains(answer, want) || len(answer) > 300 {
			t.Errorf("%s: %d %s", body, code, answer)
		}
	}

	// Another model, mounted: nothing but MODEL is different.
	c.exec("sh", "-c", `cat >/tmp/double.py <<'EOF' && python3 /tmp/double.py
import torch
class Double(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x
torch.jit.script(Double()).save("/models/double.pt")
EOF`)
	own := start(t, image, "-e", "MODEL=/models/double.pt", "-v", models+":/models:ro")
	own.ready()
	if code, body := own.predict(`{"instances": [1.5, -2]}`); code != 200 || strings.TrimSpace(body) != `{"predictions":[3.0,-4.0]}` {
		t.Errorf("the mounted model: %d %s", code, body)
	}
	if code, took := own.stop(60 * time.Second); code != 0 || took > 20*time.Second {
		t.Errorf("docker stop: exit code %d after %s", code, took)
	}
	verify(t, "pytorch", image)
}

// A model that is missing: never ready, and it says why; the container stays, so that people can look.
func TestPyTorchWithoutModel(t *testing.T) {
	t.Parallel()
	c := start(t, build(t, "pytorch"), "-e", "MODEL=/models/missing.pt")
	await(t, "FATAL", func() bool { return strings.Contains(c.ctl("status"), "FATAL") })
	if log := c.logs(); !strings.Contains(log, "there is no model at /models/missing.pt, which MODEL names") {
		t.Error("the log does not say what is missing")
	}
	if code, body := c.get(9880, "/readyz?verbose"); code != 503 || !strings.Contains(body, "program/model") {
		t.Errorf("/readyz: %d %s", code, body)
	}
	if code, _ := c.predict(`{"instances": [[0]]}`); code != 502 && code != 503 {
		t.Errorf("a prediction: %d, want 502 or 503", code)
	}
	if code, _ := c.get(9880, "/livez"); code != 200 {
		t.Errorf("/livez: %d", code)
	}
}
