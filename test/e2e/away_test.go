package e2e

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairway.dev/fairway/lab/cluster"
	"fairway.dev/fairway/lab/timeline"
	"fairway.dev/fairway/lab/workload"
)

// outage is something that a node's agent cannot do without.
type outage struct {
	name  string
	begin func(t *testing.T, node string) cluster.Undo
	// says is what the gate of a new pod may say meanwhile; nothing where there
	// is nobody to say it.
	says []string
	// leaver is the health at the servers of a pod that has left meanwhile; none
	// where they cannot be asked.
	leaver string
	// others tells that the node's other pods leave service with it, as Consul
	// does with all that is on a node whose agent has gone.
	others bool
}

var outages = []outage{
	{"the agent away", func(t *testing.T, node string) cluster.Undo {
		undo, err := fleet.lab.PauseContainer(t.Context(), node, "agent")
		return begun(t, undo, err)
	}, []string{""}, api.HealthPassing, false},
	{"the Consul agent away", func(t *testing.T, node string) cluster.Undo {
		undo, err := fleet.lab.Kill(t.Context(), node+"/consul")
		return begun(t, undo, err)
	}, []string{"WaitingForServers"}, api.HealthCritical, true},
	{"the Consul servers away", func(t *testing.T, _ string) cluster.Undo {
		back := stopConsulServers(t)
		return func(context.Context) error { back(); return nil }
	}, []string{"WaitingForServers"}, "", false},
	{"cut off from the Consul servers", func(t *testing.T, node string) cluster.Undo {
		undo, err := fleet.lab.Partition(t.Context(), []string{node}, []string{"consul-1", "consul-2", "consul-3"})
		return begun(t, undo, err)
	}, []string{"WaitingForServers"}, api.HealthPassing, false},
	{"the token revoked", func(t *testing.T, node string) cluster.Undo {
		undo, err := fleet.lab.RevokeToken(t.Context(), fleet.lab.ConsulAccessor(cluster.AgentToken))
		undo = begun(t, undo, err)
		// Consul's agents believe in a token for some time.
		until(t, "the agent's token is refused", func(context.Context) (bool, string, error) {
			publishing := metric(t, node, "fairway_publishing")
			return publishing == "0", publishing, nil
		})
		return undo
	}, []string{"WaitingForServers", "RegistryRefused"}, api.HealthPassing, false},
}

func begun(t *testing.T, undo cluster.Undo, err error) cluster.Undo {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { undone(t, undo) })
	return undo
}

// TestI2NewAndLeavingPods: whatever an agent cannot do without is away, pods
// that are in service stay, a new pod waits at its gate, and one that leaves is
// taken out when it is back, if Consul has not done that by itself.
func TestI2NewAndLeavingPods(t *testing.T) {
	node := fleet.lab.Nodes()[0]
	for _, o := range outages {
		t.Run(o.name, func(t *testing.T) {
			app := fresh(t, workload.App{Name: "outage", Replicas: 2})
			pods := deployOn(t, app, node)
			before := pods.Pods()
			leaver, stays := before[0], before[1]

			undo := o.begin(t, node)
			remove(t, leaver)
			waitPods(t, pods, "one pod has left, and a new one waits", func(pods []timeline.Pod) bool {
				return len(pods) == 3 && pods[0].Reached(timeline.Deleted) &&
					pods[2].Reached(timeline.ContainersReady) && slices.Contains(o.says, pods[2].GateReason)
			})
			if o.leaver != "" {
				want := map[string]string{leaver.UID: o.leaver, stays.UID: api.HealthPassing}
				if o.others {
					want[stays.UID] = api.HealthCritical
				}
				waitHealth(t, app, want)
			}
			now := pods.Pods()
			t.Logf("the new pod's gate: %q: %s", now[2].GateReason, now[2].GateMessage)
			if now[2].Reached(timeline.GateOpen) || now[2].Reached(timeline.Passing) {
				t.Errorf("the gate of the new pod has opened, or it was passing:\n%s", timeline.Table(now))
			}

			undone(t, undo)
			waitPods(t, pods, "the new pod is Ready", func(pods []timeline.Pod) bool { return pods[2].Reached(timeline.Ready) })
			waitHealth(t, app, map[string]string{stays.UID: api.HealthPassing, now[2].UID: api.HealthPassing})
			if !o.others {
				noFlaps(t, pods.Pods()[1:])
			}
		})
	}
}

// TestShortDeadMan: a pod that asks for it is out of service when no agent has
// renewed its entry for so long, and back with the agent.
func TestShortDeadMan(t *testing.T) {
	node := fleet.lab.Nodes()[0]
	app := fresh(t, workload.App{Name: "unattended", Replicas: 1, Annotations: map[string]string{"fairway.dev/service-check-ttl": "10s"}})
	pod := deployOn(t, app, node).Pods()[0]
	undo, err := fleet.lab.PauseContainer(t.Context(), node, "agent")
	undo = begun(t, undo, err)
	waitHealth(t, app, map[string]string{pod.UID: api.HealthCritical})
	undone(t, undo)
	waitHealth(t, app, map[string]string{pod.UID: api.HealthPassing})
}

