// Package imports speaks to the Kubernetes API server about ConsulImports: it
// watches them, the Services of their namespaces and the EndpointSlices that
// Fairway has made, writes what consulimport decided, and tells each ConsulImport
// how it stands.
//
// A write finds what was decided about, or nothing: what is made must not be there,
// and a change or a deletion names the version that was seen. What others have put
// on an object of ours stays: a change is a patch of no more than what is Fairway's.
// It is not a server-side apply: that makes what is missing, and would so take hold
// of a Service that somebody else has just made under the name. Which labels a
// ConsulImport has asked for is noted on the Service, to be known again when it does
// not ask for them any more.
package imports

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"fairway.dev/fairway/api/v1alpha1"
	"fairway.dev/fairway/internal/consulimport"
)

const importKind = "ConsulImport"

// The resources that are watched.
const (
	importsResource  = "consulimports"
	servicesResource = "services"
	slicesResource   = "endpointslices"
)

// longestRetry, doubled by jitter at most, is the longest wait before a watch is
// tried again.
const longestRetry = 5 * time.Second

// Source is the ConsulImports, and what there is in their namespaces, as watches on
// the API server show them.
type Source struct {
	core, discovery, own rest.Interface
	changed              chan struct{} // has room for one value

	mu       sync.Mutex
	rooms    map[string]*room  // by namespace, or one for all
	problems map[string]string // why a resource cannot be watched
	taken    map[consulimport.Ref]bool
}

// room is what is watched together: all namespaces, or one.
type room struct {
	imports  *store[asked]
	services *store[seen]
	slices   *store[consulimport.Slice]
}

// New makes a Source for the named namespaces, for all if none is named. It shows
// nothing before Run.
func New(config *rest.Config, namespaces []string) (*Source, error) {
	own := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(own); err != nil {
		return nil, err
	}
	clients := map[schema.GroupVersion]rest.Interface{}
	for version, known := range map[schema.GroupVersion]*runtime.Scheme{
		corev1.SchemeGroupVersion: scheme.Scheme, discoveryv1.SchemeGroupVersion: scheme.Scheme, v1alpha1.GroupVersion(): own,
	} {
		config := rest.CopyConfig(config)
		config.QPS = -1 // the API server says who must wait, and the loop bounds what is sent at once
		config.GroupVersion, config.APIPath = &version, "/apis"
		if version.Group == corev1.GroupName {
			config.APIPath = "/api"
		}
		if known == own {
			config.ContentConfig = rest.ContentConfig{GroupVersion: &version, ContentType: runtime.ContentTypeJSON}
		}
		config.NegotiatedSerializer = serializer.NewCodecFactory(known).WithoutConversion()
		client, err := rest.RESTClientFor(config)
		if err != nil {
			return nil, err
		}
		clients[version] = client
	}
	s := &Source{
		core: clients[corev1.SchemeGroupVersion], discovery: clients[discoveryv1.SchemeGroupVersion], own: clients[v1alpha1.GroupVersion()],
		changed: make(chan struct{}, 1), rooms: map[string]*room{},
		problems: map[string]string{}, taken: map[consulimport.Ref]bool{},
	}
	if len(namespaces) == 0 {
		namespaces = []string{metav1.NamespaceAll}
	}
	for _, namespace := range namespaces {
		s.rooms[namespace] = &room{
			newStore(&s.mu, s.notify, readImport, sameAsked),
			newStore(&s.mu, s.notify, readService, sameService),
			newStore(&s.mu, s.notify, readSlice, sameSlice),
		}
	}
	return s, nil
}

// room is that of a namespace.
func (s *Source) room(namespace string) *room {
	if all, ok := s.rooms[metav1.NamespaceAll]; ok {
		return all
	}
	return s.rooms[namespace]
}

