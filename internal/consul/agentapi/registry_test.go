package agentapi_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/consul/consultest"
	"fairway.dev/fairway/internal/gate"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

// addresses compare by value.
var equate = cmp.Options{cmpopts.EquateComparable(netip.Addr{}), cmpopts.IgnoreFields(service.Instance{}, "Notes")}

func TestRegisterIsProvenAndReadBack(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, true)
	s := newSide(t, c.Client, c.Token(consultest.FairwayRules))
	in := web(1, service.Passing)

	if got := s.observe(); len(got) != 0 {
		t.Fatalf("a fresh agent holds %v", got)
	}
	if proof := s.prove(in); proof.Finding != gate.Absent || proof.Detail != "not in the servers' catalog" {
		t.Errorf("before: %+v", proof)
	}
	s.apply(registration.Register, in)
	if proof := s.prove(in); proof.Finding != gate.Passing || proof.Index == 0 || proof.At.IsZero() {
		t.Errorf("after: %+v", proof)
	}
	want := []registration.Entry{{Instance: in, Cluster: "east", Node: "n1", HasCheck: true}}
	if diff := cmp.Diff(want, s.observe(), equate); diff != "" {
		t.Errorf("observed (-want +got):\n%s", diff)
	}

	s.apply(registration.Deregister, in)
	if proof := s.prove(in); proof.Finding != gate.Absent {
		t.Errorf("deregistered: %+v", proof)
	}
	s.apply(registration.Deregister, in) // again is no error
	if got := s.observe(); len(got) != 0 {
		t.Errorf("after deregister the agent holds %v", got)
	}
}

// What is written past the agent, which is the last to be written here, is what
// the agent holds: it has nothing to correct when it compares.
func TestTheAgentHasNothingToCorrect(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, true)
	token := c.Token(consultest.FairwayRules)
	s := newSide(t, c.Client, token)
	s.observe()
	for _, health := range []service.Health{service.Passing, service.Critical} {
		in := web(1, health)
		s.apply(registration.Register, in)
		s.apply(registration.SetHealth, in)
		if err := s.Push(t.Context(), s.observe()[0]); err != nil {
			t.Fatal(err)
		}
		own, err := c.Client.API(token).Agent().Checks()
		if err != nil {
			t.Fatal(err)
		}
		servers, _, err := c.Management().Health().Checks("web", &api.QueryOptions{RequireConsistent: true})
		if err != nil || len(servers) != 1 || own[in.ID] == nil {
			t.Fatalf("the servers hold %v, the agent %v; error %v", servers, own, err)
		}
		if got, want := servers[0], own[in.ID]; got.Output != want.Output || got.Status != want.Status || got.Notes != want.Notes || got.Name != want.Name {
			t.Errorf("%s: the servers hold %+v, the agent %+v", health, got, want)
		}
	}
}

func TestHealthFlipsAndSurvivesARegister(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, true)
	s := newSide(t, c.Client, c.Token(consultest.FairwayRules))
	in := web(1, service.Passing)
	s.apply(registration.Register, in)

	in.Health, in.Notes = service.Critical, "pod is terminating"
	s.apply(registration.SetHealth, in)
	if proof := s.prove(in); proof.Finding != gate.Absent || proof.Detail != "its own check is critical" {
		t.Errorf("critical: %+v", proof)
	}
	// Consul keeps the status of a check that exists; a register with other
	// tags must neither lose it nor bring the instance back.
	in.Tags = []string{"v2"}
	s.apply(registration.Register, in)
	if proof := s.prove(in); proof.Finding != gate.Absent {
		t.Errorf("registered again while critical: %+v", proof)
	}
	in.Port, in.Health, in.Notes = 9090, service.Passing, "containers are ready"
	s.apply(registration.Register, in)
	s.apply(registration.SetHealth, in)
	if proof := s.prove(in); proof.Finding != gate.Passing {
		t.Errorf("passing again: %+v", proof)
	}
	entries, _, err := c.Management().Health().Service("web", "", true, nil)
	if err != nil || len(entries) != 1 {
		t.Fatalf("servers return %v, %v", entries, err)
	}
	if diff := cmp.Diff([]string{"v2"}, entries[0].Service.Tags); diff != "" {
		t.Errorf("tags at the servers (-want +got):\n%s", diff)
	}
	if n := len(entries[0].Checks); n != 2 { // serfHealth and ours
		t.Errorf("the instance has %d checks, want 2", n)
	}
}

