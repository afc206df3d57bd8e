package services

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"

	"fairway.dev/fairway/internal/export"
)

// Events writes Events on Services, where users look.
type Events struct {
	broadcaster record.EventBroadcaster
	recorder    record.EventRecorder
}

// NewEvents makes Events and starts to send them; Close ends that.
func NewEvents(client kubernetes.Interface) *Events {
	broadcaster := record.NewBroadcaster()
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: client.CoreV1().Events(corev1.NamespaceAll)})
	return &Events{broadcaster, broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "fairway-controller"})}
}

// Close sends no more Events.
func (e *Events) Close() { e.broadcaster.Shutdown() }

// Note records on a Service that something is as it should be.
func (e *Events) Note(service export.Object, uid, reason, message string) {
	e.event(service, uid, corev1.EventTypeNormal, reason, message)
}

// Warn records on a Service something that a person may want to look at.
func (e *Events) Warn(service export.Object, uid, reason, message string) {
	e.event(service, uid, corev1.EventTypeWarning, reason, message)
}

func (e *Events) event(service export.Object, uid, kind, reason, message string) {
	const longest = 1024 // bytes that the API server takes
	e.recorder.Event(&corev1.ObjectReference{
		APIVersion: "v1", Kind: service.Kind, Namespace: service.Namespace, Name: service.Name, UID: types.UID(uid),
	}, kind, reason, strings.ToValidUTF8(message[:min(len(message), longest)], ""))
}
