package injector

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
)

type heard struct {
	about   corev1.ObjectReference
	warning bool
	reason  Reason
	text    string
}

type ear struct {
	mu    sync.Mutex
	heard []heard
}

func (e *ear) Tell(about corev1.ObjectReference, warning bool, reason Reason, text string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.heard = append(e.heard, heard{about, warning, reason, text})
}

func testServer(objects ...runtime.Object) (*Server, *ear) {
	objects = append(objects, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team"}})
	e := &ear{}
	api := NewAPI(fake.NewSimpleClientset(objects...), true)
	api.minor.Store(34)
	return &Server{
		Settings: Settings{Image: "inpod/base:test", RedirectImage: "inpod/injector:test"},
		Cluster:  api, Events: e,
		Metrics: NewMetrics(prometheus.NewRegistry()), Log: slog.New(slog.DiscardHandler),
	}, e
}

func testPod() *corev1.Pod {
	yes := true
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: "web-", Labels: map[string]string{InjectLabel: Wrap},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web", UID: "u1", Controller: &yes}},
		},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "web", Image: "web", Command: []string{"web"}, Ports: []corev1.ContainerPort{{ContainerPort: 8000}},
		}}},
	}
}

func reviewOf(t testing.TB, pod any, change func(*admissionv1.AdmissionRequest)) []byte {
	t.Helper()
	req := &admissionv1.AdmissionRequest{
		UID: "42", Namespace: "team", Operation: admissionv1.Create, Resource: metav1.GroupVersionResource{Version: "v1", Resource: "pods"},
		Object: runtime.RawExtension{Raw: marshal(t, pod)},
	}
	if change != nil {
		change(req)
	}
	return marshal(t, admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"}, Request: req,
	})
}

func post(t testing.TB, s http.Handler, body []byte) (*admissionv1.AdmissionResponse, *httptest.ResponseRecorder) {
	t.Helper()
	req := httptest.NewRequest(http.MethodPost, "/mutate?timeout=5s", bytes.NewReader(body))
	req.Header.Set("Content-Type", "application/json")
	rec := httptest.NewRecorder()
	s.ServeHTTP(rec, req)
	if rec.Code != http.StatusOK {
		return nil, rec
	}
	var review admissionv1.AdmissionReview
	if err := json.Unmarshal(rec.Body.Bytes(), &review); err != nil || review.Kind != "AdmissionReview" || review.Response.UID != "42" {
		t.Fatalf("the answer is %s (%v)", rec.Body, err)
	}
	return review.Response, rec
}

func TestReviewInjects(t *testing.T) {
	s, e := testServer()
	pod := testPod()
	response, _ := post(t, s, reviewOf(t, pod, nil))
	if !response.Allowed || *response.PatchType != admissionv1.PatchTypeJSONPatch {
		t.Fatalf("got %+v", response)
	}
	patch, err := jsonpatch.DecodePatch(response.Patch)
	if err != nil {
		t.Fatal(err)
	}
	out, err := patch.Apply(marshal(t, pod))
	if err != nil {
		t.Fatal(err)
	}
	var got corev1.Pod
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	if got.Spec.Containers[0].Command[0] != binary || len(got.Spec.InitContainers) != 2 || got.Labels[InjectedLabel] != Wrap {
		t.Errorf("patched it is %s", out)
	}
	if len(e.heard) != 1 || e.heard[0].about.Kind != "ReplicaSet" || e.heard[0].about.UID != "u1" || e.heard[0].reason != "Injected" || e.heard[0].warning {
		t.Errorf("Events: %+v", e.heard)
	}
	if n := testutil.ToFloat64(s.Metrics.reviews.WithLabelValues("injected", "wrap", "")); n != 1 {
		t.Errorf("%v reviews counted", n)
	}
	again, _ := post(t, s, reviewOf(t, got, nil))
	if !again.Allowed || again.Patch != nil || len(again.Warnings) > 0 || len(e.heard) != 1 {
		t.Errorf("once more: %+v, %+v", again, e.heard)
	}
}