// Run watches until ctx ends.
func (s *Source) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for namespace, r := range s.rooms {
		for _, w := range []struct {
			client   rest.Interface
			resource string
			selector string
			of       runtime.Object
			into     cache.ReflectorStore
		}{
			{s.own, importsResource, "", &v1alpha1.ConsulImport{}, r.imports},
			// All of them, since any may have a name that an import asks for.
			{s.core, servicesResource, "", &corev1.Service{}, r.services},
			// Of the others, which change all the time, the names alone matter, and
			// seldom: a name that is taken is learned when a write meets it.
			{s.discovery, slicesResource, discoveryv1.LabelManagedBy + "=" + v1alpha1.SlicesManagedBy, &discoveryv1.EndpointSlice{}, r.slices},
		} {
			lw := cache.NewFilteredListWatchFromClient(w.client, w.resource, namespace, func(o *metav1.ListOptions) { o.LabelSelector = w.selector })
			s.listen(lw, w.resource)
			reflector := cache.NewReflectorWithOptions(lw, w.of, w.into, cache.ReflectorOptions{
				Name:    w.resource,
				Backoff: &wait.Backoff{Duration: 250 * time.Millisecond, Factor: 2, Jitter: 1, Steps: 20, Cap: longestRetry},
			})
			group.Go(func() error {
				reflector.RunWithContext(ctx)
				return ctx.Err()
			})
		}
	}
	return group.Wait()
}

// listen notes why a resource cannot be watched.
func (s *Source) listen(lw *cache.ListWatch, resource string) {
	list, follow := lw.ListWithContextFunc, lw.WatchFuncWithContext
	lw.ListWithContextFunc = func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
		objects, err := list(ctx, options)
		s.answered(resource, err)
		return objects, err
	}
	lw.WatchFuncWithContext = func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
		events, err := follow(ctx, options)
		s.answered(resource, err)
		return events, err
	}
}

func (s *Source) answered(resource string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.problems, resource)
	if err != nil {
		s.problems[resource] = err.Error()
	}
}

// Changed gets a value after something has changed that the core knows of an
// object, but for what we wrote ourselves; many changes make one value. It is for
// one reader.
func (s *Source) Changed() <-chan struct{} { return s.changed }

func (s *Source) notify() {
	select {
	case s.changed <- struct{}{}:
	default: // it has yet to look, and will see this change too
	}
}

// View is what there is, as of one moment.
type View struct {
	// Missing says which list was never complete, and why if that is known. It is
	// empty once all were; before, nothing may be decided.
	Missing string
	// Silent says what the API server does not let be watched now, and why: what is
	// shown of it may be old. Writes find that out.
	Silent string
	// Imports are those that are not being deleted. Services and Slices are those
	// of their namespaces.
	Imports  []consulimport.Import
	Services []consulimport.Service
	Slices   []consulimport.Slice

	asked map[consulimport.Ref]kept[asked]
}

// View returns what there is now.
func (s *Source) View() View {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, now := View{asked: map[consulimport.Ref]kept[asked]{}}, time.Now()
	missing := map[string]bool{}
	namespaces := map[string]bool{}
	for _, r := range s.rooms {
		missing[importsResource] = missing[importsResource] || !r.imports.synced
		missing[servicesResource] = missing[servicesResource] || !r.services.synced
		missing[slicesResource] = missing[slicesResource] || !r.slices.synced
		for ref, in := range r.imports.objects {
			if !in.value.deleting {
				namespaces[ref.Namespace] = true
				wants := in.value.in
				wants.AllowedUntil, _ = in.value.allowed(now) // Tell says what is wrong with it
				v.Imports = append(v.Imports, wants)
				v.asked[ref] = in
			}
		}
	}
	for _, r := range s.rooms {
		for ref, service := range r.services.objects {
			if namespaces[ref.Namespace] {
				v.Services = append(v.Services, service.value.Service)
			}
		}
		for ref, slice := range r.slices.objects {
			if namespaces[ref.Namespace] {
				v.Slices = append(v.Slices, slice.value)
			}
		}
	}
	for ref := range s.taken {
		v.Slices = append(v.Slices, consulimport.Slice{Object: consulimport.Object{Ref: ref}})
	}
	v.Missing = s.missing(missing)
	for _, resource := range slices.Sorted(maps.Keys(s.problems)) {
		v.Silent = strings.TrimPrefix(v.Silent+"; "+resource+": "+s.problems[resource], "; ")
	}
	return v
}

// missing says which of the lists are not complete yet. The caller holds mu.
func (s *Source) missing(lists map[string]bool) string {
	var missing []string
	for _, resource := range slices.Sorted(maps.Keys(lists)) {
		if !lists[resource] {
			continue
		}
		text := "the list of " + resource + " is not complete yet"
		if why := s.problems[resource]; why != "" {
			text += ": " + why
		}
		missing = append(missing, text)
	}
	return strings.Join(missing, "; ")
}
