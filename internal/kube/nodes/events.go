package nodes

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"
)

// Events writes Events on Nodes, where users look.
type Events struct {
	broadcaster record.EventBroadcaster
	recorder    record.EventRecorder
}

// NewEvents makes Events and starts to send them; Close ends that.
func NewEvents(client kubernetes.Interface) *Events {
	broadcaster := record.NewBroadcaster()
	// As the kubelet's own, Events on Nodes are in the namespace default.
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: client.CoreV1().Events(corev1.NamespaceDefault)})
	return &Events{broadcaster, broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "fairway-controller"})}
}

// Close sends no more Events.
func (e *Events) Close() { e.broadcaster.Shutdown() }

// Note records on a Node that something is as it should be.
func (e *Events) Note(node, reason, message string) {
	e.event(node, corev1.EventTypeNormal, reason, message)
}

// Warn records on a Node something that a person may want to look at.
func (e *Events) Warn(node, reason, message string) {
	e.event(node, corev1.EventTypeWarning, reason, message)
}

func (e *Events) event(node, kind, reason, message string) {
	// The kubelet names a node's UID by its name, and kubectl describe looks for that.
	ref := &corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: node, UID: types.UID(node)}
	e.recorder.Event(ref, kind, reason, message)
}
