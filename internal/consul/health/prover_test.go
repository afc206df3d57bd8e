package health_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/consul/consultest"
	"fairway.dev/fairway/internal/consul/health"
	"fairway.dev/fairway/internal/gate"
	"fairway.dev/fairway/internal/service"
)

// TestProve asks about instances that are wrong in one way each.
func TestProve(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, true)
	token := c.Token(consultest.FairwayRules)
	client, _ := c.Client.FairwayClient(token)
	prover := health.NewProver(client, consul.NewIdentity(client))

	instance := func(name string) service.Instance {
		pod := service.PodRef{Namespace: "shop", Name: name, UID: "uid-" + name}
		return service.Instance{
			ID: service.InstanceID("web", pod), Name: "web", Pod: pod,
			Address: netip.MustParseAddr("198.18.64.7"), Port: 8080,
		}
	}
	register := func(agent *consultest.Agent, in service.Instance, edit func(*api.AgentServiceRegistration)) {
		t.Helper()
		definition := &api.AgentServiceRegistration{
			ID: in.ID, Name: in.Name, Address: in.Address.String(), Port: int(in.Port),
			Meta:  map[string]string{service.MetaPodUID: in.Pod.UID},
			Check: &api.AgentServiceCheck{CheckID: in.ID, TTL: "1h", Status: api.HealthPassing},
		}
		edit(definition)
		if err := agent.API(token).Agent().ServiceRegister(definition); err != nil {
			t.Fatal(err)
		}
	}
	right := func(*api.AgentServiceRegistration) {}

	want := map[string]string{} // by ID: the detail, empty for passing
	var all []service.Instance
	try := func(name, detail string, agent *consultest.Agent, edit func(*api.AgentServiceRegistration)) {
		in := instance(name)
		register(agent, in, edit)
		all = append(all, in)
		want[in.ID] = detail
	}
	try("right", "", c.Client, right)
	try("right-too", "", c.Client, right) // more than a question names one by one
	try("critical", "its own check is critical", c.Client, func(d *api.AgentServiceRegistration) { d.Check.Status = api.HealthCritical })
	try("warning", "its own check is warning", c.Client, func(d *api.AgentServiceRegistration) { d.Check.Status = api.HealthWarning })
	try("foreign-check", `check "probe" is critical`, c.Client, func(d *api.AgentServiceRegistration) {
		d.Checks = api.AgentServiceChecks{{CheckID: "probe", Name: "probe", TTL: "1h", Status: api.HealthCritical}}
	})
	try("other-address", `the servers give address "198.18.64.8" instead of 198.18.64.7`, c.Client, func(d *api.AgentServiceRegistration) { d.Address = "198.18.64.8" })
	try("other-port", "the servers give port 9090 instead of 8080", c.Client, func(d *api.AgentServiceRegistration) { d.Port = 9090 })
	try("other-life", "the servers' entry is of another life of the pod", c.Client, func(d *api.AgentServiceRegistration) { d.Meta = nil })
	try("other-node", "not in the servers' catalog", c.Server, right)
	missing := instance("missing")
	missing.Name = "nowhere"
	all = append(all, missing)
	want[missing.ID] = "not in the servers' catalog"

	details := func(proofs map[string]gate.Proof) map[string]string {
		got := map[string]string{}
		for id, proof := range proofs {
			got[id] = proof.Detail
			if (proof.Finding == gate.Passing) != (proof.Detail == "") || proof.Finding == gate.Unknown || proof.Index == 0 || proof.At.IsZero() {
				t.Errorf("%s: %+v", id, proof)
			}
		}
		return got
	}
	if diff := cmp.Diff(want, details(prover.Prove(t.Context(), all))); diff != "" {
		t.Errorf("all asked about (-want +got):\n%s", diff)
	}
	for _, in := range all {
		got := details(prover.Prove(t.Context(), []service.Instance{in}))
		if diff := cmp.Diff(map[string]string{in.ID: want[in.ID]}, got); diff != "" {
			t.Errorf("one asked about (-want +got):\n%s", diff)
		}
	}

	// What hides a whole node hides its instances.
	if err := c.Client.API(c.ManagementToken()).Agent().EnableNodeMaintenance("test"); err != nil {
		t.Fatal(err)
	}
	proof := prover.Prove(t.Context(), all[:1])[all[0].ID]
	if proof.Finding != gate.Absent || !strings.Contains(proof.Detail, "Node Maintenance Mode") {
		t.Errorf("in maintenance: %+v", proof)
	}
}
