package kubelet

import (
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	podsv1alpha1 "k8s.io/kubelet/pkg/apis/pods/v1alpha1"

	"fairway.dev/fairway/internal/kube"
	"fairway.dev/fairway/internal/service"
)

// sourceAnnotation is where a kubelet notes on its copy of a pod who gave it.
const (
	sourceAnnotation = "kubernetes.io/config.source"
	sourceAPI        = "api"
)

// whyEnded is the proof that a pod is over, as told to people.
const whyEnded = "its kubelet has stopped it and is through with it"

// errPartial is a list that lacks what every node has: at least one pod of the
// API server, for example the agent's own. A kubelet that has just started
// lists its static pods, or nothing.
var errPartial = errors.New("the kubelet has not heard from the API server since it started: its list of pods is not complete")

// fromAPI tells whether the pod is one of the API server. Of a static pod the
// kubelet shows its own copy under a UID that the API server does not know.
// Such pods are published as the API server shows them.
func fromAPI(pod *corev1.Pod) bool {
	source := pod.Annotations[sourceAnnotation]
	return source == "" || source == sourceAPI
}

// complete returns the pods of the API server on a kubelet's list, or errPartial.
func complete(pods []*corev1.Pod) ([]any, error) {
	var out []any
	for _, pod := range pods {
		if fromAPI(pod) {
			out = append(out, pod)
		}
	}
	if len(out) == 0 {
		return nil, errPartial
	}
	return out, nil
}

// decodeList reads a list of pods as the pods API encodes them.
func decodeList(encoded [][]byte) ([]any, error) {
	pods := make([]*corev1.Pod, 0, len(encoded))
	for _, bytes := range encoded {
		pod, err := decode(bytes)
		if err != nil {
			return nil, err
		}
		pods = append(pods, pod)
	}
	return complete(pods)
}

// decode reads one pod. What has no identity is none.
func decode(bytes []byte) (*corev1.Pod, error) {
	pod := &corev1.Pod{}
	if err := pod.Unmarshal(bytes); err != nil {
		return nil, fmt.Errorf("read a pod of the kubelet: %w", err)
	}
	if pod.UID == "" || pod.Name == "" || pod.Namespace == "" {
		return nil, fmt.Errorf("the kubelet sent a pod without identity: %q/%q", pod.Namespace, pod.Name)
	}
	return pod, nil
}

// hear takes in one event of a watch.
func hear(store *kube.Store, event *podsv1alpha1.WatchPodsEvent) error {
	switch event.GetType() {
	case podsv1alpha1.EventType_ADDED, podsv1alpha1.EventType_MODIFIED:
		pod, err := decode(event.GetPod())
		if err != nil || !fromAPI(pod) {
			return err
		}
		return store.Hear(pod)
	case podsv1alpha1.EventType_DELETED:
		// Sent once all containers of this life have stopped for good, never
		// because the pod is missing somewhere. It holds the identity alone, so
		// it may be a static pod's; nothing is kept of that one's UID.
		pod, err := decode(event.GetPod())
		if err != nil {
			return err
		}
		store.End(service.PodRef{Namespace: pod.Namespace, Name: pod.Name, UID: string(pod.UID)}, whyEnded)
		return nil
	case podsv1alpha1.EventType_INITIAL_SYNC_COMPLETE:
		return nil
	}
	return fmt.Errorf("the kubelet sent an event of unknown type %s", event.GetType())
}

// reason says in words why the kubelet does not answer.
func reason(err error) string {
	switch status.Code(err) {
	case codes.Unavailable:
		return "its socket does not answer: " + status.Convert(err).Message()
	case codes.Unimplemented:
		return "it does not know this API: " + status.Convert(err).Message()
	case codes.FailedPrecondition:
		return "it is starting: " + status.Convert(err).Message()
	case codes.ResourceExhausted:
		return "it cut the watch off: " + status.Convert(err).Message()
	}
	return err.Error()
}
