package imports

import (
	"fmt"
	"strconv"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairway.dev/fairway/internal/consulimport"
)

// store is cache.ReflectorStore for one kind: what a watch has brought, in the
// core's words, and what we wrote since. The API objects themselves are not kept.
//
// It goes by the objects' resourceVersions, which are numbers that grow: a watch
// that has yet to see our own write does not undo it.
type store[T any] struct {
	mu     *sync.Mutex
	notify func()
	// read turns an object of the API into what is kept.
	read func(object any) (metav1.Object, T, error)
	// same tells whether two differ in nothing but their version.
	same func(a, b T) bool

	objects map[consulimport.Ref]kept[T]
	ended   map[types.UID]bool // those that we deleted, until the watch says so too
	synced  bool
}

// kept is an object as it was at a version.
type kept[T any] struct {
	uid     types.UID
	version uint64
	value   T
}

func newStore[T any](mu *sync.Mutex, notify func(), read func(object any) (metav1.Object, T, error), same func(a, b T) bool) *store[T] {
	return &store[T]{
		mu: mu, notify: notify, read: read, same: same,
		objects: map[consulimport.Ref]kept[T]{}, ended: map[types.UID]bool{},
	}
}

// Add takes in an object.
func (s *store[T]) Add(object any) error { return s.Update(object) }

// Update takes in an object as it is now.
func (s *store[T]) Update(object any) error {
	ref, now, err := s.keep(object)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	before, known := s.objects[ref]
	if s.ended[now.uid] || known && now.version <= before.version {
		return nil
	}
	s.objects[ref] = now
	if !known || now.uid != before.uid || !s.same(before.value, now.value) {
		s.notify()
	}
	return nil
}

// Delete takes in that the watch has reported a deletion.
func (s *store[T]) Delete(object any) error {
	ref, last, err := s.keep(object)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.ended, last.uid)
	if before, known := s.objects[ref]; known && before.uid == last.uid {
		delete(s.objects, ref)
		s.notify()
	}
	return nil
}

// Replace takes in a whole list. What it lacks is not there any more, as far as we
// are concerned: nothing is taken away because of that.
func (s *store[T]) Replace(objects []any, _ string) error {
	listed := make(map[consulimport.Ref]kept[T], len(objects))
	for _, object := range objects {
		ref, now, err := s.keep(object)
		if err != nil {
			return err
		}
		listed[ref] = now
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for ref, now := range listed {
		if before, known := s.objects[ref]; known && before.version > now.version {
			listed[ref] = before
		}
	}
	s.objects, s.ended, s.synced = listed, map[types.UID]bool{}, true
	s.notify()
	return nil
}

// Resync is not used.
func (s *store[T]) Resync() error { return nil }

// wrote takes in what the API server has answered to a write of ours. That is no
// news to the reader.
func (s *store[T]) wrote(object any) error {
	ref, now, err := s.keep(object)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if before, known := s.objects[ref]; !known || before.version < now.version {
		s.objects[ref] = now
	}
	return nil
}

// deleted takes in that we have deleted an object.
func (s *store[T]) deleted(ref consulimport.Ref, uid types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if before, known := s.objects[ref]; known && before.uid == uid {
		delete(s.objects, ref)
		s.ended[uid] = true
	}
}

func (s *store[T]) keep(object any) (consulimport.Ref, kept[T], error) {
	meta, value, err := s.read(object)
	if err != nil {
		return consulimport.Ref{}, kept[T]{}, err
	}
	version, err := strconv.ParseUint(meta.GetResourceVersion(), 10, 64)
	if err != nil || meta.GetName() == "" || meta.GetUID() == "" {
		return consulimport.Ref{}, kept[T]{}, fmt.Errorf("a watch brought a %T without identity", object)
	}
	return consulimport.Ref{Namespace: meta.GetNamespace(), Name: meta.GetName()}, kept[T]{meta.GetUID(), version, value}, nil
}
