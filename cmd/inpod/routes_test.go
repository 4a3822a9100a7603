package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/inpod/inpod/config"
	"go.yaml.in/yaml/v3"
)

const exported3 = `ssh: {listen: ":22"}
proxy:
  routes:
  - {listen: ":8888", path: /jupyter/, upstream: "127.0.0.1:18888", preset: jupyter}
  - {listen: ":6006", path: /monitor, upstream: "127.0.0.1:16006"}
  - {listen: ":8080", upstream: "127.0.0.1:8000"}
  - {listen: ":8080", path: "/a \"b\"", upstream: "127.0.0.1:8000", host: "*.example.com"}
  - {listen: "127.0.0.1:9", upstream: "127.0.0.1:8000"}
  - {listen: off, upstream: "127.0.0.1:8000"}
`

func load(t *testing.T, text string) *config.Config {
	t.Helper()
	cfg, err := config.Parse("inpod.yaml", []byte(strings.ReplaceAll(text, `/a \"b\"`, "/a'b'")), config.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// The objects, with the fields that the API servers know and no others: they refuse what they do not know.
type (
	meta struct {
		Name, Namespace     string
		Labels, Annotations map[string]string
	}
	service struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string
		Metadata   meta
		Spec       struct {
			Selector map[string]string
			Ports    []struct {
				Name, Protocol string
				Port           int
				TargetPort     int `yaml:"targetPort"`
			}
		}
	}
	ingress struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string
		Metadata   meta
		Spec       struct {
			Rules []struct {
				Host string
				HTTP struct {
					Paths []struct {
						Path     string
						PathType string `yaml:"pathType"`
						Backend  struct {
							Service struct {
								Name string
								Port struct{ Number int }
							}
						}
					}
				}
			}
		}
	}
	httpRoute struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string
		Metadata   meta
		Spec       struct {
			ParentRefs []struct{ Name, Namespace string } `yaml:"parentRefs"`
			Hostnames  []string
			Rules      []struct {
				Matches     []struct{ Path struct{ Type, Value string } }
				BackendRefs []struct {
					Name string
					Port int
				} `yaml:"backendRefs"`
			}
		}
	}
)

