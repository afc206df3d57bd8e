package agentapi_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/annotation"
	"fairway.dev/fairway/internal/consul/consultest"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

// fullPod uses every annotation, and has an address of each family.
func fullPod() service.Pod {
	return service.Pod{
		Ref: service.PodRef{Namespace: "shop", Name: "web-1", UID: "uid-1"},
		Annotations: map[string]string{
			"fairway.dev/service-names":      "web,admin",
			"fairway.dev/service-port":       "http,metrics",
			"fairway.dev/service-port-admin": "81",
			"fairway.dev/service-tags":       "v1,blue",
			"fairway.dev/service-meta":       "team:shop",
			"fairway.dev/service-health":     "warning",
			"fairway.dev/service-weights":    "passing:10",
			"fairway.dev/service-check-ttl":  "30s",
			"fairway.dev/sidecar":            "gate",
		},
		Addresses:  []netip.Addr{netip.MustParseAddr("198.18.64.1"), netip.MustParseAddr("fd00::1")},
		Ports:      []service.ContainerPort{{Name: "http", Port: 8080, Protocol: "TCP"}, {Name: "metrics", Port: 9090, Protocol: "TCP"}},
		Containers: []service.Container{{Name: "app", Ready: true}, {Name: "gate"}},
		Phase:      service.PhaseRunning,
	}
}

// plan is what is to be written for the pod, as the agent holds it now.
func (s *side) plan(pod service.Pod, checkTTL time.Duration) []registration.Op {
	s.t.Helper()
	state := registration.Want(pod, annotation.Parse(pod), "east", "n1", checkTTL)
	return registration.Decide(registration.Input{
		Cluster: "east", Node: "n1", Claims: []registration.Claim{state}, Entries: s.observe(),
	}).Ops
}

// settle carries out plans until nothing is left to write, and returns the
// reasons of what was written.
func (s *side) settle(pod service.Pod, checkTTL time.Duration) []string {
	s.t.Helper()
	var reasons []string
	for range 3 {
		ops := s.plan(pod, checkTTL)
		if len(ops) == 0 {
			return reasons
		}
		for _, op := range ops {
			if err := s.Apply(s.t.Context(), op); err != nil {
				s.t.Fatal(err)
			}
			reasons = append(reasons, fmt.Sprintf("%s %s: %s", op.Kind, op.Instance.Name, op.Reason))
		}
	}
	s.t.Fatalf("not at rest: %v", reasons)
	return nil
}

// I6: what an annotation asks for is written once, read back as it was asked
// for, and then no write is left, whatever the annotation.
func TestI6EveryFieldIsReadBack(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, true)
	s := newSide(t, c.Client, c.Token(consultest.FairwayRules))
	pods := map[string]service.Pod{"all annotations": fullPod()}
	for key := range fullPod().Annotations { // and without each of them
		if key == "fairway.dev/service-names" {
			continue
		}
		pod := fullPod()
		delete(pod.Annotations, key)
		pods["without "+key] = pod
	}
	v6 := fullPod()
	slices.Reverse(v6.Addresses)
	pods["IPv6 first"] = v6
	single := fullPod()
	single.Addresses = single.Addresses[:1]
	pods["IPv4 alone"] = single

	for name, pod := range pods {
		t.Logf("%s: %v", name, s.settle(pod, time.Hour))
		before := c.Index()
		if reasons := s.settle(pod, time.Hour); len(reasons) > 0 {
			t.Errorf("%s: at rest, and yet written: %v", name, reasons)
		}
		if after := c.Index(); after != before {
			t.Errorf("%s: raft index moved from %s to %s", name, before, after)
		}
	}

	s.settle(fullPod(), time.Hour)
	entries, _, err := c.Management().Health().Service("web", "", false, &api.QueryOptions{RequireConsistent: true})
	if err != nil || len(entries) != 1 {
		t.Fatalf("servers return %v, %v", entries, err)
	}
	got := entries[0].Service
	want := map[string]api.ServiceAddress{
		"lan_ipv4": {Address: "198.18.64.1", Port: 8080}, "wan_ipv4": {Address: "198.18.64.1", Port: 8080},
		"lan_ipv6": {Address: "fd00::1", Port: 8080}, "wan_ipv6": {Address: "fd00::1", Port: 8080},
	}
	if diff := cmp.Diff(want, got.TaggedAddresses); diff != "" {
		t.Errorf("tagged addresses at the servers (-want +got):\n%s", diff)
	}
	if got.Port != 8080 || got.Meta["port-metrics"] != "9090" || got.Weights != (api.AgentWeights{Passing: 10, Warning: 1}) {
		t.Errorf("at the servers: port %d, meta %v, weights %v", got.Port, got.Meta, got.Weights)
	}
	if status := entries[0].Checks.AggregatedStatus(); status != api.HealthWarning {
		t.Errorf("health at the servers: %s, want the fixed warning", status)
	}
}

