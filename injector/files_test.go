package injector

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

func offline() Offline {
	return Offline{Settings: Settings{Image: "inpod/base:test", RedirectImage: "inpod/injector:test"}}
}

func TestInjectFiles(t *testing.T) {
	in, err := os.ReadFile("testdata/files/app.in.yaml")
	if err != nil {
		t.Fatal(err)
	}
	out, found, err := offline().Inject(t.Context(), bytes.NewReader(in))
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/files/app.out.yaml", out)
	var text bytes.Buffer
	Explain(&text, found)
	golden(t, "testdata/files/app.explain.txt", text.Bytes())

	again, found, err := offline().Inject(t.Context(), bytes.NewReader(out))
	if err != nil || !bytes.Equal(again, out) {
		t.Errorf("injected twice it differs, or %v", err)
	}
	for _, f := range found {
		if f.Report.Mode != "" {
			t.Errorf("injected twice: %+v", f)
		}
	}
}

func TestInjectFilesMode(t *testing.T) {
	o := offline()
	o.Mode = Wrap
	const in = "kind: Pod\nspec:\n  containers:\n  - {name: a, image: a, command: [a]}\n"
	out, found, err := o.Inject(t.Context(), strings.NewReader(in))
	if err != nil || len(found) != 1 || found[0].Report.Mode != Wrap {
		t.Fatalf("%+v, %v", found, err)
	}
	for _, want := range []string{"inpod.dev/inject: wrap", "inpod.dev/status:", "command: [/opt/inpod/inpod, run, --, a]"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

func TestInjectFilesThatCannotBe(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"no YAML", "kind: Pod\n---\nkind: [", "line 3: did not find"},
		{"no UTF-8", "kind: Pod\n--- # \xff\nkind: Pod\n", "want YAML in UTF-8"},
		{"a control character", "kind: Pod\n--- # \x01\nkind: Pod\n", "control characters"},
		{"no pod", "kind: Pod\nspec: 5\n", "cannot read the pod"},
		{"merge keys", "kind: Pod\nmetadata: {labels: {inpod.dev/inject: wrap}}\nspec:\n  containers:\n  - &a {name: a, image: a}\n  - {<<: *a, name: b}\n", "write the keys out"},
		{"an alias of what it is in", "kind: Pod\nspec: &a\n  containers: [*a]\n", "aliases refer to what they are in"},
		{"two objects of JSON", `{"kind": "Pod",` + "\n" + `"spec": {}}` + "\n" + `{"kind": "Service"}`, "line 3: something follows the object; write a line with ---"},
		{"the mark of the end", "kind: Pod\n...\nkind: Service\n", "something follows the object"},
	}
	for _, tt := range tests {
		if _, _, err := offline().Inject(t.Context(), strings.NewReader(tt.in)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

// FuzzInjectFiles: whatever the text, it is refused or comes out as YAML, and what has no pod comes out as it was.
func FuzzInjectFiles(f *testing.F) {
	in, err := os.ReadFile("testdata/files/app.in.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(in)
	f.Add([]byte("kind: Pod\nmetadata:\n  labels: &l {inpod.dev/inject: sidecar}\n  annotations:\nspec: {containers: [{name: a, image: a, ports: [{containerPort: 1}]}]}\n"))
	f.Add([]byte(`{"kind":"Pod","metadata":{"labels":{"inpod.dev/inject":"wrap"}},"spec":{"containers":[{"name":"a","image":"a","command":["a"]}]}}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		out, found, err := offline().Inject(t.Context(), bytes.NewReader(in))
		if err != nil {
			return
		}
		injected := false
		for _, f := range found {
			injected = injected || f.Report.Mode != "" && f.Err == nil
		}
		if !injected && !bytes.Equal(in, out) {
			t.Fatalf("nothing was injected, and it came out as %q", out)
		}
		dec := yaml.NewDecoder(bytes.NewReader(out))
		for {
			var v yaml.Node
			if err := dec.Decode(&v); err != nil {
				if injected && err.Error() != "EOF" {
					t.Fatalf("out came %q: %v", out, err)
				}
				break
			}
		}
	})
}
