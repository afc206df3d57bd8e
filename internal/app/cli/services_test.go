package cli

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairway.dev/fairway/internal/app/controller"
	"fairway.dev/fairway/internal/diagnosis"
	"fairway.dev/fairway/internal/export"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

// What a person reads of a cluster is what the core decides of it.
func TestServicesText(t *testing.T) {
	t.Parallel()
	policy, exporting, err := controller.Policy([]string{"/usr/bin/fairway-controller", "--cluster-id=east", "--agent-port=9980", "--export", "--listen=:9980"}, nil)
	if err != nil || !exporting || policy.Cluster != "east" {
		t.Fatalf("policy %+v, exporting %v, %v", policy, exporting, err)
	}
	cluster := func(annotations map[string]string) export.Cluster {
		port := uint16(8080)
		return export.Cluster{
			Services: []export.Service{
				{Namespace: "shop", Name: "web", UID: "u1", Type: export.TypeClusterIP, HasSelector: true, Annotations: annotations,
					Ports: []service.Port{{Name: "http", Port: 80}}},
				{Namespace: "shop", Name: "db", UID: "u2", Type: export.TypeClusterIP, Ports: []service.Port{{Port: 5432}}},
			},
			Slices: []export.EndpointSlice{{
				Namespace: "shop", Name: "web-1", Service: "web", AddressType: export.IPv4, Ports: []export.EndpointPort{{Name: "http", Port: &port}},
				Endpoints: []export.Endpoint{{Addresses: []string{netip.MustParseAddr("10.0.0.1").String()}}, {Addresses: []string{"10.0.0.2"}, Ready: new(false)}},
			}},
		}
	}
	nothing := map[int][]registration.Entry{}
	for number := range export.Shards {
		nothing[number] = nil
	}
	for name, tt := range map[string]struct {
		annotations map[string]string
		all         bool
		want        string
	}{
		"to be published": {map[string]string{"fairway.dev/service-sync": "true"}, false, `SERVICE   STATE      IN CONSUL  ADDRESS    PASSING  REASON
shop/web  published  web        endpoints  1 of 2   an annotation asks for it

shop/web
  register    web at 10.0.0.1:8080, passing: not registered yet
  register    web at 10.0.0.2:8080, critical: not registered yet

not published: 1 more; --all shows why
`},
		"a mistake": {map[string]string{"fairway.dev/service-sync": "true", "fairway.dev/service-prot": "http"}, true, `SERVICE   STATE        IN CONSUL  ADDRESS    PASSING  REASON
shop/db   unpublished  -          -          -        no annotation asks for it
shop/web  published    web        endpoints  1 of 2   an annotation asks for it

shop/web
  wrong       fairway.dev/service-prot: no such annotation on a Service; did you mean fairway.dev/service-port?
  register    web at 10.0.0.1:8080, passing: not registered yet
  register    web at 10.0.0.2:8080, critical: not registered yet
`},
	} {
		plan := export.Decide(export.Input{Policy: policy, Cluster: cluster(tt.annotations), Entries: nothing, Evidence: export.Evidence{MaxShare: 1}})
		var out strings.Builder
		if err := writeServices(&out, published{Exporting: true, Services: diagnosis.Services(plan)}, tt.all); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, out.String()); diff != "" {
			t.Errorf("%s, -want +got:\n%s", name, diff)
		}
	}
}

// What is to be tried may be a list, and says so what would be if it were.
func TestServicesTried(t *testing.T) {
	t.Parallel()
	flags := tried([]string{"--export-all,--export-namespaces=shop,bar,--export-name={name}-{namespace}", "--export-ingress"})
	want := []string{"--export-all", "--export-namespaces=shop,bar", "--export-name={name}-{namespace}", "--export-ingress"}
	if diff := cmp.Diff(want, flags); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, tt := range []struct {
		in   published
		want string
	}{
		{published{Exporting: true}, ""},
		{published{}, "no controller publishes Services; this is what one would do\n\n"},
		{published{Tried: flags[:2]}, "what a controller with --export-all --export-namespaces=shop,bar would do; nothing is changed\n\n"},
	} {
		var out strings.Builder
		if err := writeServices(&out, tt.in, false); err != nil || out.String() != tt.want {
			t.Errorf("%+v: %q, %v, want %q", tt.in, out.String(), err, tt.want)
		}
	}
}
