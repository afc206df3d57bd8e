package agentapi_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/consul/agentapi"
	"fairway.dev/fairway/internal/consul/consultest"
	"fairway.dev/fairway/internal/consul/health"
	"fairway.dev/fairway/internal/gate"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

// side is Fairway's view of one Consul agent.
type side struct {
	*agentapi.Registry
	*health.Prover
	t         *testing.T
	tokenFile string
}

func newSide(t *testing.T, agent *consultest.Agent, token string) *side {
	t.Helper()
	client, tokenFile := agent.FairwayClient(token)
	identity := consul.NewIdentity(client)
	registry, err := agentapi.New(agentapi.Options{Client: client, Identity: identity, CheckTTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return &side{Registry: registry, Prover: health.NewProver(client, identity), t: t, tokenFile: tokenFile}
}

func (s *side) apply(kind registration.Kind, in service.Instance) {
	s.t.Helper()
	if err := s.Apply(s.t.Context(), registration.Op{Kind: kind, Instance: in}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *side) observe() []registration.Entry {
	s.t.Helper()
	entries, err := s.Observe(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return entries
}

func (s *side) prove(in service.Instance) gate.Proof {
	s.t.Helper()
	return s.Prove(s.t.Context(), []service.Instance{in})[in.ID]
}

// web is an instance of service web.
func web(n int, health service.Health) service.Instance {
	pod := service.PodRef{Namespace: "shop", Name: fmt.Sprintf("web-%d", n), UID: fmt.Sprintf("uid-%d", n)}
	address := netip.AddrFrom4([4]byte{198, 18, 64, byte(n)})
	return service.Instance{
		ID:      service.InstanceID("web", pod),
		Name:    "web",
		Pod:     pod,
		Address: address,
		Port:    8080,
		Tagged:  service.TaggedAddresses([]netip.Addr{address}),
		Tags:    []string{"v1", "blue"},
		Meta: map[string]string{
			service.MetaCluster: "east", service.MetaNode: "n1", service.MetaPodUID: pod.UID,
			service.MetaNamespace: pod.Namespace, service.MetaPod: pod.Name, "team": "shop",
		},
		Weights:  service.Weights{Passing: 1, Warning: 1},
		CheckTTL: time.Hour,
		Health:   health,
		Notes:    "containers are " + string(health),
	}
}
