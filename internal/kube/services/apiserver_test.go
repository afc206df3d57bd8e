package services

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// apiServer speaks as an API server does about lists, watches and single objects,
// and can be made to lie and to break off.
type apiServer struct {
	streams bool // it knows lists that are streamed as watches

	mu       sync.Mutex
	revision int
	objects  map[string]map[string]metav1.Object // by collection, then namespace/name
	hidden   map[string]bool                     // of collection/namespace/name: lists lack it
	broken   map[string]*metav1.Status           // by collection: the answer to everything
	events   map[string][]happened               // by collection, all that ever was
	expired  map[string]int                      // by collection: no watch starts before this revision
	closed   map[string]int                      // by collection, how often its watches were ended
	news     chan struct{}                       // closed when there are some
}

// happened is an event, and the revision that it made.
type happened struct {
	revision int
	event    metav1.WatchEvent
}

// The collections that a Source asks for.
const (
	servicesAt = "/api/v1/services"
	slicesAt   = "/apis/discovery.k8s.io/v1/endpointslices"
	nodesAt    = "/api/v1/nodes"
	routesAt   = "/apis/gateway.networking.k8s.io/v1/httproutes"
	gatewaysAt = "/apis/gateway.networking.k8s.io/v1/gateways"
)

// kindAt is the kind of a collection's objects.
func kindAt(collection string) schema.GroupVersionKind {
	return map[string]schema.GroupVersionKind{
		servicesAt: {Version: "v1", Kind: "Service"}, nodesAt: {Version: "v1", Kind: "Node"},
		slicesAt: {Group: "discovery.k8s.io", Version: "v1", Kind: "EndpointSlice"},
		routesAt: {Group: gatewayGroup, Version: "v1", Kind: "HTTPRoute"}, gatewaysAt: {Group: gatewayGroup, Version: "v1", Kind: "Gateway"},
	}[collection]
}

// serve starts an API server and a Source that asks it.
func serve(t *testing.T, opts Options, streams bool) (*apiServer, *Source) {
	t.Helper()
	a := &apiServer{
		streams: streams, revision: 100, objects: map[string]map[string]metav1.Object{}, hidden: map[string]bool{},
		broken: map[string]*metav1.Status{}, events: map[string][]happened{}, expired: map[string]int{}, closed: map[string]int{},
		news: make(chan struct{}),
	}
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	config := &rest.Config{Host: server.URL, QPS: -1}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	custom, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return a, New(client, custom, opts)
}

// run runs a Source until the test ends.
func run(t *testing.T, s *Source) {
	t.Helper()
	ended := make(chan error)
	go func() { ended <- s.Run(t.Context()) }()
	t.Cleanup(func() {
		if err := <-ended; err == nil {
			t.Error("the Source ended by itself")
		}
	})
}

// await waits until the View is as wanted.
func await(t *testing.T, s *Source, what string, wanted func(View) bool) View {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		view := s.View()
		if wanted(view) {
			return view
		}
		select {
		case <-s.Changed():
		case <-deadline:
			t.Fatalf("%s: never; the View is %+v", what, view)
		}
	}
}

// ServeHTTP answers GETs.
func (a *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	collection, namespace, name := parsePath(r.URL.Path)
	broken := a.broken[collection]
	a.mu.Unlock()
	query := r.URL.Query()
	switch {
	case broken != nil:
		write(w, int(broken.Code), broken)
	case (name != "" || query.Get("labelSelector") != "") && query.Get("resourceVersion") != "":
		write(w, http.StatusBadRequest, asAnswer(apierrors.NewBadRequest("this may be answered from a cache")))
	case name != "":
		a.get(w, collection, namespace+"/"+name)
	case query.Get("watch") != "":
		from, _ := strconv.Atoi(query.Get("resourceVersion"))
		a.watch(w, r, collection, from, query.Get("sendInitialEvents") == "true")
	default:
		a.list(w, collection, namespace, query.Get("labelSelector"))
	}
}

// parsePath takes a path apart: /apis/GROUP/VERSION/namespaces/NAMESPACE/RESOURCE/NAME.
func parsePath(path string) (collection, namespace, name string) {
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	prefix := 2 // api, v1
	if parts[0] == "apis" {
		prefix = 3
	}
	rest := parts[prefix:]
	if len(rest) > 2 && rest[0] == "namespaces" {
		namespace, rest = rest[1], rest[2:]
	}
	if len(rest) > 1 {
		name = rest[1]
	}
	return "/" + strings.Join(append(parts[:prefix:prefix], rest[0]), "/"), namespace, name
}

func write(w http.ResponseWriter, code int, answer any) {
	w.Header().Set("Content-Type", runtime.ContentTypeJSON)
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(answer)
}

func (a *apiServer) get(w http.ResponseWriter, collection, key string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if object, ok := a.objects[collection][key]; ok {
		write(w, http.StatusOK, object)
		return
	}
	write(w, http.StatusNotFound, notFound(collection, key[strings.Index(key, "/")+1:]))
}

// notFound is how the API server says that an object does not exist.
func notFound(collection, name string) *metav1.Status {
	parts := strings.Split(collection, "/")
	resource := schema.GroupResource{Resource: parts[len(parts)-1]}
	if parts[1] == "apis" {
		resource.Group = parts[2]
	}
	return asAnswer(apierrors.NewNotFound(resource, name))
}

