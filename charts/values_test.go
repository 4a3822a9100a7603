package charts

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write the READMEs and golden files")

var charts = []string{"inpod", "inpod-app"}

// TestREADME makes each chart's README of its values.
func TestREADME(t *testing.T) {
	t.Parallel()
	for _, chart := range charts {
		golden(t, filepath.Join(chart, "README.md"), readme(t, chart))
	}
}

func readme(t *testing.T, chart string) []byte {
	t.Helper()
	var about struct{ Description string }
	if err := yaml.Unmarshal(read(t, filepath.Join(chart, "Chart.yaml")), &about); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n<!-- Made from values.yaml by \"go test ./charts -update\". Do not edit. -->\n\n%s.\n\n", chart, about.Description)
	b.Write(read(t, filepath.Join(chart, "intro.md")))
	b.WriteString("\n## Values\n\n| value | default | |\n|---|---|---|\n")
	walk(values(t, chart), "", func(path, doc string, value *yaml.Node) {
		if doc == "" {
			t.Errorf("%s: %s has no comment that begins with \"-- \"", chart, path)
		}
		text, err := json.Marshal(plain(t, value))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "| `%s` | `%s` | %s |\n", path, text, strings.ReplaceAll(doc, "|", "\\|"))
	})
	return []byte(b.String())
}

// TestSchema: the schema knows every value, and no others.
func TestSchema(t *testing.T) {
	t.Parallel()
	for _, chart := range charts {
		var schema map[string]any
		if err := json.Unmarshal(read(t, filepath.Join(chart, "values.schema.json")), &schema); err != nil {
			t.Fatal(err)
		}
		walk(values(t, chart), "", func(path, _ string, _ *yaml.Node) {
			at := schema
			for key := range strings.SplitSeq(path, ".") {
				properties, _ := at["properties"].(map[string]any)
				next, ok := properties[key].(map[string]any)
				if !ok {
					t.Errorf("%s: the schema does not know %s", chart, path)
					return
				}
				if at["additionalProperties"] != false {
					t.Errorf("%s: the schema lets unknown keys beside %s pass", chart, path)
				}
				at = next
			}
		})
	}
}

// TestMetrics: dashboards, rules and scaling name only metrics that there are.
func TestMetrics(t *testing.T) {
	t.Parallel()
	known := map[string]bool{}
	for _, file := range []string{"../agent/testdata/metrics.txt", "../injector/testdata/metrics.txt"} {
		for _, name := range metric.FindAllString(string(read(t, file)), -1) {
			known[name] = true
		}
	}
	files, err := filepath.Glob("inpod/dashboards/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dashboards: %v", err)
	}
	for _, file := range append(files, "inpod/rules.yaml", "inpod/templates/scaling.yaml", "inpod-app/templates/network.yaml") {
		text := string(read(t, file))
		if strings.HasSuffix(file, ".json") && !json.Valid([]byte(text)) {
			t.Errorf("%s is no JSON", file)
		}
		names := metric.FindAllString(text, -1)
		if len(names) == 0 {
			t.Errorf("%s names no metric", file)
		}
		for _, name := range names {
			if !known[strings.TrimSuffix(name, "_bucket")] && !known[name] {
				t.Errorf("%s: there is no metric %s", file, name)
			}
		}
	}
}

var metric = regexp.MustCompile(`\binpod_[a-z_]+`)

// walk calls f for each value with the comment above it. Maps that are a value by themselves have one too.
func walk(n *yaml.Node, path string, f func(path, doc string, value *yaml.Node)) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		at := strings.TrimPrefix(path+"."+key.Value, ".")
		_, doc, _ := strings.Cut(key.HeadComment, "-- ")
		if value.Kind == yaml.MappingNode && len(value.Content) > 0 && doc == "" {
			walk(value, at, f)
			continue
		}
		f(at, doc, value)
	}
}

func values(t *testing.T, chart string) *yaml.Node {
	t.Helper()
	var root yaml.Node
	if err := yaml.Unmarshal(read(t, filepath.Join(chart, "values.yaml")), &root); err != nil {
		t.Fatal(err)
	}
	return root.Content[0]
}

func plain(t *testing.T, n *yaml.Node) any {
	t.Helper()
	var v any
	if err := n.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(read(t, file)), string(got)); diff != "" {
		t.Errorf("%s differs (-want +got); -update writes it:\n%s", file, diff)
	}
}