func decode[T any](t *testing.T, text string) []T {
	t.Helper()
	dec := yaml.NewDecoder(bytes.NewReader([]byte(text)))
	dec.KnownFields(true)
	var list []T
	for {
		var v T
		err := dec.Decode(&v)
		if err == io.EOF {
			return list
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		list = append(list, v)
	}
}

func export(t *testing.T, f exportFlags) string {
	t.Helper()
	text, err := exportRoutes(load(t, exported3), f)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestExportService(t *testing.T) {
	text := export(t, exportFlags{format: "service", name: "tools", namespace: "ml", selector: []string{"app=x", "inpod.dev/a=b"}})
	s := decode[service](t, text)[0]
	if s.APIVersion != "v1" || s.Kind != "Service" || s.Metadata.Name != "tools" || s.Metadata.Namespace != "ml" || s.Spec.Selector["inpod.dev/a"] != "b" {
		t.Errorf("got %+v", s)
	}
	want := map[string]int{"http-8888": 8888, "http-6006": 6006, "http-8080": 8080, "ssh": 22}
	for _, p := range s.Spec.Ports {
		if want[p.Name] != p.Port || p.TargetPort != p.Port || p.Protocol != "TCP" || len(p.Name) > 15 {
			t.Errorf("port %+v", p)
		}
		delete(want, p.Name)
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
}

func TestExportIngress(t *testing.T) {
	text := export(t, exportFlags{format: "ingress", name: "tools", host: "ml.example.com"})
	i := decode[ingress](t, text)[0]
	if i.APIVersion != "networking.k8s.io/v1" || i.Kind != "Ingress" || i.Metadata.Annotations["nginx.ingress.kubernetes.io/proxy-read-timeout"] != "3600" {
		t.Errorf("got %+v", i)
	}
	if len(i.Spec.Rules) != 2 || i.Spec.Rules[0].Host != "ml.example.com" || i.Spec.Rules[1].Host != "*.example.com" {
		t.Fatalf("rules: %+v", i.Spec.Rules)
	}
	got := ""
	for _, p := range i.Spec.Rules[0].HTTP.Paths {
		got += p.Path + " " + p.PathType + " " + p.Backend.Service.Name + "\n"
	}
	if want := "/jupyter Prefix tools\n/monitor Prefix tools\n/ Prefix tools\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if p := i.Spec.Rules[0].HTTP.Paths[0]; p.Backend.Service.Port.Number != 8888 {
		t.Errorf("%+v", p)
	}
	if p := i.Spec.Rules[1].HTTP.Paths[0]; p.Path != "/a'b'" {
		t.Errorf("%+v", p)
	}
	if i := decode[ingress](t, export(t, exportFlags{format: "ingress", name: "tools"}))[0]; i.Spec.Rules[0].Host != "" || len(i.Spec.Rules[0].HTTP.Paths) != 3 {
		t.Errorf("without a host: %+v", i)
	}
}

func TestExportHTTPRoute(t *testing.T) {
	list := decode[httpRoute](t, export(t, exportFlags{format: "httproute", name: "tools", gateway: "infra/public"}))
	if len(list) != 2 || list[0].Metadata.Name != "tools" || list[1].Metadata.Name != "tools-2" {
		t.Fatalf("got %+v", list)
	}
	r := list[0]
	if r.APIVersion != "gateway.networking.k8s.io/v1" || r.Kind != "HTTPRoute" || r.Spec.ParentRefs[0].Name != "public" || r.Spec.ParentRefs[0].Namespace != "infra" {
		t.Errorf("got %+v", r)
	}
	if len(r.Spec.Hostnames) != 0 || len(r.Spec.Rules) != 3 || r.Spec.Rules[0].Matches[0].Path.Value != "/jupyter" || r.Spec.Rules[0].BackendRefs[0].Port != 8888 {
		t.Errorf("got %+v", r)
	}
	if list[1].Spec.Hostnames[0] != "*.example.com" {
		t.Errorf("got %+v", list[1])
	}
}

// What is written for Neolink is read as routes again.
func TestExportNeolink(t *testing.T) {
	text := export(t, exportFlags{format: "neolink", name: "tools"})
	rules, err := config.ParseRules([]byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	want := []config.HTTPRule{
		{Port: 8888, Name: "jupyter", Path: "/jupyter/"},
		{Port: 6006, Name: "monitor", Path: "/monitor"},
		{Port: 8080, Name: "http-8080", Path: "/"},
		{Port: 8080, Name: "a'b'", Path: "/a'b'"},
	}
	if len(rules.HTTP) != len(want) {
		t.Fatalf("got %+v", rules)
	}
	for i := range want {
		if rules.HTTP[i] != want[i] {
			t.Errorf("got %+v, want %+v", rules.HTTP[i], want[i])
		}
	}
	if len(rules.TCP) != 1 || rules.TCP[0] != (config.TCPRule{Port: 22, Name: "ssh"}) {
		t.Errorf("tcp: %+v", rules.TCP)
	}
}

func TestExportProblems(t *testing.T) {
	empty, ssh := load(t, ""), load(t, "ssh: {listen: ':22'}")
	inside := load(t, "proxy: {routes: [{listen: '127.0.0.1:80', upstream: '127.0.0.1:81'}]}")
	for _, tt := range []struct {
		cfg  *config.Config
		f    exportFlags
		want string
	}{
		{empty, exportFlags{format: "ingress", name: "a"}, "cannot write as ingress: the configuration has no routes (proxy.routes)"},
		{ssh, exportFlags{format: "ingress", name: "a"}, "cannot write as ingress: the configuration has no routes (proxy.routes)"},
		{ssh, exportFlags{format: "httproute", name: "a"}, "cannot write as httproute: the configuration has no routes (proxy.routes)"},
		{inside, exportFlags{format: "service", name: "a"}, "cannot write as service: no route of the configuration listens where others can connect (proxy.routes[].listen)"},
		{load(t, exported3), exportFlags{format: "service", name: "A_b"}, `cannot name the objects "A_b": want at most 63 letters`},
		{load(t, exported3), exportFlags{format: "service", name: "a", selector: []string{"x"}}, `cannot use the selector "x": want label=value`},
	} {
		_, err := exportRoutes(tt.cfg, tt.f)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got  %v\nwant %s", err, tt.want)
		}
	}
	for _, format := range []string{"service", "neolink"} { // they have a place for SSH's port
		if text, err := exportRoutes(ssh, exportFlags{format: format, name: "a"}); err != nil || !strings.Contains(text, "port: 22") {
			t.Errorf("%s of SSH alone: %v\n%s", format, err, text)
		}
	}
}

// What goes into a file of a pipeline is there, or the exit code says so.
func TestWhatCannotBeWritten(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	for _, args := range [][]string{{"routes"}, {"routes", "--format", "json"}, {"check"}} {
		said, err := os.Create(t.TempDir() + "/stderr")
		if err != nil {
			t.Fatal(err)
		}
		root := newRoot(&app{stdout: full, stderr: said})
		root.SetArgs(args)
		err = root.Execute()
		text, _ := os.ReadFile(said.Name())
		said.Close()
		if code := exitCode(0); !errors.As(err, &code) || code != exitFailed || !strings.Contains(string(text), "cannot write to standard output: no space left on device") {
			t.Errorf("%q: got %v, %s", args, err, text)
		}
	}
}

// The agent that runs is found with what the environment says of its socket, also while the file has a mistake.
func TestTheSocketWhileTheFileIsBad(t *testing.T) {
	file := t.TempDir() + "/inpod.yaml"
	if err := os.WriteFile(file, []byte("lgo: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ env, want string }{
		{"INPOD_ADMIN_SOCKET=/a/b.sock", "/a/b.sock"},
		{"XDG_RUNTIME_DIR=/run/user/7", "/run/user/7/inpod.sock"},
		{"INPOD_LOG_LEVEL=loud", "/run/inpod/inpod.sock"},
	} {
		a := &app{env: []string{tt.env, "INPOD_CONFIG=" + file}}
		if got := a.settings("").SocketPaths(); !slices.Contains(got, tt.want) {
			t.Errorf("%s: got %q, want %s among them", tt.env, got, tt.want)
		}
	}
}
