package leftover_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/consul/consultest"
	"fairway.dev/fairway/internal/consul/leftover"
	"fairway.dev/fairway/internal/purge"
)

// world is a Consul that a registrar has left entries in.
type world struct {
	*testing.T
	*consultest.Cluster
	client *consul.Client
}

func newWorld(t *testing.T) *world {
	c := consultest.Start(t, false)
	client, _ := c.Server.FairwayClient(c.ManagementToken())
	return &world{t, c, client}
}

// register puts an entry under a virtual node; without a health it has no check.
func (w *world) register(node string, nodeMeta map[string]string, name, address, health string, meta map[string]string) {
	w.Helper()
	registration := &api.CatalogRegistration{
		Node: node, Address: "127.0.0.1", NodeMeta: nodeMeta,
		Service: &api.AgentService{ID: name + "-" + address, Service: name, Address: address, Port: 80, Meta: meta},
	}
	if health != "" {
		registration.Checks = api.HealthChecks{{Node: node, CheckID: name + "-" + address, Name: "readiness", ServiceID: name + "-" + address, Status: health}}
	}
	if _, err := w.Management().Catalog().Register(registration, nil); err != nil {
		w.Fatal(err)
	}
}

func (w *world) find(q leftover.Query) *leftover.Found {
	w.Helper()
	found, err := leftover.Find(w.Context(), w.client, q)
	if err != nil {
		w.Fatal(err)
	}
	return found
}

// held are the IDs under a Consul node; nil if there is no such node.
func (w *world) held(node string) (ids []string) {
	w.Helper()
	list, _, err := w.Management().Catalog().NodeServiceList(node, nil)
	if err != nil {
		w.Fatal(err)
	}
	if list.Node == nil {
		return nil
	}
	ids = []string{}
	for _, svc := range list.Services {
		ids = append(ids, svc.ID)
	}
	slices.Sort(ids)
	return ids
}

func decide(f *leftover.Found) []purge.Decision {
	return purge.Decide(purge.Input{Asked: f.Asked, Others: f.Others})
}

// What a registrar has left goes where nobody misses it, and its node with the
// last entry; nothing else is touched.
func TestPurge(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	kubernetes := map[string]string{"external-source": "kubernetes"}
	east := map[string]string{"fairway-cluster": "east"}
	w.register("k8s-sync", nil, "web", "10.0.0.1", api.HealthPassing, kubernetes)
	w.register("k8s-sync", nil, "web", "10.0.0.2", api.HealthPassing, kubernetes)
	w.register("k8s-sync", nil, "web", "10.0.0.3", api.HealthCritical, kubernetes)
	w.register("k8s-sync", nil, "db", "10.0.0.4", api.HealthCritical, kubernetes)
	w.register("k8s-sync", nil, "vm", "10.0.0.5", api.HealthCritical, nil)
	w.register("fairway-east", east, "web", "10.0.0.1", api.HealthPassing, kubernetes)

	found := w.find(leftover.Query{Node: "k8s-sync", Filter: `Service == "web"`})
	if len(found.Asked) != 3 || len(found.Others) != 1 {
		t.Fatalf("asked %+v, others %+v", found.Asked, found.Others)
	}
	failed, nodes, err := found.Remove(t.Context(), w.client, decide(found))
	if err != nil || len(failed) > 0 || len(nodes) > 0 {
		t.Errorf("failed %v, nodes %v, %v", failed, nodes, err)
	}
	if diff := cmp.Diff([]string{"db-10.0.0.4", "vm-10.0.0.5", "web-10.0.0.2"}, w.held("k8s-sync")); diff != "" {
		t.Errorf("-want +held:\n%s", diff)
	}

	found = w.find(leftover.Query{Cluster: "east"})
	everything := purge.Decide(purge.Input{Asked: found.Asked, Others: found.Others, InService: true})
	failed, nodes, err = found.Remove(t.Context(), w.client, everything)
	if err != nil || len(failed) > 0 || !slices.Equal(nodes, []string{"fairway-east"}) {
		t.Errorf("the whole cluster: failed %v, nodes %v, %v", failed, nodes, err)
	}
	if held := w.held("fairway-east"); held != nil {
		t.Errorf("the cluster's node still holds %q", held)
	}
	if len(w.held("k8s-sync")) != 3 {
		t.Errorf("another's entries were touched: %q", w.held("k8s-sync"))
	}
}

// A node of Kubernetes that has nothing left goes, too, with all of it or of its
// cluster: whoever took out its last entry may not have had the right.
func TestEmptyNode(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	kubernetes := map[string]string{"external-source": "kubernetes"}
	for node, meta := range map[string]map[string]string{"k8s-sync": kubernetes, "vm": nil, "fairway-east": {"fairway-cluster": "east", "external-source": "kubernetes"}} {
		w.register(node, meta, "web", "10.0.0.1", "", kubernetes)
	}
	mayNotWriteNodes, _ := w.Server.FairwayClient(w.Token(`node_prefix "" { policy = "read" } service_prefix "" { policy = "write" }`))
	for _, q := range []leftover.Query{{Node: "k8s-sync"}, {Node: "vm"}, {Cluster: "east"}} {
		found := w.find(q)
		if len(found.Empty) > 0 {
			t.Errorf("%+v: %q is empty", q, found.Empty)
		}
		everything := purge.Decide(purge.Input{Asked: found.Asked, InService: true})
		if failed, nodes, err := found.Remove(t.Context(), mayNotWriteNodes, everything); len(failed) > 0 || len(nodes) > 0 || !errors.Is(err, consul.ErrDenied) {
			t.Errorf("%+v: failed %v, nodes %v, %v; want the entry gone, and the node denied", q, failed, nodes, err)
		}
	}
	for _, tt := range []struct {
		query leftover.Query
		want  []string
	}{
		{leftover.Query{Node: "vm"}, nil},
		{leftover.Query{Node: "k8s-sync", Filter: `Service == "web"`}, nil},
		{leftover.Query{Cluster: "east", Filter: `Service == "web"`}, nil},
		{leftover.Query{Node: "k8s-sync"}, []string{"k8s-sync"}},
		{leftover.Query{Cluster: "east"}, []string{"fairway-east"}},
	} {
		found := w.find(tt.query)
		if _, nodes, err := found.Remove(t.Context(), w.client, decide(found)); !slices.Equal(found.Empty, tt.want) || !slices.Equal(nodes, tt.want) || err != nil {
			t.Errorf("%+v: empty %q, nodes %v, %v; want %q", tt.query, found.Empty, nodes, err, tt.want)
		}
	}
}

