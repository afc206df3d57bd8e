package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairway.dev/fairway/lab/cluster"
	"fairway.dev/fairway/lab/workload"
)

// TestI5TwoClustersOneConsul: two clusters and a VM offer the same services in one
// Consul. Whatever becomes of one of the clusters, of Fairway there, or of Consul's
// leader, nobody writes what is not its own, and nothing that is healthy leaves. Until
// Consul's data is lost a reaper looks on that reaches no agent at its port.
func TestI5TwoClustersOneConsul(t *testing.T) {
	p := bringUpPair(t)
	for _, step := range []struct {
		name string
		test func(t *testing.T)
	}{
		{"one name", p.oneName},
		{"the command line", p.commandLine},
		{"by name", p.byName},
		{"an EndpointSlice is deleted", p.sliceDeleted},
		{"an app is scaled", p.scaled},
		{"controllers end", p.controllersEnd},
		{"Consul's leader is killed", p.consulLeaderKilled},
		{"the token sees nothing", p.tokenSeesNothing},
		{"an API server is away", p.apiServerAway},
		{"a service leaves Consul", p.serviceLeaves},
		{"the agents' ports are shut", p.portsShut},
		{"Consul's data is lost", p.dataLost},
		{"a cluster dies", p.clusterDies},
		{"Fairway is uninstalled", p.uninstalled},
	} {
		t.Run(step.name, step.test)
	}
}

// oneName: Consul has the instances of both clusters, each under virtual nodes of its
// own, and those that are alike but for their clusters have the same ID.
func (p *pair) oneName(t *testing.T) {
	serving(t, p.web, 4)
	all := serving(t, p.hand, 9)
	ids := map[string]int{}
	for key, one := range all {
		node, id, _ := strings.Cut(key, " ")
		ids[id]++
		for _, s := range p.sides() {
			if s.of(one) != strings.HasPrefix(node, s.virtualNodes()) {
				t.Errorf("%s of cluster %q stands under node %s", id, one.Cluster, node)
			}
		}
	}
	if len(ids) != 5 {
		t.Errorf("%d IDs, want 4 that both clusters use, and the VM's: %v", len(ids), ids)
	}
}

