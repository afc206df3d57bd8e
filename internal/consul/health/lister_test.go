package health_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/annotation"
	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/consul/agentapi"
	"fairway.dev/fairway/internal/consul/catalog"
	"fairway.dev/fairway/internal/consul/consultest"
	"fairway.dev/fairway/internal/consul/health"
	"fairway.dev/fairway/internal/diagnosis"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

// writer carries out ops, as an agent's registry does.
type writer interface {
	Observe(ctx context.Context) ([]registration.Entry, error)
	Apply(ctx context.Context, op registration.Op) error
}

// shopPod is ready and declares service web with all that an entry can hold.
func shopPod(name string, last byte) service.Pod {
	return service.Pod{
		Ref: service.PodRef{Namespace: "shop", Name: name, UID: "uid-" + name},
		Annotations: map[string]string{
			"fairway.dev/service-names": "web", "fairway.dev/service-port": "8080", "fairway.dev/service-tags": "a,b",
			"fairway.dev/service-meta": "team:shop", "fairway.dev/service-weights": "passing:3",
		},
		Addresses: []netip.Addr{netip.AddrFrom4([4]byte{198, 18, 64, last}), netip.MustParseAddr("fd00::7")},
		Phase:     service.PhaseRunning, ContainersReady: true,
	}
}

// TestVerifyBothRegistries: what an agent has registered, in whichever registry,
// is no difference, and what somebody has spoilt at the servers is one.
func TestVerifyBothRegistries(t *testing.T) {
	t.Parallel()
	for name, side := range map[string]struct {
		rules string
		open  func(client *consul.Client) (writer, error)
	}{
		"agent": {consultest.FairwayRules, func(client *consul.Client) (writer, error) {
			return agentapi.New(agentapi.Options{Client: client, Identity: consul.NewIdentity(client)})
		}},
		"catalog": {consultest.CatalogRules, func(client *consul.Client) (writer, error) {
			return catalog.New(catalog.Options{Client: client, Cluster: "east", Node: "n1", Address: netip.MustParseAddr("198.18.0.21")})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := consultest.Start(t, name == "agent")
			client, _ := c.Node().FairwayClient(c.Token(side.rules))
			registry, err := side.open(client)
			if err != nil {
				t.Fatal(err)
			}
			pods := []service.Pod{shopPod("good", 1), shopPod("missing", 2), shopPod("gone", 3), shopPod("spoilt", 4), shopPod("unready", 5), shopPod("ending", 6)}
			register(t, registry, slices.Delete(slices.Clone(pods), 1, 2))

			// One look sees that all is in order, but for the pod that is missing.
			verify := func(pods []service.Pod) diagnosis.CatalogReport {
				t.Helper()
				names, err := health.Names(t.Context(), client)
				if err != nil || !slices.Equal(names, []string{"web"}) {
					t.Fatalf("names %v, %v", names, err)
				}
				facts := diagnosis.CatalogFacts{Cluster: "east", Listings: health.List(t.Context(), client, names)}
				for _, pod := range pods {
					facts.Pods = append(facts.Pods, diagnosis.Placed{Pod: pod, Node: "n1"})
				}
				return diagnosis.Verify(facts)
			}
			if got := verify(slices.Delete(slices.Clone(pods), 1, 2)); len(got.Differences)+len(got.Unknown) > 0 || got.Given != 5 {
				t.Errorf("as registered: %+v", got)
			}

			// Then somebody else has the name, pods change that nobody writes about, and
			// somebody spoils an entry. The node's agent may repair that at any time.
			other := &api.CatalogRegistration{Node: "vm", Address: "198.18.0.50", Service: &api.AgentService{ID: "vm", Service: "web", Port: 1}}
			if _, err := c.Management().Catalog().Register(other, nil); err != nil {
				t.Fatal(err)
			}
			pods[4].ContainersReady, pods[5].Terminating = false, true
			want := map[string]string{
				"shop/missing": diagnosis.Missing, "shop/gone": diagnosis.GivenGone, "shop/spoilt": diagnosis.Differs,
				"shop/unready": diagnosis.GivenUnready, "shop/ending": diagnosis.GivenLeaving,
			}
			consultest.Eventually(t, "the differences are found", func() error {
				spoil(t, c.Management(), pods[3], "somebody-else")
				report := verify(slices.Delete(slices.Clone(pods), 2, 3))
				got := map[string]string{}
				for _, d := range report.Differences {
					got[d.Pod] = d.Kind
				}
				if diff := cmp.Diff(want, got); diff != "" || report.Foreign != 1 || report.Given != 1 {
					return fmt.Errorf("-want +got:\n%s\n%+v", diff, report)
				}
				return nil
			})
		})
	}
}

func register(t *testing.T, registry writer, pods []service.Pod) {
	t.Helper()
	if _, err := registry.Observe(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, pod := range pods {
		for _, in := range registration.Want(pod, annotation.Parse(pod), "east", "n1", 0).Instances {
			if err := registry.Apply(t.Context(), registration.Op{Kind: registration.Register, Instance: in}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// spoil changes the tags of a pod's entry, at the servers and past everybody.
func spoil(t *testing.T, servers *api.Client, pod service.Pod, tag string) {
	t.Helper()
	entries, _, err := servers.Health().Service("web", "", false, &api.QueryOptions{RequireConsistent: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if entry.Service.Meta[service.MetaPodUID] == pod.Ref.UID {
			entry.Service.Tags = []string{tag}
			_, err := servers.Catalog().Register(&api.CatalogRegistration{
				Node: entry.Node.Node, Address: entry.Node.Address, SkipNodeUpdate: true, Service: entry.Service,
			}, nil)
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A client that may not see all, or cannot reach the servers, knows nothing:
// that is said of each name.
func TestListIsWholeOrUnknown(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, false)
	blind, _ := c.Node().FairwayClient(c.Token(`node_prefix "" { policy = "read" }
service "other" { policy = "read" }`))
	register := &api.CatalogRegistration{Node: "vm", Address: "198.18.0.50", Service: &api.AgentService{ID: "vm", Service: "web", Port: 1},
		Check: &api.AgentCheck{CheckID: "vm", ServiceID: "vm", Name: consul.CheckName, Status: api.HealthPassing}}
	if _, err := c.Management().Catalog().Register(register, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := health.Names(t.Context(), blind); err == nil || !strings.Contains(err.Error(), "filtered by Consul's ACLs") {
		t.Errorf("names of a blind client: %v", err)
	}
	listings := health.List(t.Context(), blind, []string{"web", "other"})
	if len(listings) != 2 || listings[0].Service != "web" || listings[0].Problem == "" || listings[1].Problem != "" {
		t.Errorf("a blind client lists %+v", listings)
	}
	c.Server.Stop()
	if listings := health.List(t.Context(), blind, []string{"web"}); listings[0].Problem == "" || listings[0].Entries != nil {
		t.Errorf("without servers: %+v", listings)
	}
	if _, err := health.Names(t.Context(), blind); err == nil {
		t.Error("names without servers")
	}
}