// I2 and I6: what is there already costs no write, whoever writes it.
func TestNothingMovesTheServersLogAtRest(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, true)
	token := c.Token(consultest.FairwayRules)
	s := newSide(t, c.Client, token)
	in, out := web(1, service.Passing), web(2, service.Critical)
	s.apply(registration.Register, in)
	s.apply(registration.Register, out)
	in.Health = service.Critical
	s.apply(registration.SetHealth, in)
	in.Health = service.Passing
	s.apply(registration.SetHealth, in)

	before := c.Index()
	s.apply(registration.Register, in)
	if err := s.Renew(t.Context(), s.observe()); err != nil {
		t.Fatal(err)
	}
	// Another process, which does not know with what token the entries were
	// registered, hands over its own.
	next := newSide(t, c.Client, token)
	for range 2 {
		if err := next.Renew(t.Context(), next.observe()); err != nil {
			t.Fatal(err)
		}
	}
	if after := c.Index(); after != before {
		t.Errorf("raft index moved from %s to %s", before, after)
	}
	for _, in := range []service.Instance{in, out} {
		want := gate.Passing
		if in.Health == service.Critical {
			want = gate.Absent
		}
		if proof := next.prove(in); proof.Finding != want {
			t.Errorf("%s: %+v, want %s", in.ID, proof, want)
		}
	}
}

// I2: a restart of Consul's own agent brings back what it had, with its health.
func TestAgentRestartKeepsHealth(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, true)
	s := newSide(t, c.Client, c.Token(consultest.FairwayRules))
	in, out := web(1, service.Passing), web(2, service.Critical)
	s.apply(registration.Register, in)
	s.apply(registration.Register, out)
	if err := s.Renew(t.Context(), s.observe()); err != nil {
		t.Fatal(err)
	}

	c.Client.Stop()
	if _, err := s.Observe(t.Context()); !errors.Is(err, consul.ErrUnavailable) {
		t.Errorf("observe without an agent: %v", err)
	}
	c.Client.Start()
	c.WaitReady()
	want := map[string]service.Health{in.ID: service.Passing, out.ID: service.Critical}
	got := map[string]service.Health{}
	for _, entry := range s.observe() {
		got[entry.Instance.ID] = entry.Instance.Health
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("health after the restart (-want +got):\n%s", diff)
	}
	if proof := s.prove(in); proof.Finding != gate.Passing {
		t.Errorf("after the restart: %+v", proof)
	}
}

func TestDenied(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, true)
	readOnly := newSide(t, c.Client, c.Token(`
		agent_prefix "" { policy = "read" }
		node_prefix "" { policy = "read" }
		service_prefix "" { policy = "read" }`))
	err := readOnly.Apply(t.Context(), registration.Op{Kind: registration.Register, Instance: web(1, service.Passing)})
	if !errors.Is(err, consul.ErrDenied) {
		t.Errorf("register without the right: %v", err)
	}
	if got := readOnly.observe(); len(got) != 0 {
		t.Errorf("observed %v", got)
	}

	nobody := newSide(t, c.Client, "00000000-0000-0000-0000-000000000000")
	if _, err := nobody.Observe(t.Context()); !errors.Is(err, consul.ErrDenied) {
		t.Errorf("observe with an unknown token: %v", err)
	}
	if proof := nobody.prove(web(1, service.Passing)); proof.Finding != gate.Unknown || proof.Detail == "" {
		t.Errorf("prove with an unknown token: %+v", proof)
	}
}

// I1: what the ACLs hide is not absent.
func TestFilteredIsUnknown(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, true)
	s := newSide(t, c.Client, c.Token(consultest.FairwayRules))
	in := web(1, service.Passing)
	s.apply(registration.Register, in)

	blind := newSide(t, c.Client, c.Token(`
		agent_prefix "" { policy = "read" }
		node_prefix "" { policy = "read" }
		service "other" { policy = "write" }`))
	if _, err := blind.Observe(t.Context()); !errors.Is(err, consul.ErrFiltered) {
		t.Errorf("observe: %v", err)
	}
	if proof := blind.prove(in); proof.Finding != gate.Unknown || proof.Detail != consul.ErrFiltered.Error() {
		t.Errorf("prove: %+v", proof)
	}
}

