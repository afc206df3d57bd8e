package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/service"
	"fairway.dev/fairway/lab/cluster"
	"fairway.dev/fairway/lab/matrix"
	"fairway.dev/fairway/lab/workload"
)

// TestCatalogMode: a cluster moves to the registry of the Consul servers and
// back, as docs/registries.md says, and no client notices. In between Fairway
// keeps there what it promises with client agents; the nodes' stand idle.
func TestCatalogMode(t *testing.T) {
	app := fresh(t, workload.App{Name: "moving", Replicas: 4})
	pods := deployReady(t, app)
	t.Cleanup(func() { // the other tests count on it, even if this one fails
		if fleet.registry != workload.ConsulAgents {
			moveRegistry(t, workload.ConsulAgents)
		}
	})

	t.Run("move there", func(t *testing.T) {
		client := startLoad(t, app.Name)
		moveRegistry(t, workload.ConsulServers)
		waitListed(t, app, "by the virtual nodes and the old ones", 2)
		for _, node := range fleet.lab.Nodes() {
			leaveAgent(t, node)
		}
		waitListed(t, app, "by the virtual nodes alone", 1)
		waitLoad(t, client, 300)
		stopLoad(t, client)
		noFlaps(t, pods.Pods())
	})
	for _, kept := range []struct {
		name string
		test func(*testing.T)
	}{
		{"rollout waits for Consul", TestI3RolloutWaitsForConsul},
		{"agent killed under load", TestI2AgentKilledUnderLoad},
		{"rollout halts without Consul servers", TestI2RolloutHaltsWithoutConsulServers},
		{"pod deleted while agent is away", TestPodDeletedWhileAgentIsAway},
		{"drain loses no request", TestDrainLosesNoRequest},
		{"faults", func(t *testing.T) { tryFaults(t, someFaults(t)) }},
		{"controllers come and go", controllersComeAndGo},
		{"a node dies", nodeDies},
		{"login", logIn},
	} {
		t.Run(kept.name, kept.test)
	}
	t.Run("move back", func(t *testing.T) {
		pods := follow(t, app) // anew: some were on the node that died
		client := startLoad(t, app.Name)
		moveRegistry(t, workload.ConsulAgents)
		waitListed(t, app, "by the client agents and the virtual nodes", 2)
		fleet.leaveServers(t)
		waitListed(t, app, "by the client agents alone", 1)
		waitLoad(t, client, 300)
		stopLoad(t, client)
		noFlaps(t, pods.Pods())
	})
}

// logIn: agents that log in with their service account need no secret, and get
// another token by themselves when Consul does not know theirs any more.
func logIn(t *testing.T) {
	app := fresh(t, workload.App{Name: "no-secret", Replicas: 2, LeaveSeconds: 2})
	deployReady(t, app)
	client := startLoad(t, app.Name)
	_, before := lookUp(t, app.Name)
	if err := workload.LogIn(bounded(t), fleet.lab, fleet.kube, fleet.registry); err != nil {
		t.Fatal(err)
	}
	unchanged(t, app, before)

	acl, ctx := fleet.consul[0].ACL(), bounded(t)
	tokens, _, err := acl.TokenListFiltered(api.ACLTokenFilterOptions{AuthMethod: workload.AuthMethod}, new(api.QueryOptions).WithContext(ctx))
	if err != nil || len(tokens) != len(fleet.lab.Nodes())+workload.Controllers {
		t.Fatalf("%d tokens of logins, %v; want one for each node and each controller", len(tokens), err)
	}
	for _, token := range tokens {
		if _, err := acl.TokenDelete(token.AccessorID, new(api.WriteOptions).WithContext(ctx)); err != nil {
			t.Fatal(err)
		}
	}
	roll(t, app, "2")
	waitRolledOut(t, app)
	stopLoad(t, client)
}

// someFaults are those of the matrix that the registry has most to do with, and
// that no other test here has tried.
func someFaults(t *testing.T) []matrix.Fault {
	t.Helper()
	names := []string{"Consul's leader killed", "a Consul server cut off", "a node cut off from the Consul servers", "Fairway's Consul token revoked and replaced"}
	faults := slices.DeleteFunc(matrix.Faults(fleet.registry), func(f matrix.Fault) bool { return !slices.Contains(names, f.Name) })
	if len(faults) != len(names) {
		t.Fatalf("the matrix has %d of the faults %v", len(faults), names)
	}
	return faults
}

// moveRegistry gives Fairway another registry, and values of the chart.
func moveRegistry(t *testing.T, registry workload.Registry, values ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	if err := workload.Configure(ctx, fleet.lab, registry, values...); err != nil {
		t.Fatal(err)
	}
	fleet.registry = registry
	for _, node := range fleet.lab.Nodes() {
		waitAgent(t, node)
	}
}

// waitListed waits until the servers give clients each pod of the app under so
// many Consul nodes, one of them that of the registry which Fairway uses now.
func waitListed(t *testing.T, app workload.App, what string, times int) {
	t.Helper()
	until(t, "each pod is listed "+what, func(ctx context.Context) (bool, string, error) {
		listed, err := listings(ctx, app.Name)
		if err != nil {
			return false, "", err
		}
		done := len(listed) == int(app.Replicas)
		for _, nodes := range listed {
			done = done && len(nodes) == times && slices.ContainsFunc(nodes, ofRegistry)
		}
		return done, fmt.Sprint(listed), nil
	})
}

// ofRegistry tells whether a Consul node is one under which pods are registered
// now.
func ofRegistry(node string) bool {
	return strings.HasPrefix(node, "fairway-") == (fleet.registry == workload.ConsulServers)
}

// listings are the Consul nodes under which clients are given a service's pods,
// by pod UID.
func listings(ctx context.Context, name string) (map[string][]string, error) {
	list, _, err := fleet.consul[0].Health().Service(name, "", true, (&api.QueryOptions{RequireConsistent: true}).WithContext(ctx))
	if err != nil {
		return nil, err
	}
	listed := map[string][]string{}
	for _, e := range list {
		uid := e.Service.Meta[service.MetaPodUID]
		listed[uid] = append(listed[uid], e.Node.Node)
	}
	return listed, nil
}

// leaveAgent takes out what Fairway has left in a node's Consul client agent.
func leaveAgent(t *testing.T, node string) {
	t.Helper()
	agent := fleet.lab.Consul(node).Agent()
	q := new(api.QueryOptions).WithContext(bounded(t))
	left, err := agent.ServicesWithFilterOpts(fmt.Sprintf("Meta[%q] == %q", service.MetaCluster, cluster.ClusterID), q)
	if err != nil {
		t.Fatal(err)
	}
	for id := range left {
		if err := agent.ServiceDeregisterOpts(id, q); err != nil {
			t.Fatal(err)
		}
	}
}

// leaveServers takes out the virtual nodes that the side's Fairway has left at the
// servers.
func (s side) leaveServers(t *testing.T) {
	t.Helper()
	catalog, ctx := fleet.consul[0].Catalog(), bounded(t)
	nodes, _, err := catalog.Nodes((&api.QueryOptions{NodeMeta: map[string]string{service.MetaCluster: s.lab.ClusterID()}}).WithContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	for _, node := range nodes {
		if _, err := catalog.Deregister(&api.CatalogDeregistration{Node: node.Node}, new(api.WriteOptions).WithContext(ctx)); err != nil {
			t.Fatal(err)
		}
	}
}
