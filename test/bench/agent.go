package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"fairway.dev/fairway/internal/app/agent"
	"fairway.dev/fairway/lab/cluster"
)

// agentResult is the JSON line of bench agent.
type agentResult struct {
	Bench string `json:"bench"`
	// Alone is what Consul writes by itself, without Fairway.
	Alone   logged     `json:"consul_alone"`
	Results []agentRow `json:"results"`
	// Missed are the promises that a row did not keep.
	Missed []string `json:"missed"`
}

// agentRow is one registry with one number of pods.
type agentRow struct {
	Registry         string    `json:"registry"`
	Pods             int       `json:"pods"`
	ServicesPerPod   int       `json:"services_per_pod"`
	PodsAre          string    `json:"pods_are"`
	ReadyToPassing   quantiles `json:"ready_to_passing_ms"`
	TerminatingToOut quantiles `json:"terminating_to_out_ms"`
	Dropped          int       `json:"dropped"` // healthy pods that the servers did not return for a moment
	Burst            pair      `json:"burst"`
	Floor            quantiles `json:"floor_ms"`
	ColdStart        float64   `json:"cold_start_ms"` // the middle one of
	ColdStarts       []float64 `json:"cold_starts_ms"`
	atRest
	Load string `json:"load_average"`
}

// pair is what is measured when pods come and go.
type pair struct {
	ReadyToPassing   quantiles `json:"ready_to_passing_ms"`
	TerminatingToOut quantiles `json:"terminating_to_out_ms"`
	Dropped          int       `json:"dropped"`
}

// agentFlags say which rows are measured and how long.
type agentFlags struct {
	pods       []int
	registries []string
	rest       time.Duration
	page       string
}

// The numbers of pods up to which containers are run besides, and at which the
// promises are checked.
const (
	mostContainers = 30
	promisedPods   = 110
)

func agentCommand() *cobra.Command {
	var o agentFlags
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "What one agent does and costs, by registry and number of pods on its node",
		Long: `Runs the agent's binary as a process on a node of the lab, and measures for
each registry and each number of pods
  ready_to_passing    from the API server first showing all containers of a pod
                      ready until blocking queries on the leading Consul server
                      return it as passing, for both of its services
  terminating_to_out  from the API server first showing the deletion until they
                      return it for none
  cold_start          from the start of the process, with Consul empty, until all
                      pods that are there are passing
  floor               one call that registers one service, until the query shows it
  at rest             the process's CPU time and memory, and what is written to
                      Consul's log

The first two are measured in a rolling update that makes a pod ready, and ends
the one that it replaces, every 200 ms, and in a burst: all pods end at once, then
all new ones become ready at once.

Ten pods are one app, whose two services each pod is an instance of.

Pods are objects of the API server to which the bench gives a status, as a kubelet
would. With up to 30 pods there is one more row, with real containers. There the
two cores also run kubelet, containerd and the app, and the agent hears of the pods
from the kubelet's pods API as well; the rolling update replaces five at a time.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			topology := cluster.Default("bench")
			topology.Nodes = 1
			return withLab(cmd.Context(), topology, func(ctx context.Context, lab *cluster.Cluster) (any, error) {
				return benchAgent(ctx, lab, o)
			})
		},
	}
	f := cmd.Flags()
	f.IntSliceVar(&o.pods, "pods", []int{30, 110, 250, 500}, "numbers of pods")
	f.StringSliceVar(&o.registries, "registry", []string{agent.RegistryAgent, agent.RegistryCatalog}, "registries")
	f.DurationVar(&o.rest, "rest", 0, "how long to watch each row at rest (default 5m with 110 pods, else 1m)")
	f.StringVar(&o.page, "write", "", "Markdown page in which to replace the table")
	return cmd
}

func benchAgent(ctx context.Context, lab *cluster.Cluster, o agentFlags) (any, error) {
	b, err := newAgentBench(ctx, lab)
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, file := range b.tokens {
			_ = os.RemoveAll(filepath.Dir(file))
		}
	}()
	result := agentResult{Bench: "agent", Missed: []string{}}
	idle := restFor(o.rest, slices.Contains(o.pods, promisedPods))
	fmt.Fprintf(os.Stderr, "Consul by itself, for %s\n", idle)
	if result.Alone, err = watchLog(ctx, lab, idle); err != nil {
		return nil, err
	}
	for _, registry := range o.registries {
		for _, pods := range o.pods {
			for _, containers := range []bool{true, false} {
				if containers && pods > mostContainers {
					continue
				}
				row, err := b.measure(ctx, rowSpec{registry: registry, pods: pods, containers: containers, rest: restFor(o.rest, pods == promisedPods)}, result.Alone)
				if err != nil {
					return result, fmt.Errorf("registry %s, %d pods: %w", registry, pods, err)
				}
				result.Results = append(result.Results, row)
				result.Missed = append(result.Missed, row.missed()...)
				fmt.Fprintln(os.Stderr, agentTable(result.Results[len(result.Results)-1:]))
			}
		}
	}
	table := agentTable(result.Results)
	fmt.Fprintln(os.Stderr, table)
	if o.page != "" {
		err = replaceTable(o.page, "bench-agent", table)
	}
	return result, errors.Join(err, kept(result.Missed))
}
