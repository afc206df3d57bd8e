package kube

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"fairway.dev/fairway/internal/service"
)

// store holds what a reflector tells of pods. Its methods Add, Update, Delete,
// Replace and Resync are cache.ReflectorStore.
type store struct {
	mu     sync.Mutex
	synced bool                   // Replace was called
	pods   map[string]service.Pod // by namespace/name
	gone   map[string]string      // by UID, what proves it
	// subscribers have room for one value each.
	subscribers []chan struct{}
}

func newStore() *store {
	return &store{pods: map[string]service.Pod{}, gone: map[string]string{}}
}

// Snapshot returns the node's pods by namespace and name, and whether they are
// a complete picture. Before they are, nothing may be decided from them.
func (s *store) Snapshot() ([]service.Pod, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.synced {
		return nil, false
	}
	return slices.SortedFunc(maps.Values(s.pods), func(a, b service.Pod) int {
		return strings.Compare(a.Ref.String(), b.Ref.String())
	}), true
}

// Subscribe returns a channel that gets a value after pods have changed; many
// changes make one value. Every call returns another channel.
func (s *store) Subscribe() <-chan struct{} {
	ch := make(chan struct{}, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subscribers = append(s.subscribers, ch)
	return ch
}

// Gone returns, by UID, what proves that pods no longer exist. Those that keep
// does not name are forgotten, so that the set stays small.
func (s *store) Gone(keep map[string]bool) map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.gone, func(uid, _ string) bool { return !keep[uid] })
	return maps.Clone(s.gone)
}

// prove keeps a proof that was found elsewhere.
func (s *store) prove(uid, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone[uid] = why
	s.notify()
}

// Add takes in a pod that the watch shows for the first time.
func (s *store) Add(object any) error { return s.Update(object) }

// Update takes in a pod as it is now. A change that does not show in what the
// core knows of a pod is none.
func (s *store) Update(object any) error {
	pod, err := asPod(object)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := pod.Ref.String()
	before, ok := s.pods[key]
	if ok && reflect.DeepEqual(before, pod) {
		return nil
	}
	if ok && before.Ref.UID != pod.Ref.UID {
		s.gone[before.Ref.UID] = whyReplaced
	}
	s.pods[key] = pod
	s.notify()
	return nil
}

// Delete takes in that the watch has reported a deletion, which is proof.
func (s *store) Delete(object any) error {
	pod, err := asPod(object)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if key := pod.Ref.String(); s.pods[key].Ref.UID == pod.Ref.UID {
		delete(s.pods, key)
	}
	s.gone[pod.Ref.UID] = whyDeleted
	s.notify()
	return nil
}

// Replace takes in a whole list. What is missing from it may have been deleted
// while nobody watched, or the list may be wrong; it is not proven gone. What
// shares its name with a pod on the list is.
func (s *store) Replace(objects []any, _ string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	pods := make(map[string]service.Pod, len(objects))
	for _, object := range objects {
		pod, err := asPod(object)
		if err != nil {
			return err
		}
		pods[pod.Ref.String()] = pod
	}
	for key, pod := range pods {
		if before, ok := s.pods[key]; ok && before.Ref.UID != pod.Ref.UID {
			s.gone[before.Ref.UID] = whyReplaced
		}
	}
	s.pods, s.synced = pods, true
	s.notify()
	return nil
}

// Resync is not used.
func (s *store) Resync() error { return nil }

// notify tells the subscribers. The caller holds mu.
func (s *store) notify() {
	for _, ch := range s.subscribers {
		select {
		case ch <- struct{}{}:
		default: // one is waiting already, and will see this change too
		}
	}
}

// asPod refuses what cannot be a pod of the API server. An object without
// identity must not pass for one.
func asPod(object any) (service.Pod, error) {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return service.Pod{}, fmt.Errorf("a watch of pods brought a %T", object)
	}
	if pod.UID == "" || pod.Name == "" || pod.Namespace == "" {
		return service.Pod{}, fmt.Errorf("a watch of pods brought one without identity: %q/%q", pod.Namespace, pod.Name)
	}
	return Pod(pod), nil
}
