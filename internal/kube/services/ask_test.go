package services

import (
	"context"
	"errors"
	"net/http"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"fairway.dev/fairway/internal/export"
)

var (
	web       = objectOf(export.KindService, "web")
	serviceOK = schema.GroupResource{Resource: "services"}
)

// answering is a get that gives the same answer always.
func answering(object any, err error) func(context.Context, string, string) (any, error) {
	return func(context.Context, string, string) (any, error) { return object, err }
}

// I1: only the API server's own word about this very object proves that it is gone.
func TestI1AskNeedsTheServersWord(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		object any
		err    error
		shown  string // of the Service, empty if it is not shown
		fails  bool
	}{
		"no such Service":      {err: apierrors.NewNotFound(serviceOK, "web")},
		"the Service":          {object: svc("web", 9, externalName("b")), shown: "b"},
		"another Service":      {object: svc("api", 9), shown: "missing", fails: true},
		"an empty object":      {object: &corev1.Service{}, shown: "missing", fails: true},
		"no other Service":     {err: apierrors.NewNotFound(serviceOK, "api"), shown: "missing", fails: true},
		"no such pod":          {err: apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, "web"), shown: "missing", fails: true},
		"another group's kind": {err: apierrors.NewNotFound(schema.GroupResource{Group: "serving.knative.dev", Resource: "services"}, "web"), shown: "missing", fails: true},
		"a proxy's page":       {err: apierrors.NewGenericServerResponse(http.StatusNotFound, "get", serviceOK, "web", "not here", 0, true), shown: "missing", fails: true},
		"forbidden":            {err: apierrors.NewForbidden(serviceOK, "web", errors.New("no")), shown: "missing", fails: true},
		"a failure":            {err: apierrors.NewInternalError(errors.New("boom")), shown: "missing", fails: true},
		"no connection":        {err: errors.New("connection refused"), shown: "missing", fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := unheard(t, all)
			do(t, s.services.Replace([]any{svc("web", 5, externalName("a"))}, "5"), s.services.Replace(nil, "6"))
			s.Changes()
			s.services.get = answering(tt.object, tt.err)
			if err := s.Ask(t.Context(), web); (err != nil) != tt.fails {
				t.Errorf("error %v", err)
			}
			want, gone := map[string]string{"web": tt.shown}, map[export.Object]string{}
			if tt.shown == "" {
				want, gone = map[string]string{}, map[export.Object]string{web: whyNotFound}
			}
			same(t, want, shownAs(s))
			same(t, gone, s.View().Cluster.Gone)
			if services, all := s.Changes(); (len(services) == 1) == tt.fails || all {
				t.Errorf("touched %v, all %v", services, all)
			}
		})
	}
}

// An entry in Consul may name an object that was never seen. Whose Service's it was is
// not known, so all are looked at again.
func TestAskForWhatWasNeverSeen(t *testing.T) {
	t.Parallel()
	s := unheard(t, all)
	for _, tt := range []struct {
		object export.Object
		err    error
		all    bool
	}{
		{web, apierrors.NewNotFound(serviceOK, "web"), false},
		{objectOf(export.KindEndpointSlice, "web-1"), apierrors.NewNotFound(discoveryv1.Resource("endpointslices"), "web-1"), true},
		{objectOf(export.KindIngress, "web"), apierrors.NewNotFound(networkingv1.Resource("ingresses"), "web"), true},
		{export.Object{Kind: export.KindNode, Name: "n1"}, apierrors.NewNotFound(corev1.Resource("nodes"), "n1"), true},
	} {
		s.services.get, s.slices.get, s.ingresses.get, s.nodes.get = answering(nil, tt.err), answering(nil, tt.err), answering(nil, tt.err), answering(nil, tt.err)
		do(t, s.Ask(t.Context(), tt.object))
		if s.View().Cluster.Gone[tt.object] != whyNotFound {
			t.Errorf("%s is not gone", tt.object)
		}
		if _, all := s.Changes(); all != tt.all || !told(s) {
			t.Errorf("%s: all are touched: %v", tt.object, all)
		}
	}
	do(t, s.slices.Add(slice("web-1", "web", 9)))
	if s.View().Cluster.Gone[objectOf(export.KindEndpointSlice, "web-1")] != "" {
		t.Error("it was seen, and is still gone")
	}
}

