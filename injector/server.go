package injector

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"net/http"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// maxReview is more than the API server can have: etcd takes 1.5 MiB an object, and a review holds two.
	maxReview = 8 << 20
	// reviewTimeout is what a review may take when the API server does not say; it says so in ?timeout=.
	reviewTimeout = 4500 * time.Millisecond
	// maxWarning is where the API server begins to shorten warnings.
	maxWarning = 256
)

// Cluster is what the server has to read for a pod.
type Cluster interface {
	Namespace(ctx context.Context, name string) (labels, annotations map[string]string, err error)
	ConfigMap(ctx context.Context, namespace, name string) (map[string]string, error)
	// PullSecrets returns what it can read of the secrets of the pod and of its service account.
	PullSecrets(ctx context.Context, namespace string, pod *corev1.Pod) ([]corev1.Secret, error)
	// Minor is that of the server's version 1.x, 0 when it is not known.
	Minor() int
}

// Events tells the owner of a pod what was done.
type Events interface {
	Tell(about corev1.ObjectReference, warning bool, reason Reason, text string)
}

// Server answers the API server's admission reviews.
type Server struct {
	Settings Settings // what holds for every pod; the rest is filled in for each
	Cluster  Cluster
	Registry *Registry // nil: images are not looked up
	Events   Events    // nil: none
	Metrics  *Metrics
	Log      *slog.Logger

	judge judge
}

// ServeHTTP answers POST /mutate.
func (s *Server) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	began := time.Now()
	review, err := readReview(w, req)
	if err != nil {
		s.Metrics.bad.Inc()
		s.Log.Warn("cannot read an admission review", "error", err)
		status := http.StatusBadRequest
		if _, large := errors.AsType[*http.MaxBytesError](err); large {
			status = http.StatusRequestEntityTooLarge
		}
		http.Error(w, err.Error(), status)
		return
	}
	ctx, cancel := context.WithTimeout(req.Context(), timeout(req))
	defer cancel()
	response, outcome, err := s.review(ctx, review.Request)
	s.Metrics.reviewed(outcome, time.Since(began))
	if err != nil {
		// Not the pod's fault: an error of the call itself, so that failurePolicy decides.
		var pod corev1.Pod
		_ = json.Unmarshal(review.Request.Object.Raw, &pod) // for its name, if it has one
		s.Log.Error("cannot decide on a pod", "namespace", review.Request.Namespace, "pod", podName(review.Request, &pod), "error", err)
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	response.UID = review.Request.UID
	w.Header().Set("Content-Type", "application/json")
	answer := admissionv1.AdmissionReview{TypeMeta: review.TypeMeta, Response: response}
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		s.Log.Warn("cannot send an answer", "error", err)
	}
}

func readReview(w http.ResponseWriter, req *http.Request) (*admissionv1.AdmissionReview, error) {
	if kind, _, _ := mime.ParseMediaType(req.Header.Get("Content-Type")); req.Method != http.MethodPost || kind != "application/json" {
		return nil, errors.New("want an AdmissionReview as application/json, by POST")
	}
	var body bytes.Buffer
	if req.ContentLength > 0 {
		body.Grow(int(min(req.ContentLength, maxReview)) + bytes.MinRead)
	}
	if _, err := body.ReadFrom(http.MaxBytesReader(w, req.Body, maxReview)); err != nil {
		return nil, fmt.Errorf("cannot read the AdmissionReview: %w", err)
	}
	var review admissionv1.AdmissionReview
	if err := json.Unmarshal(body.Bytes(), &review); err != nil {
		return nil, fmt.Errorf("cannot read the AdmissionReview: %w", err)
	}
	if want := admissionv1.SchemeGroupVersion.String(); review.APIVersion != want || review.Kind != "AdmissionReview" || review.Request == nil {
		return nil, fmt.Errorf("got apiVersion %q, kind %q; want an AdmissionReview of %s with a request", clip(review.APIVersion), clip(review.Kind), want)
	}
	return &review, nil
}

// timeout is a little less than the API server waits, so that it learns why there is no answer.
func timeout(req *http.Request) time.Duration {
	d, err := time.ParseDuration(req.URL.Query().Get("timeout"))
	if err != nil || d <= 0 {
		return reviewTimeout
	}
	return min(d-d/10, reviewTimeout)
}

