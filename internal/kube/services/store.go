package services

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"fairway.dev/fairway/internal/export"
	"fairway.dev/fairway/internal/kube"
)

// The proofs that an object is no more, as told to people.
const (
	whyDeleted  = "the API server reported its deletion"
	whyNotFound = "the API server says that it does not exist"
)

// store keeps what is known of the objects of one kind. It holds what the core needs
// of them, not the objects. It is cache.ReflectorStore.
type store[T statement] struct {
	kind[T]
	source *Source // whose mu guards the rest

	synced  bool
	problem string // why the watch does not answer
	latest  uint64 // the newest revision that the watch has brought
	items   map[export.Object]item
	values  []T
	shown   bool // a View has values: they must not be changed in place
}

// statement is what the core knows of an object.
type statement interface{ Object() export.Object }

// item is an object of a store.
type item struct {
	at       int // in values
	revision uint64
}

// seen is an object as the API server has shown it.
type seen[T statement] struct {
	value    T
	revision uint64
}

// GetObjectMeta lets the reflector's own store, which holds a list while it comes
// in, tell objects apart.
func (s *seen[T]) GetObjectMeta() metav1.Object {
	object := s.value.Object()
	return &metav1.ObjectMeta{Namespace: object.Namespace, Name: object.Name}
}

func newStore[T statement](source *Source, k kind[T]) *store[T] {
	return &store[T]{kind: k, source: source, problem: "no answer yet", items: map[export.Object]item{}}
}

func (s *store[T]) of() string { return s.name }

func (s *store[T]) watch(ctx context.Context) error {
	kube.Listen(s.lists, s.answered)
	return kube.Watch(ctx, s.resource, s.lists, s.example, s)
}

func (s *store[T]) standing() (synced bool, resource, problem string) {
	return s.synced, s.resource, s.problem
}

// answered notes whether the API server answers. What it said before stands.
//
// The API server says 404 to a list of a kind that it does not know. That keeps
// nobody waiting if there never was such an object, as in a cluster without the
// Gateway API. It proves nothing: what was seen before, or is named in Consul, stays
// until it is proven gone (I1).
func (s *store[T]) answered(err error) {
	s.source.mu.Lock()
	defer s.source.mu.Unlock()
	problem := ""
	if err != nil {
		problem = whySilent(err)
	}
	if s.optional && apierrors.IsNotFound(err) {
		problem = "the cluster does not have them: install the Gateway API, or switch it off"
		if !s.synced {
			s.synced = true
			s.source.touch(export.Object{})
		}
	}
	s.say(problem)
}

// say notes a problem, or that there is none. The caller holds mu.
func (s *store[T]) say(problem string) {
	if s.problem != problem {
		s.problem = problem
		s.source.notify()
	}
}

// show returns the values, which are not changed from now on. The caller holds mu.
func (s *store[T]) show() []T {
	s.shown = true
	return slices.Clip(s.values)
}

// Transformer makes the reflector hold no more of a list than the store does.
func (s *store[T]) Transformer() cache.TransformFunc {
	return func(object any) (any, error) {
		if got, err := s.see(object); err == nil {
			return got, nil
		}
		return object, nil // for Replace to refuse
	}
}

// Add takes in an object that the watch shows for the first time.
func (s *store[T]) Add(object any) error { return s.Update(object) }

// Update takes in an object as it is now.
func (s *store[T]) Update(object any) error {
	got, err := s.see(object)
	if err != nil {
		return err
	}
	s.source.mu.Lock()
	defer s.source.mu.Unlock()
	s.latest = max(s.latest, got.revision)
	s.take(got)
	return nil
}

// Delete takes in that the watch has reported a deletion, which is proof. It is none
// of an object that an answer has shown since.
func (s *store[T]) Delete(object any) error {
	got, err := s.see(object)
	if err != nil {
		return err
	}
	s.source.mu.Lock()
	defer s.source.mu.Unlock()
	s.latest = max(s.latest, got.revision)
	key := got.value.Object()
	if have, known := s.items[key]; known && s.stated(key) && older(got.revision, have.revision) {
		return nil
	}
	s.end(key, whyDeleted)
	return nil
}

