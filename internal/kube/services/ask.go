package services

import (
	"context"
	"fmt"
	"reflect"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairway.dev/fairway/internal/export"
	"fairway.dev/fairway/internal/kube"
)

// Ask asks the API server about an object of which it is not known whether it is
// there. What it says shows in the View: the object as it is, or the proof that it is
// gone. An error means that it could not be found out.
func (s *Source) Ask(ctx context.Context, object export.Object) error {
	for _, w := range s.watched {
		if w.of() == object.Kind {
			return w.ask(ctx, object)
		}
	}
	return fmt.Errorf("ask for %s: objects of that kind are not watched", object)
}

// ask is Ask for one kind.
func (s *store[T]) ask(ctx context.Context, object export.Object) error {
	before := s.wordOf(object)
	got, missing, err := s.read(ctx, object)
	if err != nil {
		return err
	}
	s.source.mu.Lock()
	defer s.source.unlock()
	switch now := s.word(object); {
	case !missing && (now.gone == "" || before.gone != ""): // else its end was reported meanwhile
		s.take(got)
	case missing && !now.stated && now == before: // else the watch knows better, or is about to
		s.end(object, whyNotFound)
	}
	return nil
}

// read reads an object past every cache. That it is not there is the API server's own
// word alone.
func (s *store[T]) read(ctx context.Context, object export.Object) (got *seen[T], missing bool, err error) {
	answer, err := s.get(ctx, object.Namespace, object.Name)
	switch {
	case kube.NotFound(err, s.resource, object.Name):
		return nil, true, nil
	case err != nil:
		return nil, false, fmt.Errorf("get %s: %w", object, err)
	}
	got, err = s.see(answer)
	if err != nil {
		return nil, false, fmt.Errorf("get %s: %w", object, err)
	}
	if got.value.Object() != object {
		return nil, false, fmt.Errorf("get %s: the answer is %s", object, got.value.Object())
	}
	return got, false, nil
}

// word is what a store says of one object.
type word struct {
	stated   bool
	revision uint64
	gone     string
}

func (s *store[T]) wordOf(object export.Object) word {
	s.source.mu.Lock()
	defer s.source.mu.Unlock()
	return s.word(object)
}

// word is wordOf for who holds mu.
func (s *store[T]) word(object export.Object) word {
	return word{s.stated(object), s.items[object].revision, s.source.gone[object]}
}

// Confirm reads a Service and all its EndpointSlices past every cache, and tells
// whether they say what the View does. What is missing from the View says nothing,
// and is to be missing from the answer. An error means that it could not be found
// out.
func (s *Source) Confirm(ctx context.Context, service export.Object) (same bool, err error) {
	got, gone, err := s.services.read(ctx, service)
	if err != nil {
		return false, err
	}
	if gone { // what its slices say does not matter then
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.gone[service] != "", nil
	}
	list, err := s.client.DiscoveryV1().EndpointSlices(service.Namespace).List(ctx,
		metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + service.Name})
	if err != nil {
		return false, fmt.Errorf("list the EndpointSlices of %s: %w", service, err)
	}
	stated := make(map[export.Object]export.EndpointSlice, len(list.Items))
	for i := range list.Items {
		slice, err := s.slices.see(&list.Items[i])
		if err != nil {
			return false, fmt.Errorf("list the EndpointSlices of %s: %w", service, err)
		}
		stated[slice.value.Object()] = slice.value
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.services.says(got.value) && s.slicesSay(service, stated), nil
}

// says tells whether an object is known just as it is here. The caller holds mu.
func (s *store[T]) says(value T) bool {
	have, known := s.items[value.Object()]
	return known && reflect.DeepEqual(s.values[have.at], value)
}

// slicesSay tells whether just these slices are stated of a Service. The caller holds
// mu.
func (s *Source) slicesSay(service export.Object, stated map[export.Object]export.EndpointSlice) bool {
	for _, slice := range stated {
		if !s.slices.says(slice) {
			return false
		}
	}
	for _, slice := range s.slices.values {
		if _, there := stated[slice.Object()]; !there && !slice.Missing && serviceOf(slice) == service {
			return false
		}
	}
	return true
}