func TestServersAway(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, true)
	s := newSide(t, c.Client, c.Token(consultest.FairwayRules))
	in := web(1, service.Passing)
	s.apply(registration.Register, in)

	c.Server.Stop()
	if proof := s.prove(in); proof.Finding != gate.Unknown || proof.Detail != consul.ErrUnavailable.Error() {
		t.Errorf("prove without servers: %+v", proof)
	}
	if got := s.observe(); len(got) != 1 || got[0].Instance.Health != service.Passing {
		t.Errorf("observe without servers: %v", got)
	}
	// The agent takes what the servers cannot have seen, and says it is done.
	late := web(2, service.Passing)
	s.apply(registration.Register, late)
	if proof := s.prove(late); proof.Finding != gate.Unknown {
		t.Errorf("prove of what no server saw: %+v", proof)
	}

	c.Server.Start()
	consultest.Eventually(t, "both instances are proven again", func() error {
		if err := s.Renew(t.Context(), s.observe()); err != nil {
			return err
		}
		for _, in := range []service.Instance{in, late} {
			if proof := s.prove(in); proof.Finding != gate.Passing {
				return fmt.Errorf("%s: %+v", in.ID, proof)
			}
		}
		return nil
	})
}

// Consul syncs a service for ever with the token it was registered with. After
// a rotation, a change of health must still reach the servers.
func TestRotatedToken(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, true)
	old := c.Token(consultest.FairwayRules)
	s := newSide(t, c.Client, old)
	in := web(1, service.Passing)
	s.apply(registration.Register, in)

	if err := os.WriteFile(s.tokenFile, []byte(c.Token(consultest.FairwayRules)), 0o600); err != nil {
		t.Fatal(err)
	}
	token, _, err := c.Management().ACL().TokenReadSelf(&api.QueryOptions{Token: old})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Management().ACL().TokenDelete(token.AccessorID, nil); err != nil {
		t.Fatal(err)
	}
	s.observe()
	in.Health = service.Critical
	s.apply(registration.SetHealth, in)
	if proof := s.prove(in); proof.Finding != gate.Absent || proof.Detail != "its own check is critical" {
		t.Errorf("the servers did not see the change: %+v", proof)
	}
}

// I5: what is not Fairway's is not seen, and what is another cluster's is shown
// as that.
func TestForeignEntries(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, true)
	s := newSide(t, c.Client, c.Token(consultest.FairwayRules))
	if err := c.Client.API(c.Token(consultest.FairwayRules)).Agent().ServiceRegister(&api.AgentServiceRegistration{
		ID: "db", Name: "db", Check: &api.AgentServiceCheck{TTL: "1h", Status: api.HealthPassing},
	}); err != nil {
		t.Fatal(err)
	}
	other := web(3, service.Passing)
	other.Meta[service.MetaCluster] = "west"
	s.apply(registration.Register, other)

	got := s.observe()
	if len(got) != 1 || got[0].Cluster != "west" || got[0].Instance.ID != other.ID {
		t.Errorf("observed %v", got)
	}
	s.apply(registration.Register, web(1, service.Passing))
	s.apply(registration.Deregister, web(1, service.Passing))
	services, err := c.Client.API(c.Token(consultest.FairwayRules)).Agent().Services()
	if err != nil || services["db"] == nil || services[other.ID] == nil || len(services) != 2 {
		t.Errorf("services now: %v, %v", services, err)
	}
}

// A check that somebody has removed is missed, and comes back with its health.
func TestLostCheck(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, true)
	token := c.Token(consultest.FairwayRules)
	s := newSide(t, c.Client, token)
	in := web(1, service.Critical)
	s.apply(registration.Register, in)
	if err := c.Client.API(token).Agent().CheckDeregister(in.ID); err != nil {
		t.Fatal(err)
	}
	if got := s.observe(); len(got) != 1 || got[0].HasCheck {
		t.Fatalf("observed %+v", got)
	}
	s.apply(registration.Register, in)
	if got := s.observe(); len(got) != 1 || !got[0].HasCheck || got[0].Instance.Health != service.Critical {
		t.Errorf("observed %+v", got)
	}
}

// An op on an agent that does not answer ends with its deadline.
func TestHungAgent(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, true)
	s := newSide(t, c.Client, c.Token(consultest.FairwayRules))
	in := web(1, service.Passing)
	s.apply(registration.Register, in)

	c.Client.Pause()
	defer c.Client.Resume()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	if err := s.Apply(ctx, registration.Op{Kind: registration.SetHealth, Instance: in}); !errors.Is(err, consul.ErrUnavailable) {
		t.Errorf("apply: %v", err)
	}
	if proof := s.Prove(ctx, []service.Instance{in})[in.ID]; proof.Finding != gate.Unknown {
		t.Errorf("prove: %+v", proof)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %s", took)
	}
}