// outcome is what metrics count.
type outcome struct {
	result string // injected, left, refused, error
	mode   string
	reason Reason
}

func (s *Server) review(ctx context.Context, req *admissionv1.AdmissionRequest) (*admissionv1.AdmissionResponse, outcome, error) {
	if req.Resource != (metav1.GroupVersionResource{Version: "v1", Resource: "pods"}) || req.SubResource != "" || req.Operation != admissionv1.Create {
		return &admissionv1.AdmissionResponse{Allowed: true}, outcome{result: "left", reason: NotAsked}, nil
	}
	var pod corev1.Pod
	if err := json.Unmarshal(req.Object.Raw, &pod); err != nil {
		return denied("BadPod", fmt.Sprintf("cannot read the pod: %v", err)), outcome{result: "refused", reason: "BadPod"}, nil
	}
	set, err := s.settings(ctx, req.Namespace, &pod)
	if err != nil {
		return nil, outcome{result: "error"}, err
	}
	got, report, err := Mutate(ctx, &pod, set)
	if no, ok := errors.AsType[*Refusal](err); ok {
		s.tell(req, &pod, true, no.Reason, "inpod was not injected: "+no.Text)
		s.Log.Info("refused", "namespace", req.Namespace, "pod", podName(req, &pod), "reason", no.Reason, "text", no.Text)
		return denied(no.Reason, "inpod: "+no.Text), outcome{"refused", "", no.Reason}, nil
	} else if err != nil {
		return nil, outcome{result: "error"}, err
	}
	if report.Left != "" {
		return s.leave(req, &pod, report)
	}
	if report.Mode == Sidecar && set.Minor == 0 {
		// An API server before 1.29 drops restartPolicy, and the pod would wait for ever for its sidecar to end.
		return nil, outcome{result: "error"}, errors.New("cannot tell whether the cluster knows sidecars: the API server's version is not known yet")
	}
	patch, err := Patch(unlike(&pod, got))
	if err != nil {
		return nil, outcome{result: "error"}, err
	}
	kind := admissionv1.PatchTypeJSONPatch
	response := &admissionv1.AdmissionResponse{
		Allowed: true, Patch: []byte(jsonText(patch)), PatchType: &kind, Warnings: warnings(report.Warnings),
		AuditAnnotations: map[string]string{"injected": report.Mode},
	}
	s.tell(req, &pod, false, "Injected", fmt.Sprintf("inpod was injected (%s, container %s): %s", report.Mode, report.Container, strings.Join(report.Done, "; ")))
	for _, text := range report.Warnings {
		s.tell(req, &pod, true, "InjectedWithWarning", text)
	}
	s.Log.Info("injected", "namespace", req.Namespace, "pod", podName(req, &pod), "mode", report.Mode, "container", report.Container, "warnings", report.Warnings)
	return response, outcome{result: "injected", mode: report.Mode}, nil
}

// leave lets a pod through as it is. Whoever asked for inpod and does not get it is told; what has it already, not.
func (s *Server) leave(req *admissionv1.AdmissionRequest, pod *corev1.Pod, report Report) (*admissionv1.AdmissionResponse, outcome, error) {
	response := &admissionv1.AdmissionResponse{Allowed: true}
	if report.Left != AlreadyInjected && report.Left != NotAsked {
		text := "inpod left the pod alone: " + report.LeftText
		response.Warnings = warnings([]string{text})
		s.tell(req, pod, false, report.Left, text)
	}
	return response, outcome{result: "left", reason: report.Left}, nil
}

func (s *Server) settings(ctx context.Context, namespace string, pod *corev1.Pod) (Settings, error) {
	set := s.Settings
	set.Namespace, set.ConfigMaps, set.Minor, set.judge = namespace, s.Cluster, s.Cluster.Minor(), &s.judge
	labels, annotations, err := s.Cluster.Namespace(ctx, namespace)
	if err != nil {
		return set, fmt.Errorf("cannot read the namespace %q: %w", namespace, err)
	}
	set.NamespaceAnnotations, set.NamespaceLabels = annotations, labels
	set.PodSecurity = labels["pod-security.kubernetes.io/enforce"]
	if s.Registry != nil {
		set.Images = podImages{s, namespace, pod}
	}
	return set, nil
}