func TestReviewRefusesWithWords(t *testing.T) {
	s, e := testServer()
	pod := testPod()
	pod.Annotations = map[string]string{Domain + "intercpt": "none"}
	response, _ := post(t, s, reviewOf(t, pod, nil))
	if response.Allowed || response.Result.Code != http.StatusForbidden || !strings.Contains(response.Result.Message, "did you mean inpod.dev/intercept?") {
		t.Errorf("got %+v", response.Result)
	}
	if len(e.heard) != 1 || !e.heard[0].warning || e.heard[0].reason != BadSetting {
		t.Errorf("Events: %+v", e.heard)
	}
}

func TestReviewDryRunTellsNobody(t *testing.T) {
	s, e := testServer()
	dry := true
	response, _ := post(t, s, reviewOf(t, testPod(), func(r *admissionv1.AdmissionRequest) { r.DryRun = &dry }))
	if !response.Allowed || response.Patch == nil || len(e.heard) != 0 {
		t.Errorf("got %+v, %+v", response, e.heard)
	}
}

func TestReviewWarns(t *testing.T) {
	restricted := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "strict", Labels: map[string]string{"pod-security.kubernetes.io/enforce": "restricted"}}}
	s, _ := testServer(restricted)
	response, _ := post(t, s, reviewOf(t, testPod(), func(r *admissionv1.AdmissionRequest) { r.Namespace = "strict" }))
	all := strings.Join(response.Warnings, "\n")
	if !response.Allowed || !strings.Contains(all, "does not allow a redirect") || !strings.Contains(all, "targetPort: 15080") {
		t.Errorf("got %+v", response)
	}
	for _, w := range response.Warnings {
		if len(w) > maxWarning {
			t.Errorf("%d bytes: %s", len(w), w)
		}
	}
}

// TestReviewOfASidecarNeedsTheVersion: a sidecar that the API server does not know would keep the pod from starting.
func TestReviewOfASidecarNeedsTheVersion(t *testing.T) {
	s, e := testServer()
	s.Cluster.(*API).minor.Store(0)
	pod := testPod()
	if response, _ := post(t, s, reviewOf(t, pod, nil)); !response.Allowed || response.Patch == nil {
		t.Errorf("wrap: %+v", response)
	}
	pod.Labels[InjectLabel] = Sidecar
	e.heard = nil
	if _, rec := post(t, s, reviewOf(t, pod, nil)); rec.Code != http.StatusInternalServerError || !strings.Contains(rec.Body.String(), "version is not known") || len(e.heard) > 0 {
		t.Errorf("sidecar: %d %s, want 500, so that failurePolicy decides", rec.Code, rec.Body)
	}
}

// TestReviewWarnsOfLongWords: a sidecar beside an image with a name of any length.
func TestReviewWarnsOfLongWords(t *testing.T) {
	s, _ := testServer()
	s.Registry = &Registry{}
	pod := testPod()
	pod.Labels[InjectLabel] = Sidecar
	pod.Spec.Containers[0].Image = strings.Repeat("X", 5000)
	response, _ := post(t, s, reviewOf(t, pod, nil))
	if n := len(response.Warnings); !response.Allowed || n == 0 || n > 8 {
		t.Errorf("%d warnings: %+v", n, response)
	}
}

func TestReviewReadsTheCluster(t *testing.T) {
	objects := []runtime.Object{
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "settings"}, Data: map[string]string{"queue": "7"}},
	}
	s, _ := testServer(objects...)
	pod := testPod()
	pod.Annotations = map[string]string{Domain + "config": "settings"}
	response, _ := post(t, s, reviewOf(t, pod, nil))
	if !response.Allowed || !strings.Contains(string(response.Patch), `\"queue\":7`) {
		t.Errorf("got %+v", response)
	}
}

