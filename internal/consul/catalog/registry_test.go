package catalog_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/consul/catalog"
	"fairway.dev/fairway/internal/consul/consultest"
	"fairway.dev/fairway/internal/gate"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

var equate = cmp.Options{cmpopts.EquateComparable(netip.Addr{}), cmpopts.IgnoreFields(service.Instance{}, "Notes")}

// A passing instance is visible with its first write, node and lease included.
func TestRegisterIsProvenAndReadBack(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, false)
	s := newSide(t, c, c.Token(consultest.CatalogRules))
	in := web(1, service.Passing)

	if got := s.observe(); len(got) != 0 {
		t.Fatalf("a fresh Consul holds %v", got)
	}
	if proof := s.prove(in); proof.Finding != gate.Absent || proof.Detail != "not in the servers' catalog" {
		t.Errorf("before: %+v", proof)
	}
	before := raft(t, c)
	s.apply(registration.Register, in)
	if after := raft(t, c); after != before+1 {
		t.Errorf("the first registration took %d entries in Consul's log, want 1", after-before)
	}
	if proof := s.prove(in); proof.Finding != gate.Passing || proof.Index == 0 || proof.At.IsZero() {
		t.Errorf("after: %+v", proof)
	}
	want := []registration.Entry{{Instance: in, Cluster: "east", Node: "n1", HasCheck: true}}
	if diff := cmp.Diff(want, s.observe(), equate); diff != "" {
		t.Errorf("observed (-want +got):\n%s", diff)
	}
	node, _, err := c.Management().Catalog().Node(catalog.NodeName("east", "n1"), nil)
	if err != nil || node == nil || node.Node.Address != "198.18.0.21" || node.Node.Meta["synthetic-node"] != "true" {
		t.Errorf("the virtual node is %+v, %v", node, err)
	}

	s.apply(registration.Deregister, in)
	if proof := s.prove(in); proof.Finding != gate.Absent {
		t.Errorf("deregistered: %+v", proof)
	}
	before = raft(t, c)
	s.apply(registration.Deregister, in) // again is no error, and no write
	if after := raft(t, c); after != before {
		t.Errorf("to deregister nothing took %d writes", after-before)
	}
	if got := s.observe(); len(got) != 0 {
		t.Errorf("after deregister the servers hold %v", got)
	}
}

func TestHealthFlipsAndSurvivesARegister(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, false)
	s := newSide(t, c, c.Token(consultest.CatalogRules))
	in := web(1, service.Passing)
	s.observe()
	s.apply(registration.Register, in)

	in.Health, in.Notes = service.Critical, "pod is terminating"
	s.apply(registration.SetHealth, in)
	if proof := s.prove(in); proof.Finding != gate.Absent || proof.Detail != "its own check is critical" {
		t.Errorf("critical: %+v", proof)
	}
	// As with an agent, a register keeps the health of a check that is there.
	in.Tags, in.Health = []string{"v2"}, service.Passing
	s.apply(registration.Register, in)
	if proof := s.prove(in); proof.Finding != gate.Absent {
		t.Errorf("registered again while critical: %+v", proof)
	}
	in.Port = 9090
	s.apply(registration.Register, in)
	s.apply(registration.SetHealth, in)
	if proof := s.prove(in); proof.Finding != gate.Passing {
		t.Errorf("passing again: %+v", proof)
	}
	entries, _, err := c.Management().Health().Service("web", "", true, nil)
	if err != nil || len(entries) != 1 || len(entries[0].Checks) != 2 { // the lease and ours
		t.Fatalf("servers return %v, %v", entries, err)
	}
	if diff := cmp.Diff([]string{"v2"}, entries[0].Service.Tags); diff != "" {
		t.Errorf("tags at the servers (-want +got):\n%s", diff)
	}
	for _, check := range entries[0].Checks {
		if check.ServiceID != "" && !cmp.Equal(check.ServiceTags, []string{"v2"}) {
			t.Errorf("the check shows tags %v", check.ServiceTags)
		}
	}
}

