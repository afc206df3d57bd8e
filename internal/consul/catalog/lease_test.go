package catalog_test

import (
	"errors"
	"net/netip"
	"testing"

	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/consul/catalog"
	"fairway.dev/fairway/internal/consul/consultest"
	"fairway.dev/fairway/internal/consul/health"
	"fairway.dev/fairway/internal/gate"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

// An expired lease hides the node's entries; an agent that lives takes the node
// back, and writes no more than that.
func TestLeaseIsExpiredAndRenewed(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, false)
	token := c.Token(consultest.CatalogRules)
	s := newSide(t, c, token)
	in := web(1, service.Passing)
	s.observe()
	s.apply(registration.Register, in)

	client, _ := c.Server.FairwayClient(token)
	leases := catalog.NewLeases(client, "east")
	lease := only(t, leases)
	if lease.Node != "n1" || lease.ConsulNode != catalog.NodeName("east", "n1") || lease.Status != service.Passing {
		t.Errorf("the lease is %+v", lease)
	}
	if err := leases.Expire(t.Context(), lease, "node n1 is gone"); err != nil {
		t.Fatal(err)
	}
	if proof := s.prove(in); proof.Finding != gate.Absent || proof.Detail != "the node's fairway-lease is critical" {
		t.Errorf("expired: %+v", proof)
	}
	if err := leases.Expire(t.Context(), lease, "again"); !errors.Is(err, consul.ErrConflict) {
		t.Errorf("expire what has changed since: %v", err)
	}
	before := c.Index()
	if lease = only(t, leases); lease.Status != service.Critical || lease.Reason != "node n1 is gone" {
		t.Errorf("the expired lease is %+v", lease)
	}
	if err := leases.Expire(t.Context(), lease, "again"); err != nil {
		t.Error(err)
	}
	if after := c.Index(); after != before {
		t.Errorf("to expire what is expired moved the raft index from %s to %s", before, after)
	}

	got := s.observe()
	if len(got) != 1 || !got[0].Lapsed || got[0].Instance.Health != service.Passing {
		t.Errorf("observed %+v", got)
	}
	s.renew()
	if proof := s.prove(in); proof.Finding != gate.Passing {
		t.Errorf("renewed: %+v", proof)
	}
	if got := s.observe(); len(got) != 1 || got[0].Lapsed {
		t.Errorf("observed %+v", got)
	}

	// A pod that starts on a node that came back does not wait for a renewal.
	if err := leases.Expire(t.Context(), only(t, leases), "node n1 is gone"); err != nil {
		t.Fatal(err)
	}
	s.observe()
	s.apply(registration.Register, web(2, service.Passing))
	if proof := s.prove(in); proof.Finding != gate.Passing {
		t.Errorf("with another registered: %+v", proof)
	}
}

// A question on a lease hides nothing; the agent takes it back.
func TestAgentIsAsked(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, false)
	token := c.Token(consultest.CatalogRules)
	s := newSide(t, c, token)
	in := web(1, service.Passing)
	s.observe()
	s.apply(registration.Register, in)
	client, _ := c.Server.FairwayClient(token)
	leases, watcher := catalog.NewLeases(client, "east"), health.NewWatcher(client, s.Registry)

	lease := only(t, leases)
	if lease.Address != netip.MustParseAddr("198.18.0.21") || lease.Asked() || lease.Index == 0 {
		t.Errorf("the lease is %+v", lease)
	}
	held, index, err := watcher.Next(t.Context(), 0)
	if err != nil || held.Disturbed {
		t.Fatalf("before the question: %+v, %v", held, err)
	}
	if err := leases.Ask(t.Context(), lease, "do you live?"); err != nil {
		t.Fatal(err)
	}
	if held, _, err = watcher.Next(t.Context(), index); err != nil || !held.Disturbed {
		t.Errorf("the agent hears of the question: %+v, %v", held, err)
	}
	if proof := s.prove(in); proof.Finding != gate.Passing {
		t.Errorf("asked: %+v", proof)
	}
	asked, err := leases.Read(t.Context(), lease)
	if err != nil || !asked.Asked() || asked.Reason != "do you live?" || asked.Index == lease.Index || asked.Address != lease.Address {
		t.Errorf("read %+v, %v", asked, err)
	}
	before := c.Index()
	if err := leases.Ask(t.Context(), asked, "again"); err != nil || c.Index() != before {
		t.Errorf("asked again: %v, or it was written", err)
	}
	if err := leases.Ask(t.Context(), lease, "of what was read before"); !errors.Is(err, consul.ErrConflict) {
		t.Errorf("ask about what has changed since: %v", err)
	}
	s.renew()
	answered, err := leases.Read(t.Context(), asked)
	if err != nil || answered.Asked() || answered.Status != service.Passing || answered.Index == asked.Index {
		t.Errorf("answered: %+v, %v", answered, err)
	}
	if err := leases.Expire(t.Context(), asked, "no answer"); !errors.Is(err, consul.ErrConflict) {
		t.Errorf("expired although it was answered: %v", err)
	}
}

