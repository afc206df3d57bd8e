package katalogsync_test

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/consul/consultest"
	"fairway.dev/fairway/internal/consul/katalogsync"
	"fairway.dev/fairway/internal/service"
	"fairway.dev/fairway/internal/succession"
)

// register registers a pod as katalog-sync does.
func register(t *testing.T, agent *api.Agent, pod, ttl string, edit func(*api.AgentServiceRegistration)) (id string) {
	t.Helper()
	ref := service.PodRef{Namespace: "shop", Name: pod}
	id = succession.EntryID("web", ref)
	definition := &api.AgentServiceRegistration{
		ID: id, Name: "web", Address: "198.18.64.1", Port: 8080,
		Meta: map[string]string{
			"external-source": "kubernetes", "external-sync-source": "katalog-sync", "external-k8s-link": ref.String(),
			"external-k8s-namespace": ref.Namespace, "external-k8s-pod": ref.Name,
		},
		Check: &api.AgentServiceCheck{CheckID: id, TTL: ttl, Status: api.HealthPassing},
	}
	if edit != nil {
		edit(definition)
	}
	if err := agent.ServiceRegister(definition); err != nil {
		t.Fatal(err)
	}
	return id
}

// What katalog-sync has registered is read as it is, and only that.
func TestObserve(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, true)
	token := c.Token(consultest.FairwayRules)
	client, _ := c.Client.FairwayClient(token)
	agent := c.Client.API(token).Agent()
	entries := katalogsync.New(client, consul.NewIdentity(client))

	register(t, agent, "a-passing", "1h", nil)
	warning := register(t, agent, "b-warning", "1h", nil)
	if err := agent.UpdateTTL(warning, "{}", api.HealthWarning); err != nil {
		t.Fatal(err)
	}
	critical := register(t, agent, "c-critical", "1h", nil)
	if err := agent.UpdateTTL(critical, "{\n  \"app\": false\n}", api.HealthCritical); err != nil {
		t.Fatal(err)
	}
	register(t, agent, "d-expired", "1s", nil)
	failing := register(t, agent, "e-expired-when-critical", "1s", nil)
	if err := agent.UpdateTTL(failing, "{}", api.HealthCritical); err != nil {
		t.Fatal(err)
	}
	register(t, agent, "f-no-port", "1h", func(d *api.AgentServiceRegistration) { d.Port = -1 })
	register(t, agent, "g-no-check", "1h", func(d *api.AgentServiceRegistration) { d.Check = nil })
	register(t, agent, "other", "1h", func(d *api.AgentServiceRegistration) { d.Meta["external-sync-source"] = "mine" })
	register(t, agent, "nobody", "1h", func(d *api.AgentServiceRegistration) { d.Meta = nil })

	want := map[string]succession.Entry{}
	entry := func(pod string, port uint16, health service.Health, expired bool) {
		ref := service.PodRef{Namespace: "shop", Name: pod}
		id := succession.EntryID("web", ref)
		want[id] = succession.Entry{
			ID: id, Service: "web", Pod: ref, Address: netip.MustParseAddr("198.18.64.1"), Port: port, Health: health, Expired: expired,
		}
	}
	entry("a-passing", 8080, service.Passing, false)
	entry("b-warning", 8080, service.Warning, false)
	entry("c-critical", 8080, service.Critical, false)
	entry("d-expired", 8080, service.Critical, true)
	entry("e-expired-when-critical", 8080, service.Critical, true)
	entry("f-no-port", 0, service.Passing, false)
	entry("g-no-check", 8080, "", false)
	consultest.Eventually(t, "all are read as they are", func() error {
		found, err := entries.Observe(t.Context())
		got := map[string]succession.Entry{}
		for _, e := range found {
			got[e.ID] = e
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" || err != nil {
			return fmt.Errorf("%w, -want +got:\n%s", err, diff)
		}
		return nil
	})
}

// Only what nobody renews can be removed.
func TestRemove(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, true)
	token := c.Token(consultest.FairwayRules)
	client, _ := c.Client.FairwayClient(token)
	agent := c.Client.API(token).Agent()
	entries := katalogsync.New(client, consul.NewIdentity(client))

	id := register(t, agent, "web-0", "1s", nil)
	if err := entries.Remove(t.Context(), id, false); !errors.Is(err, katalogsync.ErrRenewed) {
		t.Errorf("an entry that was just renewed: %v", err)
	}
	consultest.Eventually(t, "the entry is removed", func() error { return entries.Remove(t.Context(), id, false) })
	if err := entries.Remove(t.Context(), id, false); err != nil {
		t.Errorf("an entry that is gone: %v", err)
	}
	over := register(t, agent, "web-2", "1h", nil)
	if err := entries.Remove(t.Context(), over, true); err != nil {
		t.Errorf("an entry of a pod that is over: %v", err)
	}
	foreign := register(t, agent, "web-1", "1s", func(d *api.AgentServiceRegistration) { d.Meta = nil })
	if err := entries.Remove(t.Context(), foreign, true); err != nil {
		t.Error(err)
	}
	services, err := agent.Services()
	if err != nil || len(services) != 1 || services[foreign] == nil {
		t.Errorf("left: %v, %v; want what is not katalog-sync's", services, err)
	}
}

// I1: an answer that is not whole is an error, never "none".
func TestI1KatalogEntriesUnknown(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, true)
	register(t, c.Client.API(c.ManagementToken()).Agent(), "web-0", "1h", nil)
	blind, _ := c.Client.FairwayClient(c.Token(`
		agent_prefix "" { policy = "read" }
		node_prefix "" { policy = "read" }
		service "other" { policy = "write" }`))
	if got, err := katalogsync.New(blind, consul.NewIdentity(blind)).Observe(t.Context()); !errors.Is(err, consul.ErrFiltered) {
		t.Errorf("filtered: %v, %v", got, err)
	}
	client, _ := c.Client.FairwayClient(c.Token(consultest.FairwayRules))
	c.Client.Stop()
	if got, err := katalogsync.New(client, consul.NewIdentity(client)).Observe(t.Context()); !errors.Is(err, consul.ErrUnavailable) {
		t.Errorf("without an agent: %v, %v", got, err)
	}
}
