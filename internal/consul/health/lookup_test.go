package health_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/consul/consultest"
	"fairway.dev/fairway/internal/consul/health"
	"fairway.dev/fairway/internal/service"
	"fairway.dev/fairway/internal/succession"
)

// Lookup returns what the servers hold on the node of the services that are
// asked about, whoever registered it, with all checks that concern it.
func TestLookup(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, true)
	token := c.Token(consultest.FairwayRules)
	client, _ := c.Client.FairwayClient(token)
	prover := health.NewProver(client, consul.NewIdentity(client))
	register := func(agent *consultest.Agent, id, name string, port int, statuses ...string) {
		t.Helper()
		definition := &api.AgentServiceRegistration{ID: id, Name: name, Address: "198.18.64.7", Port: port}
		for _, status := range statuses {
			definition.Checks = append(definition.Checks, &api.AgentServiceCheck{TTL: "1h", Status: status})
		}
		if err := agent.API(token).Agent().ServiceRegister(definition); err != nil {
			t.Fatal(err)
		}
	}
	register(c.Client, "passing", "web", 8080, "passing")
	register(c.Client, "warning", "web", 8080, "warning", "passing")
	register(c.Client, "critical", "admin", 9090, "passing", "critical")
	register(c.Client, "other-name", "other", 8080, "passing")
	register(c.Server, "other-node", "web", 8080, "passing")

	at := func(health service.Health, port uint16) succession.Standing {
		return succession.Standing{Health: health, Address: netip.MustParseAddr("198.18.64.7"), Port: port}
	}
	want := succession.Servers{Held: map[string]succession.Standing{
		"passing": at(service.Passing, 8080), "warning": at(service.Warning, 8080), "critical": at(service.Critical, 9090),
	}}
	got := prover.Lookup(t.Context(), []string{"web", "admin", "nothing"})
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	c.Server.Stop()
	if got := prover.Lookup(t.Context(), []string{"web"}); got.Unknown != consul.ErrUnavailable.Error() || got.Held != nil {
		t.Errorf("without servers: %+v", got)
	}
}

// KatalogNames finds katalog-sync's services by their IDs, and no others.
func TestKatalogNames(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, false)
	token := c.Token(consultest.FairwayRules)
	client, _ := c.Server.FairwayClient(token)
	for id, name := range map[string]string{
		"katalog-sync_web_shop_web-0": "web", "katalog-sync_web_shop_web-1": "web", "katalog-sync_api_shop_api-0": "api",
		"fairway_web_shop_web-0_uid": "web", "mine": "mine",
	} {
		if err := c.Server.API(token).Agent().ServiceRegister(&api.AgentServiceRegistration{
			ID: id, Name: name, Check: &api.AgentServiceCheck{CheckID: id, TTL: "1h"},
		}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := health.KatalogNames(t.Context(), client)
	if diff := cmp.Diff([]string{"api", "web"}, got); diff != "" || err != nil {
		t.Errorf("%v, -want +got:\n%s", err, diff)
	}
}