func TestReviewLooksUpWithTheServiceAccountsSecrets(t *testing.T) {
	server := startRegistry(t)
	secret := pullSecret(server.host, "alice", "secret:1")
	secret.Namespace, secret.Name = "team", "pull"
	s, _ := testServer(&secret, &corev1.ServiceAccount{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "default"}, ImagePullSecrets: []corev1.LocalObjectReference{{Name: "gone"}, {Name: "pull"}},
	})
	s.Registry = patient()
	pod := testPod()
	pod.Spec.Containers[0].Command = nil
	pod.Spec.Containers[0].Image = server.host + "/web:1"
	if response, _ := post(t, s, reviewOf(t, pod, nil)); response.Allowed || !strings.Contains(response.Result.Message, "does not have it") {
		t.Errorf("before it is there: %+v", response.Result)
	}
	s.Registry = patient()
	pushWeb(t, server)
	response, _ := post(t, s, reviewOf(t, pod, nil))
	if !response.Allowed || !strings.Contains(string(response.Patch), `"/web"`) {
		t.Errorf("got %+v", response)
	}
}

func TestReviewIsNoPlaceForOthers(t *testing.T) {
	s, _ := testServer()
	for name, change := range map[string]func(*admissionv1.AdmissionRequest){
		"an update":      func(r *admissionv1.AdmissionRequest) { r.Operation = admissionv1.Update },
		"a subresource":  func(r *admissionv1.AdmissionRequest) { r.SubResource = "status" },
		"something else": func(r *admissionv1.AdmissionRequest) { r.Resource.Resource = "services" },
	} {
		if response, _ := post(t, s, reviewOf(t, testPod(), change)); !response.Allowed || response.Patch != nil {
			t.Errorf("%s: %+v", name, response)
		}
	}
	if _, rec := post(t, s, reviewOf(t, testPod(), func(r *admissionv1.AdmissionRequest) { r.Namespace = "none" })); rec.Code != http.StatusInternalServerError {
		t.Errorf("a namespace that cannot be read: %d, want 500, so that failurePolicy decides", rec.Code)
	}
	for name, body := range map[string]string{
		"nothing": "", "no JSON": "{", "no review": "{}", "v1beta1": `{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview","request":{}}`,
	} {
		if _, rec := post(t, s, []byte(body)); rec.Code != http.StatusBadRequest {
			t.Errorf("%s: %d", name, rec.Code)
		}
	}
	if _, rec := post(t, s, bytes.Repeat([]byte(" "), maxReview+1)); rec.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("too large: %d", rec.Code)
	}
	rec := httptest.NewRecorder()
	s.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/mutate", nil))
	if rec.Code != http.StatusBadRequest {
		t.Errorf("GET: %d", rec.Code)
	}
}

func TestRecorder(t *testing.T) {
	client := fake.NewSimpleClientset()
	m := NewMetrics(prometheus.NewRegistry())
	r := NewRecorder(client, slog.New(slog.DiscardHandler), m)
	about := corev1.ObjectReference{Kind: "ReplicaSet", Namespace: "team", Name: "web", UID: "u1"}
	for range 3 {
		r.Tell(about, true, NoCommand, "xx"+strings.Repeat("…", 2000)) // which does not end with a whole one at maxEvent
	}
	r.Tell(about, false, "Injected", "done")
	watch, err := client.CoreV1().Events("team").Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { r.Run(ctx); close(done) }()
	for range 2 {
		<-watch.ResultChan()
	}
	cancel()
	<-done
	if n := testutil.ToFloat64(m.events.WithLabelValues("sent")); n != 2 {
		t.Errorf("%v Events counted, want 2", n)
	}
	list, err := client.CoreV1().Events("team").List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 2 {
		t.Fatalf("%d Events, %v; want 2", len(list.Items), err)
	}
	for _, e := range list.Items {
		if len(e.Message) > maxEvent || !utf8.ValidString(e.Message) || e.Reason == "" || e.InvolvedObject != about || e.Source.Component == "" {
			t.Errorf("got %+v", e)
		}
	}
}

