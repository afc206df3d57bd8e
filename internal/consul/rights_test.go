package consul_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/consul/agentapi"
	"fairway.dev/fairway/internal/consul/catalog"
	"fairway.dev/fairway/internal/consul/consultest"
	"fairway.dev/fairway/internal/consul/discovery"
	"fairway.dev/fairway/internal/consul/health"
	"fairway.dev/fairway/internal/consulimport"
	"fairway.dev/fairway/internal/export"
	"fairway.dev/fairway/internal/gate"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

// registry is what both registries offer.
type registry interface {
	Observe(ctx context.Context) ([]registration.Entry, error)
	Apply(ctx context.Context, op registration.Op) error
	Renew(ctx context.Context, entries []registration.Entry) error
	NodeName(ctx context.Context) (string, error)
}

// withIdentity makes the registry of an agent know its node, as that of the
// servers does.
type withIdentity struct {
	*agentapi.Registry
	*consul.Identity
}

// eachIsNeeded fails unless try succeeds with the rules, a line each, and with none
// of them left out, and docs/registries.md has them all.
func eachIsNeeded(t *testing.T, rules string, try func(rules []string) error) {
	t.Helper()
	all := strings.Split(strings.TrimSpace(rules), "\n")
	if err := try(all); err != nil {
		t.Errorf("with all rights: %v", err)
	}
	for i, rule := range all {
		documented(t, rule)
		if err := try(slices.Delete(slices.Clone(all), i, i+1)); err == nil {
			t.Errorf("all works without %s", rule)
		}
	}
}

func documented(t *testing.T, rule string) {
	t.Helper()
	page, err := os.ReadFile("../../docs/registries.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), rule) {
		t.Errorf("docs/registries.md lacks %s", rule)
	}
}

// The rules in docs/registries.md are enough, and none can be left out.
func TestI8EachRightIsNeeded(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, true)
	// Another node has the service, too.
	if _, err := c.Management().Catalog().Register(&api.CatalogRegistration{
		Node: "elsewhere", Address: "198.18.0.99", Service: &api.AgentService{Service: "web"},
	}, nil); err != nil {
		t.Fatal(err)
	}
	nodes := 0 // each try makes a virtual node of its own
	for name, side := range map[string]struct {
		rules string
		open  func(client *consul.Client, node string) (registry, error)
	}{
		"agent": {consultest.FairwayRules, func(client *consul.Client, _ string) (registry, error) {
			identity := consul.NewIdentity(client)
			r, err := agentapi.New(agentapi.Options{Client: client, Identity: identity})
			return withIdentity{r, identity}, err
		}},
		"catalog": {consultest.CatalogRules, func(client *consul.Client, node string) (registry, error) {
			return catalog.New(catalog.Options{Client: client, Cluster: "east", Node: node, Address: netip.MustParseAddr("198.18.0.21")})
		}},
	} {
		live := func(rules []string) error {
			t.Helper()
			client, _ := c.Client.FairwayClient(c.Token(strings.Join(rules, "\n")))
			nodes++
			r, err := side.open(client, fmt.Sprintf("n%d", nodes))
			if err != nil {
				t.Fatal(err)
			}
			return lifeOfAnEntry(t.Context(), r, client)
		}
		t.Run(name, func(t *testing.T) { eachIsNeeded(t, side.rules, live) })
	}
}

// The controller's rules are enough, and none can be left out.
func TestI8EachRightOfTheControllerIsNeeded(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, false)
	agent, _ := c.Server.FairwayClient(c.Token(consultest.CatalogRules))
	live := func(rules []string) error {
		r, err := catalog.New(catalog.Options{Client: agent, Cluster: "east", Node: "n1", Address: netip.MustParseAddr("198.18.0.21")})
		if err != nil {
			t.Fatal(err)
		}
		if err := lifeOfAnEntry(t.Context(), r, agent); err != nil {
			t.Fatal(err)
		}
		in := instance()
		if err := r.Apply(t.Context(), registration.Op{Kind: registration.Register, Instance: in}); err != nil {
			t.Fatal(err)
		}
		client, _ := c.Server.FairwayClient(c.Token(strings.Join(rules, "\n")))
		return endOfANode(t.Context(), catalog.NewLeases(client, "east"))
	}
	eachIsNeeded(t, consultest.ControllerRules, live)
}