// Nothing is known of what is not watched, and it takes no right to say so.
func TestAskForWhatIsNotWatched(t *testing.T) {
	t.Parallel()
	s := unheard(t, Options{})
	for _, object := range []export.Object{
		objectOf(export.KindIngress, "web"), objectOf(export.KindHTTPRoute, "web"), objectOf(export.KindGateway, "web"),
		{Kind: export.KindNamespace, Name: "shop"}, objectOf("Pod", "web"), {},
	} {
		if err := s.Ask(t.Context(), object); err == nil {
			t.Errorf("%s was asked for", object)
		}
	}
}

// What the watch brings while a question is under way may be newer than the answer.
func TestTheWatchOvertakesAnAnswer(t *testing.T) {
	t.Parallel()
	none := apierrors.NewNotFound(serviceOK, "web")
	for name, tt := range map[string]struct {
		meanwhile func(s *store[export.Service]) error
		object    any
		err       error
		want      map[string]string
		gone      string
	}{
		"made again, and the answer was before": {
			func(s *store[export.Service]) error { return s.Add(svc("web", 9, externalName("new"))) }, nil, none,
			map[string]string{"web": "new"}, "",
		},
		"made again and missing from a list": {
			func(s *store[export.Service]) error {
				return errors.Join(s.Add(svc("web", 9, externalName("new"))), s.Replace(nil, "10"))
			}, nil, none,
			map[string]string{"web": "missing"}, "",
		},
		"deleted, and the answer was before": {
			func(s *store[export.Service]) error { return s.Delete(svc("web", 9)) }, svc("web", 8, externalName("old")), nil,
			map[string]string{}, whyDeleted,
		},
		"changed, and the answer was before": {
			func(s *store[export.Service]) error { return s.Update(svc("web", 9, externalName("new"))) }, svc("web", 8, externalName("old")), nil,
			map[string]string{"web": "new"}, "",
		},
		"changed, and the answer was after": {
			func(s *store[export.Service]) error { return s.Update(svc("web", 7, externalName("old"))) }, svc("web", 8, externalName("new")), nil,
			map[string]string{"web": "new"}, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := unheard(t, all)
			do(t, s.services.Replace([]any{svc("web", 5, externalName("a"))}, "5"), s.services.Replace(nil, "6"))
			s.services.get = func(context.Context, string, string) (any, error) {
				do(t, tt.meanwhile(s.services))
				return tt.object, tt.err
			}
			do(t, s.Ask(t.Context(), web))
			same(t, tt.want, shownAs(s))
			if got := s.View().Cluster.Gone[web]; got != tt.gone {
				t.Errorf("gone because %q", got)
			}
		})
	}
}

// The requests are of the very object, past every cache, and their answers are read
// as the API server writes them.
func TestAskAnAPIServer(t *testing.T) {
	t.Parallel()
	api, s := serve(t, Options{Gateway: true}, true)
	api.put(servicesAt, svc("web", 0, externalName("a")))
	api.put(routesAt, object(t, routeOfWeb))
	api.put(nodesAt, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "uid-1"}})
	there := []export.Object{web, objectOf(export.KindHTTPRoute, "web"), {Kind: export.KindNode, Name: "n1"}}
	gone := []export.Object{
		objectOf(export.KindService, "api"), objectOf(export.KindEndpointSlice, "web-1"), objectOf(export.KindHTTPRoute, "api"),
		objectOf(export.KindGateway, "edge"), {Kind: export.KindNode, Name: "n2"},
	}
	for _, object := range append(there, gone...) {
		do(t, s.Ask(t.Context(), object))
	}
	view := s.View()
	if c := view.Cluster; len(c.Services) != 1 || len(c.Routes) != 1 || len(c.Nodes) != 1 || len(c.Slices)+len(c.Gateways) != 0 || view.Synced {
		t.Errorf("the View is %+v", view)
	}
	want := map[export.Object]string{}
	for _, object := range gone {
		want[object] = whyNotFound
	}
	same(t, want, view.Cluster.Gone)
}