// I2 and I6: what is there already costs no write, whoever looks.
func TestI6NothingAtRest(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, false)
	token := c.Token(consultest.CatalogRules)
	s := newSide(t, c, token)
	s.observe()
	s.apply(registration.Register, web(1, service.Passing))
	s.apply(registration.Register, web(2, service.Critical))

	before := c.Index()
	s.renew()
	for range 2 { // another process, after a restart
		newSide(t, c, token).renew()
	}
	if after := c.Index(); after != before {
		t.Errorf("raft index moved from %s to %s", before, after)
	}
}

// 100 registrations at once share transactions.
func TestWritesShareTransactions(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, false)
	s := newSide(t, c, c.Token(consultest.CatalogRules))
	s.observe()
	all := many(100)
	before, start := raft(t, c), time.Now()
	for _, err := range s.applyAll(registration.Register, all) {
		if err != nil {
			t.Error(err)
		}
	}
	took := time.Since(start)
	writes := raft(t, c) - before
	t.Logf("100 registrations: %d entries in Consul's log, %s", writes, took)
	if writes > 4 {
		t.Errorf("100 registrations took %d entries in Consul's log, want 4 or fewer", writes)
	}
	for id, proof := range s.Prove(t.Context(), all) {
		if proof.Finding != gate.Passing {
			t.Errorf("%s: %+v", id, proof)
		}
	}
	before = raft(t, c)
	for i := range all {
		all[i].Health = service.Critical
	}
	s.applyAll(registration.SetHealth, all)
	s.applyAll(registration.Deregister, all)
	writes = raft(t, c) - before
	t.Logf("100 out of service, then removed: %d entries in Consul's log", writes)
	if got := s.observe(); len(got) != 0 || writes > 8 {
		t.Errorf("%d entries are left; %d entries in Consul's log, want 8 or fewer", len(got), writes)
	}
}

// What Consul refuses fails alone, with Consul's words.
func TestPoisonedEntryFailsAlone(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, false)
	s := newSide(t, c, c.Token(`
		node_prefix "" { policy = "write" }
		service_prefix "" { policy = "read" }
		service "web" { policy = "write" }`))
	s.observe()
	all := many(80)
	all[7].Meta["no.dots"] = "x"
	all[50].Meta["long"] = strings.Repeat("x", 600)
	all = append(all, instanceOf("forbidden", 1, service.Passing))
	want := map[int]error{7: consul.ErrInvalid, 50: consul.ErrInvalid, 80: consul.ErrDenied}
	for i, err := range s.applyAll(registration.Register, all) {
		switch {
		case want[i] == nil && err != nil:
			t.Errorf("entry %d: %v", i, err)
		case want[i] != nil && !errors.Is(err, want[i]):
			t.Errorf("entry %d: %v, want %v", i, err, want[i])
		}
		if i == 7 && !strings.Contains(consul.Reason(err), "no.dots") {
			t.Errorf("the reason does not quote Consul: %s", consul.Reason(err))
		}
	}
	if got := s.observe(); len(got) != len(all)-len(want) {
		t.Errorf("%d entries are registered, want %d", len(got), len(all)-len(want))
	}
}

// Entries that are too large together go one after the other.
func TestTransactionsStayBelowTheLimitOfBytes(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, false)
	s := newSide(t, c, c.Token(consultest.CatalogRules))
	s.observe()
	all := many(60)
	for _, in := range all {
		for key := range 40 {
			in.Meta[fmt.Sprintf("large-%d", key)] = strings.Repeat("x", 500)
		}
	}
	for _, err := range s.applyAll(registration.Register, all) {
		if err != nil {
			t.Error(err)
		}
	}
	if got := s.observe(); len(got) != len(all) {
		t.Errorf("%d entries are registered, want %d", len(got), len(all))
	}
}

