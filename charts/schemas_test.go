//go:build chart

package charts

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// kubernetes is the release whose schemas objects are held against.
const kubernetes = "k8s.io/kubernetes@v1.34.3"

// schemas makes kubeconform's files of the OpenAPI document that is in Kubernetes' own Go module, since the site that
// usually has them cannot be counted on. It returns their directory.
func schemas(t *testing.T) string {
	t.Helper()
	cmd := exec.Command("go", "mod", "download", "-json", kubernetes)
	cmd.Dir = t.TempDir() // outside our module, whose requirements this is none of
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("cannot download %s: %v", kubernetes, err)
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(out, &module); err != nil {
		t.Fatal(err)
	}
	var api struct {
		Definitions map[string]map[string]any `json:"definitions"`
	}
	if err := json.Unmarshal(read(t, filepath.Join(module.Dir, "api/openapi-spec/swagger.json")), &api); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name string, v any) {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, d := range api.Definitions {
		tighten(d)
		switch {
		case strings.HasSuffix(name, ".IntOrString"), strings.HasSuffix(name, ".Quantity"):
			d["type"] = []string{"string", "number"}
			delete(d, "format")
		}
		list, _ := d["x-kubernetes-group-version-kind"].([]any)
		for _, one := range list {
			gvk, _ := one.(map[string]any)
			group, _, _ := strings.Cut(gvk["group"].(string), ".")
			file := strings.ToLower(gvk["kind"].(string)) + "-" + strings.TrimPrefix(group+"-", "-") + gvk["version"].(string) + ".json"
			write(file, map[string]string{"$ref": "_definitions.json#/definitions/" + name})
		}
	}
	write("_definitions.json", map[string]any{"definitions": api.Definitions})
	return dir
}

// tighten makes unknown fields an error, and null of a field the same as leaving it out.
func tighten(schema map[string]any) {
	properties, ok := schema["properties"].(map[string]any)
	if !ok {
		return
	}
	schema["additionalProperties"] = false
	for _, p := range properties {
		p := p.(map[string]any)
		if kind, ok := p["type"].(string); ok {
			p["type"] = []string{kind, "null"}
		}
	}
}
