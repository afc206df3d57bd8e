package export_test

// What Consul's own catalog sync is known to do wrong, and what is promised here
// instead.

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairway.dev/fairway/internal/annotation"
	"fairway.dev/fairway/internal/export"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

// steps carries plans out until nothing more is to be done, and fails if that never
// is.
func steps(t *testing.T, r registry, in export.Input) []string {
	t.Helper()
	var all []string
	for range 5 {
		plan, err := r.pass(in)
		if err != nil {
			t.Fatal(err)
		}
		if len(plan.Ops) == 0 {
			return append(all, ops(plan)...)
		}
		for _, op := range plan.Ops {
			all = append(all, strings.Join([]string{string(op.Kind), line(op.Instance), op.Reason}, " | "))
		}
	}
	t.Fatalf("not at rest after five passes:\n%s", strings.Join(all, "\n"))
	return nil
}

// One EndpointSlice that is deleted takes its own endpoints along and no others.
func TestADeletedSliceTakesOnlyItsOwnEndpoints(t *testing.T) {
	a, b := slice("web-a", pod(1)), slice("web-b", pod(2))
	r := settled(cluster(web(), a, b), policy())
	without := cluster(web(), a)
	without.Gone = map[export.Object]string{b.Object(): "deletion seen"}
	want := []string{
		"set-health | web 198.18.64.2 8080 critical | endpoint is gone: EndpointSlice/shop/web-b is gone: deletion seen",
		"deregister | web 198.18.64.2 8080 critical | endpoint is gone: EndpointSlice/shop/web-b is gone: deletion seen",
	}
	if diff := cmp.Diff(want, steps(t, r, input(without, policy()))); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if diff := cmp.Diff([]string{"web 198.18.64.1 8080"}, r.serving()); diff != "" {
		t.Errorf("in service, -want +got:\n%s", diff)
	}
}

// After a restart the first pictures may lack anything. What they lack is asked
// about, and nothing of it is touched.
func TestARestartRemovesNothingThatWasNotSeenYet(t *testing.T) {
	a, b := slice("web-a", pod(1)), slice("web-b", pod(2))
	full := cluster(web(), a, b)
	tests := []struct {
		name string
		seen export.Cluster
		ask  []export.Object
	}{
		{"nothing", export.Cluster{}, []export.Object{web().Object()}},
		{"the Service alone", cluster(web()), []export.Object{a.Object(), b.Object()}},
		{"one of two slices", cluster(web(), a), []export.Object{b.Object()}},
		{"slices without their Service", export.Cluster{Slices: full.Slices}, []export.Object{web().Object()}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := settled(full, policy())
			before := r.serving()
			plan, err := r.pass(input(tt.seen, policy()))
			if err != nil {
				t.Fatal(err)
			}
			if len(plan.Ops) > 0 {
				t.Errorf("ops: %v", ops(plan))
			}
			if diff := cmp.Diff(tt.ask, plan.Ask); diff != "" {
				t.Errorf("asked about, -want +got:\n%s", diff)
			}
			if diff := cmp.Diff(before, r.serving()); diff != "" {
				t.Errorf("in service, -before +after:\n%s", diff)
			}
		})
	}
}

// Two clusters that export one name have entries of their own in one catalog, and
// neither touches the other's, wherever it finds them.
func TestTwoClustersNeverTouchEachOther(t *testing.T) {
	east, west := policy(), policy(func(p *export.Policy) { p.Cluster = "c2" })
	c := cluster(web(), slice("web-a", pod(1)))
	theirs := registration.Entry{Instance: export.Instances(web(), c, west).Instances[0], Cluster: "c2", HasCheck: true}
	// Even at an ID of ours, and although no Service of ours asks for it any more.
	for _, now := range []export.Cluster{c, {Gone: map[export.Object]string{web().Object(): "deletion seen"}}} {
		r := registry{theirs.Instance.ID: theirs}
		plan, err := r.pass(input(now, east))
		if err != nil {
			t.Fatal(err)
		}
		if len(plan.Ops) > 0 || plan.Foreign != 1 {
			t.Errorf("ops %v, %d foreign; want none and 1", ops(plan), plan.Foreign)
		}
	}
}

// What the API allows to be empty is understood, or skipped with a reason.
func TestWhatMayBeEmptyIsNoPanic(t *testing.T) {
	noNumber := slice("web-a", pod(1))
	noNumber.Ports[0].Port = nil
	ingress := func(rules ...export.IngressRule) export.Cluster {
		c := cluster(web(annotated(annotation.Native+"service-address", "hostname")), slice("web-a", pod(1)))
		c.Ingresses = []export.Ingress{{Namespace: "shop", Name: "web", Rules: rules}}
		return c
	}
	balancer := web(func(svc *export.Service) { svc.Type = export.TypeLoadBalancer })
	tests := []struct {
		name    string
		cluster export.Cluster
		want    export.Result
	}{
		{"a port without a number", cluster(web(), noNumber), export.Result{Reason: "all Services are published", Skipped: []export.Skipped{
			{Key: "uid-p1", Pod: "web-1", Reason: `EndpointSlice/shop/web-a leaves open which number port "http" has: it must be stated there`}}}},
		{"an Ingress rule without http", ingress(export.IngressRule{Host: "shop.example.com"}),
			export.Result{Reason: "no Ingress and no HTTPRoute leads all requests for a host to it"}},
		{"an Ingress without rules", ingress(), export.Result{Reason: "no Ingress and no HTTPRoute leads all requests for a host to it"}},
		{"a load balancer that is pending", cluster(balancer, slice("web-a", pod(1))), export.Result{Reason: "its load balancer has no address yet"}},
		{"a slice without ports", cluster(web(), func() export.EndpointSlice {
			s := slice("web-a", pod(1))
			s.Ports = nil
			return s
		}()), export.Result{Reason: "all Services are published", Skipped: []export.Skipped{
			{Key: "uid-p1", Pod: "web-1", Reason: `EndpointSlice/shop/web-a does not give it port "http": is the Service's targetPort a port of the pod?`}}}},
		{"an endpoint without addresses", cluster(web(), slice("web-a", pod(1, func(e *export.Endpoint) { e.Addresses = nil }))),
			export.Result{Reason: "all Services are published", Skipped: []export.Skipped{
				{Key: "uid-p1", Pod: "web-1", Reason: `EndpointSlice/shop/web-a gives an endpoint the address "", which is no IPv4`}}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := export.Instances(tt.cluster.Services[0], tt.cluster, policy())
			if got.Verdict != export.Published || got.Reason != tt.want.Reason || len(got.Instances) > 0 {
				t.Errorf("%s, %q, %v", got.Verdict, got.Reason, lines(got.Instances))
			}
			if diff := cmp.Diff(tt.want.Skipped, got.Skipped); diff != "" {
				t.Errorf("skipped, -want +got:\n%s", diff)
			}
		})
	}
}

