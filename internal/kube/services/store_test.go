package services

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"fairway.dev/fairway/internal/export"
)

// all is what can be watched.
var all = Options{NamespaceLabels: true, Ingress: true, Gateway: true}

// tester is a test, or one run of a property.
type tester interface {
	Helper()
	Fatal(args ...any)
}

// unheard is a Source that nobody tells anything.
func unheard(t tester, opts Options) *Source {
	t.Helper()
	client, err := kubernetes.NewForConfig(&rest.Config{Host: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	return New(client, nil, opts)
}

func do(t tester, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// made is the metadata of an object of the namespace shop, at a revision.
func made(name string, revision int) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID("uid-" + name), ResourceVersion: strconv.Itoa(revision)}
}

func svc(name string, revision int, change ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{ObjectMeta: made(name, revision)}
	for _, c := range change {
		c(s)
	}
	return s
}

func externalName(name string) func(*corev1.Service) {
	return func(s *corev1.Service) { s.Spec.ExternalName = name }
}

// slice is an EndpointSlice of a Service, with an endpoint at each address.
func slice(name, service string, revision int, addresses ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{ObjectMeta: made(name, revision)}
	if service != "" {
		s.Labels = map[string]string{discoveryv1.LabelServiceName: service}
	}
	for _, address := range addresses {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{address}})
	}
	return s
}

func unscoped(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, UID: "uid-1", ResourceVersion: "1"}
}

func objectOf(kind, name string) export.Object {
	return export.Object{Kind: kind, Namespace: "shop", Name: name}
}

// told tells whether something was said to have changed.
func told(s *Source) bool {
	select {
	case <-s.Changed():
		return true
	default:
		return false
	}
}

// shownAs are the Services of a View, each with its external name, and "missing" in
// the place of one that is.
func shownAs(s *Source) map[string]string {
	shown := map[string]string{}
	for _, service := range s.View().Cluster.Services {
		shown[service.Name] = service.ExternalName
		if service.Missing {
			shown[service.Name] = "missing"
		}
	}
	return shown
}

func TestSyncedTakesAListOfEachKind(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		opts Options
		n    int
	}{{Options{}, 3}, {Options{NamespaceLabels: true}, 4}, {Options{Ingress: true}, 4}, {Options{Gateway: true}, 5}, {all, 7}} {
		s := unheard(t, tt.opts)
		if len(s.watched) != tt.n {
			t.Errorf("%+v: %d kinds are watched, want %d", tt.opts, len(s.watched), tt.n)
		}
		for _, w := range s.watched {
			if view := s.View(); view.Synced || view.Problem == "" {
				t.Errorf("%+v: before the list of %s: synced %v, problem %q", tt.opts, w.of(), view.Synced, view.Problem)
			}
			do(t, w.(interface{ Replace([]any, string) error }).Replace(nil, "1"))
			w.(interface{ answered(error) }).answered(nil)
			if !told(s) {
				t.Errorf("%+v: nobody was told of the first list of %s", tt.opts, w.of())
			}
		}
		if view := s.View(); !view.Synced || view.Problem != "" {
			t.Errorf("%+v: synced %v, problem %q", tt.opts, view.Synced, view.Problem)
		}
		if services, all := s.Changes(); len(services) != 0 || !all {
			t.Errorf("%+v: after the first lists: touched %v, all %v", tt.opts, services, all)
		}
	}
}

// I1: a watch that says so proves a deletion; what a list lacks stays as it was.
func TestI1WhatAListLacksStays(t *testing.T) {
	t.Parallel()
	s := unheard(t, all)
	do(t, s.services.Replace([]any{
		svc("deleted", 1), svc("missing", 2, externalName("a")), svc("back", 3, externalName("b")), svc("made-again", 4, externalName("old")),
	}, "10"))
	again := svc("made-again", 11, externalName("new"))
	again.UID = "another"
	do(t, s.services.Delete(svc("deleted", 12)), s.services.Update(again))
	do(t, s.services.Replace(nil, "20"))
	same(t, map[string]string{"missing": "missing", "back": "missing", "made-again": "missing"}, shownAs(s))
	for _, missing := range s.View().Cluster.Services {
		if missing.Name == "missing" && missing.ExternalName != "a" {
			t.Errorf("what was seen last is lost: %+v", missing)
		}
	}
	do(t, s.services.Replace([]any{svc("back", 3, externalName("b"))}, "21"))
	do(t, s.services.Update(svc("made-again", 22, externalName("new"))))
	same(t, map[string]string{"missing": "missing", "back": "b", "made-again": "new"}, shownAs(s))

	deleted := objectOf(export.KindService, "deleted")
	same(t, map[export.Object]string{deleted: whyDeleted}, s.View().Cluster.Gone)
	do(t, s.services.Delete(svc("missing", 23)))
	same(t, map[string]string{"back": "b", "made-again": "new"}, shownAs(s))
	s.Forget(func(object export.Object) bool { return object == deleted })
	same(t, map[export.Object]string{deleted: whyDeleted}, s.View().Cluster.Gone)
	do(t, s.services.Add(svc("deleted", 24)))
	same(t, map[export.Object]string{}, s.View().Cluster.Gone)
}

