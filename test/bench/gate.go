package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"fairway.dev/fairway/lab/cluster"
	"fairway.dev/fairway/lab/timeline"
	"fairway.dev/fairway/lab/workload"
)

const gatePods = 20

// gateResult is the JSON line of bench gate.
type gateResult struct {
	Bench            string     `json:"bench"`
	Pods             int        `json:"pods"`
	ReadyToPassing   quantiles  `json:"ready_to_passing_ms"`
	TerminatingToOut quantiles  `json:"terminating_to_out_ms"`
	Floor            floorValue `json:"floor_ms"`
}

type floorValue struct {
	P50 float64 `json:"p50"`
}

func gateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "gate",
		Short: "20 pods started at once and deleted at once: how soon the Consul servers show it",
		Long: `Starts 20 gated pods at once, then deletes them at once, and measures
  ready_to_passing    from the API server first showing all containers of a pod
                      ready until a blocking query on the leading Consul server first
                      returns it as passing
  terminating_to_out  from the API server first showing the deletion until the
                      blocking query no longer returns it
  floor               one register call to a node's Consul agent until the
                      blocking query returns it: what no agent can beat`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withFairway(cmd.Context(), workload.ConsulAgents, benchGate)
		},
	}
}

func benchGate(ctx context.Context, lab *cluster.Cluster) (any, error) {
	floor, err := agentFloor(ctx, lab, gatePods)
	if err != nil {
		return nil, err
	}
	kube, err := kubernetes.NewForConfig(lab.RESTConfig())
	if err != nil {
		return nil, err
	}
	app := workload.App{Namespace: metav1.NamespaceDefault, Name: "bench", Replicas: gatePods, LeaveSeconds: 2}
	pods, err := timeline.Follow(ctx, timeline.Options{
		Kube: kube, Consul: lab.ConsulServers(), Namespace: app.Namespace, Selector: app.Selector(), Service: app.Name,
	})
	if err != nil {
		return nil, err
	}
	if _, err := kube.AppsV1().Deployments(app.Namespace).Create(ctx, app.Deployment(), metav1.CreateOptions{}); err != nil {
		return nil, err
	}
	if err := pods.Wait(ctx, "20 pods are ready", reached(timeline.Ready)); err != nil {
		return nil, err
	}
	_, err = kube.AppsV1().Deployments(app.Namespace).Patch(ctx, app.Name, types.MergePatchType, []byte(`{"spec":{"replicas":0}}`), metav1.PatchOptions{})
	if err != nil {
		return nil, err
	}
	if err := pods.Wait(ctx, "20 pods are gone", reached(timeline.Deleted)); err != nil {
		return nil, err
	}
	fmt.Fprintln(os.Stderr, timeline.Table(pods.Pods()))
	return gateResult{
		Bench: "gate", Pods: gatePods,
		ReadyToPassing:   between(pods.Pods(), timeline.ContainersReady, timeline.Passing),
		TerminatingToOut: between(pods.Pods(), timeline.Terminating, timeline.Out),
		Floor:            floorValue{P50: floor.P50},
	}, nil
}

func reached(s timeline.Stage) func([]timeline.Pod) bool {
	return func(pods []timeline.Pod) bool {
		for _, p := range pods {
			if !p.Reached(s) {
				return false
			}
		}
		return len(pods) == gatePods
	}
}
