package imports

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"fairway.dev/fairway/internal/consulimport"
)

// ErrConflict means that what is in the cluster is not what was decided about any
// more.
var ErrConflict = errors.New("changed by somebody else meanwhile")

// Refused is a write that the API server will not take as it is: it is invalid, or
// a right, a quota or an admission policy is against it.
type Refused struct {
	Words string // the API server's
}

func (r *Refused) Error() string { return "refused by the API server: " + r.Words }

// Apply carries out an op. Its errors are ErrConflict, a *Refused, or say that it is
// not known whether it was done.
func (s *Source) Apply(ctx context.Context, op consulimport.Op) error {
	if op.Service != nil {
		w := writer[seen]{
			s.core, servicesResource, s.room(op.Service.Ref.Namespace).services, &corev1.Service{},
			func(want seen) runtime.Object { return newService(want.Service) },
			func(before, want seen) map[string]any { return servicePatch(before, want.Service) },
		}
		return w.apply(ctx, op.Verb, op.Service.Object, seen{Service: *op.Service})
	}
	w := writer[consulimport.Slice]{
		s.discovery, slicesResource, s.room(op.Slice.Ref.Namespace).slices, &discoveryv1.EndpointSlice{},
		func(want consulimport.Slice) runtime.Object { return newSlice(want) }, slicePatch,
	}
	err := w.apply(ctx, op.Verb, op.Slice.Object, *op.Slice)
	if op.Verb == consulimport.Create && errors.Is(err, ErrConflict) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.taken[op.Slice.Ref] = true // by a slice that is not watched
	}
	return err
}

// writer writes one kind.
type writer[T any] struct {
	client   rest.Interface
	resource string
	store    *store[T]
	into     runtime.Object // gets the answer
	create   func(want T) runtime.Object
	patch    func(before, want T) map[string]any
}

func (w writer[T]) apply(ctx context.Context, verb consulimport.Verb, o consulimport.Object, want T) error {
	var err error
	switch verb {
	case consulimport.Create:
		err = w.client.Post().Namespace(o.Ref.Namespace).Resource(w.resource).Body(w.create(want)).Do(ctx).Into(w.into)
	case consulimport.Update, consulimport.Delete:
		w.store.mu.Lock()
		before, known := w.store.objects[o.Ref]
		w.store.mu.Unlock()
		if !known || strconv.FormatUint(before.version, 10) != o.Version {
			return ErrConflict
		}
		if verb == consulimport.Delete {
			return w.delete(ctx, o, before.uid)
		}
		var body []byte
		if body, err = json.Marshal(w.patch(before.value, want)); err == nil {
			err = w.client.Patch(types.MergePatchType).Namespace(o.Ref.Namespace).Resource(w.resource).Name(o.Ref.Name).Body(body).Do(ctx).Into(w.into)
		}
	}
	if err != nil {
		return classify(err)
	}
	return w.store.wrote(w.into)
}

func (w writer[T]) delete(ctx context.Context, o consulimport.Object, uid types.UID) error {
	options := &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &o.Version}}
	err := w.client.Delete().Namespace(o.Ref.Namespace).Resource(w.resource).Name(o.Ref.Name).Body(options).Do(ctx).Error()
	if err != nil && !apierrors.IsNotFound(err) {
		return classify(err)
	}
	w.store.deleted(o.Ref, uid)
	return nil
}

// classify says what an error of the client means for the write.
func classify(err error) error {
	switch {
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err), apierrors.IsNotFound(err):
		return fmt.Errorf("%w: %w", ErrConflict, err)
	case apierrors.IsTooManyRequests(err), apierrors.IsUnauthorized(err), apierrors.IsTimeout(err):
		return err
	}
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		if code := status.Status().Code; code >= http.StatusBadRequest && code < http.StatusInternalServerError {
			return &Refused{Words: status.Status().Message}
		}
	}
	return err
}