// What has no identity is no object, and leaves everything as it was.
func TestGarbageIsRefused(t *testing.T) {
	t.Parallel()
	s := unheard(t, all)
	do(t, s.services.Replace([]any{svc("web", 1)}, "1"), s.nodes.Replace([]any{&corev1.Node{ObjectMeta: unscoped("n1")}}, "1"))
	nameless, unknown, nowhere := svc("", 2), svc("web", 2), svc("web", 2)
	unknown.UID, nowhere.Namespace = "", ""
	for _, garbage := range []any{nil, "web", &corev1.Service{}, nameless, unknown, nowhere, &corev1.Pod{ObjectMeta: made("web", 2)}} {
		if s.services.Replace([]any{garbage}, "2") == nil || s.services.Update(garbage) == nil || s.services.Add(garbage) == nil || s.services.Delete(garbage) == nil {
			t.Errorf("%v was taken for a Service", garbage)
		}
		if problem := s.View().Problem; !strings.Contains(problem, "among services") {
			t.Errorf("people are told %q of %v", problem, garbage)
		}
		if held, err := s.services.Transformer()(garbage); err != nil || held != garbage {
			t.Errorf("the list would go on without %v: %v, %v", garbage, held, err)
		}
	}
	if err := s.nodes.Update(&corev1.Node{ObjectMeta: made("n1", 2)}); err == nil {
		t.Error("a Node of a namespace was taken in")
	}
	same(t, map[string]string{"web": ""}, shownAs(s))
	same(t, map[export.Object]string{}, s.View().Cluster.Gone)
}

// A change that does not show in what the core knows is none.
func TestChangesThatShow(t *testing.T) {
	t.Parallel()
	s := unheard(t, all)
	do(t, s.services.Replace([]any{svc("web", 1)}, "1"), s.slices.Replace([]any{slice("web-1", "web", 1, "10.0.0.1"), slice("stray", "", 1)}, "1"),
		s.nodes.Replace([]any{&corev1.Node{ObjectMeta: unscoped("n1")}}, "1"), s.namespaces.Replace(nil, "1"), s.ingresses.Replace(nil, "1"))
	s.Changes()
	told(s)
	web, api := objectOf(export.KindService, "web"), objectOf(export.KindService, "api")
	for _, step := range []struct {
		what    string
		do      func() error
		told    bool
		touched []export.Object
		all     bool
	}{
		{"nothing new of a Service", func() error {
			return s.services.Update(svc("web", 2, func(in *corev1.Service) {
				in.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "x"}}
				in.Annotations = map[string]string{"kubectl.kubernetes.io/last-applied-configuration": "{}"}
				in.Status.Conditions = []metav1.Condition{{Type: "x"}}
			}))
		}, false, nil, false},
		{"an annotation", func() error {
			return s.services.Update(svc("web", 3, func(in *corev1.Service) { in.Annotations = map[string]string{"fairway.dev/service-sync": "true"} }))
		}, true, []export.Object{web}, false},
		{"the same list", func() error {
			return s.slices.Replace([]any{slice("stray", "", 1), slice("web-1", "web", 1, "10.0.0.1")}, "9")
		}, false, nil, false},
		{"nothing new of a slice", func() error {
			in := slice("web-1", "web", 10, "10.0.0.1")
			in.Annotations = map[string]string{"endpoints.kubernetes.io/last-change-trigger-time": "x"}
			return s.slices.Update(in)
		}, false, nil, false},
		{"an endpoint", func() error { return s.slices.Update(slice("web-1", "web", 11, "10.0.0.2")) }, true, []export.Object{web}, false},
		{"a slice of another Service", func() error { return s.slices.Update(slice("web-1", "api", 12, "10.0.0.2")) }, true, []export.Object{api, web}, false},
		{"a slice that is deleted", func() error { return s.slices.Delete(slice("web-1", "api", 13)) }, true, []export.Object{api}, false},
		{"a slice of no Service", func() error { return s.slices.Update(slice("stray", "", 14, "10.0.0.9")) }, true, nil, false},
		{"a slice that is missing", func() error { return s.slices.Replace(nil, "20") }, true, nil, true},
		{"a node's heartbeat", func() error {
			return s.nodes.Update(&corev1.Node{ObjectMeta: unscoped("n1"), Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady}}}})
		}, false, nil, false},
		{"a node that is deleted", func() error { return s.nodes.Delete(&corev1.Node{ObjectMeta: unscoped("n1")}) }, true, nil, true},
		{"a namespace", func() error { return s.namespaces.Add(&corev1.Namespace{ObjectMeta: unscoped("shop")}) }, true, nil, true},
		{"an Ingress", func() error { return s.ingresses.Add(&networkingv1.Ingress{ObjectMeta: made("web", 1)}) }, true, nil, true},
		{"a new Service", func() error { return s.services.Add(svc("api", 21)) }, true, []export.Object{api}, false},
	} {
		do(t, step.do())
		if got := told(s); got != step.told {
			t.Errorf("%s: told %v", step.what, got)
		}
		touched, all := s.Changes()
		slices.SortFunc(touched, func(a, b export.Object) int { return strings.Compare(a.String(), b.String()) })
		if !slices.Equal(touched, step.touched) || all != step.all {
			t.Errorf("%s: touched %v, all %v", step.what, touched, all)
		}
	}
}