// Conditions that are nil are what the API says they are.
func TestNilConditionsMeanReady(t *testing.T) {
	tests := []struct {
		name                        string
		ready, serving, terminating *bool
		draining                    string
		want                        service.Health
	}{
		{"all nil", nil, nil, nil, "", service.Passing},
		{"not ready", new(false), nil, nil, "", service.Critical},
		{"ready, and does not serve", new(true), new(false), nil, "", service.Passing},
		{"terminating", nil, nil, new(true), "", service.Critical},
		{"terminating, serving is nil, draining is a warning", new(false), nil, new(true), "warning", service.Warning},
		{"terminating and not serving", new(false), new(false), new(true), "warning", service.Critical},
		{"terminating, and published when not ready", new(true), new(true), new(true), "", service.Critical},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			svc := web()
			if tt.draining != "" {
				svc = web(annotated(annotation.Native+"service-draining", tt.draining))
			}
			c := cluster(svc, slice("web-a", pod(1, func(e *export.Endpoint) {
				e.Ready, e.Serving, e.Terminating = tt.ready, tt.serving, tt.terminating
			})))
			if got := export.Instances(svc, c, policy()).Instances; len(got) != 1 || got[0].Health != tt.want {
				t.Errorf("got %v, want %s", lines(got), tt.want)
			}
		})
	}
}

// A pod with an address of each family is one instance, which has both.
func TestADualStackPodIsOneInstance(t *testing.T) {
	v4, v6 := addr("198.18.64.1"), addr("fd00::1")
	six := slice("web-six", pod(1, func(e *export.Endpoint) { e.Addresses = []string{v6.String()} }))
	six.AddressType = export.IPv6
	svc := web(func(svc *export.Service) { svc.ClusterIPs = []netip.Addr{addr("fd00:1::9"), addr("198.19.0.9")} })
	got := export.Instances(svc, cluster(svc, slice("web-four", pod(1)), six), policy()).Instances
	if len(got) != 1 {
		t.Fatalf("got %v, want one", lines(got))
	}
	if got[0].Address != v6 { // the Service's first family
		t.Errorf("address %s, want %s", got[0].Address, v6)
	}
	want := map[string]netip.Addr{"lan_ipv4": v4, "wan_ipv4": v4, "lan_ipv6": v6, "wan_ipv6": v6}
	if diff := cmp.Diff(want, got[0].Tagged, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if by := got[0].Meta[service.MetaStatedBy]; by != "EndpointSlice/shop/web-four,EndpointSlice/shop/web-six" {
		t.Errorf("stated by %q", by)
	}
}

// Weights hold for every kind of address, and leave that of a warning as it is.
func TestWeightsHoldForEveryKindOfAddress(t *testing.T) {
	for _, kind := range []string{"endpoints", "vip", "node", "load-balancer", "hostname"} {
		for _, dialect := range [][2]string{
			{annotation.Native + "service-weights", "passing:10"}, {annotation.Consul + "service-weight", "10"},
		} {
			svc := web(annotated(dialect[0], dialect[1]), func(svc *export.Service) {
				svc.Type, svc.Balancer = export.TypeLoadBalancer, []export.BalancerAddress{{Hostname: "lb.example.com"}}
			})
			address := annotation.Address(kind)
			p := policy(func(p *export.Policy) { p.LoadBalancer = address })
			if kind == "hostname" {
				svc.Type, svc.ExternalName = export.TypeExternalName, "shop.example.com"
			}
			got := export.Instances(svc, cluster(svc, slice("web-a", pod(1))), p).Instances
			if len(got) != 1 || got[0].Weights != (service.Weights{Passing: 10, Warning: 1}) {
				t.Errorf("%s by %s: got %v", kind, dialect[0], got)
			}
		}
	}
}

// The same registration is not written a second time, nor a picture of the same
// in another order.
func TestNothingIsWrittenTwice(t *testing.T) {
	a, b := slice("web-a", pod(1), pod(2)), slice("web-b", pod(3))
	r := settled(cluster(web(), a, b), policy())
	slices.Reverse(a.Endpoints)
	if got := steps(t, r, input(cluster(web(), b, a), policy())); len(got) > 0 {
		t.Errorf("written: %v", got)
	}
}