// sliceDeleted: one of several EndpointSlices takes its own endpoints with it, and
// those come back with it.
func (p *pair) sliceDeleted(t *testing.T) {
	before := stands(t, p.hand)
	if err := p.east.kube.DiscoveryV1().EndpointSlices(p.app.Namespace).Delete(bounded(t), p.hand+"-a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	serving(t, p.hand, 7)
	ofSlice := func(one standing) bool {
		return p.east.of(one) && (one.Address == "203.0.113.1" || one.Address == "203.0.113.2")
	}
	before.but(ofSlice).untouched(t, p.hand)
	svc, err := p.east.kube.CoreV1().Services(p.app.Namespace).Get(bounded(t), p.hand, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p.east.createSlice(t, svc, "a")
	serving(t, p.hand, 9)
	before.but(ofSlice).untouched(t, p.hand)
}

// scaled: who comes and goes in one cluster is nothing to the others.
func (p *pair) scaled(t *testing.T) {
	for _, s := range p.sides() {
		before := stands(t, p.web)
		p.scale(t, s, 3)
		serving(t, p.web, 5)
		before.untouched(t, p.web)

		before = stands(t, p.web)
		p.scale(t, s, 2)
		now := serving(t, p.web, 4)
		for key, one := range before {
			if _, stays := now[key]; stays {
				continue
			}
			if delete(before, key); !s.of(one) {
				t.Errorf("%s of cluster %s has gone", key, one.Cluster)
			}
		}
		before.untouched(t, p.web)
	}
}

func (p *pair) scale(t *testing.T, s side, replicas int) {
	t.Helper()
	s.patchDeployment(t, p.app, fmt.Sprintf(`{"spec":{"replicas":%d}}`, replicas))
}

// controllersEnd: in whatever order controllers end, whether they can say goodbye or
// not, nothing is written; and what changes after is.
func (p *pair) controllersEnd(t *testing.T) {
	web, hand := stands(t, p.web), stands(t, p.hand)
	for _, end := range []struct {
		what string
		side side
		end  func(t *testing.T, leader, standby *corev1.Pod)
	}{
		{"the leader is killed", p.east, func(t *testing.T, leader, _ *corev1.Pod) { p.east.killControllers(t, leader.Spec.NodeName) }},
		{"the standby is killed", p.east, func(t *testing.T, _, standby *corev1.Pod) { p.east.killControllers(t, standby.Spec.NodeName) }},
		{"the leader is deleted, then the standby", p.east, func(t *testing.T, leader, standby *corev1.Pod) {
			p.east.deleteController(t, leader)
			p.east.deleteController(t, standby)
		}},
		{"both are killed", p.west, func(t *testing.T, leader, _ *corev1.Pod) { p.west.killControllers(t, leader.Spec.NodeName) }}, // on one node
		{"the standby is deleted, then the leader", p.west, func(t *testing.T, leader, standby *corev1.Pod) {
			p.west.deleteController(t, standby)
			p.west.deleteController(t, leader)
		}},
	} {
		t.Run(end.side.lab.Name+": "+end.what, func(t *testing.T) {
			end.side.waitControllers(t)
			leader := end.side.waitLeader(t, "")
			pods, err := end.side.controllers(bounded(t))
			if err != nil {
				t.Fatal(err)
			}
			standby := &pods[0]
			if standby.Name == leader.Name {
				standby = &pods[1]
			}
			began := time.Now()
			end.end(t, leader, standby)
			end.side.waitControllers(t)
			t.Logf("all are back after %s", time.Since(began).Round(time.Millisecond))
			web.untouched(t, p.web)
			hand.untouched(t, p.hand)
		})
	}
	for _, s := range p.sides() {
		p.scale(t, s, 3)
	}
	serving(t, p.web, 6)
	web.untouched(t, p.web)
	for _, s := range p.sides() {
		p.scale(t, s, 2)
	}
	serving(t, p.web, 4)
}

// consulLeaderKilled: what changes while Consul elects another leader is written once
// there is one, and nothing else.
func (p *pair) consulLeaderKilled(t *testing.T) {
	before := stands(t, p.web)
	undo, err := fleet.lab.Kill(t.Context(), consulLeader(t)+"/consul")
	undo = begun(t, undo, err)
	p.scale(t, p.west, 3)
	serving(t, p.web, 5)
	before.untouched(t, p.web)
	undone(t, undo)
	p.scale(t, p.west, 2)
	serving(t, p.web, 4)
	before.but(p.west.of).untouched(t, p.web)
}

// consulLeader is the host of Consul's leader.
func consulLeader(t *testing.T) (host string) {
	t.Helper()
	until(t, "Consul has a leader", func(ctx context.Context) (bool, string, error) {
		address, err := fleet.consul[0].Status().LeaderWithQueryOptions(new(api.QueryOptions).WithContext(ctx))
		for i := range fleet.consul {
			if name := fmt.Sprintf("consul-%d", i+1); strings.HasPrefix(address, fleet.lab.Host(name).Addr.String()+":") {
				host = name
			}
		}
		return host != "", address, err
	})
	return host
}

// tokenSeesNothing: to a cluster whose token sees nothing of Consul all is unknown.
// It writes nothing, and what is imported there stays; the other goes on.
func (p *pair) tokenSeesNothing(t *testing.T) {
	policy, _, err := fleet.consul[0].ACL().PolicyReadByName(p.west.lab.ConsulName(cluster.CatalogToken), new(api.QueryOptions).WithContext(bounded(t)))
	if err != nil || policy == nil {
		t.Fatalf("policy: %v, %v", policy, err)
	}
	rules := policy.Rules
	before := stands(t, p.web)
	leader := p.west.waitLeader(t, "")
	t.Cleanup(func() { setRules(t, policy, rules) }) // the next steps count on it
	setRules(t, policy, `node_prefix "" { policy = "read" }`)
	p.scale(t, p.west, 3)
	until(t, "the controller says that it is refused, or sees nothing", func(ctx context.Context) (bool, string, error) {
		said, err := p.west.ask(ctx, leader, "/readyz")
		return strings.Contains(said, "could not be read") || strings.Contains(said, "Consul refuses"), said, err
	})
	p.west.waitRolledOut(t, p.app)
	p.scale(t, p.east, 3)
	serving(t, p.web, 5)
	before.untouched(t, p.web)
	p.west.shell(t).eventually(1, []string{"the agent of the only node is ready", "problem", " is not ready: "}, "doctor")

	setRules(t, policy, rules)
	serving(t, p.web, 6)
	before.untouched(t, p.web)
	for _, s := range p.sides() {
		p.scale(t, s, 2)
	}
	serving(t, p.web, 4)
}

// apiServerAway: without its API server a cluster's Fairway leaves all as it is, even
// if it has just started; the other goes on.
func (p *pair) apiServerAway(t *testing.T) {
	before, hand := stands(t, p.web), stands(t, p.hand)
	leader := p.west.waitLeader(t, "")
	undo, err := p.west.lab.Kill(t.Context(), "cp/kube-apiserver")
	undo = begun(t, undo, err)
	p.west.killControllers(t, leader.Spec.NodeName)
	until(t, "a controller waits for the API server", func(ctx context.Context) (bool, string, error) {
		said, err := p.west.ask(ctx, leader, "/readyz")
		return strings.Contains(said, "are not complete yet"), said, err
	})
	p.scale(t, p.east, 3)
	serving(t, p.web, 5)
	before.untouched(t, p.web)
	hand.untouched(t, p.hand)

	undone(t, undo)
	for _, waiter := range []string{"cp/kube-controller-manager", "cp/kube-scheduler", "n1/kubelet"} {
		// By themselves they look for the API server again after up to a minute.
		if err := p.west.lab.Restart(bounded(t), waiter); err != nil {
			t.Fatal(err)
		}
	}
	p.west.waitControllers(t)
	before.untouched(t, p.web)
	hand.untouched(t, p.hand)
	p.scale(t, p.east, 2)
	serving(t, p.web, 4)
}

// uninstalled: a Fairway that is taken away leaves all as it is, and so does one that
// is told not to publish any more; one that may not publish a namespace takes out what
// it has published of it, and nothing else.
func (p *pair) uninstalled(t *testing.T) {
	web, hand := stands(t, p.web), stands(t, p.hand)
	if err := workload.UninstallFairway(bounded(t), p.west.lab); err != nil {
		t.Fatal(err)
	}
	web.untouched(t, p.web)
	hand.untouched(t, p.hand)

	configure := func(values ...string) {
		t.Helper()
		if err := workload.Configure(bounded(t), p.west.lab, workload.ConsulServers, values...); err != nil {
			t.Fatal(err)
		}
	}
	configure("controller.export.enabled=false")
	web.untouched(t, p.web)
	hand.untouched(t, p.hand)
	configure("controller.export.enabled=true", "controller.export.exceptNamespaces={"+p.app.Namespace+"}")
	serving(t, p.web, 2)
	serving(t, p.hand, 5)
	web.but(p.west.of).untouched(t, p.web)
	hand.but(p.west.of).untouched(t, p.hand)
}
