// Command bench measures Fairway in a lab of its own. Its last line of output
// is one JSON object; everything else goes to standard error.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"fairway.dev/fairway/lab/cluster"
	"fairway.dev/fairway/lab/workload"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := &cobra.Command{Use: "bench", Short: "Measure Fairway in a lab", SilenceUsage: true}
	root.AddCommand(gateCommand(), faultsCommand(), agentCommand(), servicesCommand(), rolloutCommand())
	if err := root.ExecuteContext(ctx); err != nil {
		os.Exit(1)
	}
}

// measurement measures something in a lab and returns what is to be printed.
type measurement func(ctx context.Context, lab *cluster.Cluster) (any, error)

// withLab runs measure in a fresh lab and prints what it returns as one line of
// JSON, even if it also returns an error. KEEP=1 leaves the lab up.
func withLab(ctx context.Context, topology cluster.Topology, measure measurement) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Hour)
	defer cancel()
	lab, err := cluster.UpOwned(ctx, topology, os.Stderr)
	if err != nil {
		return err
	}
	if os.Getenv("KEEP") != "1" {
		defer func() { err = errors.Join(err, lab.Down(context.WithoutCancel(ctx))) }()
	}
	result, err := measure(ctx, lab)
	if result == nil {
		return err
	}
	line, marshalErr := json.Marshal(result)
	if marshalErr != nil {
		return errors.Join(err, marshalErr)
	}
	_, printErr := fmt.Println(string(line))
	return errors.Join(err, printErr)
}

// withFairway is withLab in a lab where Fairway is installed as users do it.
// Where it registers with the servers, the nodes have no Consul client agents.
func withFairway(ctx context.Context, registry workload.Registry, measure measurement) error {
	topology := cluster.Default("bench")
	topology.ConsulAgents = registry == workload.ConsulAgents
	return withLab(ctx, topology, func(ctx context.Context, lab *cluster.Cluster) (any, error) {
		if err := workload.InstallFairway(ctx, lab, registry, os.Stderr); err != nil {
			return nil, err
		}
		return measure(ctx, lab)
	})
}