// What somebody else changes on an entry is repaired, field by field.
func TestForeignEditsAreRepaired(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, true)
	token := c.Token(consultest.FairwayRules)
	s := newSide(t, c.Client, token)
	pod := fullPod()
	s.settle(pod, time.Hour)
	id := service.InstanceID("web", pod.Ref)
	edits := []struct {
		name string
		edit func(*api.AgentServiceRegistration)
		want string
	}{
		{"weights", func(d *api.AgentServiceRegistration) { d.Weights = &api.AgentWeights{Passing: 1} },
			"register web: weights differ: are 1 and 0, should be 10 and 1"},
		{"an address taken away", func(d *api.AgentServiceRegistration) { delete(d.TaggedAddresses, "lan_ipv6") },
			"register web: tagged addresses differ: lan_ipv6"},
		{"an address added, one with another port", func(d *api.AgentServiceRegistration) {
			d.TaggedAddresses["wan"] = api.ServiceAddress{Address: "198.18.64.9", Port: 1}
			d.TaggedAddresses["lan_ipv4"] = api.ServiceAddress{Address: "198.18.64.1", Port: 1}
		}, "register web: tagged addresses differ: lan_ipv4, wan"},
		{"a port's meta", func(d *api.AgentServiceRegistration) { d.Meta["port-metrics"] = "1" }, "register web: meta differs: port-metrics"},
		{"the TTL", func(d *api.AgentServiceRegistration) { d.Check.TTL, d.Check.Notes = "10m", "mine" },
			"register web: check TTL differs: is 0s, should be 30s"},
		{"health", nil, "set-health web: fixed by the annotation service-health"},
	}
	for _, e := range edits {
		agent := c.Client.API(token).Agent()
		if e.edit == nil {
			if err := agent.UpdateTTL(id, "", api.HealthPassing); err != nil {
				t.Fatal(err)
			}
		} else if err := agent.ServiceRegister(edited(t, agent, id, e.edit)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{e.want}, s.settle(pod, time.Hour)); diff != "" {
			t.Errorf("%s: repairs (-want +got):\n%s", e.name, diff)
		}
	}
}

// edited is the agent's entry with a change.
func edited(t *testing.T, agent *api.Agent, id string, edit func(*api.AgentServiceRegistration)) *api.AgentServiceRegistration {
	t.Helper()
	svc, _, err := agent.Service(id, nil)
	if err != nil {
		t.Fatal(err)
	}
	checks, err := agent.Checks()
	if err != nil {
		t.Fatal(err)
	}
	definition := &api.AgentServiceRegistration{
		ID: id, Name: svc.Service, Address: svc.Address, Port: svc.Port, Tags: svc.Tags, Meta: svc.Meta,
		TaggedAddresses: svc.TaggedAddresses, Weights: &svc.Weights,
		Check: &api.AgentServiceCheck{CheckID: id, Name: checks[id].Name, Notes: checks[id].Notes, TTL: "30s"},
	}
	edit(definition)
	return definition
}

// A TTL that changes, by annotation or by the agent's flag, reaches entries that
// exist; one that does not change is left alone also by a process that merely
// hands the entry over.
func TestCheckTTLReachesExistingEntries(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, true)
	token := c.Token(consultest.FairwayRules)
	s := newSide(t, c.Client, token)
	pod := fullPod()
	pod.Annotations = map[string]string{"fairway.dev/service-names": "web", "fairway.dev/service-health": "passing"}
	s.settle(pod, time.Hour)

	want := func(reasons []string, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, reasons); diff != "" {
			t.Errorf("writes (-want +got):\n%s", diff)
		}
	}
	want(s.settle(pod, 2*time.Hour), "register web: check TTL differs: is 1h0m0s, should be 2h0m0s")
	pod.Annotations["fairway.dev/service-check-ttl"] = "10s"
	want(s.settle(pod, 2*time.Hour), "register web: check TTL differs: is 2h0m0s, should be 10s")

	next := newSide(t, c.Client, token) // its own default is an hour
	if err := next.Renew(t.Context(), next.observe()); err != nil {
		t.Fatal(err)
	}
	want(next.settle(pod, 2*time.Hour))
	// The agent keeps to it: nobody renews, so the entry turns critical.
	consultest.Eventually(t, "the dead-man strikes", func() error {
		if got := next.observe()[0]; got.Instance.Health != service.Critical {
			return fmt.Errorf("still %s", got.Instance.Health)
		}
		return nil
	})
	want(next.settle(pod, 2*time.Hour), "set-health web: fixed by the annotation service-health")
}
