package injector

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the golden files")

// scene is the first document of an .in.yaml: what Mutate is given beside the pod, which is the second.
type scene struct {
	Minor       int                          `json:"minor,omitempty"`
	PodSecurity string                       `json:"podSecurity,omitempty"`
	Namespace   map[string]string            `json:"namespace,omitempty"`
	Labels      map[string]string            `json:"labels,omitempty"` // of the namespace
	Defaults    map[string]string            `json:"defaults,omitempty"`
	Images      map[string]Image             `json:"images,omitempty"`
	ConfigMaps  map[string]map[string]string `json:"configMaps,omitempty"`
	NoImage     bool                         `json:"noImage,omitempty"`
}

// goldenText is the first document of an .out.yaml.
type goldenText struct {
	Refused  Reason   `json:"refused,omitempty"`
	Error    string   `json:"error,omitempty"`
	Left     Reason   `json:"left,omitempty"`
	LeftText string   `json:"leftText,omitempty"`
	Done     []string `json:"done,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
}

type knownImages map[string]Image

func (k knownImages) Image(_ context.Context, ref string) (Image, error) {
	image, ok := k[ref]
	if !ok {
		return Image{}, errors.New("the registry does not know it")
	}
	return image, nil
}

type knownMaps map[string]map[string]string

func (k knownMaps) ConfigMap(_ context.Context, _, name string) (map[string]string, error) {
	data, ok := k[name]
	if !ok {
		return nil, errors.New("not found")
	}
	return data, nil
}

func (s scene) settings() Settings {
	set := Settings{
		Image: "inpod/base:test", RedirectImage: "inpod/injector:test", Defaults: s.Defaults, Namespace: "default",
		NamespaceAnnotations: s.Namespace, NamespaceLabels: s.Labels, PodSecurity: s.PodSecurity, Minor: s.Minor, ConfigMaps: knownMaps(s.ConfigMaps),
	}
	if s.NoImage {
		set.Image = ""
	}
	if s.Images != nil {
		set.Images = knownImages(s.Images)
	}
	return set
}

// readCase reads one file of testdata.
func readCase(t testing.TB, file string) (Settings, *corev1.Pod) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, body, ok := strings.Cut(string(text), "\n---\n")
	if !ok {
		head, body = "", string(text)
	}
	var s scene
	if err := yaml.UnmarshalStrict([]byte(head), &s); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	var pod corev1.Pod
	if err := yaml.UnmarshalStrict([]byte(body), &pod); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return s.settings(), &pod
}

func cases(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/*.in.yaml")
	if err != nil || len(files) < 40 {
		t.Fatalf("%d cases, %v", len(files), err)
	}
	return files
}

// TestGolden compares whole pods and whole reports, and puts what came out in again.
func TestGolden(t *testing.T) {
	seen := map[Reason]bool{}
	for _, file := range cases(t) {
		name := strings.TrimSuffix(filepath.Base(file), ".in.yaml")
		t.Run(name, func(t *testing.T) {
			set, pod := readCase(t, file)
			before := pod.DeepCopy()
			got, report, err := Mutate(t.Context(), pod, set)
			if diff := cmp.Diff(before, pod); diff != "" {
				t.Errorf("the pod that went in was changed:\n%s", diff)
			}
			out := goldenText{Left: report.Left, LeftText: report.LeftText, Done: report.Done, Warnings: report.Warnings}
			seen[report.Left] = true
			if err != nil {
				var no *Refusal
				if !errors.As(err, &no) {
					t.Fatalf("error %v is no Refusal", err)
				}
				seen[no.Reason] = true
				out = goldenText{Refused: no.Reason, Error: no.Text}
			}
			text := written(t, out)
			if err == nil && report.Left == "" {
				text = append(append(text, "---\n"...), written(t, got)...)
				again, second, err := Mutate(t.Context(), got, set)
				seen[second.Left] = true
				if err != nil || second.Left != AlreadyInjected {
					t.Errorf("injected twice: %+v, %v", second, err)
				}
				if diff := cmp.Diff(got, again); diff != "" {
					t.Errorf("injected twice, it differs:\n%s", diff)
				}
			} else if err == nil {
				if diff := cmp.Diff(pod, got); diff != "" {
					t.Errorf("left alone, it differs:\n%s", diff)
				}
			}
			golden(t, strings.TrimSuffix(file, ".in.yaml")+".out.yaml", text)
		})
	}
	for _, reason := range slices.Sorted(maps.Keys(sentences)) {
		if !seen[reason] {
			t.Errorf("no case has the reason %s", reason)
		}
	}
}

func written(t testing.TB, v any) []byte {
	t.Helper()
	text, err := yaml.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func golden(t testing.TB, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs (-want +got); -update writes it:\n%s", file, cmp.Diff(string(want), string(got)))
	}
}

// TestSentences: whoever is refused is told what to do.
func TestSentences(t *testing.T) {
	for reason, text := range sentences {
		advice := false
		for _, word := range []string{"write", "remove", "rename", "create", "correct", "run:", "elsewhere", "add", "give", "injects", "%s", "label", "before", "by itself"} {
			advice = advice || strings.Contains(text, word)
		}
		if !advice {
			t.Errorf("%s says only what is wrong: %s", reason, text)
		}
	}
}

// TestRestricted holds what is added against the Pod Security level restricted.
func TestRestricted(t *testing.T) {
	for _, file := range cases(t) {
		set, pod := readCase(t, file)
		got, report, err := Mutate(t.Context(), pod, set)
		if err != nil || report.Left != "" {
			continue
		}
		for _, c := range got.Spec.InitContainers[len(pod.Spec.InitContainers):] {
			sc := c.SecurityContext
			if sc.AllowPrivilegeEscalation == nil || *sc.AllowPrivilegeEscalation || !*sc.ReadOnlyRootFilesystem ||
				!slices.Equal(sc.Capabilities.Drop, []corev1.Capability{"ALL"}) || sc.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
				t.Errorf("%s: container %s has the security context %+v", file, c.Name, sc)
			}
			if c.Name != redirectName && (!*sc.RunAsNonRoot || *sc.RunAsUser == 0 || len(sc.Capabilities.Add) > 0) {
				t.Errorf("%s: container %s runs as root or has capabilities", file, c.Name)
			}
			if c.Resources.Limits.Memory().IsZero() || c.Resources.Requests.Cpu().IsZero() && pod.Spec.Resources == nil {
				t.Errorf("%s: container %s has no resources", file, c.Name)
			}
		}
	}
}
