//go:build chart

package charts

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	admissionregv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	kyaml "sigs.k8s.io/yaml"
)

// tool finds what make chart-test has built.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("../bin/kube", name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v; run make chart-test", err)
	}
	return path
}

func run(t *testing.T, stdin []byte, name string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(tool(t, name), args...)
	cmd.Stdin = bytes.NewReader(stdin)
	cmd.Env = append(os.Environ(), "HELM_CACHE_HOME="+t.TempDir(), "HELM_CONFIG_HOME="+t.TempDir(), "HELM_DATA_HOME="+t.TempDir())
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestRender renders each file of values in testdata with the real helm, lints it, compares the result and holds
// every object against Kubernetes' types.
func TestRender(t *testing.T) {
	files, err := filepath.Glob("testdata/*.values.yaml")
	if err != nil || len(files) < 6 {
		t.Fatalf("%d files of values, %v", len(files), err)
	}
	dir := schemas(t)
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".values.yaml")
		t.Run(name, func(t *testing.T) {
			chart := "inpod"
			if strings.HasPrefix(name, "app-") {
				chart = "inpod-app"
			}
			if out, err := run(t, nil, "helm", "lint", "--strict", chart, "-f", file); err != nil {
				t.Fatalf("helm lint: %v\n%s", err, out)
			}
			out, err := run(t, nil, "helm", "template", "rel", chart, "--namespace", "inpod-system", "--kube-version", "1.34.0", "-f", file)
			if err != nil {
				t.Fatalf("helm template: %v\n%s", err, out)
			}
			golden(t, "testdata/"+name+".golden.yaml", []byte(out))
			strict(t, out)
			text, err := run(t, []byte(out), "kubeconform", "-strict", "-summary", "-schema-location", dir+"/{{.ResourceKind}}{{.KindSuffix}}.json",
				"-skip", "PodMonitor,ServiceMonitor,PrometheusRule,ScaledObject,HTTPRoute,Certificate,Issuer")
			if err != nil {
				t.Errorf("kubeconform: %v\n%s", err, text)
			}
		})
	}
}

// kinds are the types that objects are read into. What is not here belongs to other projects, and only its YAML is read.
func kinds() map[string]func() any {
	return map[string]func() any{
		"v1/ServiceAccount": func() any { return &corev1.ServiceAccount{} }, "v1/ConfigMap": func() any { return &corev1.ConfigMap{} },
		"v1/Service": func() any { return &corev1.Service{} }, "v1/Secret": func() any { return &corev1.Secret{} },
		"v1/PersistentVolumeClaim": func() any { return &corev1.PersistentVolumeClaim{} },
		"apps/v1/Deployment":       func() any { return &appsv1.Deployment{} }, "policy/v1/PodDisruptionBudget": func() any { return &policyv1.PodDisruptionBudget{} },
		"scheduling.k8s.io/v1/PriorityClass": func() any { return &schedulingv1.PriorityClass{} },
		"networking.k8s.io/v1/NetworkPolicy": func() any { return &networkingv1.NetworkPolicy{} }, "networking.k8s.io/v1/Ingress": func() any { return &networkingv1.Ingress{} },
		"autoscaling/v2/HorizontalPodAutoscaler":                       func() any { return &autoscalingv2.HorizontalPodAutoscaler{} },
		"rbac.authorization.k8s.io/v1/Role":                            func() any { return &rbacv1.Role{} },
		"rbac.authorization.k8s.io/v1/RoleBinding":                     func() any { return &rbacv1.RoleBinding{} },
		"rbac.authorization.k8s.io/v1/ClusterRole":                     func() any { return &rbacv1.ClusterRole{} },
		"rbac.authorization.k8s.io/v1/ClusterRoleBinding":              func() any { return &rbacv1.ClusterRoleBinding{} },
		"admissionregistration.k8s.io/v1/MutatingWebhookConfiguration": func() any { return &admissionregv1.MutatingWebhookConfiguration{} },
	}
}

func strict(t *testing.T, text string) {
	t.Helper()
	dec := yaml.NewDecoder(strings.NewReader(text))
	for {
		var object map[string]any
		err := dec.Decode(&object)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if object == nil {
			continue
		}
		kind := object["apiVersion"].(string) + "/" + object["kind"].(string)
		fresh, ok := kinds()[kind]
		if !ok {
			if !strings.Contains(kind, "monitoring.coreos.com") && !strings.Contains(kind, "keda.sh") && !strings.Contains(kind, "gateway.") && !strings.Contains(kind, "cert-manager.io") {
				t.Errorf("nobody reads objects of %s", kind)
			}
			continue
		}
		data, err := json.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		if err := kyaml.UnmarshalStrict(data, fresh()); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// TestBadValues: the schema refuses what would come out wrong.
func TestBadValues(t *testing.T) {
	tests := []struct{ chart, set, want string }{
		{"inpod", "injektor.replicas=3", "injektor"},
		{"inpod", "injector.replicas=0", "replicas"},
		{"inpod", "injector.failurePolicy=fail", "failurePolicy"},
		{"inpod", "injector.timeoutSeconds=30", "timeoutSeconds"},
		{"inpod", "image.digest=abc", "digest"},
		{"inpod", "injector.drainDelay=25s", "drainDelay"}, // the pod has 30 s to end
		{"inpod", "scaling[0].name=a,scaling[0].kind=keda,scaling[0].target=a,scaling[0].min=0,scaling[0].max=2,scaling[0].metric=queue,scaling[0].value=1", "prometheus"},
		{"inpod", "scaling[0].name=a,scaling[0].kind=hpa,scaling[0].target=a,scaling[0].min=0,scaling[0].max=2,scaling[0].metric=queue,scaling[0].value=1", "min"},
		{"inpod", "routes[0].name=a,routes[0].kind=gateway,routes[0].podSelector.app=a", "gateway"},
		{"inpod", "scaling[0].name=a,scaling[0].kind=hpa,scaling[0].target=a,scaling[0].min=3,scaling[0].max=2,scaling[0].metric=queue,scaling[0].value=1", "max is 2"},
		{"inpod", "scaling[0].name=a,scaling[0].kind=hpa,scaling[0].target=a,scaling[0].min=1,scaling[0].max=2,scaling[0].metric=queue,scaling[0].value=0", "value"},
		{"inpod", "routes[0].name=a,routes[0].kind=ingress,routes[0].podSelector.app=a", "write httpRules or tcpRules"},
		{"inpod-app", "image=a,port=0,route.kind=ingress", "route.kind needs port"},
		{"inpod-app", "image=a,port=0,scaling.max=2", "scaling.max needs port"},
		{"inpod-app", "image=a,replicas=3,scaling.max=2", "scaling.max is less than replicas"},
		{"inpod-app", "image=a,scaling.max=2,scaling.inFlight=0", "inFlight"},
		{"inpod-app", "image=a,ssh.nodePort=70000", "nodePort"},
		{"inpod-app", "image=a,replicas=0,scaling.max=2", "replicas"},
		{"inpod-app", "image=", "image"},
		{"inpod-app", "image=a,mode=both", "mode"},
		{"inpod-app", "image=a,port=70000", "port"},
		{"inpod-app", "image=a,route.kind=gateway", "route.gateway is required"},
	}
	for _, tt := range tests {
		out, err := run(t, nil, "helm", "template", "rel", tt.chart, "--kube-version", "1.34.0", "--set", tt.set)
		if err == nil || !strings.Contains(out, tt.want) {
			t.Errorf("%s --set %s: %v, want an error with %q:\n%s", tt.chart, tt.set, err, tt.want, out)
		}
	}
}
