package export_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairway.dev/fairway/internal/annotation"
	"fairway.dev/fairway/internal/export"
	"fairway.dev/fairway/internal/service"
)

func address(kind string) func(*export.Service) {
	return annotated(annotation.Native+"service-address", kind)
}

func ofType(kind export.ServiceType) func(*export.Service) {
	return func(svc *export.Service) { svc.Type = kind }
}

func balancer(addresses ...export.BalancerAddress) func(*export.Service) {
	return func(svc *export.Service) { svc.Type, svc.Balancer = export.TypeLoadBalancer, addresses }
}

func headless(svc *export.Service) { svc.Headless, svc.ClusterIPs = true, nil }

func externalIPs(svc *export.Service) {
	svc.ExternalIPs = []netip.Addr{addr("203.0.113.7"), addr("203.0.113.8")}
}

func externalName(name string) func(*export.Service) {
	return func(svc *export.Service) {
		svc.Type, svc.ExternalName, svc.HasSelector, svc.ClusterIPs = export.TypeExternalName, name, false, nil
	}
}

// What stands in Consul for each type of Service, as policy and annotation have it.
func TestInstances(t *testing.T) {
	slices := []export.EndpointSlice{slice("web-a", pod(1), pod(2, notReady), pod(3))}
	ip := func(text string) export.BalancerAddress { return export.BalancerAddress{IP: addr(text)} }
	set := func(change func(*export.Policy)) export.Policy { return policy(change) }
	tests := []struct {
		name   string
		svc    export.Service
		policy export.Policy
		want   []string
	}{
		{"cluster IP", web(), policy(), []string{"web 198.18.64.1 8080", "web 198.18.64.2 8080 critical", "web 198.18.64.3 8080"}},
		{"cluster IP as such", web(), set(func(p *export.Policy) { p.ClusterIP = annotation.VIP }), []string{"web 198.19.0.9 80"}},
		{"cluster IP, asked for", web(address("vip")), policy(), []string{"web 198.19.0.9 80"}},
		{"headless", web(headless), policy(), []string{"web 198.18.64.1 8080", "web 198.18.64.2 8080 critical", "web 198.18.64.3 8080"}},
		{"node port: one for each node, external first", web(ofType(export.TypeNodePort)), policy(),
			[]string{"web 198.18.0.2 30080 critical", "web 203.0.113.1 30080"}},
		{"node port, internal", web(ofType(export.TypeNodePort)), set(func(p *export.Policy) { p.NodeAddress = export.Internal }),
			[]string{"web 198.18.0.1 30080", "web 198.18.0.2 30080 critical"}},
		{"node port, external alone", web(ofType(export.TypeNodePort)), set(func(p *export.Policy) { p.NodeAddress = export.External }),
			[]string{"web 203.0.113.1 30080"}},
		{"load balancer", web(balancer(ip("203.0.113.9"), export.BalancerAddress{Hostname: "lb.example.com"})), policy(),
			[]string{"web 203.0.113.9 80", "web lb.example.com 80"}},
		{"load balancer of two families is one", web(balancer(ip("fd00:2::9"), ip("203.0.113.9"))), policy(), []string{"web 203.0.113.9 80"}},
		{"load balancer, its endpoints", web(balancer(ip("203.0.113.9"))), set(func(p *export.Policy) { p.LoadBalancer = annotation.Endpoints }),
			[]string{"web 198.18.64.1 8080", "web 198.18.64.2 8080 critical", "web 198.18.64.3 8080"}},
		{"external IPs go before", web(externalIPs), policy(), []string{"web 203.0.113.7 80", "web 203.0.113.8 80"}},
		{"but not before an annotation", web(externalIPs, address("vip")), policy(), []string{"web 198.19.0.9 80"}},
		{"nor if they are switched off", web(externalIPs), set(func(p *export.Policy) { p.ExternalIPs, p.ClusterIP = false, annotation.VIP }),
			[]string{"web 198.19.0.9 80"}},
		{"external name", web(externalName("shop.example.com")), policy(), []string{"web shop.example.com 80"}},
		{"a port by name", web(annotated(annotation.Native+"service-port", "metrics")), policy(),
			[]string{"web 198.18.64.1 9100", "web 198.18.64.2 9100 critical", "web 198.18.64.3 9100"}},
		{"a number of Consul's dialect", web(annotated(annotation.Consul+"service-port", "8443")), policy(),
			[]string{"web 198.18.64.1 8443", "web 198.18.64.2 8443 critical", "web 198.18.64.3 8443"}},
		{"a fixed health", web(annotated(annotation.Native+"service-health", "warning")), policy(),
			[]string{"web 198.18.64.1 8080 warning", "web 198.18.64.2 8080 warning", "web 198.18.64.3 8080 warning"}},
		{"a name with prefix and suffix", web(), set(func(p *export.Policy) { p.Name = "k8s-{name}-{namespace}" }),
			[]string{"k8s-web-shop 198.18.64.1 8080", "k8s-web-shop 198.18.64.2 8080 critical", "k8s-web-shop 198.18.64.3 8080"}},
		{"a name of its own has neither", web(annotated(annotation.Consul+"service-name", "own")), set(func(p *export.Policy) { p.Name = "k8s-{name}" }),
			[]string{"own 198.18.64.1 8080", "own 198.18.64.2 8080 critical", "own 198.18.64.3 8080"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := export.Instances(tt.svc, cluster(tt.svc, slices...), tt.policy)
			if diff := cmp.Diff(tt.want, lines(got.Instances)); diff != "" {
				t.Errorf("%s (%s), -want +got:\n%s", got.Verdict, got.Reason, diff)
			}
		})
	}
}

