// Package kube speaks to the Kubernetes API server for a node agent: it
// watches the pods of one node, proves that a pod no longer exists, and writes
// the conditions and Events by which users see what Fairway found.
package kube

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"fairway.dev/fairway/internal/service"
)

// The proofs that a pod no longer exists, as told to people.
const (
	whyDeleted  = "the API server reported its deletion"
	whyReplaced = "another pod has its name"
	whyNotFound = "the API server says there is no such pod"
)

// PodSource is the pods of one node, as a watch on the API server shows them.
//
// What it lacks is not proven to be gone: an API server, or a proxy in front
// of one, that answers a list with nothing empties it. What proves that a pod
// is gone is in its Gone, or found by Confirm.
type PodSource struct {
	client *Client
	node   string
	*Store
}

// NewPodSource makes a PodSource. It shows nothing before Run.
func NewPodSource(client *Client, node string) (*PodSource, error) {
	if client == nil || node == "" {
		return nil, errors.New("pod source: client and node are required")
	}
	return &PodSource{client: client, node: node, Store: NewStore()}, nil
}

// Run watches until ctx ends. It feeds the store by a reflector of its own
// rather than through a shared informer: only so does the store see whether a
// pod was deleted or is missing from a list, and only so can the wait after a
// failed watch be short. The informer's, of up to a minute, would for so long
// keep traffic on pods that have terminated while the API server was away.
func (s *PodSource) Run(ctx context.Context) error {
	lw := cache.NewListWatchFromClient(s.client.core, "pods", metav1.NamespaceAll,
		fields.OneTermEqualSelector("spec.nodeName", s.node))
	s.listen(lw)
	reflector := cache.NewReflectorWithOptions(lw, &corev1.Pod{}, s.Store, cache.ReflectorOptions{
		Name: "pods",
		Backoff: &wait.Backoff{
			Duration: 250 * time.Millisecond, Factor: 2, Jitter: 1, Steps: 20, Cap: longestRetry,
		},
	})
	reflector.RunWithContext(ctx)
	return ctx.Err()
}

// longestRetry, doubled by jitter at most, is the longest wait before the watch
// is tried again.
const longestRetry = 5 * time.Second

// listen has the store told whether the API server answers. A watch that runs
// and is silent answers: bookmarks come about once a minute.
func (s *PodSource) listen(lw *cache.ListWatch) {
	list, follow := lw.ListWithContextFunc, lw.WatchFuncWithContext
	lw.ListWithContextFunc = func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
		pods, err := list(ctx, options)
		s.answered(err)
		return pods, err
	}
	lw.WatchFuncWithContext = func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
		events, err := follow(ctx, options)
		s.answered(err)
		if err != nil {
			return nil, err
		}
		return watch.Filter(events, func(event watch.Event) (watch.Event, bool) {
			s.Answers()
			return event, true
		}), nil
	}
}

func (s *PodSource) answered(err error) {
	if err != nil {
		s.Silent(err.Error())
		return
	}
	s.Answers()
}

// Confirm asks the API server whether the pod still exists. Gone means proven:
// by a quorum read that finds no pod of that name, or one with another UID.
// Everything else, such as a 404 that is not the API server's own, is not proof.
func Confirm(ctx context.Context, client *Client, ref service.PodRef) (found *service.Pod, why string, err error) {
	// No resourceVersion: the answer must be as of now, not from a cache.
	pod, err := client.pod(ctx, ref.Namespace, ref.Name)
	return judge(ref, pod, err)
}

// Absent asks the API server whether a node has no pod of that name, whatever its
// UID. It is proven by a quorum read that finds no pod of that name, or one that
// was given to another node.
func Absent(ctx context.Context, client *Client, name service.PodRef, node string) (absent bool, why string, err error) {
	pod, err := client.pod(ctx, name.Namespace, name.Name)
	return judgeAbsence(name, node, pod, err)
}

// judgeAbsence reads the answer to a GET of a pod of whatever UID.
func judgeAbsence(name service.PodRef, node string, pod *corev1.Pod, err error) (absent bool, why string, _ error) {
	name.UID = "" // so that every pod is another
	_, why, err = judge(name, pod, err)
	if why != whyReplaced {
		return why != "", why, err
	}
	if pod.Spec.NodeName == "" || pod.Spec.NodeName == node { // it may yet come to the node
		return false, "", nil
	}
	return true, "it is on node " + pod.Spec.NodeName, nil
}

// judge reads the answer to a GET of a pod.
func judge(ref service.PodRef, pod *corev1.Pod, err error) (found *service.Pod, why string, _ error) {
	switch {
	case err == nil && (pod.Name != ref.Name || pod.Namespace != ref.Namespace || pod.UID == ""):
		return nil, "", fmt.Errorf("get pod %s: the answer is not that pod", ref)
	case err == nil && string(pod.UID) != ref.UID:
		return nil, whyReplaced, nil
	case err == nil:
		there := Pod(pod)
		return &there, "", nil
	case NotFound(err, "pods", ref.Name):
		return nil, whyNotFound, nil
	}
	return nil, "", fmt.Errorf("get pod %s: %w", ref, err)
}

// NotFound tells whether err is the API server's own statement that there is no
// object of that name and resource, of the core group. The client makes a NotFound
// of any 404, also of a proxy's error page, and marks those as unexpected.
func NotFound(err error, resource, name string) bool {
	var status apierrors.APIStatus
	if !apierrors.IsNotFound(err) || !errors.As(err, &status) || apierrors.IsUnexpectedServerError(err) {
		return false
	}
	details := status.Status().Details
	return details != nil && details.Kind == resource && details.Group == "" && details.Name == name
}