func asAnswer(err *apierrors.StatusError) *metav1.Status {
	status := err.Status()
	status.Kind, status.APIVersion = "Status", "v1"
	return &status
}

// listed are the objects that a list shows. The caller holds mu.
func (a *apiServer) listed(collection string) []metav1.Object {
	objects := []metav1.Object{}
	for _, key := range slices.Sorted(maps.Keys(a.objects[collection])) {
		if !a.hidden[collection+"/"+key] {
			objects = append(objects, a.objects[collection][key])
		}
	}
	return objects
}

func (a *apiServer) list(w http.ResponseWriter, collection, namespace, selector string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	label, value, selected := strings.Cut(selector, "=")
	objects := slices.DeleteFunc(a.listed(collection), func(object metav1.Object) bool {
		return namespace != "" && object.GetNamespace() != namespace || selected && object.GetLabels()[label] != value
	})
	version, kind := kindAt(collection).ToAPIVersionAndKind()
	write(w, http.StatusOK, map[string]any{
		"kind": kind + "List", "apiVersion": version, "metadata": map[string]any{"resourceVersion": strconv.Itoa(a.revision)}, "items": objects,
	})
}

func (a *apiServer) watch(w http.ResponseWriter, r *http.Request, collection string, from int, initial bool) {
	if initial && !a.streams {
		write(w, http.StatusUnprocessableEntity, asAnswer(apierrors.NewInvalid(schema.GroupKind{}, "", nil)))
		return
	}
	w.Header().Set("Content-Type", runtime.ContentTypeJSON)
	send := func(event metav1.WatchEvent) { _ = json.NewEncoder(w).Encode(event) }
	a.mu.Lock()
	defer a.mu.Unlock()
	closed := a.closed[collection]
	if initial {
		for _, object := range a.listed(collection) {
			send(event("ADDED", object))
		}
		send(a.bookmark(collection))
		from = a.revision
	}
	for r.Context().Err() == nil && a.closed[collection] == closed {
		if from < a.expired[collection] {
			send(event("ERROR", asAnswer(apierrors.NewResourceExpired("too old"))))
			return
		}
		for _, e := range a.events[collection] {
			if e.revision > from {
				send(e.event)
				from = e.revision
			}
		}
		w.(http.Flusher).Flush()
		news := a.news
		a.mu.Unlock()
		select {
		case <-news:
		case <-r.Context().Done():
		}
		a.mu.Lock()
	}
}

// bookmark ends the objects of a streamed list.
func (a *apiServer) bookmark(collection string) metav1.WatchEvent {
	version, kind := kindAt(collection).ToAPIVersionAndKind()
	return event("BOOKMARK", map[string]any{"apiVersion": version, "kind": kind, "metadata": map[string]any{
		"resourceVersion": strconv.Itoa(a.revision), "annotations": map[string]string{metav1.InitialEventsAnnotationKey: "true"},
	}})
}

func event(kind string, object any) metav1.WatchEvent {
	text, err := json.Marshal(object)
	if err != nil {
		panic(fmt.Sprintf("an object that cannot be written: %v", err))
	}
	return metav1.WatchEvent{Type: kind, Object: runtime.RawExtension{Raw: text}}
}

// put makes or changes an object, and tells those who watch.
func (a *apiServer) put(collection string, object metav1.Object) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.revision++
	object.SetResourceVersion(strconv.Itoa(a.revision))
	object.(runtime.Object).GetObjectKind().SetGroupVersionKind(kindAt(collection))
	if a.objects[collection] == nil {
		a.objects[collection] = map[string]metav1.Object{}
	}
	key, kind := object.GetNamespace()+"/"+object.GetName(), "ADDED"
	if a.objects[collection][key] != nil {
		kind = "MODIFIED"
	}
	a.objects[collection][key] = object
	a.happen(collection, event(kind, object))
}

// remove deletes an object.
func (a *apiServer) remove(collection, key string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.revision++
	object := a.objects[collection][key]
	object.SetResourceVersion(strconv.Itoa(a.revision))
	delete(a.objects[collection], key)
	a.happen(collection, event("DELETED", object))
}

// happen notes what has just happened. The caller holds mu.
func (a *apiServer) happen(collection string, event metav1.WatchEvent) {
	a.events[collection] = append(a.events[collection], happened{a.revision, event})
	a.wake()
}

// wake has those who watch look for what is new. The caller holds mu.
func (a *apiServer) wake() {
	close(a.news)
	a.news = make(chan struct{})
}

// hide makes lists lack an object, or not any more, and makes the Source list anew.
func (a *apiServer) hide(collection, key string, hidden bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hidden[collection+"/"+key] = hidden
	a.forget(collection)
}

// forget makes it impossible to watch from before now. The caller holds mu.
func (a *apiServer) forget(collection string) {
	a.revision++
	a.expired[collection] = a.revision
	a.wake()
}

// end ends the watches of a collection. All that is asked about it is answered by a
// failure, unless that is nil.
func (a *apiServer) end(collection string, failure *metav1.Status) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.broken[collection] = failure
	a.closed[collection]++
	a.wake()
}
