package kube

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"fairway.dev/fairway/internal/podset"
	"fairway.dev/fairway/internal/service"
)

// Store holds what one source tells of the node's pods. Its methods Add,
// Update, Delete, Replace and Resync are cache.ReflectorStore.
type Store struct {
	changed chan struct{} // has room for one value

	mu      sync.Mutex
	synced  bool                       // Replace was called
	live    bool                       // the source answers
	problem string                     // why it does not
	heard   time.Time                  // when it last said anything
	pods    map[string]podset.Sighting // by namespace/name
	gone    map[string]string          // by UID, what proves it
}

// NewStore makes a Store that knows nothing yet.
func NewStore() *Store {
	return &Store{
		changed: make(chan struct{}, 1), problem: "it has not answered yet",
		pods: map[string]podset.Sighting{}, gone: map[string]string{},
	}
}

// State is what a source says and how far that can be relied on.
type State struct {
	podset.Side
	// Synced is true once the source has given a complete list. Before, nothing
	// may be decided from it.
	Synced bool
	// Problem is why the source does not answer, empty if it does.
	Problem string
	// Heard is when it last said anything, be it that nothing has changed; zero
	// if never.
	Heard time.Time
}

// State returns what the source says now. Its pods are by namespace and name.
func (s *Store) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return State{
		Side: podset.Side{Live: s.live, Gone: maps.Clone(s.gone), Pods: slices.SortedFunc(maps.Values(s.pods), func(a, b podset.Sighting) int {
			return cmp.Or(strings.Compare(a.Pod.Ref.Namespace, b.Pod.Ref.Namespace), strings.Compare(a.Pod.Ref.Name, b.Pod.Ref.Name))
		})},
		Synced: s.synced, Problem: s.problem, Heard: s.heard,
	}
}

// Changed gets a value after something has changed; many changes make one
// value. It is for one reader.
func (s *Store) Changed() <-chan struct{} { return s.changed }

// Answers notes that the source answers.
func (s *Store) Answers() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard = time.Now()
	if !s.live {
		s.live, s.problem = true, ""
		s.notify()
	}
}

// Silent notes that the source does not answer, and why. What it said before
// stands.
func (s *Store) Silent(problem string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live || s.problem != problem {
		s.live, s.problem = false, problem
		s.notify()
	}
}

// Gone returns, by UID, what proves that pods no longer exist. Those that keep
// does not name are forgotten, so that the set stays small.
func (s *Store) Gone(keep map[string]bool) map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.gone, func(uid, _ string) bool { return !keep[uid] })
	return maps.Clone(s.gone)
}

// Prove keeps a proof that was found elsewhere.
func (s *Store) Prove(uid, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone[uid] = why
	s.notify()
}

// Disprove forgets what proved that a pod is gone: it was found after that.
func (s *Store) Disprove(uid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, proven := s.gone[uid]; proven {
		delete(s.gone, uid)
		s.notify()
	}
}

// Add takes in a pod that the watch shows for the first time.
func (s *Store) Add(object any) error { return s.Update(object) }

// Update takes in a pod as it is now. A change that does not show in what the
// core knows of a pod is none.
func (s *Store) Update(object any) error {
	got, err := asPod(object)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.update(got)
	return nil
}

// Hear takes in a pod as it was a moment ago, of which more recent news may
// have come before. It changes nothing that is newer.
func (s *Store) Hear(object any) error {
	got, err := asPod(object)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch before, ok := s.pods[got.Pod.Ref.String()]; {
	case ok && before.Pod.Ref.UID == got.Pod.Ref.UID:
		got.Pod = podset.Newer(before.Pod, got.Pod)
	case ok && !got.Created.After(before.Created):
		return nil // word of an earlier life, perhaps
	}
	s.update(got)
	return nil
}

// update takes in a pod. The caller holds mu.
func (s *Store) update(got podset.Sighting) {
	key := got.Pod.Ref.String()
	before, ok := s.pods[key]
	if ok && reflect.DeepEqual(before.Pod, got.Pod) {
		return
	}
	if ok && before.Pod.Ref.UID != got.Pod.Ref.UID {
		s.gone[before.Pod.Ref.UID] = whyReplaced
	}
	s.pods[key] = got
	s.notify()
}

// Delete takes in that the watch has reported a deletion, which is proof.
func (s *Store) Delete(object any) error {
	got, err := asPod(object)
	if err != nil {
		return err
	}
	s.End(got.Pod.Ref, whyDeleted)
	return nil
}

// End takes in that the source itself says that a life of a pod is over.
func (s *Store) End(ref service.PodRef, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if key := ref.String(); s.pods[key].Pod.Ref.UID == ref.UID {
		delete(s.pods, key)
	}
	s.gone[ref.UID] = why
	s.notify()
}

// Replace takes in a whole list. What is missing from it may have been deleted
// while nobody watched, or the list may be wrong; it is not proven gone. What
// shares its name with a pod on the list is.
func (s *Store) Replace(objects []any, _ string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	pods := make(map[string]podset.Sighting, len(objects))
	for _, object := range objects {
		got, err := asPod(object)
		if err != nil {
			return err
		}
		if other, ok := pods[got.Pod.Ref.String()]; ok && other.Created.After(got.Created) {
			continue // two lives of one name: the later counts
		}
		pods[got.Pod.Ref.String()] = got
	}
	changed := !s.synced || len(pods) != len(s.pods)
	for key, got := range pods {
		before, ok := s.pods[key]
		switch {
		case ok && before.Pod.Ref.UID != got.Pod.Ref.UID:
			// A list may be older than what was heard before it, and of two lives
			// made in the same second nobody knows which is the later.
			if got.Created.After(before.Created) {
				s.gone[before.Pod.Ref.UID] = whyReplaced
			}
			changed = true
		case ok && reflect.DeepEqual(before.Pod, got.Pod):
			pods[key] = before // nothing new was said of it
		default:
			changed = true
		}
	}
	s.pods, s.synced = pods, true
	if changed {
		s.notify()
	}
	return nil
}

// Resync is not used.
func (s *Store) Resync() error { return nil }

// notify tells the reader of Changed. The caller holds mu.
func (s *Store) notify() {
	select {
	case s.changed <- struct{}{}:
	default: // it has yet to look, and will see this change too
	}
}

// asPod refuses what cannot be a pod of the API server. An object without
// identity must not pass for one.
func asPod(object any) (podset.Sighting, error) {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return podset.Sighting{}, fmt.Errorf("a watch of pods brought a %T", object)
	}
	if pod.UID == "" || pod.Name == "" || pod.Namespace == "" {
		return podset.Sighting{}, fmt.Errorf("a watch of pods brought one without identity: %q/%q", pod.Namespace, pod.Name)
	}
	return podset.Sighting{Pod: Pod(pod), Created: pod.CreationTimestamp.Time, Seen: time.Now()}, nil
}