// Replace takes in a whole list. What is missing from it may have been deleted while
// nobody watched, or the list may be wrong; it is not proven gone.
func (s *store[T]) Replace(objects []any, resourceVersion string) error {
	listed := make(map[export.Object]*seen[T], len(objects))
	var err error
	for _, object := range objects {
		got, wrong := s.see(object)
		if wrong != nil {
			err = wrong
			break
		}
		listed[got.value.Object()] = got
	}
	s.source.mu.Lock()
	defer s.source.mu.Unlock()
	if err != nil {
		s.say(err.Error())
		return err
	}
	revision := parseRevision(resourceVersion)
	if older(revision, s.latest) {
		// The cluster was restored from a backup, or is another one. What revisions it
		// had before says nothing about what is newer now.
		for key, have := range s.items {
			have.revision = 0
			s.items[key] = have
		}
	}
	s.latest = revision
	for key, have := range s.items {
		if _, there := listed[key]; !there && !older(revision, have.revision) {
			s.miss(key)
		}
	}
	for _, got := range listed {
		s.take(got)
	}
	if !s.synced {
		s.synced = true
		s.source.touch(export.Object{})
	}
	return nil
}

// Resync is not used.
func (s *store[T]) Resync() error { return nil }

// see reads an object. One without identity must not pass for one.
func (s *store[T]) see(object any) (*seen[T], error) {
	if got, ok := object.(*seen[T]); ok {
		return got, nil
	}
	meta, ok := object.(metav1.Object)
	if !ok || meta.GetUID() == "" || meta.GetName() == "" || (meta.GetNamespace() != "") != s.namespaced {
		return nil, fmt.Errorf("the API server showed a %T without identity among %s", object, s.resource)
	}
	value, err := s.convert(object)
	if err != nil {
		return nil, fmt.Errorf("the API server showed %s/%s among %s: %w", meta.GetNamespace(), meta.GetName(), s.resource, err)
	}
	return &seen[T]{value, parseRevision(meta.GetResourceVersion())}, nil
}

// stated tells whether an object is known and not missing. The caller holds mu.
func (s *store[T]) stated(key export.Object) bool {
	have, known := s.items[key]
	return known && !*s.missing(&s.values[have.at])
}

// take takes in an object that is there, unless what is known of it is newer. What
// does not show in the core is no change. The caller holds mu.
func (s *store[T]) take(got *seen[T]) {
	key := got.value.Object()
	have, known := s.items[key]
	if known && s.stated(key) && older(got.revision, have.revision) {
		return
	}
	if !known {
		s.source.disprove(key)
		s.own()
		s.items[key] = item{len(s.values), got.revision}
		s.values = append(s.values, got.value)
		s.touch(got.value)
		return
	}
	s.items[key] = item{have.at, got.revision}
	if before := s.values[have.at]; !reflect.DeepEqual(before, got.value) {
		s.own()
		s.values[have.at] = got.value
		s.touch(before)
		s.touch(got.value)
	}
}

// miss notes that a list lacks an object. Entries may name an EndpointSlice that are
// not of its Service, so all may be touched. The caller holds mu.
func (s *store[T]) miss(key export.Object) {
	if s.stated(key) {
		s.own()
		*s.missing(&s.values[s.items[key].at]) = true
		s.source.touch(export.Object{})
	}
}

// end notes that an object is proven gone. The caller holds mu.
func (s *store[T]) end(key export.Object, why string) {
	s.source.prove(key, why)
	have, known := s.items[key]
	switch {
	case !known && s.name == export.KindService:
		s.source.touch(key)
		return
	case !known: // entries may name it; whose they are is not known
		s.source.touch(export.Object{})
		return
	}
	s.touch(s.values[have.at])
	s.own()
	var none T
	last := len(s.values) - 1
	s.values[have.at] = s.values[last]
	moved := s.values[last].Object()
	s.items[moved] = item{have.at, s.items[moved].revision}
	s.values[last] = none
	s.values = s.values[:last]
	delete(s.items, key)
}

// own makes the values changeable. The caller holds mu.
func (s *store[T]) own() {
	if s.shown {
		s.values, s.shown = slices.Clone(s.values), false
	}
}

// touch notes that an object has changed. The caller holds mu.
func (s *store[T]) touch(value T) {
	if s.service == nil {
		s.source.touch(export.Object{})
	} else if service := s.service(value); service.Name != "" {
		s.source.touch(service)
	} else {
		s.source.notify()
	}
}

// older tells whether a revision is known to come before another. Revisions are
// those of one kind: the API server counts them up.
func older(a, b uint64) bool { return a != 0 && b != 0 && a < b }

// parseRevision reads a resource version. It is 0 if it cannot be compared.
func parseRevision(text string) uint64 {
	revision, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0
	}
	return revision
}
