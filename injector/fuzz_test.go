package injector

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"
)

// FuzzMutate: whatever the pod, Mutate does not panic, does not change what it was given, does nothing the second
// time, says what it refuses, and the patch makes of the one pod the other.
func FuzzMutate(f *testing.F) {
	for _, file := range cases(f) {
		_, pod := readCase(f, file)
		text, err := json.Marshal(pod)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text, pod.Labels[InjectLabel], "port", "8000", "")
		f.Add(text, Sidecar, "intercept", "named", "baseline")
	}
	f.Fuzz(func(t *testing.T, text []byte, label, name, value, level string) {
		var pod corev1.Pod
		if json.Unmarshal(text, &pod) != nil {
			return
		}
		if pod.Labels == nil {
			pod.Labels = map[string]string{}
		}
		if pod.Annotations == nil {
			pod.Annotations = map[string]string{}
		}
		pod.Labels[InjectLabel] = label
		pod.Annotations[Domain+name] = value
		set := scene{PodSecurity: level, Images: map[string]Image{}}.settings()
		checkMutation(t, &pod, set)
	})
}

func checkMutation(t *testing.T, pod *corev1.Pod, set Settings) {
	t.Helper()
	before := pod.DeepCopy()
	got, report, err := Mutate(t.Context(), pod, set)
	if diff := cmp.Diff(before, pod); diff != "" {
		t.Fatalf("the pod that went in was changed:\n%s", diff)
	}
	if err != nil {
		var no *Refusal
		if !errors.As(err, &no) || no.Text == "" {
			t.Fatalf("%v is no Refusal with a text", err)
		}
		return
	}
	patch, err := Patch(pod, got)
	if err != nil {
		t.Fatal(err)
	}
	if report.Left != "" {
		if len(patch) > 0 {
			t.Fatalf("left alone, but there is the patch %v", patch)
		}
		return
	}
	original, want := marshal(t, pod), marshal(t, got)
	decoded, err := jsonpatch.DecodePatch(marshal(t, patch))
	if err != nil {
		t.Fatal(err)
	}
	patched, err := decoded.Apply(original)
	if err != nil {
		t.Fatalf("the patch %s cannot be applied: %v", marshal(t, patch), err)
	}
	if !jsonpatch.Equal(patched, want) {
		t.Fatalf("patched it is\n%s, want\n%s", patched, want)
	}
	again, second, err := Mutate(t.Context(), got, set)
	if err != nil || second.Left != AlreadyInjected {
		t.Fatalf("injected twice: %+v, %v", second, err)
	}
	if diff := cmp.Diff(got, again); diff != "" {
		t.Fatalf("injected twice, it differs:\n%s", diff)
	}
}

// FuzzWarnings: whatever the text, it comes out whole, in pieces that are not cut again.
func FuzzWarnings(f *testing.F) {
	long := strings.Repeat("x", 3*maxWarning)
	for _, text := range []string{"", "short", long, "a word of " + long + " letters", strings.Repeat("…", maxWarning), strings.Repeat("a b ", maxWarning), " " + long, strings.Repeat(" ", 2*maxWarning), strings.Repeat("\x80", 2*maxWarning)} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got := ""
		for i, w := range warnings([]string{text}) {
			if len(w) > maxWarning {
				t.Fatalf("a warning of %d bytes: %q", len(w), w)
			}
			if utf8.ValidString(text) && !utf8.ValidString(w) {
				t.Fatalf("a rune is cut: %q", w)
			}
			head := "inpod: "
			if i > 0 {
				head = "inpod: … "
			}
			piece, ok := strings.CutPrefix(w, head)
			if !ok {
				t.Fatalf("%q does not say whose it is", w)
			}
			got += piece
		}
		if blank := strings.NewReplacer(" ", ""); blank.Replace(got) != blank.Replace(text) {
			t.Fatalf("%q became %q", text, got)
		}
	})
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
