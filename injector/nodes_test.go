package injector

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// TestInjectFilesAliases: what is written once and meant at several places comes out as if it had been written at each.
func TestInjectFilesAliases(t *testing.T) {
	const pod = "kind: Pod\nmetadata: {name: a, labels: {inpod.dev/inject: wrap}}\nspec:\n  containers:\n"
	tests := []struct{ name, in string }{
		{"environment and probes of another container", pod + `  - name: a
    image: a
    command: [a]
    ports: &ports [{name: http, containerPort: 8000}]
    env: &env [{name: A, value: a}]
    livenessProbe: &probe {httpGet: {path: /live, port: http}}
    readinessProbe: *probe
    startupProbe: *probe
    volumeMounts: &mounts [{name: data, mountPath: /data}]
  - name: b
    image: b
    env: *env
    volumeMounts: *mounts
    ports: [{name: http, containerPort: 9000}]
    livenessProbe: *probe
  volumes: [{name: data, emptyDir: {}}]
`},
		{"the word that is replaced", pod + `  - name: a
    image: a
    command: [&word a]
    args: [*word, &port http]
    livenessProbe: {tcpSocket: {port: &number 8000}}
    ports: [{name: *port, containerPort: *number}]
  - name: b
    image: b
    args: [*word]
    readinessProbe: {tcpSocket: {port: *number}}
`},
		{"labels of the selector", `kind: Deployment
metadata: {name: a}
spec:
  selector: {matchLabels: &labels {app: a, inpod.dev/inject: wrap}}
  template:
    metadata: {labels: *labels}
    spec: {containers: [{name: a, image: a, command: [a]}]}
`},
		{"labels of the pod", `kind: Deployment
metadata: {name: a}
spec:
  template:
    metadata: {labels: &labels {app: a, inpod.dev/inject: wrap}}
    spec: {containers: [{name: a, image: a, command: [a]}]}
  selector: {matchLabels: *labels}
`},
		{"the whole pod", `kind: List
items:
- kind: Deployment
  metadata: {name: a}
  spec: &spec
    template: &template
      metadata: {labels: {inpod.dev/inject: wrap}}
      spec: {containers: [{name: a, image: a, command: [a]}]}
- kind: Deployment
  metadata: {name: b}
  spec: {template: *template}
- &c {kind: Deployment, metadata: {name: c}, spec: *spec}
- *c
`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var root yaml.Node
			if err := yaml.Unmarshal([]byte(tt.in), &root); err != nil {
				t.Fatal(err)
			}
			plain, err := expanded(root.Content[0])
			if err != nil {
				t.Fatal(err)
			}
			want, wanted, err := offline().Inject(t.Context(), bytes.NewReader(plain))
			if err != nil {
				t.Fatal(err)
			}
			got, found, err := offline().Inject(t.Context(), strings.NewReader(tt.in))
			if err != nil {
				t.Fatal(err)
			}
			if len(found) == 0 || len(found) != len(wanted) || found[0].Report.Mode != Wrap {
				t.Errorf("found %+v", found)
			}
			if diff := cmp.Diff(documents(t, want), documents(t, got)); diff != "" {
				t.Errorf("with aliases it differs (-without +with):\n%s", diff)
			}
		})
	}
}

// TestInjectFilesLoseNothing: every document of a file comes out, however it begins.
func TestInjectFilesLoseNothing(t *testing.T) {
	const pod = "kind: Pod\nmetadata: {labels: {inpod.dev/inject: wrap}}\nspec: {containers: [{name: a, image: a, command: [a]}]}\n"
	const inline = "{kind: Pod, metadata: {labels: {inpod.dev/inject: wrap}}, spec: {containers: [{name: a, image: a, command: [a]}]}}\n"
	tests := []struct{ name, in, kinds string }{
		{"two blanks before a comment", pod + "---  # the next\nkind: Service\n", "Pod Service"},
		{"a tab", pod + "---\t\nkind: Service\n", "Pod Service"},
		{"in the separator's line", pod + "--- {kind: Service}\n---\n" + pod, "Pod Service Pod"},
		{"a pod in the separator's line", "kind: Service\n---   " + inline + "---\nkind: Secret\n", "Service Pod Secret"},
		{"the mark of the end", pod + "...\n---\nkind: Service\n...\n# end\n", "Pod Service"},
	}
	for _, tt := range tests {
		out, found, err := offline().Inject(t.Context(), strings.NewReader(tt.in))
		if err != nil || len(found) == 0 || found[0].Report.Mode != Wrap {
			t.Errorf("%s: %+v, %v", tt.name, found, err)
		}
		var kinds []string
		for _, d := range documents(t, out) {
			kinds = append(kinds, d["kind"].(string))
		}
		if got := strings.Join(kinds, " "); got != tt.kinds {
			t.Errorf("%s: out came %s, want %s:\n%s", tt.name, got, tt.kinds, out)
		}
	}
}

// TestInjectFilesList: ConfigMaps and Namespaces count wherever they stand in the file.
func TestInjectFilesList(t *testing.T) {
	const in = `kind: List
items:
- kind: Namespace
  metadata: {name: team, annotations: {inpod.dev/log-level: warn}}
- kind: ConfigMap
  metadata: {name: c, namespace: team}
  data: {concurrency: "3"}
- kind: Pod
  metadata: {name: web, namespace: team, labels: {inpod.dev/inject: wrap}, annotations: {inpod.dev/config: c}}
  spec: {containers: [{name: web, image: w, command: [web], ports: [{containerPort: 80}]}]}
`
	out, found, err := offline().Inject(t.Context(), strings.NewReader(in))
	if err != nil || len(found) != 1 || found[0].Err != nil {
		t.Fatalf("%+v, %v", found, err)
	}
	for _, want := range []string{`"concurrency":3`, "value: warn"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %s in\n%s", want, out)
		}
	}
}

func documents(t *testing.T, text []byte) (all []map[string]any) {
	t.Helper()
	for dec := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var v map[string]any
		switch err := dec.Decode(&v); {
		case errors.Is(err, io.EOF):
			return all
		case err != nil:
			t.Fatalf("out came no YAML: %v\n%s", err, text)
		}
		all = append(all, v)
	}
}