// TestI4LeavingPodWithoutItsKubelet: a pod that is deleted while nobody can stop
// it is out of service all the same.
func TestI4LeavingPodWithoutItsKubelet(t *testing.T) {
	node := fleet.lab.Nodes()[0]
	app := fresh(t, workload.App{Name: "unstopped", Replicas: 2})
	pods := deployOn(t, app, node)
	leaver, stays := pods.Pods()[0], pods.Pods()[1]
	undo, err := fleet.lab.Stop(t.Context(), node+"/kubelet")
	undo = begun(t, undo, err)
	remove(t, leaver)
	waitHealth(t, app, map[string]string{leaver.UID: api.HealthCritical, stays.UID: api.HealthPassing})
	if pods.Pods()[0].Reached(timeline.Deleted) {
		t.Error("the pod has gone, although its kubelet was away")
	}
	undone(t, undo)
	waitRolledOut(t, app)
	noFlaps(t, pods.Pods()[1:])
}

// deployOn creates the app with all its pods on one node, and waits until they
// are Ready.
func deployOn(t *testing.T, app workload.App, node string) *timeline.Recorder {
	t.Helper()
	pods := follow(t, app)
	deployment := app.Deployment()
	deployment.Spec.Template.Spec.NodeSelector = map[string]string{corev1.LabelHostname: node}
	if _, err := fleet.kube.AppsV1().Deployments(app.Namespace).Create(bounded(t), deployment, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	waitPods(t, pods, "all pods are ready", func(pods []timeline.Pod) bool {
		return len(pods) == int(app.Replicas) && all(pods, timeline.Ready)
	})
	return pods
}

// waitHealth waits until the servers hold just these pods of the app, by UID.
func waitHealth(t *testing.T, app workload.App, want map[string]string) {
	t.Helper()
	until(t, fmt.Sprintf("the servers hold %v", want), func(context.Context) (bool, string, error) {
		got := map[string]string{}
		for uid, entry := range entries(t, app.Name) {
			got[uid] = entry.Checks.AggregatedStatus()
		}
		return maps.Equal(got, want), fmt.Sprint(got), nil
	})
}

// TestI2ChangesGoOn: what takes away only one of several, or one of two sources,
// holds up neither a pod that is new nor one that leaves.
func TestI2ChangesGoOn(t *testing.T) {
	node := fleet.lab.Nodes()[0]
	leader := func(t *testing.T) string {
		t.Helper()
		server, err := timeline.Leader(t.Context(), fleet.consul)
		if err != nil {
			t.Fatal(err)
		}
		host, err := server.Agent().NodeName()
		if err != nil {
			t.Fatal(err)
		}
		return host
	}
	for _, fault := range []struct {
		name  string
		begin func(*testing.T) (cluster.Undo, error)
	}{
		{"the kubelet's API refuses", func(t *testing.T) (cluster.Undo, error) { return fleet.lab.KubeletFault(t.Context(), node, "403") }},
		{"Consul's leader killed", func(t *testing.T) (cluster.Undo, error) { return fleet.lab.Kill(t.Context(), leader(t)+"/consul") }},
		{"Consul's leader cut off", func(t *testing.T) (cluster.Undo, error) { return fleet.lab.CutLink(t.Context(), leader(t)) }},
	} {
		t.Run(fault.name, func(t *testing.T) {
			app := fresh(t, workload.App{Name: "unhindered", Replicas: 2})
			pods := deployOn(t, app, node)
			undo, err := fault.begin(t)
			undo = begun(t, undo, err)
			remove(t, pods.Pods()[0])
			waitPods(t, pods, "one pod has left, and a new one is Ready", func(pods []timeline.Pod) bool {
				return len(pods) == 3 && pods[0].Reached(timeline.Deleted) && pods[0].Reached(timeline.Out) && pods[2].Reached(timeline.Ready)
			})
			noFlaps(t, pods.Pods()[1:])
			undone(t, undo)
			waitConsul(t)
		})
	}
}

// waitConsul waits until every Consul server reaches the leader. One that was cut off
// is told of the others: by itself it looks for them again every 30 s.
func waitConsul(t *testing.T) {
	t.Helper()
	until(t, "every Consul server reaches the leader", func(ctx context.Context) (bool, string, error) {
		for i, server := range fleet.consul {
			next := fleet.lab.Host(fmt.Sprintf("consul-%d", (i+1)%len(fleet.consul)+1))
			if err := server.Agent().Join(next.Addr.String(), false); err != nil {
				return false, "", err
			}
			if _, _, err := server.Catalog().Nodes((&api.QueryOptions{RequireConsistent: true}).WithContext(ctx)); err != nil {
				return false, "", err
			}
		}
		return true, "", nil
	})
}

// TestNewPodWhileTheAPIServerRefuses: what the kubelet tells of a new pod is
// published, and its gate waits until it can be written.
func TestNewPodWhileTheAPIServerRefuses(t *testing.T) {
	node := fleet.lab.Nodes()[0]
	app := fresh(t, workload.App{Name: "found", Replicas: 2})
	pods := deployOn(t, app, node)
	waitLive(t, node)
	undo := apiFault(t, "403")
	remove(t, pods.Pods()[0])
	waitPods(t, pods, "one pod has left, and a new one is found and not Ready", func(pods []timeline.Pod) bool {
		return len(pods) == 3 && pods[0].Reached(timeline.Deleted) && pods[0].Reached(timeline.Out) && pods[2].Reached(timeline.Passing)
	})
	if pods.Pods()[2].Reached(timeline.GateOpen) {
		t.Error("the gate has opened: Fairway was not cut off")
	}
	undo()
	waitPods(t, pods, "the new pod is Ready", func(pods []timeline.Pod) bool { return pods[2].Reached(timeline.Ready) })
}
