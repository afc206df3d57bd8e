package services

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairway.dev/fairway/internal/export"
)

// eachWay runs a test with lists that are streamed as watches, as newer API servers
// do, and with lists that are answers.
func eachWay(t *testing.T, test func(t *testing.T, streams bool)) {
	for _, streams := range []bool{true, false} {
		t.Run(fmt.Sprintf("streams %v", streams), func(t *testing.T) {
			t.Parallel()
			test(t, streams)
		})
	}
}

func shows(want string) func(View) bool {
	return func(v View) bool {
		shown := []string{}
		for _, s := range v.Cluster.Services {
			text := s.Name + "=" + s.ExternalName
			if s.Missing {
				text = s.Name + " missing"
			}
			shown = append(shown, text)
		}
		return v.Synced && strings.Join(shown, ", ") == want
	}
}

// What is made, changed and deleted is shown, and a list that lacks an object takes
// nothing away (I1).
func TestSource(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, streams bool) {
		api, s := serve(t, Options{}, streams)
		api.put(servicesAt, svc("web", 0, externalName("a")))
		api.put(slicesAt, slice("web-1", "web", 0, "10.0.0.1"))
		api.put(nodesAt, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "uid-1"}})
		run(t, s)
		view := await(t, s, "the first lists", shows("web=a"))
		if len(view.Cluster.Slices) != 1 || len(view.Cluster.Nodes) != 1 || view.Problem != "" {
			t.Errorf("the View is %+v", view)
		}
		api.put(servicesAt, svc("web", 0, externalName("b")))
		await(t, s, "a change", shows("web=b"))
		api.hide(servicesAt, "shop/web", true)
		await(t, s, "a list that lacks it", shows("web missing"))
		if gone := s.View().Cluster.Gone; len(gone) != 0 {
			t.Errorf("a list has proven %v", gone)
		}
		api.hide(servicesAt, "shop/web", false)
		await(t, s, "a list that has it", shows("web=b"))
		api.remove(servicesAt, "shop/web")
		view = await(t, s, "a deletion", shows(""))
		same(t, map[export.Object]string{objectOf(export.KindService, "web"): whyDeleted}, view.Cluster.Gone)
	})
}

// A watch that ends is taken up again where it was.
func TestWatchesAreTakenUpAgain(t *testing.T) {
	t.Parallel()
	api, s := serve(t, Options{}, true)
	api.put(servicesAt, svc("web", 0, externalName("a")))
	run(t, s)
	await(t, s, "the first lists", shows("web=a"))
	for i := range 3 {
		api.put(servicesAt, svc("web", 0, externalName(fmt.Sprint(i))))
		await(t, s, "a change", shows(fmt.Sprintf("web=%d", i)))
		api.end(servicesAt, nil)
	}
}

// An API server that refuses or fails changes nothing that was seen, and people are
// told what does not answer.
func TestI1SilenceChangesNothing(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]*apierrors.StatusError{
		"forbidden": apierrors.NewForbidden(corev1.Resource("services"), "", errors.New("no")),
		"a failure": apierrors.NewInternalError(errors.New("boom")),
		"a proxy's page": apierrors.NewGenericServerResponse(http.StatusNotFound, "get", corev1.Resource("services"), "",
			"404 page not found", 0, true),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			api, s := serve(t, Options{}, true)
			api.put(servicesAt, svc("web", 0, externalName("a")))
			run(t, s)
			await(t, s, "the first lists", shows("web=a"))
			api.end(servicesAt, asAnswer(answer))
			view := await(t, s, "the problem", func(v View) bool { return v.Problem != "" })
			if !shows("web=a")(view) || len(view.Cluster.Gone) != 0 || !strings.HasPrefix(view.Problem, "services: ") {
				t.Errorf("the View is %+v", view)
			}
			api.end(servicesAt, nil)
			await(t, s, "the end of the problem", func(v View) bool { return v.Problem == "" && shows("web=a")(v) })
		})
	}
}

// Without a right that it needs, a Source is never synced, and says so.
func TestWithoutARight(t *testing.T) {
	t.Parallel()
	api, s := serve(t, Options{}, true)
	api.end(nodesAt, asAnswer(apierrors.NewForbidden(corev1.Resource("nodes"), "", errors.New("no"))))
	run(t, s)
	view := await(t, s, "the refusal", func(v View) bool { return strings.HasPrefix(v.Problem, "nodes: nodes is forbidden") })
	if view.Synced {
		t.Error("synced without the nodes")
	}
}

// A cluster without the Gateway API has no routes, and waits for none.
func TestWithoutGatewayAPI(t *testing.T) {
	t.Parallel()
	page := asAnswer(apierrors.NewGenericServerResponse(http.StatusNotFound, "get", corev1.Resource("x"), "", "404 page not found", 0, true))
	api, s := serve(t, Options{Gateway: true}, true)
	api.end(routesAt, page)
	api.end(gatewaysAt, page)
	api.put(servicesAt, svc("web", 0))
	run(t, s)
	view := await(t, s, "the Services", func(v View) bool { return v.Synced && len(v.Cluster.Services) == 1 })
	const want = "httproutes.gateway.networking.k8s.io, gateways.gateway.networking.k8s.io: the cluster does not have them"
	if !strings.HasPrefix(view.Problem, want) {
		t.Errorf("the problem is %q", view.Problem)
	}

	// It is installed.
	api.put(routesAt, object(t, routeOfWeb))
	api.end(routesAt, nil)
	api.end(gatewaysAt, nil)
	await(t, s, "the route", func(v View) bool { return v.Problem == "" && len(v.Cluster.Routes) == 1 })

	// And taken away again, without a word about the route (I1).
	api.end(routesAt, page)
	view = await(t, s, "the problem", func(v View) bool { return strings.HasPrefix(v.Problem, "httproutes.") })
	if !view.Synced || len(view.Cluster.Routes) != 1 || view.Cluster.Routes[0].Missing || len(view.Cluster.Gone) != 0 {
		t.Errorf("the View is %+v", view)
	}
	if err := s.Ask(t.Context(), objectOf(export.KindHTTPRoute, "web")); err == nil {
		t.Error("a 404 for the kind is an answer about the route")
	}
}