// admitted is a pod as the API server sends it: with what it fills in and what its own plugins add.
func admitted() *corev1.Pod {
	pod := testPod()
	var seconds int64 = 30
	var keeps int64 = 300
	pod.ManagedFields = []metav1.ManagedFieldsEntry{{
		Manager: "kube-controller-manager", Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "v1", FieldsType: "FieldsV1",
		FieldsV1: &metav1.FieldsV1{Raw: []byte(`{"f:metadata":{"f:generateName":{},"f:labels":{".":{},"f:inpod.dev/inject":{}}},"f:spec":{"f:containers":` +
			`{"k:{\"name\":\"web\"}":{".":{},"f:command":{},"f:image":{},"f:imagePullPolicy":{},"f:name":{},"f:ports":{".":{}}}},"f:dnsPolicy":{}}}`)},
	}}
	pod.Spec.RestartPolicy, pod.Spec.DNSPolicy, pod.Spec.SchedulerName = corev1.RestartPolicyAlways, corev1.DNSClusterFirst, "default-scheduler"
	pod.Spec.ServiceAccountName, pod.Spec.TerminationGracePeriodSeconds = "default", &seconds
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{}
	for _, key := range []string{"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"} {
		pod.Spec.Tolerations = append(pod.Spec.Tolerations, corev1.Toleration{
			Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &keeps,
		})
	}
	pod.Spec.Volumes = []corev1.Volume{{Name: "kube-api-access", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token"}}},
	}}}}
	c := &pod.Spec.Containers[0]
	c.VolumeMounts = []corev1.VolumeMount{{Name: "kube-api-access", ReadOnly: true, MountPath: "/var/run/secrets/kubernetes.io/serviceaccount"}}
	c.Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m")}
	c.ImagePullPolicy, c.TerminationMessagePath = corev1.PullIfNotPresent, corev1.TerminationMessagePathDefault
	c.ReadinessProbe = httpProbe("/", 8000, 10, 3)
	return pod
}

// BenchmarkReview is one admission: decode, mutate, patch, encode. http is over a connection, as the API server asks; its
// p99 is reported too. The bar is 50 ms at 50 a second, so the API server's own part has to fit beside it.
func BenchmarkReview(b *testing.B) {
	s, _ := testServer()
	s.Events = nil
	body := reviewOf(b, admitted(), nil)
	b.Run("handler", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			req := httptest.NewRequest(http.MethodPost, "/mutate?timeout=5s", bytes.NewReader(body))
			req.Header.Set("Content-Type", "application/json")
			rec := httptest.NewRecorder()
			if s.ServeHTTP(rec, req); rec.Code != http.StatusOK {
				b.Fatal(rec.Body)
			}
		}
	})
	b.Run("http", func(b *testing.B) {
		server := httptest.NewServer(s)
		defer server.Close()
		var took []time.Duration
		for b.Loop() {
			began := time.Now()
			resp, err := http.Post(server.URL+"/mutate?timeout=5s", "application/json", bytes.NewReader(body))
			if err != nil {
				b.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			took = append(took, time.Since(began))
		}
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
	})
}

// BenchmarkMutate: the first pod of an owner has settings that nobody has judged yet, the others have the same.
func BenchmarkMutate(b *testing.B) {
	for name, j := range map[string]*judge{"first": nil, "others": {}} {
		b.Run(name, func(b *testing.B) {
			set := Settings{Image: "inpod/base:test", RedirectImage: "inpod/injector:test", judge: j}
			pod := admitted()
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := Mutate(b.Context(), pod, set); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestPatchOfWhatDiffers: leaving out what is alike changes no patch.
func TestPatchOfWhatDiffers(t *testing.T) {
	check := func(name string, pod, got *corev1.Pod) {
		t.Helper()
		before := marshal(t, []*corev1.Pod{pod, got})
		want, err := Patch(pod, got)
		if err != nil {
			t.Fatal(err)
		}
		ops, err := Patch(unlike(pod, got))
		if err != nil {
			t.Fatal(err)
		}
		if a, b := jsonText(want), jsonText(ops); a != b {
			t.Errorf("%s: the patch is\n%s\nwant\n%s", name, b, a)
		}
		if !bytes.Equal(before, marshal(t, []*corev1.Pod{pod, got})) {
			t.Errorf("%s: the pods were changed", name)
		}
	}
	for _, file := range cases(t) {
		set, pod := readCase(t, file)
		got, _, err := Mutate(t.Context(), pod, set)
		if err == nil {
			check(file, pod, got)
		}
	}
	got := admitted()
	got.Status.Phase, got.Spec.Volumes, got.Kind = corev1.PodPending, nil, "Pod"
	check("other parts", admitted(), got)
}
