package catalog_test

import (
	"net/netip"
	"testing"

	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/consul/catalog"
	"fairway.dev/fairway/internal/consul/consultest"
	"fairway.dev/fairway/internal/export"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

// What stands for a cluster's Services can be asked and expired as its nodes can, and
// who keeps it takes that back.
func TestVirtualNodeOfServicesIsExpiredAndTakenBack(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, false)
	keeper, _ := c.Server.FairwayClient(c.Token(consultest.ExportRules))
	r, err := catalog.New(catalog.Options{Client: keeper, Cluster: "east", Node: export.ShardName(3), Placeless: true})
	if err != nil {
		t.Fatal(err)
	}
	observe := func() (lapsed bool) {
		t.Helper()
		entries, err := r.Observe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return len(entries) == 1 && entries[0].Lapsed
	}
	observe()
	in := service.Instance{
		Name: "web", Health: service.Passing, Address: netip.MustParseAddr("198.18.64.7"), Port: 80, Weights: service.Weights{Passing: 1, Warning: 1},
		Endpoint: service.EndpointRef{Namespace: "shop", Service: "web", Key: "ip-198.18.64.7"},
		Meta:     map[string]string{service.MetaCluster: "east"},
	}
	in.ID = in.Endpoint.InstanceID("web")
	if err := r.Apply(t.Context(), registration.Op{Kind: registration.Register, Instance: in}); err != nil {
		t.Fatal(err)
	}
	given := func() bool {
		t.Helper()
		list, _, err := c.Management().Health().Service("web", "", true, nil)
		if err != nil {
			t.Fatal(err)
		}
		return len(list) == 1
	}

	reaper, _ := c.Server.FairwayClient(c.Token(consultest.ReaperRules))
	lease := func() catalog.Lease {
		t.Helper()
		all, err := catalog.ListAll(t.Context(), reaper)
		if err != nil || len(all) != 1 || len(all["east"]) != 1 || !all["east"][0].Placeless() {
			t.Fatalf("%+v, %v; want the virtual node of east", all, err)
		}
		return all["east"][0]
	}
	leases := catalog.NewLeases(reaper, "east")
	if l := lease(); l.Index != 0 || observe() || !given() {
		t.Fatalf("at first the lease is %+v", l)
	}
	if err := leases.Ask(t.Context(), lease(), "does it live?"); err != nil {
		t.Fatal(err)
	}
	if l := lease(); !l.Asked() || !observe() || !given() {
		t.Errorf("asked, the lease is %+v", l)
	}
	if err := leases.Expire(t.Context(), lease(), "it is dead"); err != nil {
		t.Fatal(err)
	}
	if l := lease(); l.Status != service.Critical || !observe() || given() {
		t.Errorf("expired, the lease is %+v", l)
	}
	if err := r.Renew(t.Context(), []registration.Entry{{Instance: in}}); err != nil {
		t.Fatalf("taken back: %s: %v", consul.Reason(err), err)
	}
	if l := lease(); l.Index != 0 || observe() || !given() {
		t.Errorf("taken back, the lease is %+v", l)
	}
}
