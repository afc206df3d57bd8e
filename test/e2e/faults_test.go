package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"fairway.dev/fairway/lab/timeline"
	"fairway.dev/fairway/lab/workload"
)

// TestI2AgentKilledUnderLoad: a killed agent that comes back changes nothing:
// the index of the service does not move and no call fails.
func TestI2AgentKilledUnderLoad(t *testing.T) {
	app := fresh(t, workload.App{Name: "survivor", Replicas: 6})
	pods := deployReady(t, app)
	client := startLoad(t, app.Name)
	_, before := lookUp(t, app.Name)

	for _, node := range fleet.lab.Nodes() {
		killAgent(t, node)
		waitAgent(t, node)
	}
	waitLoad(t, client, 500)
	unchanged(t, app, before)
	stopLoad(t, client)
	noFlaps(t, pods.Pods())
}

// TestI1LyingAPIRemovesNothing: whatever the API server (or something before
// it) answers instead of the truth, at the agent's start or while it runs,
// nothing is deregistered and nothing changes at the servers.
func TestI1LyingAPIRemovesNothing(t *testing.T) {
	app := fresh(t, workload.App{Name: "unshaken", Replicas: 4})
	pods := deployReady(t, app)
	client := startLoad(t, app.Name)
	_, before := lookUp(t, app.Name)
	node := fleet.lab.Nodes()[0]

	for _, mode := range []string{"403", "500", "garbage", "empty", "hang"} {
		t.Run("while running/"+mode, func(t *testing.T) {
			undo := apiFault(t, mode)
			waitLied(t, mode, 0)
			waitBelieved(t, node, mode)
			unchanged(t, app, before)
			undo()
			waitAgent(t, node)
			unchanged(t, app, before)
		})
		t.Run("at start/"+mode, func(t *testing.T) {
			undo := apiFault(t, mode)
			met := lied(t)
			killAgent(t, node)
			waitLied(t, mode, met)
			waitBelieved(t, node, mode)
			unchanged(t, app, before)
			undo()
			waitAgent(t, node)
			unchanged(t, app, before)
		})
	}
	stopLoad(t, client)
	noFlaps(t, pods.Pods())
}

// TestI2APIServerAway: with no API server at all, the agent that runs and the
// one that starts change nothing. What the pods are, the new one has from the
// kubelet.
func TestI2APIServerAway(t *testing.T) {
	app := fresh(t, workload.App{Name: "headless", Replicas: 4})
	pods := deployReady(t, app)
	client := startLoad(t, app.Name)
	_, before := lookUp(t, app.Name)
	node := fleet.lab.Nodes()[0]

	back, err := fleet.lab.Kill(t.Context(), "cp/kube-apiserver")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { undone(t, back) })
	killAgent(t, node)
	until(t, "the new agent is ready without the API server", func(ctx context.Context) (bool, string, error) {
		status, body, err := ask(ctx, node, "/readyz")
		return status == http.StatusOK && strings.Contains(body, "informer: no complete list yet"), body, err
	})
	waitLoad(t, client, 500)
	unchanged(t, app, before)

	undone(t, back)
	waitAgent(t, node)
	unchanged(t, app, before)
	stopLoad(t, client)
	noFlaps(t, pods.Pods())
}

// TestI1LyingKubeletRemovesNothing is the same for the kubelet's API.
func TestI1LyingKubeletRemovesNothing(t *testing.T) {
	app := fresh(t, workload.App{Name: "unmoved", Replicas: 4})
	pods := deployReady(t, app)
	_, before := lookUp(t, app.Name)
	node := fleet.lab.Nodes()[0]
	for _, mode := range []string{"403", "garbage", "empty", "hang"} {
		t.Run(mode, func(t *testing.T) {
			undo, err := fleet.lab.KubeletFault(t.Context(), node, mode)
			if err != nil {
				t.Fatal(err)
			}
			defer undone(t, undo)
			killAgent(t, node)
			waitAgent(t, node)
			unchanged(t, app, before)
		})
	}
	noFlaps(t, pods.Pods())
}

// TestPodDeletedWhileAgentIsAway: what happened while nobody watched is proven
// by asking for that very pod, and only then removed. The kubelets, which would
// tell, have no socket here.
func TestPodDeletedWhileAgentIsAway(t *testing.T) {
	app := fresh(t, workload.App{Name: "vanishing", Replicas: 2})
	pods := deployReady(t, app)
	node := fleet.lab.Nodes()[0]
	for _, node := range fleet.lab.Nodes() {
		back, err := fleet.lab.RestartWith(t.Context(), node+"/kubelet", "--feature-gates=PodsAPI=false")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { undone(t, back) })
	}
	undo := apiFault(t, "403") // Fairway alone is cut off from the truth
	met := lied(t)
	killAgent(t, node)
	waitLied(t, "403", met)

	patchDeployment(t, app, `{"spec":{"replicas":0}}`)
	waitPods(t, pods, "the pods are gone", func(pods []timeline.Pod) bool { return all(pods, timeline.Deleted) })
	if found := entries(t, app.Name); len(found) != 2 {
		t.Errorf("%d entries while the agents cannot know that the pods are gone; want 2", len(found))
	}
	undo()
	until(t, "the entries are removed", func(context.Context) (bool, string, error) {
		found := entries(t, app.Name)
		return len(found) == 0, fmt.Sprintf("%d entries", len(found)), nil
	})
}