// A virtual node is removed with all that is under it, unless its agent is back.
func TestI1NodeIsRemovedOnlyWhileExpired(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, false)
	token := c.Token(consultest.ControllerRules)
	s := newSide(t, c, c.Token(consultest.CatalogRules))
	s.observe()
	s.apply(registration.Register, web(1, service.Passing))
	s.apply(registration.Register, web(2, service.Critical))
	client, _ := c.Server.FairwayClient(token)
	leases := catalog.NewLeases(client, "east")

	if err := leases.Remove(t.Context(), only(t, leases)); !errors.Is(err, consul.ErrConflict) {
		t.Errorf("remove what is passing: %v", err)
	}
	if err := leases.Expire(t.Context(), only(t, leases), "it is gone"); err != nil {
		t.Fatal(err)
	}
	expired := only(t, leases)
	s.renew()
	if err := leases.Remove(t.Context(), expired); !errors.Is(err, consul.ErrConflict) {
		t.Errorf("remove although the agent is back: %v", err)
	}
	if got := s.observe(); len(got) != 2 {
		t.Errorf("after removals that were refused: %v", got)
	}
	if err := leases.Expire(t.Context(), only(t, leases), "it is gone"); err != nil {
		t.Fatal(err)
	}
	if err := leases.Remove(t.Context(), only(t, leases)); err != nil {
		t.Fatal(err)
	}
	if got := s.observe(); len(got) != 0 {
		t.Errorf("removed: %v", got)
	}
	if all, err := leases.List(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("removed: %v, %v", all, err)
	}
	if lease, err := leases.Read(t.Context(), expired); err != nil || lease.Index != 0 || lease.Status != "" {
		t.Errorf("the lease of what was removed: %+v, %v", lease, err)
	}
	// The machine comes back after all.
	s.apply(registration.Register, web(1, service.Passing))
	if proof := s.prove(web(1, service.Passing)); proof.Finding != gate.Passing {
		t.Errorf("registered again: %+v", proof)
	}
}

// The node's record follows the node's address.
func TestNodeThatMoved(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, false)
	token := c.Token(consultest.CatalogRules)
	s := newSide(t, c, token)
	s.observe()
	s.apply(registration.Register, web(1, service.Passing))

	client, _ := c.Server.FairwayClient(token)
	moved, err := catalog.New(catalog.Options{Client: client, Cluster: "east", Node: "n1", Address: netip.MustParseAddr("198.18.0.22")})
	if err != nil {
		t.Fatal(err)
	}
	entries, err := moved.Observe(t.Context())
	if err != nil || len(entries) != 1 || !entries[0].Lapsed {
		t.Fatalf("observed %v, %v", entries, err)
	}
	if err := moved.Renew(t.Context(), entries); err != nil {
		t.Fatal(err)
	}
	node, _, err := c.Management().Catalog().Node(catalog.NodeName("east", "n1"), nil)
	if err != nil || node == nil || node.Node.Address != "198.18.0.22" || len(node.Services) != 1 {
		t.Errorf("the node is %+v, %v", node, err)
	}
}

// Leases of another cluster are not listed, and a node without entries that
// never had any has none.
func TestLeasesOfOneCluster(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, false)
	token := c.Token(consultest.CatalogRules)
	s := newSide(t, c, token)
	s.renew()
	client, _ := c.Server.FairwayClient(token)
	if leases, err := catalog.NewLeases(client, "east").List(t.Context()); err != nil || len(leases) != 0 {
		t.Errorf("before the first entry: %v, %v", leases, err)
	}
	s.apply(registration.Register, web(1, service.Passing))
	if leases, err := catalog.NewLeases(client, "west").List(t.Context()); err != nil || len(leases) != 0 {
		t.Errorf("of another cluster: %v, %v", leases, err)
	}
	blind, _ := c.Server.FairwayClient(c.Token(`service_prefix "" { policy = "write" }`))
	if leases, err := catalog.NewLeases(blind, "east").List(t.Context()); !errors.Is(err, consul.ErrFiltered) {
		t.Errorf("without the right to see nodes: %v, %v", leases, err)
	}
}

func only(t *testing.T, leases *catalog.Leases) catalog.Lease {
	t.Helper()
	all, err := leases.List(t.Context())
	if err != nil || len(all) != 1 {
		t.Fatalf("leases %v, %v", all, err)
	}
	return all[0]
}
