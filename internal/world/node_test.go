package world_test

import (
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"fairway.dev/fairway/internal/kube"
	"fairway.dev/fairway/internal/podset"
	"fairway.dev/fairway/internal/service"
)

// node is the node's pods as they really are.
type node struct {
	clock           time.Time
	made, addresses int                    // so far
	pods            map[string]*corev1.Pod // by UID; all that ever were
	over            map[string]bool        // UIDs that the API server does not have any more
	done            map[string]bool        // UIDs that the kubelet is through with
}

func newNode() *node {
	return &node{
		clock: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		pods:  map[string]*corev1.Pod{}, over: map[string]bool{}, done: map[string]bool{},
	}
}

// declarations are annotations: right, wrong and half wrong.
func declarations() []map[string]string {
	const p = "fairway.dev/service-"
	return []map[string]string{
		{p + "names": "web"},
		{p + "names": "web,api"},
		{p + "names": "api", p + "tags": "v2"},
		{p + "names": "web,api", p + "port-api": "9090"},
		{p + "names": "web,api", p + "port-api": "no such port"},
		{p + "names": "web", p + "meta": "broken"},
		{p + "names": "web", p + "health": "warning"},
		{p + "names": "web,api", p + "health-web": "critical"},
		{p + "names": "web", p + "health": "perhaps"},
		{p + "name": "web"},
		{},
	}
}

// create makes a pod. Few names make for many lives of each.
func (n *node) create(t *rapid.T) {
	name := rapid.SampledFrom([]string{"web-0", "web-1"}).Draw(t, "name")
	for uid, pod := range n.pods {
		if pod.Name == name && !n.over[uid] {
			return // the API server lets nobody else have the name
		}
	}
	n.made++
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: name, UID: types.UID(fmt.Sprintf("uid-%02d", n.made)),
			CreationTimestamp: metav1.NewTime(n.clock.Truncate(time.Second)),
			Annotations:       rapid.SampledFrom(declarations()).Draw(t, "annotations"),
		},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "app", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 80}},
		}}},
		Status: corev1.PodStatus{Phase: corev1.PodPending},
	}
	if rapid.IntRange(0, 3).Draw(t, "gated") > 0 {
		pod.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: service.GateReachable}}
	}
	n.pods[string(pod.UID)] = pod
}

// edit changes a pod's annotations.
func (n *node) edit(t *rapid.T, uid string) {
	if !n.over[uid] {
		n.change(uid).Annotations = rapid.SampledFrom(declarations()).Draw(t, "annotations")
	}
}

// change returns a copy of the pod that takes its place: what a source was
// given before stays as it was.
func (n *node) change(uid string) *corev1.Pod {
	n.pods[uid] = n.pods[uid].DeepCopy()
	return n.pods[uid]
}

// progress is what the kubelet does with a pod.
func (n *node) progress(t *rapid.T, uid string) {
	pod := n.change(uid)
	if ended(pod) {
		n.done[uid] = n.done[uid] || pod.DeletionTimestamp != nil || n.over[uid]
		return
	}
	switch rapid.SampledFrom([]string{"ready", "ready", "unready", "restarted", "ended"}).Draw(t, "progress") {
	case "ready":
		n.run(pod, true, 0)
	case "unready":
		n.run(pod, false, 0)
	case "restarted":
		n.run(pod, false, 1)
	case "ended":
		n.end(pod)
	}
}

func (n *node) run(pod *corev1.Pod, ready bool, restarts int32) {
	if len(pod.Status.ContainerStatuses) > 0 {
		restarts += pod.Status.ContainerStatuses[0].RestartCount
	}
	pod.Status.Phase = corev1.PodRunning
	if pod.Status.PodIP == "" { // one for all of its life
		n.addresses++
		pod.Status.PodIP = fmt.Sprintf("198.18.%d.%d", 64+n.addresses/250, 1+n.addresses%250)
	}
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{
		Name: "app", Ready: ready, RestartCount: restarts,
		State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
	}}
	n.condition(pod, corev1.ContainersReady, ready)
}

func (n *node) end(pod *corev1.Pod) {
	n.run(pod, false, 0)
	pod.Status.Phase = corev1.PodSucceeded
	pod.Status.ContainerStatuses[0].State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}
}

func (n *node) condition(pod *corev1.Pod, kind corev1.PodConditionType, is bool) {
	want := corev1.PodCondition{Type: kind, Status: corev1.ConditionFalse, LastTransitionTime: metav1.NewTime(n.clock.Truncate(time.Second))}
	if is {
		want.Status = corev1.ConditionTrue
	}
	i := slices.IndexFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == kind })
	switch {
	case i < 0:
		pod.Status.Conditions = append(pod.Status.Conditions, want)
	case pod.Status.Conditions[i].Status != want.Status:
		pod.Status.Conditions[i] = want
	}
}

// remove deletes a pod: a request first, then the object, or both at once as
// who is in a hurry does.
func (n *node) remove(t *rapid.T, uid string) {
	pod := n.change(uid)
	if pod.DeletionTimestamp == nil {
		pod.DeletionTimestamp = &metav1.Time{Time: n.clock}
		if !rapid.Bool().Draw(t, "forced") {
			return
		}
	}
	n.over[uid] = true
}

func ended(pod *corev1.Pod) bool { return pod.Status.Phase == corev1.PodSucceeded }

func (n *node) uids() []string { return slices.Sorted(maps.Keys(n.pods)) }

// source is one of the two that tell an agent of the pods.
type source struct {
	node    *node
	kubelet bool
	store   *kube.Store
	synced  bool
	answers bool
}

func newSource(n *node, kubelet bool) *source {
	return &source{node: n, kubelet: kubelet, store: kube.NewStore()}
}

// has tells whether the source's owner has the pod.
func (s *source) has(uid string) bool {
	if s.kubelet {
		return !s.node.done[uid]
	}
	return !s.node.over[uid]
}

// tell delivers what has become of a pod, as a watch does.
func (s *source) tell(uid string) error {
	pod := s.node.pods[uid]
	ref := service.PodRef{Namespace: pod.Namespace, Name: pod.Name, UID: uid}
	switch {
	case !s.synced || !s.answers:
		return nil
	case s.kubelet && s.has(uid):
		return s.store.Hear(pod)
	case s.kubelet:
		s.store.End(ref, "its kubelet is through with it")
		return nil
	case s.has(uid):
		return s.store.Update(pod)
	case !slices.ContainsFunc(s.store.State().Pods, func(p podset.Sighting) bool { return p.Pod.Ref.UID == uid }):
		return nil // a watch tells nothing of what its list did not have
	}
	return s.store.Delete(pod)
}

// list delivers a list of those pods that listed picks, and the source answers
// from then on. A kubelet whose list is empty counts as silent.
func (s *source) list(listed func(uid string) bool) error {
	var pods []any
	for _, uid := range s.node.uids() {
		if s.has(uid) && listed(uid) {
			pods = append(pods, s.node.pods[uid])
		}
	}
	if s.kubelet && len(pods) == 0 {
		s.silence()
		return nil
	}
	s.synced, s.answers = true, true
	if err := s.store.Replace(pods, ""); err != nil {
		return err
	}
	s.store.Answers()
	return nil
}

func (s *source) silence() {
	s.answers = false
	s.store.Silent("away")
}

func everything(string) bool { return true }
