package matrix

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairway.dev/fairway/internal/service"
	"fairway.dev/fairway/lab/workload"
)

// calm is for how long everything must be as it should be. A client agent that
// has found its servers again compares its entries with theirs up to 3 seconds
// later (serverUpIntv in Consul's agent/ae).
const calm = 4 * time.Second

// settle waits until everything is as it should be, and stays so. It returns
// how long after its call that was not yet so, and what was not.
func (f *Fleet) settle(ctx context.Context) (after time.Duration, amiss string, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	began := time.Now()
	last := began // when something was found amiss
	for time.Since(last) < calm {
		if err := f.unsettled(ctx); err != nil {
			last, amiss = time.Now(), err.Error()
		}
		if wait(ctx, 50*time.Millisecond) != nil {
			return 0, amiss, fmt.Errorf("the fleet does not come to rest: %s", amiss)
		}
	}
	f.rested = true
	return last.Sub(began), amiss, nil
}

// unsettled says what is not as it should be.
func (f *Fleet) unsettled(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := f.agentsUnsettled(ctx); err != nil {
		return err
	}
	pods, err := f.Kube.CoreV1().Pods(f.app.Namespace).List(ctx, metav1.ListOptions{LabelSelector: f.app.Selector()})
	if err != nil {
		return err
	}
	return f.podsUnsettled(ctx, pods.Items)
}

func (f *Fleet) agentsUnsettled(ctx context.Context) error {
	for _, node := range f.Lab.Nodes() {
		status, body, err := workload.AskAgent(ctx, f.Lab, node, "/readyz")
		if err != nil {
			return fmt.Errorf("agent of %s: %w", node, err)
		}
		if status != http.StatusOK {
			return fmt.Errorf("agent of %s: %d %s", node, status, body)
		}
	}
	agents, err := f.Kube.AppsV1().DaemonSets(workload.Namespace).Get(ctx, workload.AgentName, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if s := agents.Status; s.ObservedGeneration < agents.Generation || s.NumberReady != s.DesiredNumberScheduled || s.UpdatedNumberScheduled != s.DesiredNumberScheduled {
		return fmt.Errorf("agents: %d of %d ready, %d up to date", s.NumberReady, s.DesiredNumberScheduled, s.UpdatedNumberScheduled)
	}
	return nil
}

// podsUnsettled looks at the pods at the API server, in the nodes' Consul agents
// if they are registered there, and at Consul's servers.
func (f *Fleet) podsUnsettled(ctx context.Context, pods []corev1.Pod) error {
	ready := map[string]bool{}
	for i := range pods {
		if podReady(&pods[i]) {
			ready[string(pods[i].UID)] = true
		}
	}
	if len(ready) != int(f.app.Replicas) || len(pods) != len(ready) {
		return fmt.Errorf("%d pods, %d ready, want %d", len(pods), len(ready), f.app.Replicas)
	}
	entries, err := f.entries(ctx)
	if err != nil {
		return err
	}
	for node, agent := range f.agents {
		if err := unregistered(ctx, agent, node, pods); err != nil {
			return err
		}
	}
	passing := 0
	for _, e := range entries {
		if e.Checks.AggregatedStatus() == api.HealthPassing && ready[e.Service.Meta[service.MetaPodUID]] {
			passing++
		}
	}
	if passing != len(ready) || len(entries) != passing {
		return fmt.Errorf("%d entries, %d passing, want %d", len(entries), passing, len(ready))
	}
	return nil
}

// unregistered says which pods the Consul agent of a node does not hold.
func unregistered(ctx context.Context, agent *api.Client, node string, pods []corev1.Pod) error {
	services, err := agent.Agent().ServicesWithFilterOpts("", new(api.QueryOptions).WithContext(ctx))
	if err != nil {
		return fmt.Errorf("consul agent of %s: %w", node, err)
	}
	held := map[string]bool{}
	for _, s := range services {
		held[s.Meta[service.MetaPodUID]] = true
	}
	for i := range pods {
		if pods[i].Spec.NodeName == node && !held[string(pods[i].UID)] {
			return fmt.Errorf("consul agent of %s does not hold pod %s", node, pods[i].Name)
		}
	}
	return nil
}

func podReady(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp == nil && slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}
