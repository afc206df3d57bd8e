package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairway.dev/fairway/lab/workload"
)

// TestI1AnotherClustersAPIRemovesNothing: the API server suddenly knows none of
// the node's pods, and says of each that there is no such pod. The kubelet, which
// would know better, is away. That is proof, but too much of it: nothing is
// removed, and when the API server tells the truth again all is forgotten.
func TestI1AnotherClustersAPIRemovesNothing(t *testing.T) {
	app := fresh(t, workload.App{Name: "mistaken", Replicas: 8})
	pods := deployReady(t, app)
	client := startLoad(t, app.Name)
	_, before := lookUp(t, app.Name)
	node := fleet.lab.Nodes()[0]

	back, err := fleet.lab.Kill(t.Context(), node+"/kubelet")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { undone(t, back) })
	undo := apiFault(t, "elsewhere")
	waitBelieved(t, node, "elsewhere")
	waitFrozen(t, node, true)
	waitLoad(t, client, 300)
	unchanged(t, app, before)

	undo()
	waitFrozen(t, node, false)
	unchanged(t, app, before)
	undone(t, back)
	waitAgent(t, node)
	unchanged(t, app, before)
	stopLoad(t, client)
	noFlaps(t, pods.Pods())
}

// TestI1MassRemovalWaitsForAPerson: somebody takes the annotations of all pods
// of a service away. They stay in service, the agents' pods say why, and the
// person lets them go.
func TestI1MassRemovalWaitsForAPerson(t *testing.T) {
	app := fresh(t, workload.App{Name: "unsigned", Replicas: 8})
	pods := deployReady(t, app)
	_, before := lookUp(t, app.Name)
	byNode := map[string]int{}
	for _, pod := range pods.Pods() {
		byNode[pod.Node]++
		annotate(t, pod, map[string]string{"fairway.dev/service-names": "", "fairway.dev/service-port": ""})
	}
	for _, node := range fleet.lab.Nodes() {
		if byNode[node] < 3 {
			t.Fatalf("%d pods on %s, too few for a mass", byNode[node], node)
		}
		waitFrozen(t, node, true)
	}
	// Two of a node are no mass, whoever comes first.
	found, _ := lookUp(t, app.Name)
	if len(found) < int(app.Replicas)-2*len(byNode) {
		t.Errorf("%d of %d instances are left (index %d)", len(found), app.Replicas, before)
	}

	for _, node := range fleet.lab.Nodes() {
		agent := agentPod(t, node)
		until(t, "the agent of "+node+" says so on its pod", func(ctx context.Context) (bool, string, error) {
			events, err := fleet.kube.CoreV1().Events(agent.Namespace).List(ctx, metav1.ListOptions{
				FieldSelector: "involvedObject.name=" + agent.Name + ",reason=RemovalsFrozen"})
			if err != nil {
				return false, "", err
			}
			for _, event := range events.Items {
				if strings.Contains(event.Message, fmt.Sprintf("instances of service %q on this node would be removed at once, or are missing", app.Name)) {
					return true, "", nil
				}
			}
			return false, fmt.Sprintf("%d Events", len(events.Items)), nil
		})
		permit(t, agent)
		waitFrozen(t, node, false)
	}
	until(t, "all have left", func(context.Context) (bool, string, error) {
		found, _ := lookUp(t, app.Name)
		return len(found) == 0, fmt.Sprintf("%d instances", len(found)), nil
	})
}

// waitFrozen waits until the node's agent holds removals back, or none.
func waitFrozen(t *testing.T, node string, some bool) {
	t.Helper()
	until(t, fmt.Sprintf("removals on %s are frozen: %v", node, some), func(context.Context) (bool, string, error) {
		frozen := metric(t, node, "fairway_removals_frozen")
		return frozen != "" && (frozen != "0") == some, frozen, nil
	})
}

// agentPod is the pod of the node's agent.
func agentPod(t *testing.T, node string) corev1.Pod {
	t.Helper()
	list, err := fleet.kube.CoreV1().Pods(workload.Namespace).List(bounded(t), metav1.ListOptions{
		LabelSelector: "app.kubernetes.io/component=agent", FieldSelector: "spec.nodeName=" + node})
	if err != nil || len(list.Items) != 1 {
		t.Fatalf("agents on %s: %d, %v", node, len(list.Items), err)
	}
	return list.Items[0]
}

// permit lets removals pass, until the test is over.
func permit(t *testing.T, agent corev1.Pod) {
	t.Helper()
	set := func(value string) {
		ctx, cancel := context.WithTimeout(context.Background(), within)
		defer cancel()
		patch := fmt.Sprintf(`{"metadata":{"annotations":{"fairway.dev/allow-removals-until":%s}}}`, value)
		_, err := fleet.kube.CoreV1().Pods(agent.Namespace).Patch(ctx, agent.Name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
		if err != nil {
			t.Errorf("annotate %s: %v", agent.Name, err)
		}
	}
	set(fmt.Sprintf("%q", time.Now().Add(time.Hour).UTC().Format(time.RFC3339)))
	t.Cleanup(func() { set("null") })
}