// unchanged fails if anything about the service has moved since the index.
func unchanged(t *testing.T, app workload.App, before uint64) {
	t.Helper()
	found, now := lookUp(t, app.Name)
	if now != before || len(found) != int(app.Replicas) {
		t.Errorf("service %s: %d instances at index %d; want %d at %d", app.Name, len(found), now, app.Replicas, before)
	}
}

// stopConsulServers kills all servers; the returned function starts them again.
func stopConsulServers(t *testing.T) (back func()) {
	t.Helper()
	var undos []func(context.Context) error
	for i := 1; i <= 3; i++ {
		undo, err := fleet.lab.Kill(t.Context(), fmt.Sprintf("consul-%d/consul", i))
		if err != nil {
			t.Fatal(err)
		}
		undos = append(undos, undo)
	}
	done := false
	back = func() {
		if done {
			return
		}
		done = true
		for _, undo := range undos {
			undone(t, undo)
		}
	}
	t.Cleanup(back)
	return back
}

// apiFault makes the API server that Fairway sees answer in the given mode.
func apiFault(t *testing.T, mode string) (undo func()) {
	t.Helper()
	back, err := fleet.lab.APIFault(t.Context(), mode)
	if err != nil {
		t.Fatal(err)
	}
	done := false
	undo = func() {
		if !done {
			done = true
			undone(t, back)
		}
	}
	t.Cleanup(undo)
	return undo
}

func undone(t *testing.T, undo func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	if err := undo(ctx); err != nil {
		t.Errorf("undo the fault: %v", err)
	}
}

// lied is how many requests have met the fault since it began.
func lied(t *testing.T) int {
	t.Helper()
	n, err := fleet.lab.APIFaultMet(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// waitLied waits until the agents have met the fault often enough, beyond the
// number before, to have acted on it. A request that hangs, or that seems to
// succeed, is not made a second time.
func waitLied(t *testing.T, mode string, before int) {
	t.Helper()
	want := before + 3
	if mode == "hang" || mode == "empty" {
		want = before + 1
	}
	until(t, fmt.Sprintf("%d requests met the fault", want), func(ctx context.Context) (bool, string, error) {
		now, err := fleet.lab.APIFaultMet(ctx)
		return now >= want, fmt.Sprint(now), err
	})
}

// waitBelieved waits, where the lie is that there are no pods, until the node's
// agent has taken it for the API server's list.
func waitBelieved(t *testing.T, node, mode string) {
	t.Helper()
	if mode != "empty" && mode != "elsewhere" {
		return
	}
	until(t, "the agent of "+node+" has an empty list", func(context.Context) (bool, string, error) {
		pods := metric(t, node, `fairway_source_pods{source="informer"}`)
		return pods == "0", pods, nil
	})
}

// killAgent ends the node's agent with SIGKILL and waits until its kubelet has
// started it again.
func killAgent(t *testing.T, node string) {
	t.Helper()
	before := started(t, node)
	if before == "" {
		t.Fatalf("the agent of %s does not tell when it was started", node)
	}
	if err := fleet.lab.KillContainer(t.Context(), node, "agent"); err != nil {
		t.Fatal(err)
	}
	until(t, "the agent of "+node+" is another process", func(context.Context) (bool, string, error) {
		now := started(t, node)
		return now != "" && now != before, now, nil
	})
}

// started is when the node's agent was started, in its own words; empty if it
// does not answer.
func started(t *testing.T, node string) string {
	t.Helper()
	return metric(t, node, "process_start_time_seconds")
}

// metric is what the node's agent says of a series; empty if it does not.
func metric(t *testing.T, node, series string) string {
	t.Helper()
	_, metrics, err := ask(t.Context(), node, "/metrics")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(metrics) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// waitAgent waits until the node's agent says that it publishes.
func waitAgent(t *testing.T, node string) {
	t.Helper()
	until(t, "the agent of "+node+" is ready", func(ctx context.Context) (bool, string, error) {
		got, body, err := ask(ctx, node, "/readyz")
		return got == http.StatusOK, fmt.Sprint(got, " ", body), err
	})
}

// ask makes a request to the node's agent, from the node.
func ask(ctx context.Context, node, path string) (status int, body string, err error) {
	return workload.AskAgent(ctx, fleet.lab, node, path)
}
