package injector

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/flowcontrol"
)

const (
	eventQueue = 256
	// eventTime is how long the same thing is not told again: a ReplicaSet of a thousand pods needs one Event.
	eventTime = 10 * time.Minute
	maxEvent  = 1024 // bytes of a message, which the API server holds to
	// eventRate is for what has no owner, where each pod is something new to tell; an Event is a write to etcd.
	eventRate, eventBurst = 25, 100 // a second, at once
)

// Recorder sends Events, in the background and not more than the cluster can use.
type Recorder struct {
	client kubernetes.Interface
	log    *slog.Logger
	m      *Metrics
	queue  chan *corev1.Event
}

// NewRecorder makes a Recorder; Run sends what it is told.
func NewRecorder(client kubernetes.Interface, log *slog.Logger, m *Metrics) *Recorder {
	return &Recorder{client: client, log: log, m: m, queue: make(chan *corev1.Event, eventQueue)}
}

// Tell is Events'. It never waits: an admission does not depend on an Event.
func (r *Recorder) Tell(about corev1.ObjectReference, warning bool, reason Reason, text string) {
	kind := corev1.EventTypeNormal
	if warning {
		kind = corev1.EventTypeWarning
	}
	if len(text) > maxEvent {
		text = strings.ToValidUTF8(text[:maxEvent-len("…")], "") + "…"
	}
	sum := sha256.Sum256([]byte(string(about.UID) + about.Kind + about.Name + string(reason) + text))
	now := metav1.Now()
	event := &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: about.Namespace, Name: "inpod." + hex.EncodeToString(sum[:10])},
		InvolvedObject: about, Type: kind, Reason: string(reason), Message: text,
		Source: corev1.EventSource{Component: "inpod-injector"}, ReportingController: "inpod.dev/injector",
		FirstTimestamp: now, LastTimestamp: now, Count: 1,
	}
	select {
	case r.queue <- event:
	default:
		r.m.events.WithLabelValues("dropped").Inc()
	}
}

// Run sends Events until ctx ends.
func (r *Recorder) Run(ctx context.Context) {
	told := map[string]time.Time{}
	limit := flowcontrol.NewTokenBucketRateLimiter(eventRate, eventBurst)
	for {
		select {
		case <-ctx.Done():
			return
		case event := <-r.queue:
			now := time.Now()
			key := event.Namespace + "/" + event.Name
			if now.Sub(told[key]) < eventTime {
				continue
			}
			if len(told) > 10*eventQueue {
				clear(told)
			}
			told[key] = now
			if limit.Wait(ctx) == nil {
				r.send(ctx, event)
			}
		}
	}
}

func (r *Recorder) send(ctx context.Context, event *corev1.Event) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_, err := r.client.CoreV1().Events(event.Namespace).Create(ctx, event, metav1.CreateOptions{})
	if err == nil || apierrors.IsAlreadyExists(err) { // the other replica told it, or this one before it was restarted
		r.m.events.WithLabelValues("sent").Inc()
		return
	}
	r.m.events.WithLabelValues("failed").Inc()
	r.log.Warn("cannot send an Event", "namespace", event.Namespace, "about", event.InvolvedObject.Name, "error", err)
}