// A node on which somebody keeps a lease stays.
func TestKeptNodeStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	kubernetes := map[string]string{"external-source": "kubernetes"}
	w.register("fairway-east", map[string]string{"fairway-cluster": "east", "external-source": "kubernetes"}, "web", "10.0.0.1", api.HealthCritical, kubernetes)
	_, err := w.Management().Catalog().Register(&api.CatalogRegistration{
		Node: "fairway-east", SkipNodeUpdate: true,
		Check: &api.AgentCheck{Node: "fairway-east", CheckID: "fairway-lease", Name: "lease", Status: api.HealthPassing},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	found := w.find(leftover.Query{Cluster: "east"})
	failed, nodes, err := found.Remove(t.Context(), w.client, decide(found))
	if err != nil || len(failed) > 0 || len(nodes) > 0 {
		t.Errorf("failed %v, nodes %v, %v", failed, nodes, err)
	}
	if held := w.held("fairway-east"); held == nil || len(held) > 0 {
		t.Errorf("the node holds %q; want it, and nothing under it", held)
	}
	if found := w.find(leftover.Query{Node: "fairway-east"}); len(found.Empty) > 0 {
		t.Error("it is taken for one that nobody keeps")
	}
}

// Nodes of a cluster that hold nothing go with all of it, but for those that are kept.
func TestEmptyNodesOfAClusterGo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	east := map[string]string{"fairway-cluster": "east", "external-source": "kubernetes"}
	for node, lease := range map[string]string{"fairway-east-dead": api.HealthCritical, "fairway-east-kept": api.HealthPassing, "fairway-east-services": ""} {
		r := &api.CatalogRegistration{Node: node, Address: "10.0.0.1", NodeMeta: east}
		if lease != "" {
			r.Check = &api.AgentCheck{Node: node, CheckID: "fairway-lease", Name: "lease", Status: lease}
		}
		if _, err := w.Management().Catalog().Register(r, nil); err != nil {
			t.Fatal(err)
		}
	}
	found := w.find(leftover.Query{Cluster: "east"})
	want := []string{"fairway-east-dead", "fairway-east-services"}
	if diff := cmp.Diff(want, found.Empty); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	failed, nodes, err := found.Remove(t.Context(), w.client, decide(found))
	slices.Sort(nodes)
	if diff := cmp.Diff(want, nodes); diff != "" || err != nil || len(failed) > 0 {
		t.Errorf("failed %v, %v; -want +removed:\n%s", failed, err, diff)
	}
	if w.held("fairway-east-kept") == nil {
		t.Error("a node that is kept was removed")
	}
}

// What has come back since it was looked at stays.
func TestWhatChangesMeanwhileStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	kubernetes := map[string]string{"external-source": "kubernetes"}
	w.register("k8s-sync", nil, "web", "10.0.0.1", api.HealthCritical, kubernetes)
	w.register("k8s-sync", nil, "web", "10.0.0.2", api.HealthCritical, kubernetes)
	found := w.find(leftover.Query{Node: "k8s-sync"})
	w.register("k8s-sync", nil, "web", "10.0.0.2", api.HealthPassing, kubernetes)

	failed, _, err := found.Remove(t.Context(), w.client, decide(found))
	if err != nil || len(failed) != 1 || !errors.Is(failed[1], consul.ErrConflict) {
		t.Errorf("failed %v, %v; want a conflict about the second", failed, err)
	}
	if diff := cmp.Diff([]string{"web-10.0.0.2"}, w.held("k8s-sync")); diff != "" {
		t.Errorf("-want +held:\n%s", diff)
	}
}

// An answer that ACLs have filtered is not known; a node that a Consul agent
// keeps is known for one.
func TestFind(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.register("k8s-sync", nil, "web", "10.0.0.1", api.HealthCritical, nil)
	blind, _ := w.Server.FairwayClient(w.Token(`node_prefix "" { policy = "read" }`))
	if found, err := leftover.Find(t.Context(), blind, leftover.Query{Node: "k8s-sync"}); !errors.Is(err, consul.ErrFiltered) {
		t.Errorf("without the right to see services: %+v, %v", found, err)
	}
	if found := w.find(leftover.Query{Node: "k8s"}); len(found.Asked) != 0 {
		t.Errorf("a node that is not there: %+v", found.Asked)
	}
	if _, err := leftover.Find(t.Context(), w.client, leftover.Query{Node: "k8s-sync", Filter: `Servic == "web"`}); !errors.Is(err, consul.ErrInvalid) || !strings.Contains(err.Error(), `filter Servic == "web": Selector "Servic" is not valid`) {
		t.Errorf("a filter that makes no sense: %v", err)
	}
	found := w.find(leftover.Query{Node: "server"})
	if len(found.Asked) == 0 || !found.Asked[0].Agent {
		t.Errorf("the server's own node: %+v", found.Asked)
	}
}