// Servers with a lower limit refuse the whole, and say nothing of where. The
// one that is too large by itself fails alone.
func TestLowerLimitOfBytes(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, false, map[string]any{"limits": map[string]any{"txn_max_req_len": 16 << 10, "kv_max_value_size": 16 << 10}})
	s := newSide(t, c, c.Token(consultest.CatalogRules))
	s.observe()
	all := many(60)
	for key := range 40 {
		all[33].Meta[fmt.Sprintf("large-%d", key)] = strings.Repeat("x", 500)
	}
	for i, err := range s.applyAll(registration.Register, all) {
		if i == 33 && !errors.Is(err, consul.ErrInvalid) || i != 33 && err != nil {
			t.Errorf("entry %d: %v", i, err)
		}
	}
	if got := s.observe(); len(got) != len(all)-1 {
		t.Errorf("%d entries are registered, want %d", len(got), len(all)-1)
	}
}

// I5: what somebody else has changed is not overwritten unseen.
func TestConflict(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, false)
	token := c.Token(consultest.CatalogRules)
	s, other := newSide(t, c, token), newSide(t, c, token)
	in := web(1, service.Critical)
	if err := s.try(registration.Register, in); !errors.Is(err, consul.ErrConflict) {
		t.Errorf("written before anything was read: %v", err)
	}
	s.observe()
	s.apply(registration.Register, in)
	other.observe()
	in.Health = service.Passing
	other.apply(registration.SetHealth, in)

	in.Health = service.Critical
	for _, kind := range []registration.Kind{registration.SetHealth, registration.Register, registration.Deregister} {
		if err := s.try(kind, in); !errors.Is(err, consul.ErrConflict) {
			t.Errorf("%s on what has changed: %v", kind, err)
		}
	}
	if proof := other.prove(in); proof.Finding != gate.Passing {
		t.Errorf("the conflict changed something: %+v", proof)
	}
	s.observe()
	s.apply(registration.SetHealth, in)
	s.apply(registration.Deregister, in)
}

// I5: a node of our name that is somebody else's is left alone.
func TestForeignNode(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, false)
	s := newSide(t, c, c.Token(consultest.CatalogRules))
	if _, err := c.Management().Catalog().Register(&api.CatalogRegistration{
		Node: catalog.NodeName("east", "n1"), Address: "198.18.0.99",
	}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Observe(t.Context()); !errors.Is(err, consul.ErrConflict) {
		t.Errorf("observe: %v", err)
	}
}

// What others put under our node is shown, and so can be counted and refused.
func TestForeignEntry(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, false)
	s := newSide(t, c, c.Token(consultest.CatalogRules))
	s.observe()
	s.apply(registration.Register, web(1, service.Passing))
	if _, err := c.Management().Catalog().Register(&api.CatalogRegistration{
		Node: catalog.NodeName("east", "n1"), SkipNodeUpdate: true, Service: &api.AgentService{ID: "db", Service: "db"},
	}, nil); err != nil {
		t.Fatal(err)
	}
	got := s.observe()
	if len(got) != 2 {
		t.Fatalf("observed %v", got)
	}
	for _, entry := range got {
		if (entry.Instance.ID == "db") != (entry.Cluster == "") {
			t.Errorf("observed %+v", entry)
		}
	}
	if err := s.try(registration.Deregister, service.Instance{ID: "db"}); !errors.Is(err, consul.ErrConflict) {
		t.Errorf("deregister what is not ours: %v", err)
	}
}

// A node that somebody has removed, with all entries, is made again.
func TestRemovedNode(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, false)
	s := newSide(t, c, c.Token(consultest.CatalogRules))
	in := web(1, service.Passing)
	s.observe()
	s.apply(registration.Register, in)
	if _, err := c.Management().Catalog().Deregister(&api.CatalogDeregistration{Node: catalog.NodeName("east", "n1")}, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.try(registration.Register, web(2, service.Passing)); !errors.Is(err, consul.ErrConflict) {
		t.Errorf("register on the removed node: %v", err)
	}
	if got := s.observe(); len(got) != 0 {
		t.Errorf("observed %v", got)
	}
	s.apply(registration.Register, in)
	if proof := s.prove(in); proof.Finding != gate.Passing {
		t.Errorf("registered again: %+v", proof)
	}
}
