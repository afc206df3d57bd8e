package kube

import (
	"context"
	"errors"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// longestRetry, doubled by jitter at most, is the longest wait before a watch
// is tried again.
const longestRetry = 5 * time.Second

// Watch feeds a store with the objects of one type until ctx ends. It is a
// reflector of its own rather than a shared informer: only so does the store see
// whether an object was deleted or is missing from a list, and only so can the
// wait after a failed watch be short. The informer's, of up to a minute, would for
// so long keep traffic on pods that have terminated while the API server was away.
func Watch(ctx context.Context, resource string, lw *cache.ListWatch, of runtime.Object, into cache.ReflectorStore) error {
	reflector := cache.NewReflectorWithOptions(lw, of, into, cache.ReflectorOptions{
		Name: resource,
		Backoff: &wait.Backoff{
			Duration: 250 * time.Millisecond, Factor: 2, Jitter: 1, Steps: 20, Cap: longestRetry,
		},
	})
	reflector.RunWithContext(ctx)
	return ctx.Err()
}

// Listen has answered told of each answer of the API server to what lw asks: nil,
// or why there is none. A watch that runs and is silent answers: bookmarks come
// about once a minute.
func Listen(lw *cache.ListWatch, answered func(error)) {
	list, follow := lw.ListWithContextFunc, lw.WatchFuncWithContext
	lw.ListWithContextFunc = func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
		objects, err := list(ctx, options)
		answered(err)
		return objects, err
	}
	lw.WatchFuncWithContext = func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
		events, err := follow(ctx, options)
		answered(err)
		if err != nil {
			return nil, err
		}
		return watch.Filter(events, func(event watch.Event) (watch.Event, bool) {
			answered(nil)
			return event, true
		}), nil
	}
}

// NotFound tells whether err is the API server's own statement that there is no
// object of that name and resource, which is written as kubectl does: pods, or
// ingresses.networking.k8s.io. The client makes a NotFound of any 404, also of a
// proxy's error page, and marks those as unexpected.
func NotFound(err error, resource, name string) bool {
	var status apierrors.APIStatus
	if !apierrors.IsNotFound(err) || !errors.As(err, &status) || apierrors.IsUnexpectedServerError(err) {
		return false
	}
	details, want := status.Status().Details, schema.ParseGroupResource(resource)
	return details != nil && details.Kind == want.Resource && details.Group == want.Group && details.Name == name
}