// A View stays as it is, whatever comes after it.
func TestAViewDoesNotChange(t *testing.T) {
	t.Parallel()
	s := unheard(t, all)
	do(t, s.services.Replace([]any{svc("a", 1), svc("b", 1), svc("c", 1)}, "1"), s.services.Delete(svc("c", 2)))
	view := s.View()
	services, gone := slices.Clone(view.Cluster.Services), maps.Clone(view.Cluster.Gone)
	do(t, s.services.Add(svc("d", 3)), s.services.Update(svc("a", 4, externalName("x"))), s.services.Delete(svc("b", 5)),
		s.services.Add(svc("c", 6)), s.services.Replace(nil, "7"))
	s.Forget(func(export.Object) bool { return false })
	same(t, services, view.Cluster.Services)
	same(t, gone, view.Cluster.Gone)
}

// What an answer has brought is not taken back by what the watch brings later and
// the API server said earlier.
func TestLateWordsOfTheWatch(t *testing.T) {
	t.Parallel()
	s := unheard(t, all)
	do(t, s.services.Replace([]any{svc("web", 10, externalName("first"))}, "10"))
	s.services.get = answering(svc("web", 15, externalName("answer")), nil)
	do(t, s.Ask(t.Context(), objectOf(export.KindService, "web")))
	do(t, s.services.Update(svc("web", 12, externalName("late"))), s.services.Delete(svc("web", 13)),
		s.services.Replace([]any{svc("web", 14, externalName("late"))}, "14"), s.services.Replace(nil, "14"))
	same(t, map[string]string{"web": "answer"}, shownAs(s))
	do(t, s.services.Update(svc("web", 16, externalName("news"))))
	same(t, map[string]string{"web": "news"}, shownAs(s))
	do(t, s.services.Delete(svc("web", 17)))
	same(t, map[string]string{}, shownAs(s))
}

// After the API server's history went back, as after a restored backup, what it says
// now counts although its revisions are lower.
func TestHistoryGoesBack(t *testing.T) {
	t.Parallel()
	s := unheard(t, all)
	do(t, s.services.Replace([]any{svc("web", 90, externalName("lost")), svc("api", 95)}, "100"))
	do(t, s.services.Replace([]any{svc("web", 5, externalName("restored"))}, "50"))
	same(t, map[string]string{"web": "restored", "api": "missing"}, shownAs(s))
	do(t, s.services.Update(svc("web", 51, externalName("next"))), s.services.Update(svc("api", 52, externalName("back"))))
	same(t, map[string]string{"web": "next", "api": "back"}, shownAs(s))
}
