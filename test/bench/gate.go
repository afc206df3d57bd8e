package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/hashicorp/consul/api"
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
			return withLab(cmd.Context(), workload.ConsulAgents, benchGate)
		},
	}
}

func benchGate(ctx context.Context, lab *cluster.Cluster) (any, error) {
	floor, err := measureFloor(ctx, lab, gatePods)
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

// between sums up the pods that went from one stage to another; a pod that did
// not is missing from n.
func between(pods []timeline.Pod, from, to timeline.Stage) quantiles {
	var took []time.Duration
	for _, p := range pods {
		if d, ok := p.Between(from, to); ok {
			took = append(took, d)
		}
	}
	return summarize(took)
}

// measureFloor registers n services one after another with the first node's
// Consul agent and times each until a server's blocking query returns it.
func measureFloor(ctx context.Context, lab *cluster.Cluster, n int) (quantiles, error) {
	const name = "bench-floor"
	agent := lab.Consul(lab.Nodes()[0])
	server, err := timeline.Leader(ctx, lab.ConsulServers())
	if err != nil {
		return quantiles{}, err
	}
	_, meta, err := server.Health().Service(name, "", true, (&api.QueryOptions{}).WithContext(ctx))
	if err != nil {
		return quantiles{}, err
	}
	var took []time.Duration
	for i, index := 0, meta.LastIndex; i < n; i++ {
		seen := make(chan error, 1)
		var at time.Time
		go func() {
			entries, meta, err := server.Health().Service(name, "", true, (&api.QueryOptions{WaitIndex: index, WaitTime: time.Minute}).WithContext(ctx))
			at = time.Now()
			if err == nil {
				if index = meta.LastIndex; len(entries) != i+1 {
					err = fmt.Errorf("the server returns %d instances after %d registrations", len(entries), i+1)
				}
			}
			seen <- err
		}()
		began := time.Now()
		err := agent.Agent().ServiceRegisterOpts(&api.AgentServiceRegistration{
			ID: fmt.Sprintf("%s-%d", name, i), Name: name, Port: 8080,
			Check: &api.AgentServiceCheck{TTL: "1h", Status: api.HealthPassing},
		}, api.ServiceRegisterOpts{}.WithContext(ctx))
		if err != nil {
			return quantiles{}, fmt.Errorf("register with the Consul agent: %w", err)
		}
		if err := <-seen; err != nil {
			return quantiles{}, err
		}
		took = append(took, at.Sub(began))
	}
	return summarize(took), nil
}
