package catalog_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/consul/catalog"
	"fairway.dev/fairway/internal/consul/consultest"
	"fairway.dev/fairway/internal/export"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

// shards are the virtual nodes for the Services of cluster east.
type shards map[int]*catalog.Registry

// pass reads the shards, decides, and carries the plan out. It returns what was
// done.
func (s shards) pass(t *testing.T, cluster export.Cluster) (done []registration.Op) {
	t.Helper()
	policy := export.DefaultPolicy()
	policy.Cluster, policy.Sync = "east", true
	in := export.Input{Policy: policy, Cluster: cluster, Entries: map[int][]registration.Entry{},
		Evidence: export.Evidence{Now: time.Unix(1, 0), MaxShare: 1}}
	for shard, registry := range s {
		entries, err := registry.Observe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		in.Entries[shard] = entries
	}
	plan := export.Decide(in)
	if plan.Foreign != 0 || len(plan.Held) != 0 {
		t.Errorf("%d foreign, held: %v", plan.Foreign, plan.Held)
	}
	for _, op := range plan.Ops {
		ref := op.Instance.Endpoint
		if err := s[export.ShardOf(ref.Namespace, ref.Service)].Apply(t.Context(), op); err != nil {
			t.Fatal(err)
		}
	}
	return plan.Ops
}

// Whatever kind of address a Service's instances have, the servers give them back
// as they were written (I6), and let them go when the Service is gone.
func TestI6ServicesOfAllKindsAreReadBack(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, false)
	client, _ := c.Server.FairwayClient(c.Token(consultest.CatalogRules))
	cluster := servicesOfAllKinds()
	s := shards{}
	for _, svc := range cluster.Services {
		shard := export.ShardOf(svc.Namespace, svc.Name)
		registry, err := catalog.New(catalog.Options{
			Client: client, Cluster: "east", Node: export.ShardName(shard), Placeless: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		s[shard] = registry
	}

	if done := s.pass(t, cluster); len(done) != 7 {
		t.Errorf("%d ops, want one for each instance: %v", len(done), done)
	}
	if done := s.pass(t, cluster); len(done) != 0 {
		t.Errorf("written again: %v", done)
	}
	// No shard is taken for a Kubernetes node that may die.
	if leases, err := catalog.NewLeases(client, "east").List(t.Context()); err != nil || len(leases) > 0 {
		t.Errorf("leases: %v, %v", leases, err)
	}
	for name, want := range map[string]string{"pods": "198.18.64.1", "vip": "198.19.0.9", "shop_external.v1": "203.0.113.7", "node": "198.18.0.1",
		"balancer": "lb.example.com", "name": "db.example.com"} {
		entries, _, err := c.Management().Health().Service(name, "", true, nil)
		if err != nil || !slices.ContainsFunc(entries, func(e *api.ServiceEntry) bool { return e.Service.Address == want }) {
			t.Errorf("%s: the servers give %v, %v; want %s", name, entries, err, want)
		}
	}
	gone := export.Cluster{Gone: map[export.Object]string{}}
	for _, svc := range cluster.Services {
		gone.Gone[svc.Object()] = "deletion seen"
	}
	for _, want := range []registration.Kind{registration.SetHealth, registration.Deregister} {
		for _, op := range s.pass(t, gone) {
			if op.Kind != want {
				t.Errorf("%s of %s, want %s", op.Kind, op.Instance.ID, want)
			}
		}
	}
	if done := s.pass(t, gone); len(done) != 0 {
		t.Errorf("not all has gone: %v", done)
	}
}

// servicesOfAllKinds has a Service for each kind of address.
func servicesOfAllKinds() export.Cluster {
	web := export.Service{
		Namespace: "shop", UID: "s1", Type: export.TypeClusterIP, HasSelector: true, ClusterIPs: []netip.Addr{netip.MustParseAddr("198.19.0.9")},
		Ports: []service.Port{{Name: "http", Port: 80, NodePort: 30080, Protocol: "TCP"}, {Name: "metrics", Port: 9100, Protocol: "TCP"}},
	}
	pods, vip, external, balancer, node, name := web, web, web, web, web, web
	pods.Name, vip.Name, external.Name, balancer.Name, node.Name, name.Name = "pods", "vip", "external", "balancer", "node", "name"
	vip.Annotations = map[string]string{"fairway.dev/service-address": "vip"}
	external.Annotations = map[string]string{"consul.hashicorp.com/service-name": "shop_external.v1"}
	external.ExternalIPs = []netip.Addr{netip.MustParseAddr("203.0.113.7"), netip.MustParseAddr("fd00:2::7")}
	balancer.Type, balancer.Balancer = export.TypeLoadBalancer, []export.BalancerAddress{{Hostname: "lb.example.com"}}
	node.Type = export.TypeNodePort
	name.Type, name.ExternalName, name.ClusterIPs, name.HasSelector = export.TypeExternalName, "db.example.com", nil, false

	cluster := export.Cluster{
		Services: []export.Service{pods, vip, external, balancer, node, name},
		Nodes:    []export.Node{{Name: "n1", Internal: []netip.Addr{netip.MustParseAddr("198.18.0.1")}}},
	}
	for _, svc := range cluster.Services[:5] {
		for family, at := range map[export.AddressType]string{export.IPv4: "198.18.64.1", export.IPv6: "fd00::1"} {
			cluster.Slices = append(cluster.Slices, export.EndpointSlice{
				Namespace: "shop", Name: svc.Name + "-" + string(family), Service: svc.Name, AddressType: family,
				Ports: []export.EndpointPort{{Name: "http", Port: new(uint16(8080))}, {Name: "metrics", Port: new(uint16(9100))}},
				Endpoints: []export.Endpoint{
					{Addresses: []string{at}, Node: "n1", Zone: "z1", Target: export.Target{Kind: "Pod", Name: "web-1", UID: "p1"}},
				},
			})
		}
	}
	cluster.Slices = append(cluster.Slices, export.EndpointSlice{
		Namespace: "shop", Name: "pods-by-hand", Service: "pods", AddressType: export.IPv6, Ports: cluster.Slices[0].Ports,
		Endpoints: []export.Endpoint{{Addresses: []string{"fd00::2"}}},
	})
	return cluster
}
