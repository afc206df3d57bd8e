package catalog_test

import (
	"fmt"
	"net/netip"
	"strconv"
	"sync"
	"testing"

	"fairway.dev/fairway/internal/consul/catalog"
	"fairway.dev/fairway/internal/consul/consultest"
	"fairway.dev/fairway/internal/consul/health"
	"fairway.dev/fairway/internal/gate"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

// side is Fairway's view of the servers from node n1 of cluster east.
type side struct {
	*catalog.Registry
	*health.Prover
	t *testing.T
}

func newSide(t *testing.T, c *consultest.Cluster, token string) *side {
	t.Helper()
	client, _ := c.Server.FairwayClient(token)
	registry, err := catalog.New(catalog.Options{
		Client: client, Cluster: "east", Node: "n1", Address: netip.MustParseAddr("198.18.0.21"),
	})
	if err != nil {
		t.Fatal(err)
	}
	return &side{Registry: registry, Prover: health.NewProver(client, registry), t: t}
}

func (s *side) apply(kind registration.Kind, in service.Instance) {
	s.t.Helper()
	if err := s.try(kind, in); err != nil {
		s.t.Fatal(err)
	}
}

func (s *side) try(kind registration.Kind, in service.Instance) error {
	return s.Apply(s.t.Context(), registration.Op{Kind: kind, Instance: in})
}

// applyAll applies an op for each instance at the same time.
func (s *side) applyAll(kind registration.Kind, all []service.Instance) []error {
	errs := make([]error, len(all))
	var group sync.WaitGroup
	for i, in := range all {
		group.Go(func() { errs[i] = s.try(kind, in) })
	}
	group.Wait()
	return errs
}

func (s *side) observe() []registration.Entry {
	s.t.Helper()
	entries, err := s.Observe(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return entries
}

func (s *side) renew() {
	s.t.Helper()
	if err := s.Renew(s.t.Context(), s.observe()); err != nil {
		s.t.Fatal(err)
	}
}

func (s *side) prove(in service.Instance) gate.Proof {
	s.t.Helper()
	return s.Prove(s.t.Context(), []service.Instance{in})[in.ID]
}

// raft is the server's index as a number.
func raft(t *testing.T, c *consultest.Cluster) int {
	t.Helper()
	n, err := strconv.Atoi(c.Index())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// web is an instance of service web.
func web(n int, health service.Health) service.Instance { return instanceOf("web", n, health) }

func instanceOf(name string, n int, health service.Health) service.Instance {
	pod := service.PodRef{Namespace: "shop", Name: fmt.Sprintf("%s-%d", name, n), UID: fmt.Sprintf("uid-%d", n)}
	address := netip.AddrFrom4([4]byte{198, 18, byte(64 + n/200), byte(n%200 + 1)})
	return service.Instance{
		ID:      service.InstanceID(name, pod),
		Name:    name,
		Pod:     pod,
		Address: address,
		Port:    8080,
		Tagged:  service.TaggedAddresses([]netip.Addr{address}),
		Weights: service.Weights{Passing: 1, Warning: 1},
		Tags:    []string{"v1", "blue"},
		Meta: map[string]string{
			service.MetaCluster: "east", service.MetaNode: "n1", service.MetaPodUID: pod.UID,
			service.MetaNamespace: pod.Namespace, service.MetaPod: pod.Name, "team": "shop",
		},
		Health: health,
		Notes:  "containers are " + string(health),
	}
}

func many(n int) []service.Instance {
	var all []service.Instance
	for i := range n {
		all = append(all, web(i, service.Passing))
	}
	return all
}
