// Package kube speaks to the Kubernetes API server for a node agent: it
// watches the pods of one node, proves that a pod no longer exists, and writes
// the conditions and Events by which users see what Fairway found.
package kube

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
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

// Run watches until ctx ends.
func (s *PodSource) Run(ctx context.Context) error {
	lw := cache.NewListWatchFromClient(s.client.core, "pods", metav1.NamespaceAll,
		fields.OneTermEqualSelector("spec.nodeName", s.node))
	Listen(lw, s.answered)
	return Watch(ctx, "pods", lw, &corev1.Pod{}, s.Store)
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
