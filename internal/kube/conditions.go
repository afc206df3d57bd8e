package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"

	"fairway.dev/fairway/internal/service"
)

// ErrOtherPod is returned when a write was about a pod that does not exist any
// more, or whose name another pod has by now.
var ErrOtherPod = errors.New("the pod does not exist any more")

// Writer writes what Fairway found about pods where users look: conditions in
// the pod's status, and Events.
type Writer struct {
	client   *Client
	events   record.EventBroadcaster
	recorder record.EventRecorder
}

// NewWriter makes a Writer and starts to send Events; Close ends that. node is
// where the Events say they come from.
func NewWriter(client *Client, node string) (*Writer, error) {
	if client == nil || node == "" {
		return nil, errors.New("pod writer: client and node are required")
	}
	events := record.NewBroadcaster()
	events.StartRecordingToSink(eventSink{client})
	return &Writer{
		client:   client,
		events:   events,
		recorder: events.NewRecorder(client.scheme, corev1.EventSource{Component: "fairway-agent", Host: node}),
	}, nil
}

// Close sends no more Events.
func (w *Writer) Close() { w.events.Shutdown() }

// SetCondition writes one condition of the pod, and touches no other. It
// writes nothing if the pod has it already, and fails with ErrOtherPod if that
// pod is gone. The condition's Since is ignored: it is the time of
// writing if the status changes, and else stays.
func (w *Writer) SetCondition(ctx context.Context, pod service.Pod, kind string, want service.Condition) error {
	patch, err := conditionPatch(pod, kind, want, time.Now())
	if err != nil || patch == nil {
		return err
	}
	err = w.client.patchPodStatus(ctx, pod.Ref.Namespace, pod.Ref.Name, patch)
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		err = fmt.Errorf("%w: %w", ErrOtherPod, err)
	}
	if err != nil {
		return fmt.Errorf("set condition %s of pod %s: %w", kind, pod.Ref, err)
	}
	return nil
}

// conditionPatch is a strategic merge patch: the API server merges the list of
// conditions by type, and refuses to change a UID, so that naming it makes it
// a precondition. Nil if the pod has the condition already.
func conditionPatch(pod service.Pod, kind string, want service.Condition, now time.Time) ([]byte, error) {
	have := pod.Conditions[kind]
	if have.Status == want.Status && have.Reason == want.Reason && have.Message == want.Message {
		return nil, nil
	}
	since := now
	if have.Status == want.Status && !have.Since.IsZero() {
		since = have.Since
	}
	type condition struct {
		Type               string      `json:"type"`
		Status             string      `json:"status"`
		Reason             string      `json:"reason"`
		Message            string      `json:"message"`
		LastTransitionTime metav1.Time `json:"lastTransitionTime"`
	}
	return json.Marshal(map[string]any{
		"metadata": map[string]string{"uid": pod.Ref.UID},
		"status": map[string]any{"conditions": []condition{{
			Type:               kind,
			Status:             string(want.Status),
			Reason:             want.Reason,
			Message:            want.Message,
			LastTransitionTime: metav1.NewTime(since),
		}}},
	})
}

// Note records that something went as it should, as an Event on the pod.
func (w *Writer) Note(pod service.PodRef, reason, message string) {
	w.event(pod, corev1.EventTypeNormal, reason, message)
}

// Warn records something that a person may want to look at, as an Event on the
// pod.
func (w *Writer) Warn(pod service.PodRef, reason, message string) {
	w.event(pod, corev1.EventTypeWarning, reason, message)
}

func (w *Writer) event(pod service.PodRef, kind, reason, message string) {
	w.recorder.Event(&corev1.ObjectReference{
		APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: types.UID(pod.UID),
	}, kind, reason, message)
}
