package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairway.dev/fairway/internal/service"
	"fairway.dev/fairway/lab/timeline"
	"fairway.dev/fairway/lab/workload"
)

// TestI3RolloutWaitsForConsul: a rolling update advances only as the servers
// return each new pod as passing, and no client notices it.
func TestI3RolloutWaitsForConsul(t *testing.T) {
	app := fresh(t, workload.App{Name: "rolling", Replicas: 4, LeaveSeconds: 2})
	pods := deployReady(t, app)
	client := startLoad(t, app.Name)

	roll(t, app, "2")
	waitRolledOut(t, app)
	waitPods(t, pods, "the old pods are gone", func(pods []timeline.Pod) bool {
		return len(pods) == 8 && len(live(pods)) == 4 && all(pods[:4], timeline.Deleted)
	})
	stopLoad(t, client)

	waitPods(t, pods, "the servers were asked about each pod that was Ready", func(pods []timeline.Pod) bool {
		return !slices.ContainsFunc(pods, func(p timeline.Pod) bool { return p.Denied == 0 && !p.Reached(timeline.Confirmed) })
	})
	for _, p := range pods.Pods() {
		if p.Denied > 0 {
			t.Errorf("%s was Ready and the servers did not return it", p.Name)
		}
	}
	for _, p := range pods.Pods()[:4] {
		// I4: out of service before it stops serving, and that long before.
		left, ok := p.Between(timeline.Out, timeline.Deleted)
		if !ok || left < time.Duration(app.LeaveSeconds)*time.Second/2 {
			t.Errorf("%s left the servers %s before it was gone; want about %ds", p.Name, left, app.LeaveSeconds)
		}
	}
	t.Logf("\n%s", timeline.Table(pods.Pods()))

	until(t, "the entries of the old pods are removed", func(context.Context) (bool, string, error) {
		found := entries(t, app.Name)
		return len(found) == 4, fmt.Sprintf("%d entries", len(found)), nil
	})
}

// TestI2RolloutHaltsWithoutConsulServers: while the servers are away a rolling
// update stands still, says why, and no old pod is lost; when they are back it
// completes by itself.
func TestI2RolloutHaltsWithoutConsulServers(t *testing.T) {
	app := fresh(t, workload.App{Name: "halting", Replicas: 3, LeaveSeconds: 2})
	pods := deployReady(t, app)
	client := startLoad(t, app.Name)

	back := stopConsulServers(t)
	roll(t, app, "2")
	waitPods(t, pods, "a new pod waits for the servers with its containers ready", func(pods []timeline.Pod) bool {
		return len(pods) == 4 && pods[3].Reached(timeline.ContainersReady) && pods[3].GateReason == "WaitingForServers"
	})
	waitLoad(t, client, 1000)
	now := pods.Pods()
	if len(now) != 4 || len(live(now)) != 4 {
		t.Errorf("the update went on without the servers:\n%s", timeline.Table(now))
	}
	if now[3].Reached(timeline.GateOpen) {
		t.Errorf("the gate of %s opened without the servers: %s", now[3].Name, now[3].GateMessage)
	}
	t.Logf("condition while halted: %s: %s", now[3].GateReason, now[3].GateMessage)

	back()
	waitRolledOut(t, app)
	stopLoad(t, client)
	t.Logf("\n%s", timeline.Table(pods.Pods()))
}

// TestGateSaysWhatItWaitsFor: from its start on a gated pod carries a
// condition with a reason and a message (I7), and an Event when it opens.
func TestGateSaysWhatItWaitsFor(t *testing.T) {
	app := fresh(t, workload.App{Name: "speaking", Replicas: 1, Unready: true})
	pods := deploy(t, app)
	waitPods(t, pods, "the gate waits for containers", func(pods []timeline.Pod) bool {
		return len(pods) == 1 && pods[0].GateReason == "WaitingForContainers" && pods[0].IP != ""
	})
	pod := pods.Pods()[0]
	until(t, "the pod is registered and critical", func(context.Context) (bool, string, error) {
		e := entries(t, app.Name)[pod.UID]
		return e != nil && e.Checks.AggregatedStatus() == "critical", fmt.Sprint(e), nil
	})
	if err := fleet.lab.SetReady(bounded(t), pod.IP, true); err != nil {
		t.Fatal(err)
	}
	waitPods(t, pods, "the pod is ready", func(pods []timeline.Pod) bool { return pods[0].Reached(timeline.Ready) })

	now, err := fleet.kube.CoreV1().Pods(pod.Namespace).Get(bounded(t), pod.Name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	gate := condition(now, service.GateReachable)
	if gate.Status != corev1.ConditionTrue || gate.Reason != "Reachable" || !strings.Contains(gate.Message, app.Name) || gate.LastTransitionTime.IsZero() {
		t.Errorf("condition of an open gate: %+v; want True, Reachable, a message that names the service, a transition time", gate)
	}
	t.Logf("condition: %s: %s", gate.Reason, gate.Message)
	waitEvent(t, pod, "Reachable")

	if err := fleet.lab.SetReady(bounded(t), pod.IP, false); err != nil {
		t.Fatal(err)
	}
	until(t, "the pod is critical at the servers", func(context.Context) (bool, string, error) {
		e := entries(t, app.Name)[pod.UID]
		return e.Checks.AggregatedStatus() == "critical", e.Checks.AggregatedStatus(), nil
	})
	now, err = fleet.kube.CoreV1().Pods(pod.Namespace).Get(bounded(t), pod.Name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if gate := condition(now, service.GateReachable); gate.Status != corev1.ConditionTrue {
		t.Errorf("the gate closed again: %+v (I3: it never does)", gate)
	}
}

func condition(pod *corev1.Pod, kind corev1.PodConditionType) corev1.PodCondition {
	for _, c := range pod.Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return corev1.PodCondition{}
}

// waitEvent waits for an Event with the reason on the pod and returns its
// message.
func waitEvent(t *testing.T, pod timeline.Pod, reason string) (message string) {
	t.Helper()
	until(t, "pod "+pod.Name+" has an Event "+reason, func(ctx context.Context) (bool, string, error) {
		events, err := fleet.kube.CoreV1().Events(pod.Namespace).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.uid=" + pod.UID})
		if err != nil {
			return false, "", err
		}
		var reasons []string
		for _, e := range events.Items {
			if e.Reason == reason {
				message = e.Message
				return true, "", nil
			}
			reasons = append(reasons, e.Reason)
		}
		return false, strings.Join(reasons, ", "), nil
	})
	return message
}