// podImages reads the pull secrets only when an image has to be looked up.
type podImages struct {
	s         *Server
	namespace string
	pod       *corev1.Pod
}

// Image is Images'.
func (p podImages) Image(ctx context.Context, ref string) (image Image, err error) {
	began := time.Now()
	defer func() { p.s.Metrics.lookedUp(err, time.Since(began)) }()
	secrets, err := p.s.Cluster.PullSecrets(ctx, p.namespace, p.pod)
	if err != nil {
		p.s.Log.Warn("cannot read pull secrets", "namespace", p.namespace, "error", err)
	}
	keys, err := newKeychain(secrets)
	if err != nil {
		p.s.Log.Warn("a pull secret is of no use", "namespace", p.namespace, "error", err)
	}
	return p.s.Registry.With(keys).Image(ctx, ref)
}

func denied(reason Reason, text string) *admissionv1.AdmissionResponse {
	return &admissionv1.AdmissionResponse{Result: &metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusForbidden, Reason: metav1.StatusReasonForbidden, Message: text,
		Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: metav1.CauseType(reason), Message: text}}},
	}}
}

// warnings cuts texts into pieces that the API server takes whole: at a blank where there is one, so that what to
// write is not lost at the end, and inside of a word that is longer than a piece.
func warnings(texts []string) []string {
	var out []string
	for _, text := range texts {
		head := "inpod: "
		for most := maxWarning - len(head); len(text) > most; most = maxWarning - len(head) {
			cut, rest := strings.LastIndexByte(text[:most+1], ' '), 1
			if cut <= 0 {
				cut, rest = most, 0
				for cut > most-utf8.UTFMax && !utf8.RuneStart(text[cut]) {
					cut--
				}
			}
			out, text = append(out, head+text[:cut]), text[cut+rest:]
			head = "inpod: … "
		}
		out = append(out, head+text)
	}
	return out
}

// tell makes an Event, unless nothing is really created. The pod does not exist yet, so it is about its owner.
func (s *Server) tell(req *admissionv1.AdmissionRequest, pod *corev1.Pod, warning bool, reason Reason, text string) {
	if s.Events == nil || req.DryRun != nil && *req.DryRun {
		return
	}
	about := corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: req.Namespace, Name: podName(req, pod)}
	if owner := metav1.GetControllerOf(pod); owner != nil {
		about = corev1.ObjectReference{APIVersion: owner.APIVersion, Kind: owner.Kind, Namespace: req.Namespace, Name: owner.Name, UID: owner.UID}
	}
	s.Events.Tell(about, warning, reason, text)
}

// podName is what a pod is called; those of a controller have only the beginning of a name yet.
func podName(req *admissionv1.AdmissionRequest, pod *corev1.Pod) string {
	return cmp.Or(req.Name, pod.Name, pod.GenerateName)
}

// unlike returns two pods that differ as these do, without the large parts in which they do not: what is in neither is
// in no patch, and need not be written and read to find that out.
func unlike(a, b *corev1.Pod) (x, y *corev1.Pod) {
	x, y = &corev1.Pod{TypeMeta: a.TypeMeta, ObjectMeta: a.ObjectMeta, Spec: a.Spec}, &corev1.Pod{TypeMeta: b.TypeMeta, ObjectMeta: b.ObjectMeta, Spec: b.Spec}
	if !reflect.DeepEqual(a.Status, b.Status) {
		x.Status, y.Status = a.Status, b.Status
	}
	for _, pair := range [][2]any{{&x.ObjectMeta, &y.ObjectMeta}, {&x.Spec, &y.Spec}} {
		v, w := reflect.ValueOf(pair[0]).Elem(), reflect.ValueOf(pair[1]).Elem()
		for i := range v.NumField() {
			if reflect.DeepEqual(v.Field(i).Interface(), w.Field(i).Interface()) {
				v.Field(i).SetZero()
				w.Field(i).SetZero()
			}
		}
	}
	return x, y
}
