// Package kube holds the injector's golden pods against the API server's own code: the validation of new pods, and the
// Pod Security levels. It is a module of its own, since k8s.io/kubernetes can be imported only with its parts replaced.
package kube

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/apis/core"
	k8sv1 "k8s.io/kubernetes/pkg/apis/core/v1"
	"k8s.io/kubernetes/pkg/apis/core/validation"
	psapi "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"
)

func TestPods(t *testing.T) {
	levels, err := policy.NewEvaluator(policy.DefaultChecks())
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("../../injector/testdata/*.out.yaml")
	if err != nil || len(files) < 40 {
		t.Fatalf("%d pods, %v", len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, body, injected := strings.Cut(string(text), "\n---\n")
		if !injected {
			continue
		}
		var pod corev1.Pod
		if err := yaml.UnmarshalStrict([]byte(body), &pod); err != nil {
			t.Fatal(err)
		}
		pod.Namespace = "default"
		k8sv1.SetObjectDefaults_Pod(&pod)
		var internal core.Pod
		if err := k8sv1.Convert_v1_Pod_To_core_Pod(&pod, &internal, nil); err != nil {
			t.Fatal(err)
		}
		options := validation.PodValidationOptions{PodLevelResourcesEnabled: true, AllowPodLifecycleSleepActionZeroValue: true}
		for _, e := range validation.ValidatePodCreate(&internal, options) {
			t.Errorf("%s: %v", filepath.Base(file), e)
		}
		// What the user's own containers break is the user's; only the redirect may break a level.
		own := pod.DeepCopy()
		own.Spec.Containers, own.Spec.InitContainers = nil, nil
		redirects := false
		for _, c := range pod.Spec.InitContainers {
			redirects = redirects || c.Name == "inpod-redirect"
			if strings.HasPrefix(c.Name, "inpod") {
				own.Spec.InitContainers = append(own.Spec.InitContainers, c)
			}
		}
		if own.Spec.SecurityContext != nil {
			own.Spec.SecurityContext.RunAsUser = nil
		}
		result := policy.AggregateCheckResults(levels.EvaluatePod(psapi.LevelVersion{Level: psapi.LevelRestricted, Version: psapi.LatestVersion()}, &own.ObjectMeta, &own.Spec))
		if result.Allowed == redirects {
			t.Errorf("%s: the level restricted allows it: %v, it redirects: %v (%s)", filepath.Base(file), result.Allowed, redirects, result.ForbiddenDetail())
		}
		if filepath.Base(file) == "intercept-auto-restricted.out.yaml" {
			whole := policy.AggregateCheckResults(levels.EvaluatePod(psapi.LevelVersion{Level: psapi.LevelRestricted, Version: psapi.LatestVersion()}, &pod.ObjectMeta, &pod.Spec))
			if !whole.Allowed {
				t.Errorf("a restricted pod is not restricted any more: %s", whole.ForbiddenDetail())
			}
		}
	}
}
