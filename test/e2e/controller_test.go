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

	"fairway.dev/fairway/internal/consul/catalog"
	"fairway.dev/fairway/lab/cluster"
	"fairway.dev/fairway/lab/timeline"
	"fairway.dev/fairway/lab/workload"
)

// controllersComeAndGo: neither a controller that ends, nor one that takes over,
// nor that none can reach the API server changes anything in Consul.
func controllersComeAndGo(t *testing.T) {
	app := fresh(t, workload.App{Name: "governed", Replicas: 4, LeaveSeconds: 2})
	pods := deployReady(t, app)
	leader := fleet.waitLeader(t, "")
	_, before := lookUp(t, app.Name)

	start := time.Now()
	if err := fleet.kube.CoreV1().Pods(workload.Namespace).Delete(bounded(t), leader.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	leader = fleet.waitLeader(t, leader.Name)
	t.Logf("another leads %s after the leader was deleted", time.Since(start).Round(time.Millisecond))

	undo, err := fleet.lab.Kill(t.Context(), "cp/kube-apiserver")
	undo = begun(t, undo, err)
	start = time.Now()
	if err := fleet.lab.KillContainer(bounded(t), leader.Spec.NodeName, "controller"); err != nil {
		t.Fatal(err)
	}
	// Longer than it takes to call a kubelet late, and for a leader to stand down.
	until(t, "the API server has been away for 30 s", func(context.Context) (bool, string, error) {
		away := time.Since(start)
		return away >= 30*time.Second, away.String(), nil
	})
	unchanged(t, app, before)
	undone(t, undo)
	waiters := []string{"cp/kube-controller-manager", "cp/kube-scheduler"}
	for _, node := range fleet.lab.Nodes() {
		waiters = append(waiters, node+"/kubelet")
	}
	for _, waiter := range waiters {
		// By themselves they look for the API server again after up to a minute.
		if err := fleet.lab.Restart(bounded(t), waiter); err != nil {
			t.Fatal(err)
		}
	}
	fleet.waitLeader(t, "")
	waitNodes(t, "Alive", 2)
	unchanged(t, app, before)
	noFlaps(t, pods.Pods())
}

// nodeDies: a node whose kubelet is dead stays in service, since its pods are;
// when all of it is dead, clients are no longer given its pods, and when it is
// back, they are again.
func nodeDies(t *testing.T) {
	app := fresh(t, workload.App{Name: "bereaved", Replicas: 4, LeaveSeconds: 2})
	pods := deployReady(t, app)
	nodes := fleet.lab.Nodes()
	node := nodes[0]
	if fleet.waitLeader(t, "").Spec.NodeName == node {
		node = nodes[1]
	}
	here := func(p timeline.Pod) bool { return p.Node == node }
	there := count(pods.Pods(), here)
	_, before := lookUp(t, app.Name)

	fleet.tellControllers(t)
	undo, err := fleet.lab.Kill(t.Context(), node+"/kubelet")
	begun(t, undo, err)
	waitNodes(t, "AgentAnswers", 1)
	unchanged(t, app, before)

	undo, err = fleet.lab.KillNode(t.Context(), node)
	undo = begun(t, undo, err)
	killed := time.Now()
	renewed, good := kubeletLease(t, node)
	var hidden time.Time
	until(t, "clients are no longer given the pods of the dead node", func(ctx context.Context) (bool, string, error) {
		listed, err := listings(ctx, app.Name)
		hidden = time.Now()
		return len(listed) == int(app.Replicas)-there, fmt.Sprint(listed), err
	})
	evident := renewed.Add(good)
	t.Logf("%s died: hidden %s after that, %s after its kubelet's Lease, renewed last %s before, had run out", node,
		hidden.Sub(killed).Round(time.Millisecond), hidden.Sub(evident).Round(time.Millisecond), killed.Sub(renewed).Round(time.Second))
	if late := hidden.Sub(evident); late < -time.Second || late > 10*time.Second {
		t.Errorf("hidden %s after the Lease had run out; want at most 10 s", late)
	}
	if lease := leaseCheck(t, node); !strings.Contains(lease.Output, "its agent answers neither at its port nor in Consul") {
		t.Errorf("the lease says %q", lease.Output)
	}

	start := time.Now()
	undone(t, undo)
	until(t, "clients are given all pods again", func(ctx context.Context) (bool, string, error) {
		listed, err := listings(ctx, app.Name)
		return len(listed) == int(app.Replicas), fmt.Sprint(listed), err
	})
	t.Logf("%s is back: shown %s after its start had begun", node, time.Since(start).Round(time.Millisecond))
	waitNodes(t, "Alive", 2)
	for _, p := range pods.Pods() {
		if !here(p) && p.Dropped() {
			t.Errorf("the servers dropped %s, which is on another node", p.Name)
		}
	}
}

func count(pods []timeline.Pod, which func(timeline.Pod) bool) (n int) {
	for _, p := range pods {
		if which(p) {
			n++
		}
	}
	return n
}

// waitNodes waits until the leader counts so many nodes in a state.
func waitNodes(t *testing.T, state string, n int) {
	t.Helper()
	series := fmt.Sprintf("fairway_nodes{state=%q} %d\n", state, n)
	pod := fleet.waitLeader(t, "")
	until(t, "the leader says "+series, func(ctx context.Context) (bool, string, error) {
		said, err := fleet.ask(ctx, pod, "/metrics")
		return strings.Contains(said, series), said, err
	})
}

// kubeletLease is when a node's kubelet has last renewed its Lease, and how long
// that is good for.
func kubeletLease(t *testing.T, node string) (renewed time.Time, good time.Duration) {
	t.Helper()
	lease, err := fleet.kube.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(bounded(t), node, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return lease.Spec.RenewTime.Time, time.Duration(*lease.Spec.LeaseDurationSeconds) * time.Second
}

// leaseCheck is the lease of a node's virtual node.
func leaseCheck(t *testing.T, node string) *api.HealthCheck {
	t.Helper()
	checks, _, err := fleet.consul[0].Health().Node(catalog.NodeName(cluster.ClusterID, node), new(api.QueryOptions).WithContext(bounded(t)))
	if err != nil {
		t.Fatal(err)
	}
	for _, check := range checks {
		if check.CheckID == catalog.LeaseCheck {
			return check
		}
	}
	t.Fatalf("node %s has no lease", node)
	return nil
}