// A second opinion is that of the API server about the Service and all its slices.
func TestConfirm(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(api *apiServer, s *Source)
		same   bool
		fails  bool
	}{
		"nothing has changed":  {func(*apiServer, *Source) {}, true, false},
		"nothing that is seen": {func(api *apiServer, _ *Source) { api.put(servicesAt, svc("web", 0, externalName("a"))) }, true, false},
		"another Service has changed": {func(api *apiServer, _ *Source) {
			api.put(servicesAt, svc("api", 0, externalName("b")))
			api.put(slicesAt, slice("api-1", "api", 0, "10.0.0.9"))
		}, true, false},
		"the Service has changed": {func(api *apiServer, _ *Source) { api.put(servicesAt, svc("web", 0, externalName("b"))) }, false, false},
		"the Service is gone":     {func(api *apiServer, _ *Source) { api.remove(servicesAt, "shop/web") }, false, false},
		"both say it is gone": {func(api *apiServer, s *Source) {
			api.remove(servicesAt, "shop/web")
			do(t, s.services.Delete(svc("web", 900)))
		}, true, false},
		"it is gone and merely missing here": {func(api *apiServer, s *Source) {
			api.remove(servicesAt, "shop/web")
			do(t, s.services.Replace(nil, "900"))
		}, false, false},
		"it is missing here":       {func(_ *apiServer, s *Source) { do(t, s.services.Replace(nil, "900")) }, false, false},
		"a slice has changed":      {func(api *apiServer, _ *Source) { api.put(slicesAt, slice("web-1", "web", 0, "10.0.0.9")) }, false, false},
		"a slice has come":         {func(api *apiServer, _ *Source) { api.put(slicesAt, slice("web-2", "web", 0, "10.0.0.9")) }, false, false},
		"a slice is gone":          {func(api *apiServer, _ *Source) { api.remove(slicesAt, "shop/web-1") }, false, false},
		"a slice is another's now": {func(api *apiServer, _ *Source) { api.put(slicesAt, slice("web-1", "api", 0, "10.0.0.1")) }, false, false},
		"a slice is missing here":  {func(_ *apiServer, s *Source) { do(t, s.slices.Replace(nil, "900")) }, false, false},
		"a slice is gone, and missing here": {func(api *apiServer, s *Source) {
			api.remove(slicesAt, "shop/web-1")
			do(t, s.slices.Replace(nil, "900"))
		}, true, false},
		"the Service is refused": {func(api *apiServer, _ *Source) {
			api.end(servicesAt, asAnswer(apierrors.NewInternalError(errors.New("boom"))))
		}, false, true},
		"the slices are refused": {func(api *apiServer, _ *Source) {
			api.end(slicesAt, asAnswer(apierrors.NewInternalError(errors.New("boom"))))
		}, false, true},
		"a slice without identity": {func(api *apiServer, _ *Source) {
			strange := slice("web-2", "web", 0)
			strange.UID = ""
			api.put(slicesAt, strange)
		}, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			api, s := serve(t, Options{}, true)
			api.put(servicesAt, svc("web", 0, externalName("a")))
			api.put(slicesAt, slice("web-1", "web", 0, "10.0.0.1"))
			api.put(slicesAt, slice("api-1", "api", 0, "10.0.0.2"))
			do(t, s.services.Replace([]any{svc("web", 0, externalName("a"))}, "1"),
				s.slices.Replace([]any{slice("web-1", "web", 0, "10.0.0.1"), slice("api-1", "api", 0, "10.0.0.2")}, "1"))
			tt.change(api, s)
			same, err := s.Confirm(t.Context(), web)
			if same != tt.same || (err != nil) != tt.fails {
				t.Errorf("same %v, error %v", same, err)
			}
		})
	}
}