// An instance says whose it is, where it stands and which ports it has.
func TestAnInstanceInFull(t *testing.T) {
	svc := web(annotated(annotation.Native+"service-tags", "a,b", annotation.Native+"service-meta", "team:shop"))
	got := export.Instances(svc, cluster(svc, slice("web-a", pod(1))), policy()).Instances
	v4 := addr("198.18.64.1")
	want := []service.Instance{{
		ID: "fairway_shop_web_uid-p1_svc_web", Name: "web",
		Pod:      service.PodRef{Namespace: "shop", Name: "web-1", UID: "p1"},
		Endpoint: service.EndpointRef{Namespace: "shop", Service: "web", Key: "uid-p1"},
		Address:  v4, Port: 8080, Tagged: map[string]netip.Addr{"lan_ipv4": v4, "wan_ipv4": v4},
		Tags: []string{"a", "b"},
		Meta: map[string]string{
			"team": "shop", "port-metrics": "9100",
			"fairway-cluster": "c1", "fairway-service-uid": "s1", "fairway-endpoint": "uid-p1", "fairway-pod-uid": "p1",
			"fairway-stated-by": "EndpointSlice/shop/web-a", "external-source": "kubernetes", "external-k8s-namespace": "shop",
			"external-k8s-service": "web", "external-k8s-pod": "web-1", "external-k8s-node-name": "n1", "external-k8s-topology-zone": "z1",
		},
		Weights: service.Weights{Passing: 1, Warning: 1}, Health: service.Passing, Notes: "endpoint is ready",
	}}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// The keys that Fairway counts on are no more than are kept free for it.
func TestMetaOwnedByServicesIsEnough(t *testing.T) {
	svc := web()
	got := export.Instances(svc, cluster(svc, slice("web-a", pod(1))), policy()).Instances[0].Meta
	delete(got, "port-metrics")
	if len(got) != service.MetaOwnedByServices {
		t.Errorf("an instance has %d pairs of its own, %d are kept free", len(got), service.MetaOwnedByServices)
	}
}

// What stands for all endpoints passes if one does.
func TestHealthOfAnAddressOfManyEndpoints(t *testing.T) {
	noSelector := func(svc *export.Service) { svc.HasSelector = false }
	gone := slice("web-b")
	gone.Missing = true
	tests := []struct {
		name   string
		svc    export.Service
		slices []export.EndpointSlice
		want   []string
	}{
		{"one is ready", web(address("vip")), []export.EndpointSlice{slice("web-a", pod(1, notReady), pod(2))}, []string{"web 198.19.0.9 80"}},
		{"none is", web(address("vip")), []export.EndpointSlice{slice("web-a", pod(1, notReady))}, []string{"web 198.19.0.9 80 critical"}},
		{"there are none", web(address("vip")), nil, []string{"web 198.19.0.9 80 critical"}},
		{"none is expected", web(address("vip"), noSelector), nil, []string{"web 198.19.0.9 80"}},
		{"one serves while it terminates", web(annotated(annotation.Native+"service-address", "vip", annotation.Native+"service-draining", "warning")),
			[]export.EndpointSlice{slice("web-a", pod(1, notReady), pod(2, terminating))}, []string{"web 198.19.0.9 80 warning"}},
		{"a node has none, and a pod no node", web(address("node")), []export.EndpointSlice{slice("web-a", pod(1), pod(3, notReady),
			pod(2, func(e *export.Endpoint) { e.Node = "" }))}, []string{"web 203.0.113.1 30080"}},
		{"no node has one", web(annotated(annotation.Native+"service-address", "node")), []export.EndpointSlice{slice("web-a")}, nil},
		{"of nodes, by a number of Consul's dialect", web(ofType(export.TypeNodePort), annotated(annotation.Consul+"service-port", "8443")),
			[]export.EndpointSlice{slice("web-a", pod(1))}, []string{"web 203.0.113.1 8443"}},
		{"one is ready, and more are missing", web(address("vip")), []export.EndpointSlice{slice("web-a", pod(2)), gone}, []string{"web 198.19.0.9 80"}},
		{"none is ready, and more are missing", web(address("vip")), []export.EndpointSlice{slice("web-a", pod(2, notReady)), gone}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := export.Instances(tt.svc, cluster(tt.svc, tt.slices...), policy())
			if diff := cmp.Diff(tt.want, lines(got.Instances)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// An entry names as many of the objects that state it as Consul lets it hold.
func TestStatedByManySlices(t *testing.T) {
	var many []export.EndpointSlice
	for i := range 40 {
		many = append(many, slice(fmt.Sprintf("web-%02d", i), pod(1)))
	}
	for _, svc := range []export.Service{web(), web(address("vip"))} {
		got := export.Instances(svc, cluster(svc, many...), policy()).Instances[0].Meta[service.MetaStatedBy]
		if len(got) > 512 || !strings.Contains(got, "EndpointSlice/shop/web-00,EndpointSlice/shop/web-01,") {
			t.Errorf("%d bytes: %s", len(got), got)
		}
	}
}

// A pod that several slices name is one instance, in whichever order they come.
func TestDuplicatesAcrossSlices(t *testing.T) {
	zone := func(zone string) func(*export.Endpoint) { return func(e *export.Endpoint) { e.Zone = zone } }
	tests := []struct {
		name string
		a, b export.Endpoint
		want string
	}{
		{"ready in one", pod(1, notReady), pod(1), "web 198.18.64.1 8080"},
		{"terminating in one", pod(1), pod(1, terminating), "web 198.18.64.1 8080 critical"},
		{"without an address in one", pod(1, func(e *export.Endpoint) { e.Addresses = nil }), pod(1), "web 198.18.64.1 8080"},
		{"in two zones", pod(1, zone("z2")), pod(1), "web 198.18.64.1 8080"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, b := slice("web-a", tt.a), slice("web-b", tt.b)
			one := export.Instances(web(), cluster(web(), a, b), policy()).Instances
			other := export.Instances(web(), cluster(web(), b, a), policy()).Instances
			if diff := cmp.Diff([]string{tt.want}, lines(one)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if diff := cmp.Diff(one, other, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Errorf("in another order:\n%s", diff)
			}
		})
	}
}

// Endpoints without a pod are known by their address, and names stand as such.
func TestEndpointsWithoutPods(t *testing.T) {
	none := func(e *export.Endpoint) { e.Target = export.Target{} }
	fqdn := slice("web-names", export.Endpoint{Addresses: []string{"db.example.com"}}, export.Endpoint{Addresses: []string{"no_name"}})
	fqdn.AddressType = export.FQDN
	six := slice("web-six", pod(4, none, func(e *export.Endpoint) { e.Addresses = []string{"fd00::4"} }))
	six.AddressType = export.IPv6
	wrong := slice("web-wrong", pod(5, func(e *export.Endpoint) { e.Addresses = []string{"fd00::5"} }))
	got := export.Instances(web(), cluster(web(), slice("web-a", pod(1, none)), fqdn, six, wrong), policy())
	want := []string{"web 198.18.64.1 8080", "web db.example.com 8080", "web fd00::4 8080"}
	if diff := cmp.Diff(want, lines(got.Instances)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	skipped := []export.Skipped{{Reason: `EndpointSlice/shop/web-names gives an endpoint the address "no_name", which is no FQDN`},
		{Key: "uid-p5", Pod: "web-5", Reason: `EndpointSlice/shop/web-wrong gives an endpoint the address "fd00::5", which is no IPv4`}}
	if diff := cmp.Diff(skipped, got.Skipped); diff != "" {
		t.Errorf("skipped, -want +got:\n%s", diff)
	}
}

// The hosts under which clients outside reach a Service as a whole.
func TestHosts(t *testing.T) {
	path := func(host, path string) export.IngressRule {
		return export.IngressRule{Host: host, Paths: []export.IngressPath{{Path: path, Service: "web"}}}
	}
	ingress := func(rules ...export.IngressRule) []export.Ingress {
		return []export.Ingress{{Namespace: "shop", Name: "web", Rules: rules, TLS: []string{"tls.example.com", "*.tls.example.com"}}}
	}
	route := func(hostnames ...string) []export.HTTPRoute {
		return []export.HTTPRoute{{
			Namespace: "shop", Name: "web", Hostnames: hostnames,
			Parents: []export.ParentRef{{Namespace: "edge", Gateway: "public", Accepted: true}},
			Rules:   []export.RouteRule{{Backends: []export.Backend{{Namespace: "shop", Service: "web"}}}},
		}}
	}
	gateways := []export.Gateway{{Namespace: "edge", Name: "public", Listeners: []export.Listener{
		{Name: "http", Port: 8080, Protocol: "HTTP"}, {Name: "https", Port: 8443, Protocol: "HTTPS", Hostname: "*.example.com"},
		{Name: "tcp", Port: 5432, Protocol: "TCP"},
	}}}
	changed := func(routes []export.HTTPRoute, change func(*export.HTTPRoute)) []export.HTTPRoute {
		change(&routes[0])
		return routes
	}
	tests := []struct {
		name    string
		ingress []export.Ingress
		routes  []export.HTTPRoute
		want    []string
	}{
		{"Ingress", ingress(path("shop.example.com", "/"), path("tls.example.com", ""), path("a.tls.example.com", "/")), nil,
			[]string{"web a.tls.example.com 443", "web shop.example.com 80", "web tls.example.com 443"}},
		{"another path, a wildcard and no host", ingress(path("shop.example.com", "/api"), path("*.example.com", "/"), path("", "/")), nil, nil},
		{"route, HTTPS first", nil, route("shop.example.com", "shop.example.org"), []string{"web shop.example.com 8443", "web shop.example.org 8080"}},
		{"route without hosts takes the listener's, and a wildcard is none", nil, route(), nil},
		{"route that is not accepted", nil, changed(route("shop.example.com"), func(r *export.HTTPRoute) { r.Parents[0].Accepted = false }), nil},
		{"route of one listener", nil, changed(route("shop.example.com"), func(r *export.HTTPRoute) { r.Parents[0].Section = "http" }),
			[]string{"web shop.example.com 8080"}},
		{"route for some paths", nil, changed(route("shop.example.com"), func(r *export.HTTPRoute) { r.Rules[0].Paths = []string{"/api"} }), nil},
		{"route to another Service", nil, changed(route("shop.example.com"), func(r *export.HTTPRoute) { r.Rules[0].Backends[0].Namespace = "other" }), nil},
		{"a host of both", ingress(path("shop.example.com", "/")), route("shop.example.com"), []string{"web shop.example.com 8443"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			svc := web(address("hostname"))
			c := cluster(svc, slice("web-a", pod(1)))
			c.Ingresses, c.Routes, c.Gateways = tt.ingress, tt.routes, gateways
			if diff := cmp.Diff(tt.want, lines(export.Instances(svc, c, policy()).Instances)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			// By policy too; without a host the type's own address counts.
			both := policy(func(p *export.Policy) { p.Ingress, p.Gateway = true, true })
			want := tt.want
			if want == nil {
				want = []string{"web 198.18.64.1 8080"}
			}
			if diff := cmp.Diff(want, lines(export.Instances(web(), c, both).Instances)); diff != "" {
				t.Errorf("by policy, -want +got:\n%s", diff)
			}
		})
	}
}

// Who is published, and the reason that a person is given.
func TestVerdict(t *testing.T) {
	must := func(text string) export.Selector {
		selector, err := export.ParseSelector(text)
		if err != nil {
			t.Fatal(err)
		}
		return selector
	}
	yes, no := annotated(annotation.Native+"service-sync", "true"), annotated(annotation.Native+"service-sync", "false")
	optIn := func(p *export.Policy) { p.Sync = false }
	tests := []struct {
		name   string
		svc    export.Service
		change func(*export.Policy)
		want   export.Verdict
		reason string
	}{
		{"default", web(), nil, export.Published, "all Services are published"},
		{"default off", web(), optIn, export.Unpublished, "no annotation asks for it"},
		{"asked for", web(yes), optIn, export.Published, "an annotation asks for it"},
		{"asked against", web(no), nil, export.Unpublished, "an annotation says so"},
		{"denied", web(yes), func(p *export.Policy) { p.Deny = []string{"shop"} }, export.Unpublished, "namespace shop is denied"},
		{"not allowed", web(yes), func(p *export.Policy) { p.Allow = []string{"prod"} }, export.Unpublished, "namespace shop is not allowed"},
		{"label not selected", web(), func(p *export.Policy) { p.Selector = must("tier=front") }, export.Unpublished, "its labels are not selected"},
		{"namespace selected", web(), func(p *export.Policy) { p.Namespaces = must("team=a") }, export.Published, "all Services are published"},
		{"namespace not selected", web(), func(p *export.Policy) { p.Namespaces = must("team=b") }, export.Unpublished,
			"the labels of namespace shop are not selected"},
		{"type is off", web(), func(p *export.Policy) { p.ClusterIP = export.Off }, export.Unpublished, "Services of type ClusterIP are switched off"},
		{"type is off, and the address given", web(address("vip")), func(p *export.Policy) { p.ClusterIP = export.Off }, export.Published, "all Services are published"},
		{"imported", web(func(svc *export.Service) { svc.Imported = true }), nil, export.Unpublished, "it was made of a Consul service"},
		{"type of the future", web(ofType("Mesh")), nil, export.Unpublished, `nothing is known of Services of type "Mesh"`},
		{"not understood", web(annotated(annotation.Native+"service-sync", "on")), nil, export.Undecided, "an annotation is not understood"},
		{"no good name", web(), func(p *export.Policy) { p.Name = export.Name("{name}" + strings.Repeat("x", 63)) }, export.Undecided,
			"the name made for it is not good: \"web" + strings.Repeat("x", 61) + "\"... is 66 characters long: a name in DNS has at most 63; give one by fairway.dev/service-name"},
		{"a cluster IP that there is none of", web(headless, address("vip")), nil, export.Undecided,
			"a headless Service has no cluster IP: remove fairway.dev/service-address, or give endpoints"},
		{"a cluster IP that there is none of yet", web(address("vip"), func(svc *export.Service) { svc.ClusterIPs = nil }), nil, export.Published,
			"it has no cluster IP yet"},
		{"endpoints of a name", web(externalName("shop.example.com"), address("endpoints")), nil, export.Undecided,
			"a Service of type ExternalName has no endpoints: remove fairway.dev/service-address, or give hostname"},
		{"a cluster IP of a name", web(externalName("shop.example.com"), address("vip")), nil, export.Undecided,
			"a Service of type ExternalName has no address: remove fairway.dev/service-address, or give hostname"},
		{"nodes without a node port", web(address("node"), func(svc *export.Service) { svc.Ports[0].NodePort = 0 }), nil, export.Undecided,
			"it has no node port: make it a Service of type NodePort, or correct fairway.dev/service-address"},
		{"an address that it does not have", web(address("load-balancer")), nil, export.Undecided,
			"a Service of type ClusterIP has no load balancer: correct fairway.dev/service-address"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := cluster(tt.svc, slice("web-a", pod(1)))
			c.Namespaces = []export.Namespace{{Name: "shop", Labels: map[string]string{"team": "a"}}}
			p := policy()
			if tt.change != nil {
				tt.change(&p)
			}
			got := export.Instances(tt.svc, c, p)
			if got.Verdict != tt.want || got.Reason != tt.reason {
				t.Errorf("got %s, %q; want %s, %q", got.Verdict, got.Reason, tt.want, tt.reason)
			}
		})
	}
}
