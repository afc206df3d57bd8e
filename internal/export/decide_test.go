package export_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"fairway.dev/fairway/internal/annotation"
	"fairway.dev/fairway/internal/export"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

func missing(s export.EndpointSlice) export.EndpointSlice {
	s.Missing = true
	return s
}

// with is a cluster that is otherwise.
func with(c export.Cluster, change func(*export.Cluster)) export.Cluster {
	change(&c)
	return c
}

func gone(object export.Object) func(*export.Cluster) {
	return func(c *export.Cluster) { c.Gone = map[export.Object]string{object: "deletion seen"} }
}

// What is done when the cluster changes, until nothing more is to be done.
func TestDecide(t *testing.T) {
	a, b := slice("web-a", pod(1)), slice("web-b", pod(2))
	six := slice("web-six", pod(1, func(e *export.Endpoint) { e.Addresses = []string{"fd00::1"} }))
	six.AddressType = export.IPv6
	both := cluster(web(), a, b)
	nodePort := cluster(web(ofType(export.TypeNodePort)), a)
	host := with(cluster(web(address("hostname")), a), func(c *export.Cluster) {
		c.Ingresses = []export.Ingress{{Namespace: "shop", Name: "web", Rules: []export.IngressRule{
			{Host: "shop.example.com", Paths: []export.IngressPath{{Service: "web"}}}}}}
	})
	route := with(cluster(web(address("hostname")), a), func(c *export.Cluster) {
		c.Routes = []export.HTTPRoute{{Namespace: "shop", Name: "web", Hostnames: []string{"shop.example.com"},
			Parents: []export.ParentRef{{Namespace: "edge", Gateway: "public", Accepted: true}},
			Rules:   []export.RouteRule{{Backends: []export.Backend{{Namespace: "shop", Service: "web"}}}}}}
		c.Gateways = []export.Gateway{{Namespace: "edge", Name: "public", Listeners: []export.Listener{{Port: 443, Protocol: "HTTPS"}}}}
	})
	object := func(kind, name string) export.Object { return export.Object{Kind: kind, Namespace: "shop", Name: name} }
	tests := []struct {
		name       string
		was, is    export.Cluster
		policyIs   func(*export.Policy)
		want, held []string
		ask        []export.Object
	}{
		{name: "a pod becomes unready, and is gone", was: both, is: cluster(web(), slice("web-a"), slice("web-b", pod(2, notReady))), want: []string{
			"set-health | web 198.18.64.1 8080 critical | endpoint is gone: nothing states it any more",
			"set-health | web 198.18.64.2 8080 critical | endpoint is not ready",
			"deregister | web 198.18.64.1 8080 critical | endpoint is gone: nothing states it any more"}},
		{name: "a pod terminates", was: both, is: cluster(web(), slice("web-a", pod(1, terminating)), b), want: []string{
			"set-health | web 198.18.64.1 8080 critical | endpoint is terminating"}},
		{name: "a pod terminates, and its health is fixed", was: cluster(web(annotated(annotation.Native+"service-health", "passing")), a),
			is:   cluster(web(annotated(annotation.Native+"service-health", "passing")), slice("web-a", pod(1, terminating))),
			want: []string{"set-health | web 198.18.64.1 8080 critical | endpoint is terminating"}},
		{name: "and nothing else is understood", was: cluster(web(annotated(annotation.Native+"service-health", "passing")), a),
			is:   cluster(web(annotated(annotation.Native+"service-health", "passing", annotation.Native+"service-tags", ",")), slice("web-a", pod(1, terminating))),
			want: []string{"set-health | web 198.18.64.1 8080 critical | endpoint is terminating"}},
		{name: "a pod comes and terminates before it was registered", was: cluster(web(), a),
			is: cluster(web(), slice("web-a", pod(1), pod(3, terminating)))},
		{name: "a pod does not have the port any more", was: cluster(web(), a), is: cluster(web(), func() export.EndpointSlice {
			s := slice("web-a", pod(1))
			s.Ports = s.Ports[1:]
			return s
		}()), want: []string{
			`set-health | web 198.18.64.1 8080 critical | the endpoint is not published as "web" any more: EndpointSlice/shop/web-a does not give it port "http"`,
			`deregister | web 198.18.64.1 8080 critical | the endpoint is not published as "web" any more: EndpointSlice/shop/web-a does not give it port "http"`}},
		{name: "a pod moves to another slice", was: cluster(web(), a), is: cluster(web(), slice("web-a"), slice("web-c", pod(1))), want: []string{
			"register | web 198.18.64.1 8080 | meta differs: fairway-stated-by"}},
		{name: "the Service is deleted", was: cluster(web(), a), is: with(export.Cluster{}, gone(web().Object())), want: []string{
			"set-health | web 198.18.64.1 8080 critical | endpoint is gone: Service/shop/web is gone: deletion seen",
			"deregister | web 198.18.64.1 8080 critical | endpoint is gone: Service/shop/web is gone: deletion seen"}},
		{name: "the Service is made again", was: cluster(web(), a), is: with(cluster(web(func(svc *export.Service) { svc.UID = "s2" }), a),
			gone(web().Object())), want: []string{"register | web 198.18.64.1 8080 | meta differs: fairway-service-uid"}},
		{name: "the Service is not to be published any more", was: cluster(web(), a), is: cluster(web(annotated(annotation.Native+"service-sync", "false")), a),
			want: []string{
				`set-health | web 198.18.64.1 8080 critical | the endpoint is not published as "web" any more: an annotation says so`,
				`deregister | web 198.18.64.1 8080 critical | the endpoint is not published as "web" any more: an annotation says so`}},
		{name: "the Service has another name", was: cluster(web(), a), is: cluster(web(annotated(annotation.Native+"service-name", "new")), a), want: []string{
			`set-health | web 198.18.64.1 8080 critical | the endpoint is not published as "web" any more`,
			"register | new 198.18.64.1 8080 | not registered yet",
			`deregister | web 198.18.64.1 8080 critical | the endpoint is not published as "web" any more`}},
		{name: "another address: what serves stays until its successor does", was: cluster(web(), a), is: cluster(web(address("vip")), a), want: []string{
			"register | web 198.19.0.9 80 | not registered yet",
			`set-health | web 198.18.64.1 8080 critical | the endpoint wants service "web" under another ID now`,
			`deregister | web 198.18.64.1 8080 critical | the endpoint wants service "web" under another ID now`}},
		{name: "another address, while the last endpoint terminates", was: cluster(web(), a), is: cluster(web(address("vip")), slice("web-a", pod(1, terminating))),
			want: []string{
				`set-health | web 198.18.64.1 8080 critical | the endpoint wants service "web" under another ID now`,
				"register | web 198.19.0.9 80 critical | not registered yet",
				`deregister | web 198.18.64.1 8080 critical | the endpoint wants service "web" under another ID now`}},
		{name: "and back", was: cluster(web(address("vip")), a), is: cluster(web(), a), want: []string{
			"register | web 198.18.64.1 8080 | not registered yet",
			`set-health | web 198.19.0.9 80 critical | the endpoint wants service "web" under another ID now`,
			`deregister | web 198.19.0.9 80 critical | the endpoint wants service "web" under another ID now`}},
		{name: "an annotation is not understood: the last good registration, and the health",
			was: both, is: cluster(web(annotated(annotation.Native+"service-tags", "a,,b")), slice("web-a", pod(1, notReady)), b, slice("web-c", pod(3))),
			want: []string{"set-health | web 198.18.64.1 8080 critical | endpoint is not ready"}},
		{name: "and who is gone is gone", was: both, is: cluster(web(annotated(annotation.Native+"service-tags", "a,,b")), slice("web-a"), b), want: []string{
			"set-health | web 198.18.64.1 8080 critical | endpoint is gone: nothing states it any more",
			"deregister | web 198.18.64.1 8080 critical | endpoint is gone: nothing states it any more"}},
		{name: "the health is what is not understood: it stays", was: both,
			is: cluster(web(annotated(annotation.Native+"service-health", "good")), slice("web-a", pod(1, notReady)), b)},
		{name: "what is not to be published needs no more to be understood", was: cluster(web(), a),
			is: cluster(web(annotated(annotation.Native+"service-sync", "false", annotation.Native+"service-tags", "a,,b")), a), want: []string{
				`set-health | web 198.18.64.1 8080 critical | the endpoint is not published as "web" any more: an annotation says so`,
				`deregister | web 198.18.64.1 8080 critical | the endpoint is not published as "web" any more: an annotation says so`}},
		{name: "the load balancer has another address", was: cluster(web(balancer(export.BalancerAddress{IP: addr("fd00:2::9")})), a),
			is: cluster(web(balancer(export.BalancerAddress{IP: addr("fd00:2::9")}, export.BalancerAddress{IP: addr("203.0.113.9")})), a), want: []string{
				"register | web 203.0.113.9 80 | not registered yet",
				`set-health | web fd00:2::9 80 critical | the endpoint wants service "web" under another ID now`,
				`deregister | web fd00:2::9 80 critical | the endpoint wants service "web" under another ID now`}},
		{name: "the load balancer has no address any more", was: cluster(web(balancer(export.BalancerAddress{IP: addr("203.0.113.9")})), a),
			is: cluster(web(balancer()), a), want: []string{
				"set-health | web 203.0.113.9 80 critical | endpoint is gone: nothing states it any more",
				"deregister | web 203.0.113.9 80 critical | endpoint is gone: nothing states it any more"}},
		{name: "a slice was missing, and is proven gone", was: both, is: with(cluster(web(), a, missing(b)), gone(b.Object())), want: []string{
			"set-health | web 198.18.64.2 8080 critical | endpoint is gone: EndpointSlice/shop/web-b is gone: deletion seen",
			"deregister | web 198.18.64.2 8080 critical | endpoint is gone: EndpointSlice/shop/web-b is gone: deletion seen"}},
		{name: "an annotation that nobody knows", was: cluster(web(), a), is: cluster(web(annotated(annotation.Native+"service-tag", "a",
			annotation.Native+"service-weights", "passing:2")), a), want: []string{
			"register | web 198.18.64.1 8080 | weights differ: are 1 and 1, should be 2 and 1"}},

		{name: "a slice is missing", was: both, is: cluster(web(), slice("web-a", pod(1, notReady)), missing(b)),
			want: []string{"set-health | web 198.18.64.1 8080 critical | endpoint is not ready"},
			held: []string{"held | web 198.18.64.2 8080 | nothing states it any more, but EndpointSlice/shop/web-b, which may, is not on the list and not proven gone"},
			ask:  []export.Object{b.Object()}},
		{name: "a slice is missing, and another says that its pod is gone", was: both, is: cluster(web(), slice("web-a"), missing(b)),
			held: []string{
				"held | web 198.18.64.1 8080 | nothing states it any more, but EndpointSlice/shop/web-b, which may, is not on the list and not proven gone",
				"held | web 198.18.64.2 8080 | nothing states it any more, but EndpointSlice/shop/web-b, which may, is not on the list and not proven gone"},
			ask: []export.Object{b.Object()}},
		{name: "the slice of one family is missing: the instance has both", was: cluster(web(), a, six), is: cluster(web(), missing(a), six),
			ask: []export.Object{a.Object()}},
		{name: "the slice of one family is gone", was: cluster(web(), a, six), is: with(cluster(web(), six), gone(a.Object())), want: []string{
			"register | web fd00::1 8080 | address differs: is 198.18.64.1, should be fd00::1; tagged addresses differ: lan_ipv4, wan_ipv4; meta differs: fairway-stated-by"}},
		{name: "a slice is missing: what stands for all keeps its health", was: cluster(web(address("vip")), a, b),
			is: cluster(web(address("vip")), slice("web-a", pod(1, notReady)), missing(b)), ask: []export.Object{b.Object()}},
		{name: "the Service is missing", was: both, is: cluster(web(func(svc *export.Service) { svc.Missing = true }), slice("web-a"), b),
			held: []string{
				"held | web 198.18.64.1 8080 | Service/shop/web is not on the list, and nothing proves that it is gone",
				"held | web 198.18.64.2 8080 | Service/shop/web is not on the list, and nothing proves that it is gone"},
			ask: []export.Object{web().Object()}},
		{name: "the labels of the namespace are not known", was: cluster(web(), a), is: cluster(web(), slice("web-a", pod(1, notReady))),
			policyIs: func(p *export.Policy) { p.Namespaces, _ = export.ParseSelector("team=a") },
			ask:      []export.Object{{Kind: export.KindNamespace, Name: "shop"}},
			want:     []string{"set-health | web 198.18.64.1 8080 critical | endpoint is not ready"}},
		{name: "the Ingress was not seen yet", was: host, is: cluster(web(address("hostname")), a),
			held: []string{"held | web shop.example.com 80 | nothing states it any more, but Ingress/shop/web, which may, is not on the list and not proven gone"},
			ask:  []export.Object{object(export.KindIngress, "web")}},
		{name: "the Ingress is missing", was: host, is: with(host, func(c *export.Cluster) {
			c.Ingresses = []export.Ingress{{Namespace: "shop", Name: "web", Rules: host.Ingresses[0].Rules, Missing: true}}
		})},
		{name: "the Ingress is gone", was: host, is: with(cluster(web(address("hostname")), a), gone(object(export.KindIngress, "web"))), want: []string{
			"set-health | web shop.example.com 80 critical | endpoint is gone: Ingress/shop/web is gone: deletion seen",
			"deregister | web shop.example.com 80 critical | endpoint is gone: Ingress/shop/web is gone: deletion seen"}},

		{name: "the Gateway was not seen yet", was: route, is: with(route, func(c *export.Cluster) { c.Gateways = nil }),
			held: []string{"held | web shop.example.com 443 | nothing states it any more, but Gateway/edge/public, which may, is not on the list and not proven gone"},
			ask:  []export.Object{{Kind: export.KindGateway, Namespace: "edge", Name: "public"}}},
		{name: "the route is missing, and so is the Gateway", was: route, is: with(route, func(c *export.Cluster) {
			c.Routes = slices.Clone(c.Routes)
			c.Routes[0].Missing = true
			c.Gateways = slices.Clone(c.Gateways)
			c.Gateways[0].Missing = true
		}), ask: []export.Object{{Kind: export.KindGateway, Namespace: "edge", Name: "public"}, object(export.KindHTTPRoute, "web")}},
		{name: "the Gateway is gone", was: route, is: with(with(route, func(c *export.Cluster) { c.Gateways = nil }),
			gone(export.Object{Kind: export.KindGateway, Namespace: "edge", Name: "public"})), want: []string{
			"set-health | web shop.example.com 443 critical | endpoint is gone: nothing states it any more",
			"deregister | web shop.example.com 443 critical | endpoint is gone: nothing states it any more"}},

		{name: "a node is missing", was: nodePort, is: with(nodePort, func(c *export.Cluster) { c.Nodes = nil }),
			ask: []export.Object{{Kind: export.KindNode, Name: "n1"}}},
		{name: "a node is gone", was: nodePort, is: with(with(nodePort, func(c *export.Cluster) { c.Nodes = nil }),
			gone(export.Object{Kind: export.KindNode, Name: "n1"})), want: []string{
			"set-health | web 203.0.113.1 30080 critical | endpoint is gone: node n1 is gone: deletion seen",
			"deregister | web 203.0.113.1 30080 critical | endpoint is gone: node n1 is gone: deletion seen"}},
		{name: "a pod's node is gone", was: cluster(web(), a), is: with(with(cluster(web(), a), func(c *export.Cluster) { c.Nodes = nil }),
			gone(export.Object{Kind: export.KindNode, Name: "n1"})), want: []string{
			"set-health | web 198.18.64.1 8080 critical | its node n1 is gone: deletion seen"}},
		{name: "the last pod of a node is gone", was: nodePort, is: cluster(web(ofType(export.TypeNodePort)), slice("web-a", pod(2))), want: []string{
			"set-health | web 203.0.113.1 30080 critical | endpoint is gone: nothing states it any more",
			"register | web 198.18.0.2 30080 | not registered yet",
			"deregister | web 203.0.113.1 30080 critical | endpoint is gone: nothing states it any more"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := settled(tt.was, policy())
			p := policy()
			if tt.policyIs != nil {
				tt.policyIs(&p)
			}
			got := steps(t, r, input(tt.is, p))
			if diff := cmp.Diff(append(tt.want, tt.held...), got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if ask := export.Decide(export.Input{Policy: p, Cluster: tt.is, Entries: r.entries(), Evidence: input(tt.is, p).Evidence}).Ask; tt.ask != nil || tt.held != nil {
				if diff := cmp.Diff(tt.ask, ask); diff != "" {
					t.Errorf("asked about, -want +got:\n%s", diff)
				}
			}
		})
	}
}

// Two Services that ask for one name are both instances of it.
func TestTwoServicesOfOneName(t *testing.T) {
	c := cluster(web(), slice("web-a", pod(1)))
	other := web(annotated(annotation.Native+"service-name", "web"), func(svc *export.Service) {
		svc.Name, svc.UID, svc.ClusterIPs = "other", "s2", []netip.Addr{addr("198.19.0.10")}
	})
	of := slice("other-a", pod(2))
	of.Service = "other"
	c.Services, c.Slices = append(c.Services, other), append(c.Slices, of)
	r := settled(c, policy())
	want := []string{"web 198.18.64.1 8080", "web 198.18.64.2 8080"}
	if diff := cmp.Diff(want, r.serving()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// Of a shard that was not read nothing is known, so nothing is written there.
func TestAShardThatWasNotReadIsLeftAlone(t *testing.T) {
	c := cluster(web(), slice("web-a", pod(1)))
	in := input(c, policy())
	in.Entries = registry{}.entries()
	if plan := export.Decide(in); len(plan.Ops) != 1 {
		t.Fatalf("ops: %v", ops(plan))
	}
	delete(in.Entries, export.ShardOf("shop", "web"))
	if plan := export.Decide(in); len(plan.Ops) > 0 || len(plan.Services) > 0 {
		t.Errorf("ops: %v; Services: %v", ops(plan), plan.Services)
	}
}

// An agent's entry, and one that stands under another shard than it should, are
// not ours to touch (I5).
func TestWhatIsNotOursIsNotTouched(t *testing.T) {
	c := cluster(web(), slice("web-a", pod(1)))
	r := settled(c, policy())
	entries := r.entries()
	for shard, held := range entries {
		for i, entry := range held {
			entry.Node = "n1"
			entries[shard][i] = entry
		}
	}
	in := input(with(export.Cluster{}, gone(web().Object())), policy())
	in.Entries = entries
	if plan := export.Decide(in); len(plan.Ops) > 0 || plan.Foreign != 1 {
		t.Errorf("an agent's: ops %v, %d foreign", ops(plan), plan.Foreign)
	}
	right := export.ShardOf("shop", "web")
	in.Entries = r.entries()
	in.Entries[right+1], in.Entries[right] = in.Entries[right], nil
	if plan := export.Decide(in); len(plan.Ops) > 0 || plan.Foreign != 1 {
		t.Errorf("under another shard: ops %v, %d foreign", ops(plan), plan.Foreign)
	}
}

// Removals of a mass wait for a second answer about the Service, or for a person
// (I1).
func TestI1MassRemovalOfEndpointsIsFrozen(t *testing.T) {
	full := cluster(web(), slice("web-a", pod(1), pod(2), pod(3), pod(4)))
	empty := cluster(web(), slice("web-a", pod(1)))
	in := input(empty, policy())
	in.Evidence.MaxShare = 0.5
	r := settled(full, policy())
	frozen, err := r.pass(in)
	if err != nil {
		t.Fatal(err)
	}
	if len(frozen.Ops) > 0 || len(frozen.Frozen) != 3 || len(r.serving()) != 4 {
		t.Fatalf("%d frozen; %v", len(frozen.Frozen), ops(frozen))
	}
	if diff := cmp.Diff([]export.Object{web().Object()}, frozen.Confirm); diff != "" {
		t.Errorf("to confirm, -want +got:\n%s", diff)
	}
	at := func(after time.Duration, confirmed time.Duration) int {
		again := in
		again.Breaker, again.Entries = frozen.Breaker, r.entries()
		again.Evidence.Now = epoch.Add(after)
		again.Evidence.Confirmed = map[export.Object]time.Time{web().Object(): epoch.Add(confirmed)}
		return len(export.Decide(again).Ops)
	}
	if n := at(registration.AskAfter, registration.AskAfter-1); n != 0 {
		t.Errorf("%d ops after an answer that came too early", n)
	}
	if n := at(registration.AskAfter, registration.AskAfter); n != 3 {
		t.Errorf("%d ops after a second answer, want 3", n)
	}
	in.Evidence.AllowedUntil = epoch.Add(time.Minute)
	if plan, _ := r.pass(in); len(plan.Ops) != 3 {
		t.Errorf("%d ops when a person allows it, want 3", len(plan.Ops))
	}
}

// What is declared no more is counted too, and the second answer is that it is not.
func TestI1MassOfUndeclaredServicesIsFrozen(t *testing.T) {
	full := slice("web-a", pod(1), pod(2), pod(3), pod(4))
	c := cluster(web(), full)
	portless := full
	portless.Ports = full.Ports[1:]
	off := policy(func(p *export.Policy) { p.Sync = false })
	for name, in := range map[string]export.Input{
		"no annotation asks for it": input(c, off), "the pods have lost their port": input(cluster(web(), portless), policy()),
	} {
		t.Run(name, func(t *testing.T) {
			r := settled(c, policy())
			in.Evidence.MaxShare = 0.5
			frozen, err := r.pass(in)
			if err != nil {
				t.Fatal(err)
			}
			if len(frozen.Ops) > 0 || len(frozen.Frozen) != 4 {
				t.Fatalf("%d frozen; %v", len(frozen.Frozen), ops(frozen))
			}
			in.Breaker = frozen.Breaker
			in.Evidence.Now = epoch.Add(registration.AskAfter)
			in.Evidence.Confirmed = map[export.Object]time.Time{web().Object(): in.Evidence.Now}
			if plan, _ := r.pass(in); len(plan.Ops) != 4 {
				t.Errorf("%d ops after a second answer, want 4", len(plan.Ops))
			}
		})
	}
}

// An entry from which somebody took what says who stated it is held: nothing can
// prove that its endpoint is gone.
func TestI1AnEntryWithoutItsStaterIsHeld(t *testing.T) {
	for _, text := range []string{"", "web-a", "EndpointSlice/shop/web-a,", "/shop/web-a"} {
		r := settled(cluster(web(), slice("web-a", pod(1))), policy())
		for _, entry := range r {
			entry.Instance.Meta[service.MetaStatedBy] = text
		}
		plan, err := r.pass(input(cluster(web(), slice("web-a")), policy()))
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"held | web 198.18.64.1 8080 | the entry does not name what has stated its endpoint, so nothing can prove that it is gone"}
		if diff := cmp.Diff(want, ops(plan)); diff != "" {
			t.Errorf("%q: -want +got:\n%s", text, diff)
		}
	}
}

// An entry without a check is given one, and no worse a health than is known.
func TestACheckIsMadeGoodWithoutADoubt(t *testing.T) {
	unready := slice("web-a", pod(1, notReady))
	tests := []struct {
		name string
		svc  export.Service
		seen []export.EndpointSlice
		want string
	}{
		{"what may be ready is missing", web(address("vip")), []export.EndpointSlice{unready, missing(slice("web-b", pod(2)))},
			"register | web 198.19.0.9 80 | the entry has no health check"},
		{"the health is not understood", web(annotated(annotation.Native+"service-health", "good")), []export.EndpointSlice{unready},
			"register | web 198.18.64.1 8080 critical | the entry has no health check"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			was := tt.svc
			if tt.svc.Annotations[annotation.Native+"service-health"] != "" {
				was = web()
			}
			r := settled(cluster(was, slice("web-a", pod(1)), slice("web-b")), policy())
			for id, entry := range r {
				entry.HasCheck, entry.Instance.Health = false, ""
				r[id] = entry
			}
			plan, err := r.pass(input(cluster(tt.svc, tt.seen...), policy()))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{tt.want}, ops(plan)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