// So it is with those of the reaper.
func TestI8EachRightOfTheReaperIsNeeded(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, false)
	agent, _ := c.Server.FairwayClient(c.Token(consultest.CatalogRules))
	r, err := catalog.New(catalog.Options{Client: agent, Cluster: "east", Node: "n1", Address: netip.MustParseAddr("198.18.0.21")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Observe(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.Apply(t.Context(), registration.Op{Kind: registration.Register, Instance: instance()}); err != nil {
		t.Fatal(err)
	}
	question := 0 // each try puts another
	ask := func(rules []string) error {
		client, _ := c.Server.FairwayClient(c.Token(strings.Join(rules, "\n")))
		all, err := catalog.ListAll(t.Context(), client)
		if err != nil {
			return err
		}
		if len(all["east"]) != 1 {
			return fmt.Errorf("it sees %+v", all)
		}
		question++
		lease := all["east"][0]
		lease.Reason = "" // whoever has asked before
		return catalog.NewLeases(client, "east").Ask(t.Context(), lease, fmt.Sprintf("question %d", question))
	}
	eachIsNeeded(t, consultest.ReaperRules, ask)
}

// So it is with those to import.
func TestI8EachRightOfTheImporterIsNeeded(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, false)
	if _, err := c.Management().Catalog().Register(&api.CatalogRegistration{
		Node: "vm-1", Address: "198.18.0.99", Service: &api.AgentService{Service: "web"},
	}, nil); err != nil {
		t.Fatal(err)
	}
	// known tells whether what is asked for is shown, and is known to be all.
	known := func(rules []string) bool {
		client, _ := c.Server.FairwayClient(c.Token(strings.Join(rules, "\n")))
		source, err := discovery.New(client, 4)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); _ = source.Run(ctx) }()
		defer func() { cancel(); <-ended }()
		web := consulimport.Origin{Name: "web"}
		source.Follow([]consulimport.Where{web.Where}, []consulimport.Origin{web}, nil)
		var listing consulimport.Listing
		var answer consulimport.Answer
		consultest.Eventually(t, "Consul answers both questions", func() error {
			listings, answers := source.View()
			listing, answer = listings[web.Where], answers[web]
			if listing.Asked.IsZero() || answer.Asked.IsZero() {
				return errors.New("not yet")
			}
			return nil
		})
		proven := func(r consulimport.Read) bool { return r.Problem == "" && !r.Filtered && !r.Stale }
		return proven(listing.Read) && proven(answer.Read) && len(answer.Instances) == 1
	}
	eachIsNeeded(t, consultest.ImportRules, func(rules []string) error {
		if !known(rules) {
			return errors.New("not known")
		}
		return nil
	})
	documented(t, consultest.PeerRule)
}

// So are those that it needs to publish Services.
func TestI8EachRightOfTheExportIsNeeded(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, false)
	shards := 0 // each try writes to another
	live := func(rules []string) error {
		client, _ := c.Server.FairwayClient(c.Token(strings.Join(rules, "\n")))
		r, err := catalog.New(catalog.Options{Client: client, Cluster: "east", Node: export.ShardName(shards), Placeless: true})
		if err != nil {
			t.Fatal(err)
		}
		shards++
		return lifeOfAService(t.Context(), r)
	}
	eachIsNeeded(t, consultest.ExportRules, live)
}

// lifeOfAService does all that the controller does about an instance of a Service,
// and says what could not be done.
func lifeOfAService(ctx context.Context, r *catalog.Registry) error {
	in := instance()
	in.Endpoint = service.EndpointRef{Namespace: "shop", Service: "web", Key: "ip-198.18.64.7"}
	in.ID = in.Endpoint.InstanceID("web")
	for _, step := range []registration.Kind{registration.Register, registration.SetHealth, registration.Deregister} {
		entries, err := r.Observe(ctx)
		if err != nil {
			return err
		}
		if want := step != registration.Register; (len(entries) == 1) != want {
			return fmt.Errorf("before %s: observed %v", step, entries)
		}
		if err := r.Apply(ctx, registration.Op{Kind: step, Instance: in}); err != nil {
			return err
		}
		in.Health = service.Critical
	}
	return nil
}

// endOfANode does all that the controller does about the only virtual node, and
// says what could not be done.
func endOfANode(ctx context.Context, leases *catalog.Leases) error {
	for _, deed := range []func(context.Context, catalog.Lease) error{
		func(ctx context.Context, lease catalog.Lease) error { return leases.Ask(ctx, lease, "do you live?") },
		func(ctx context.Context, lease catalog.Lease) error { return leases.Expire(ctx, lease, "no answer") },
		leases.Remove,
	} {
		all, err := leases.List(ctx)
		if err != nil {
			return err
		}
		if len(all) != 1 {
			return fmt.Errorf("virtual nodes %v", all)
		}
		lease, err := leases.Read(ctx, all[0])
		if err != nil {
			return err
		}
		if err := deed(ctx, lease); err != nil {
			return err
		}
	}
	return nil
}

func instance() service.Instance {
	const name = "web"
	pod := service.PodRef{Namespace: "shop", Name: name + "-1", UID: "uid-1"}
	return service.Instance{
		ID: service.InstanceID(name, pod), Name: name, Pod: pod,
		Address: netip.MustParseAddr("198.18.64.7"), Port: 8080, Health: service.Passing,
		Weights: service.Weights{Passing: 1, Warning: 1},
		Meta:    map[string]string{service.MetaCluster: "east", service.MetaNode: "n1", service.MetaPodUID: pod.UID},
	}
}

// lifeOfAnEntry does all that an agent does, and says what could not be done.
func lifeOfAnEntry(ctx context.Context, r registry, client *consul.Client) error {
	in := instance()
	if _, err := r.Observe(ctx); err != nil {
		return err
	}
	if err := r.Apply(ctx, registration.Op{Kind: registration.Register, Instance: in}); err != nil {
		return err
	}
	proof := health.NewProver(client, r).Prove(ctx, []service.Instance{in})[in.ID]
	if proof.Finding != gate.Passing {
		return fmt.Errorf("prove: %+v", proof)
	}
	entries, err := r.Observe(ctx)
	if err != nil {
		return err
	}
	if len(entries) != 1 {
		return fmt.Errorf("observed %v", entries)
	}
	in.Health = service.Critical
	return errors.Join(
		r.Renew(ctx, entries),
		r.Apply(ctx, registration.Op{Kind: registration.SetHealth, Instance: in}),
		r.Apply(ctx, registration.Op{Kind: registration.Deregister, Instance: in}),
	)
}
